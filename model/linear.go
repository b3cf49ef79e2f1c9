package model

import "github.com/trimtab/trimtab/tensor"

// gradTile is some rows and columns of a weight's gradient.
type gradTile struct {
	dw, x, dy  []float32 // from the tile's first element on
	in, out    int       // distances of rows
	rows, cols int       // of dw
	n          int       // rows of x and dy
}

// Sizes of tiles decide only speed.
const (
	gradTileRows     = 132 // a multiple of the matrix product's; twice that where dy is rounded for each tile
	gradTileCols     = 512
	gradTileColsMany = 128 // for more than four workers
)

// linearWeightGrad lists the tiles of xᵀ·dy, to be added to dw (in, out): each
// element is one chain over all rows in order.
func (ps *Pass) linearWeightGrad(dw, x, dy []float32, n, in, out int) {
	if n == 0 {
		return
	}
	most := gradTileCols
	if ps.pool.Workers() > 4 {
		most = gradTileColsMany
	}
	parts, rows := (out+most-1)/most, gradTileRows
	if ps.numerics == tensor.V1BF16 {
		rows = 2 * gradTileRows
	}
	cols := ((out+parts-1)/parts + 31) / 32 * 32
	for i := 0; i < in; i += rows {
		for j := 0; j < out; j += cols {
			ps.gradTiles = append(ps.gradTiles, gradTile{dw: dw[i*out+j:], x: x[i:], dy: dy[j:], in: in, out: out,
				rows: min(rows, in-i), cols: min(cols, out-j), n: n})
		}
	}
}

func (t *gradTile) accumulate(numerics tensor.Numerics) {
	tensor.MatMulTNUnder(numerics, nil, t.dw, t.out, t.x, t.in, t.dy, t.out, t.rows, t.cols, t.n, true)
}
