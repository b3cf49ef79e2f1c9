package model

import "github.com/trimtab/trimtab/tensor"

// tile is some rows and columns of a weight's gradient.
type tile struct {
	dw, x, dy  []float32 // from the tile's first element on
	in, out    int       // distances of rows
	rows, cols int       // of dw
	n          int       // rows of x and dy
}

// Sizes of tiles decide only speed.
const (
	tileRows = 132 // a multiple of the matrix product's; twice that where dy is rounded for each tile
	tileCols = 512
	manyCols = 128 // for more than four workers
)

// linearGradient lists the tiles of xᵀ·dy, to be added to dw (in, out): each
// element is one chain over all rows in order.
func (ps *Pass) linearGradient(dw, x, dy []float32, n, in, out int) {
	if n == 0 {
		return
	}
	most := tileCols
	if ps.pool.Workers() > 4 {
		most = manyCols
	}
	parts, rows := (out+most-1)/most, tileRows
	if ps.numerics == tensor.V1BF16 {
		rows = 2 * tileRows
	}
	cols := ((out+parts-1)/parts + 31) / 32 * 32
	for i := 0; i < in; i += rows {
		for j := 0; j < out; j += cols {
			ps.tiles = append(ps.tiles, tile{dw: dw[i*out+j:], x: x[i:], dy: dy[j:], in: in, out: out,
				rows: min(rows, in-i), cols: min(cols, out-j), n: n})
		}
	}
}

func (t *tile) add(numerics tensor.Numerics) {
	tensor.MatMulTNUnder(numerics, nil, t.dw, t.out, t.x, t.in, t.dy, t.out, t.rows, t.cols, t.n, true)
}
