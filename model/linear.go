package model

import "github.com/trimtab/trimtab/tensor"

// linear is y (rows, out) = x (rows, in) · w (in, out) + bias; each element is
// one chain that starts from the bias.
func linear(y, x, w, bias []float32, rows, in, out int) {
	spread(y, bias, rows)
	tensor.MatMul(nil, y, out, x, in, w, out, rows, out, in, true)
}

// spread copies bias to each row of y.
func spread(y, bias []float32, rows int) {
	for r := range rows {
		copy(y[r*len(bias):(r+1)*len(bias)], bias)
	}
}

// linearInto is y = from + x·w + bias, all (rows, out) but x (rows, in). y may
// be from.
func linearInto(y, from, x, w, bias []float32, rows, in, out int) {
	if &y[0] != &from[0] {
		copy(y, from)
	}
	tensor.AddBias(y, bias, rows, out)
	tensor.MatMul(nil, y, out, x, in, w, out, rows, out, in, true)
}

// linearBackward is dx (rows, in) = dy (rows, out) · w (in, out)ᵀ.
func linearBackward(dx, dy, w []float32, rows, in, out int) {
	tensor.MatMulNT(nil, dx, in, dy, out, w, out, rows, in, out, false)
}

// tile is some rows and columns of a weight's gradient.
type tile struct {
	dw, x, dy  []float32 // from the tile's first element on
	in, out    int       // distances of rows
	rows, cols int       // of dw
}

// Sizes of tiles decide only speed.
const (
	tileRows = 132 // a multiple of the matrix product's
	tileCols = 384
	manyCols = 128 // for more than four workers
)

// linearGradient lists the tiles of xᵀ·dy, to be added to dw (in, out): each
// element is one chain over all rows in order.
func (ps *Pass) linearGradient(dw, x, dy []float32, in, out int) {
	most := tileCols
	if ps.pool.Workers() > 4 {
		most = manyCols
	}
	parts := (out + most - 1) / most
	cols := ((out+parts-1)/parts + 31) / 32 * 32
	for i := 0; i < in; i += tileRows {
		for j := 0; j < out; j += cols {
			ps.tiles = append(ps.tiles, tile{dw: dw[i*out+j:], x: x[i:], dy: dy[j:], in: in, out: out,
				rows: min(tileRows, in-i), cols: min(cols, out-j)})
		}
	}
}

func (t *tile) add(n int) {
	tensor.MatMulTN(nil, t.dw, t.out, t.x, t.in, t.dy, t.out, t.rows, t.cols, n, true)
}
