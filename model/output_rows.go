package model

import (
	"fmt"
	"slices"
)

// Where heads ask for some rows only (Batch.OutputRows), the other rows end with the keys and values of the last
// block: what follows its attention is computed for the selected rows alone, end to end in buffers of their own.
//
// Rows are then numbered in two ways: among the N rows of the batch, and among the W selected ones. Where all rows
// are selected the two are the same. A row that is left out has no gradient, and so adds nothing to any chain: the
// bits are those of computing all rows.

// postAttention holds what a block computes after its attention: of N rows, or of W in the last block.
type postAttention struct {
	att          []float32 // (·, C) output of attention, heads side by side
	residualMid  []float32 // (·, C) the residual stream after attention
	mean2, rstd2 []float32 // (·) of LN2
	fc           []float32 // (·, 4C) GELU's input
}

// lastBlock holds what the last block computes after its attention where not all rows are selected.
type lastBlock struct {
	postAttention
	ln2         []float32 // (W, C) LN2's output
	act         []float32 // (W, 4C) GELU's output
	residualOut []float32 // (W, C) the residual stream after the block
	datt        []float32 // (W, C) gradient of att
}

// rows returns views of rows from … to.
func (u *postAttention) rows(from, to, c int) postAttention {
	return postAttention{
		att:         u.att[from*c : to*c],
		residualMid: u.residualMid[from*c : to*c],
		mean2:       u.mean2[from:to],
		rstd2:       u.rstd2[from:to],
		fc:          u.fc[from*4*c : to*4*c],
	}
}

// size sizes the buffers for w rows.
func (t *lastBlock) size(w, c int) {
	for _, x := range [...]*[]float32{&t.att, &t.residualMid, &t.ln2, &t.residualOut} {
		resizeSlab(x, w*c)
	}
	resize(&t.mean2, w)
	resize(&t.rstd2, w)
	resizeSlab(&t.fc, w*4*c)
	resizeSlab(&t.act, w*4*c)
}

// selectsRows reports whether block l is the last one and not all rows continue after its attention.
func (ps *Pass) selectsRows(l int) bool { return ps.outputRows != nil && l == len(ps.m.w.layers)-1 }

// selectedRows returns the part of sp that continues after the attention of block l, numbered among the selected
// rows.
func (ps *Pass) selectedRows(sp *span, l int) span {
	selected := *sp
	if ps.selectsRows(l) {
		selected.rowFrom, _ = slices.BinarySearch(ps.outputRows, sp.rowFrom)
		selected.rowTo, _ = slices.BinarySearch(ps.outputRows, sp.rowTo)
	}
	return selected
}

// outputCount returns the number of rows after the last block: W, which is N where all rows are selected.
func (ps *Pass) outputCount() int {
	if ps.outputRows != nil {
		return len(ps.outputRows)
	}
	return ps.n
}

// outputIndex returns the place of a row of the batch among the rows after the last block. It panics if the row was
// not selected: a bug of the caller.
func (ps *Pass) outputIndex(row int) int {
	if ps.outputRows == nil {
		return row
	}
	i, ok := slices.BinarySearch(ps.outputRows, row)
	if !ok {
		panic(fmt.Sprintf("model: a head asks for row %d, which Batch.OutputRows does not list", row))
	}
	return i
}

// postAttention returns where block l keeps what it computes after its attention.
func (ps *Pass) postAttention(l int) *postAttention {
	if ps.selectsRows(l) {
		return &ps.lastBlock.postAttention
	}
	return &ps.activationsOf(l).postAttention
}

// ln2Output returns where block l puts LN2's output, the input of the MLP: (N, C), or (W, C) in the last block.
func (ps *Pass) ln2Output(l int) []float32 {
	if ps.selectsRows(l) {
		return ps.lastBlock.ln2
	}
	return ps.ln2
}

// geluOutput returns where block l puts GELU's output: (N, 4C), or (W, 4C) in the last block.
func (ps *Pass) geluOutput(l int) []float32 {
	if ps.selectsRows(l) {
		return ps.lastBlock.act
	}
	return ps.act
}

// gatherSelected copies the attention and the residual stream of selected rows from … to to the buffers of the last
// block.
func (ps *Pass) gatherSelected(l, from, to int) {
	c, t := ps.m.Config.Width, &ps.lastBlock
	x, att := ps.residualIn(l), ps.activationsOf(l).att
	for i := from; i < to; i++ {
		r := ps.outputRows[i]
		copy(t.att[i*c:(i+1)*c], att[r*c:(r+1)*c])
		copy(t.residualMid[i*c:(i+1)*c], x[r*c:(r+1)*c])
	}
}

// scatterAttentionGrad copies the gradient of the attention back to rows from … to of the batch; rows not selected
// get zero.
func (ps *Pass) scatterAttentionGrad(l, from, to int) {
	ps.scatterSelected(ps.datt, ps.lastBlock.datt, from, to)
}

// scatterSelected sets rows from … to of dst (N, C) to the selected rows of src (W, C), and the others to zero.
func (ps *Pass) scatterSelected(dst, src []float32, from, to int) {
	c := ps.m.Config.Width
	clear(dst[from*c : to*c])
	i, _ := slices.BinarySearch(ps.outputRows, from)
	for ; i < len(ps.outputRows) && ps.outputRows[i] < to; i++ {
		r := ps.outputRows[i]
		copy(dst[r*c:(r+1)*c], src[i*c:(i+1)*c])
	}
}
