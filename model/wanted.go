package model

import (
	"fmt"
	"slices"
)

// When heads ask for some rows only, the others end with the keys and values
// of the last block: what follows its attention is done for the rows wanted,
// end to end. They are numbered in two ways: among the rows of the batch, and
// among the W that are wanted; where all are wanted these are the same. A row
// left out has no gradient, and so adds nothing to any chain.

// upper is what a block computes after its attention, of N rows, or of W in
// the last block.
type upper struct {
	att          []float32 // (·, C) heads side by side
	mid          []float32 // (·, C) the stream after attention
	mean2, rstd2 []float32 // (·)
	fc           []float32 // (·, 4C) before GELU
}

// top is the last block's when not all rows are wanted.
type top struct {
	upper
	ln2, act []float32 // (W, C), (W, 4C)
	out      []float32 // (W, C) the stream after the block
	datt     []float32 // (W, C) gradient of att
}

func (u *upper) rows(from, to, c int) upper {
	return upper{
		att: u.att[from*c : to*c], mid: u.mid[from*c : to*c], mean2: u.mean2[from:to], rstd2: u.rstd2[from:to],
		fc: u.fc[from*4*c : to*4*c],
	}
}

func (t *top) size(w, c int) {
	for _, x := range [...]*[]float32{&t.att, &t.mid, &t.ln2, &t.out} {
		slab(x, w*c)
	}
	sized(&t.mean2, w)
	sized(&t.rstd2, w)
	slab(&t.fc, w*4*c)
	slab(&t.act, w*4*c)
}

// narrow says that block l is the last and not all rows are wanted.
func (ps *Pass) narrow(l int) bool { return ps.wanted != nil && l == len(ps.m.w.layers)-1 }

// above is sp's part of the rows that go on after the attention of block l.
func (ps *Pass) above(sp *span, l int) span {
	up := *sp
	if ps.narrow(l) {
		up.from, _ = slices.BinarySearch(ps.wanted, sp.from)
		up.to, _ = slices.BinarySearch(ps.wanted, sp.to)
	}
	return up
}

// results is the number of rows after the last block: N, or W.
func (ps *Pass) results() int {
	if ps.wanted != nil {
		return len(ps.wanted)
	}
	return ps.n
}

// result is where a row of the batch is among those after the last block.
func (ps *Pass) result(row int) int {
	if ps.wanted == nil {
		return row
	}
	i, ok := slices.BinarySearch(ps.wanted, row)
	if !ok {
		panic(fmt.Sprintf("model: a head asks for row %d, which Batch.Wanted does not list", row))
	}
	return i
}

// up is where block l keeps what it computes after its attention, and ln2Of
// and actOf the inputs of its last two products.
func (ps *Pass) up(l int) *upper {
	if ps.narrow(l) {
		return &ps.top.upper
	}
	return &ps.acts(l).upper
}

func (ps *Pass) ln2Of(l int) []float32 {
	if ps.narrow(l) {
		return ps.top.ln2
	}
	return ps.ln2
}

func (ps *Pass) actOf(l int) []float32 {
	if ps.narrow(l) {
		return ps.top.act
	}
	return ps.act
}

// pick takes the stream and the attention of the rows wanted along.
func (ps *Pass) pick(l, from, to int) {
	c, t := ps.m.Config.Width, &ps.top
	x, att := ps.streamIn(l), ps.acts(l).att
	for i := from; i < to; i++ {
		r := ps.wanted[i]
		copy(t.att[i*c:(i+1)*c], att[r*c:(r+1)*c])
		copy(t.mid[i*c:(i+1)*c], x[r*c:(r+1)*c])
	}
}

// attentionOutBackward gives the gradient of the attention back to the rows of
// the batch; those not wanted have none.
func (ps *Pass) attentionOutBackward(l, from, to int) {
	ps.unpick(ps.datt, ps.top.datt, from, to)
}

// unpick sets rows of dst (N, C) to those of src (W, C), and to zero where there is none.
func (ps *Pass) unpick(dst, src []float32, from, to int) {
	c := ps.m.Config.Width
	clear(dst[from*c : to*c])
	i, _ := slices.BinarySearch(ps.wanted, from)
	for ; i < len(ps.wanted) && ps.wanted[i] < to; i++ {
		r := ps.wanted[i]
		copy(dst[r*c:(r+1)*c], src[i*c:(i+1)*c])
	}
}
