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
	att          []float32 // (·, H·D) output of attention, heads side by side
	attentionOut []float32 // (·, C) its projection, where that is needed by itself: see addBranch
	postNorm1    normStats // of the norm after it
	residualMid  []float32 // (·, C) the residual stream after attention
	norm2        normStats // of the norm before the MLP
	up           []float32 // (·, up) input of the MLP's activation
	mlpOut       []float32 // (·, C) what the MLP gives, where that is needed by itself
	postNorm2    normStats // of the norm after it
}

// lastBlock holds what the last block computes after its attention where not all rows are selected.
type lastBlock struct {
	postAttention
	residualIn  []float32 // (W, C) the residual stream before the block
	ln2         []float32 // (W, C) the MLP's input
	act         []float32 // (W, I) output of its activation
	residualOut []float32 // (W, C) the residual stream after the block
	datt        []float32 // (W, H·D) gradient of att
}

// rows returns views of rows from … to.
func (u *postAttention) rows(from, to int, d *dims) postAttention {
	v := postAttention{
		att:         u.att[from*d.attention : to*d.attention],
		residualMid: u.residualMid[from*d.width : to*d.width],
		norm2:       u.norm2.rows(from, to, d),
		up:          u.up[from*d.up : to*d.up],
	}
	if d.branches {
		v.attentionOut = u.attentionOut[from*d.width : to*d.width]
		v.mlpOut = u.mlpOut[from*d.width : to*d.width]
		v.postNorm1, v.postNorm2 = u.postNorm1.rows(from, to, d), u.postNorm2.rows(from, to, d)
	}
	return v
}

// size sizes the buffers for n rows, but for residualMid.
func (u *postAttention) size(n int, d *dims) {
	resizeSlab(&u.att, n*d.attention)
	resizeSlab(&u.up, n*d.up)
	u.norm2.size(n, d)
	if d.branches {
		resizeSlab(&u.attentionOut, n*d.width)
		resizeSlab(&u.mlpOut, n*d.width)
		u.postNorm1.size(n, d)
		u.postNorm2.size(n, d)
	}
}

// size sizes the buffers for w rows.
func (t *lastBlock) size(w int, d *dims) {
	t.postAttention.size(w, d)
	for _, x := range [...]*[]float32{&t.residualIn, &t.residualMid, &t.ln2, &t.residualOut} {
		resizeSlab(x, w*d.width)
	}
	resizeSlab(&t.act, w*d.inner)
}

// selectsRows reports whether block l is the last one and not all rows continue after its attention.
func (ps *Pass) selectsRows(l int) bool { return ps.outputRows != nil && l == len(ps.m.w.layers)-1 }

// selectedRows returns the part of sp that continues after the attention of block l, numbered among the selected
// rows.
func (ps *Pass) selectedRows(sp *span, l int) span {
	selected := *sp
	if ps.selectsRows(l) {
		selected.rowFrom, selected.rowTo = ps.selectedRange(sp.rowFrom, sp.rowTo)
	}
	return selected
}

// selectedRange returns which of the selected rows are rows from … to of the batch.
func (ps *Pass) selectedRange(from, to int) (first, last int) {
	first, _ = slices.BinarySearch(ps.outputRows, from)
	last, _ = slices.BinarySearch(ps.outputRows, to)
	return first, last
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

// ln2Output returns where block l puts the norm that its MLP reads: (N, C), or (W, C) in the last block.
func (ps *Pass) ln2Output(l int) []float32 {
	if ps.selectsRows(l) {
		return ps.lastBlock.ln2
	}
	return ps.ln2
}

// activationOutput returns where block l puts the output of its MLP's activation: (N, I), or (W, I) in the last block.
func (ps *Pass) activationOutput(l int) []float32 {
	if ps.selectsRows(l) {
		return ps.lastBlock.act
	}
	return ps.act
}

// selectedIn returns the residual stream that enters block l, of the rows that continue after its attention.
func (ps *Pass) selectedIn(l int) []float32 {
	if ps.selectsRows(l) {
		return ps.lastBlock.residualIn
	}
	return ps.residualIn(l)
}

// gatherSelected copies the attention and the residual stream of selected rows from … to to the buffers of the last
// block.
func (ps *Pass) gatherSelected(l, from, to int) {
	c, n, t := ps.m.dims.width, ps.m.dims.attention, &ps.lastBlock
	x, att := ps.residualIn(l), ps.activationsOf(l).att
	for i := from; i < to; i++ {
		r := ps.outputRows[i]
		copy(t.att[i*n:(i+1)*n], att[r*n:(r+1)*n])
		copy(t.residualIn[i*c:(i+1)*c], x[r*c:(r+1)*c])
	}
}

// scatterAttentionGrad copies the gradient of the attention back to rows from … to of the batch; rows not selected
// get zero.
func (ps *Pass) scatterAttentionGrad(_, from, to int) {
	ps.scatter(ps.datt, ps.lastBlock.datt, ps.m.dims.attention, from, to)
}

// scatterSelected sets rows from … to of dst (N, C) to the selected rows of src (W, C), and the others to zero.
func (ps *Pass) scatterSelected(dst, src []float32, from, to int) {
	ps.scatter(dst, src, ps.m.dims.width, from, to)
}

// scatter is scatterSelected for rows of n elements.
func (ps *Pass) scatter(dst, src []float32, n, from, to int) {
	clear(dst[from*n : to*n])
	first, last := ps.selectedRange(from, to)
	for i := first; i < last; i++ {
		r := ps.outputRows[i]
		copy(dst[r*n:(r+1)*n], src[i*n:(i+1)*n])
	}
}
