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

// linearGradient adds xᵀ·dy to dw (in, out): each element is one chain over
// all rows in order.
func (ps *Pass) linearGradient(dw, x, dy []float32, in, out int) {
	tensor.MatMulTN(ps.pool, dw, out, x, in, dy, out, in, out, ps.n, true)
}
