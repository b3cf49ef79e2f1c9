package model

import "github.com/trimtab/trimtab/tensor"

// gradTile is a task of a weight's gradient: some of its rows and columns.
type gradTile struct {
	dw, x, dy  []float32 // from the tile's first row of dw, column of x and column of both dw and dy on
	ldx, ldy   int       // distances of rows of x, and of dy and dw
	rows, cols int       // of the tile of dw
	n          int       // rows of x and dy
}

// Sizes of tiles. They decide only speed.
const (
	gradTileRows     = 132 // a multiple of the micro-kernel's 12; twice that where each tile rounds dy anew
	gradTileCols     = 512 // at most
	gradTileColsMany = 128 // for more than four workers
)

// linear computes the rows of sp of
//
//	y (N, out) = residual (N, out) + x (N, in) · w + bias (out)
//
// residual may be y; nil is zero. A chain starts from residual + bias, rounded once.
func (ps *Pass) linear(sp *span, y, residual, x []float32, w *weightMatrix, bias []float32) {
	from, to := sp.rowFrom, sp.rowTo
	product := ps.weights.linear(y[from*w.out:to*w.out], x[from*w.in:to*w.in], w, sp.rows())
	product.Bias = bias
	if residual != nil {
		product.Init = residual[from*w.out : to*w.out]
	}
	product.Run(sp.pool)
}

// linearBackward computes the rows of sp of dx (N, in) = dy (N, out) · wᵀ.
func (ps *Pass) linearBackward(sp *span, dx, dy []float32, w *weightMatrix) {
	from, to := sp.rowFrom, sp.rowTo
	ps.weights.linearBackward(sp.pool, dx[from*w.in:to*w.in], dy[from*w.out:to*w.out], w, sp.rows())
}

// linearWeightGrad lists the tiles of the gradient of w in y = x·w, with n rows,
//
//	dw (in, out) += xᵀ (in, n) · dy (n, out)
//
// or its transpose, where that is how w lies. Each element is one chain over all rows in order, across micro-batches.
func (ps *Pass) linearWeightGrad(dw, x, dy []float32, n int, w *weightMatrix) {
	in, out := w.in, w.out
	if w.transposed {
		x, dy = dy, x
		in, out = out, in
	}
	if n == 0 {
		return
	}
	maxCols := gradTileCols
	if ps.pool.Workers() > 4 {
		maxCols = gradTileColsMany
	}
	rows := gradTileRows
	if ps.numerics == tensor.V1BF16 {
		rows = 2 * gradTileRows
	}
	across := (out + maxCols - 1) / maxCols
	cols := ((out+across-1)/across + 31) / 32 * 32 // nearly equal, and whole panels
	for i := 0; i < in; i += rows {
		for j := 0; j < out; j += cols {
			ps.gradTiles = append(ps.gradTiles, gradTile{
				dw: dw[i*out+j:], x: x[i:], dy: dy[j:],
				ldx: in, ldy: out,
				rows: min(rows, in-i), cols: min(cols, out-j), n: n,
			})
		}
	}
}

// accumulate computes the tile on one worker.
func (t *gradTile) accumulate(numerics tensor.Numerics) {
	tensor.Product{
		Numerics: numerics, M: t.rows, N: t.cols, K: t.n, Accumulate: true,
		A: t.x, LDA: t.ldx, TransA: true, B: t.dy, LDB: t.ldy, C: t.dw, LDC: t.ldy,
	}.Run(nil)
}
