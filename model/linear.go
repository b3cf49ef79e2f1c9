package model

import "github.com/trimtab/trimtab/tensor"

// gradTile is a task of a weight's gradient: some of its rows and columns.
type gradTile struct {
	dw, x, dy  []float32 // from the tile's first row of dw, column of x and column of both dw and dy on
	in, out    int       // distances of rows of x, and of dy and dw
	rows, cols int       // of the tile of dw
	n          int       // rows of x and dy
}

// Sizes of tiles. They decide only speed.
const (
	gradTileRows     = 132 // a multiple of the micro-kernel's 12; twice that where each tile rounds dy anew
	gradTileCols     = 512 // at most
	gradTileColsMany = 128 // for more than four workers
)

// linearWeightGrad lists the tiles of the gradient of w in y = x·w,
//
//	dw (in, out) += xᵀ (in, n) · dy (n, out)
//
// Each element is one chain over all rows in order, across micro-batches.
func (ps *Pass) linearWeightGrad(dw, x, dy []float32, n, in, out int) {
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
				in: in, out: out,
				rows: min(rows, in-i), cols: min(cols, out-j), n: n,
			})
		}
	}
}

// accumulate computes the tile on one worker.
func (t *gradTile) accumulate(numerics tensor.Numerics) {
	tensor.Product{
		Numerics: numerics, M: t.rows, N: t.cols, K: t.n, Accumulate: true,
		A: t.x, LDA: t.in, TransA: true, B: t.dy, LDB: t.out, C: t.dw, LDC: t.out,
	}.Run(nil)
}
