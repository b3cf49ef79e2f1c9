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

// postAttention is what a block computes after its attention, of N rows, or of W in
// the last block.
type postAttention struct {
	att          []float32 // (·, C) heads side by side
	residualMid  []float32 // (·, C) the stream after attention
	mean2, rstd2 []float32 // (·)
	fc           []float32 // (·, 4C) before GELU
}

// lastBlock is the last block's when not all rows are wanted.
type lastBlock struct {
	postAttention
	ln2, act    []float32 // (W, C), (W, 4C)
	residualOut []float32 // (W, C) the stream after the block
	datt        []float32 // (W, C) gradient of att
}

func (u *postAttention) rows(from, to, c int) postAttention {
	return postAttention{
		att: u.att[from*c : to*c], residualMid: u.residualMid[from*c : to*c], mean2: u.mean2[from:to],
		rstd2: u.rstd2[from:to],
		fc:    u.fc[from*4*c : to*4*c],
	}
}

func (t *lastBlock) size(w, c int) {
	for _, x := range [...]*[]float32{&t.att, &t.residualMid, &t.ln2, &t.residualOut} {
		resizeSlab(x, w*c)
	}
	resize(&t.mean2, w)
	resize(&t.rstd2, w)
	resizeSlab(&t.fc, w*4*c)
	resizeSlab(&t.act, w*4*c)
}

// selectsRows says that block l is the last and not all rows are wanted.
func (ps *Pass) selectsRows(l int) bool { return ps.outputRows != nil && l == len(ps.m.w.layers)-1 }

// atLeast is sp's part of the rows that go on after the attention of block l.
func (ps *Pass) selectedRows(sp *span, l int) span {
	up := *sp
	if ps.selectsRows(l) {
		up.rowFrom, _ = slices.BinarySearch(ps.outputRows, sp.rowFrom)
		up.rowTo, _ = slices.BinarySearch(ps.outputRows, sp.rowTo)
	}
	return up
}

// outputCount is the number of rows after the last block: N, or W.
func (ps *Pass) outputCount() int {
	if ps.outputRows != nil {
		return len(ps.outputRows)
	}
	return ps.n
}

// outputIndex is where a row of the batch is among those after the last block.
func (ps *Pass) outputIndex(row int) int {
	if ps.outputRows == nil {
		return row
	}
	i, ok := slices.BinarySearch(ps.outputRows, row)
	if !ok {
		panic(fmt.Sprintf("model: a head asks for row %d, which Batch.Wanted does not list", row))
	}
	return i
}

// postAttention is where block l keeps what it computes after its attention, and ln2Output
// and geluOutput the inputs of its last two products.
func (ps *Pass) postAttention(l int) *postAttention {
	if ps.selectsRows(l) {
		return &ps.lastBlock.postAttention
	}
	return &ps.activationsOf(l).postAttention
}

func (ps *Pass) ln2Output(l int) []float32 {
	if ps.selectsRows(l) {
		return ps.lastBlock.ln2
	}
	return ps.ln2
}

func (ps *Pass) geluOutput(l int) []float32 {
	if ps.selectsRows(l) {
		return ps.lastBlock.act
	}
	return ps.act
}

// gatherSelected takes the stream and the attention of the rows wanted along.
func (ps *Pass) gatherSelected(l, from, to int) {
	c, t := ps.m.Config.Width, &ps.lastBlock
	x, att := ps.residualIn(l), ps.activationsOf(l).att
	for i := from; i < to; i++ {
		r := ps.outputRows[i]
		copy(t.att[i*c:(i+1)*c], att[r*c:(r+1)*c])
		copy(t.residualMid[i*c:(i+1)*c], x[r*c:(r+1)*c])
	}
}

// scatterAttentionGrad gives the gradient of the attention back to the rows of
// the batch; those not wanted have none.
func (ps *Pass) scatterAttentionGrad(l, from, to int) {
	ps.scatterSelected(ps.datt, ps.lastBlock.datt, from, to)
}

// scatterSelected sets rows of dst (N, C) to those of src (W, C), and to zero where there is none.
func (ps *Pass) scatterSelected(dst, src []float32, from, to int) {
	c := ps.m.Config.Width
	clear(dst[from*c : to*c])
	i, _ := slices.BinarySearch(ps.outputRows, from)
	for ; i < len(ps.outputRows) && ps.outputRows[i] < to; i++ {
		r := ps.outputRows[i]
		copy(dst[r*c:(r+1)*c], src[i*c:(i+1)*c])
	}
}
