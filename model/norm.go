package model

import "github.com/trimtab/trimtab/tensor"

// norm is LayerNorm of rows from … to of x (N, C) into y (N, C), which stores the statistics that its backward pass
// needs:
//
//	y = gamma·(x - mean)·rstd + beta
func norm(y, mean, rstd, x, gamma, beta []float32, from, to, c int) {
	tensor.LayerNorm(y[from*c:to*c], mean[from:to], rstd[from:to], x[from*c:to*c], gamma, beta, to-from, c)
}

// finalNorm is ln_f for some rows, hidden = ln_f(out), where out is the residual stream after the last block.
func (ps *Pass) finalNorm(_, from, to int) {
	w := &ps.m.w
	norm(ps.hidden, ps.mean, ps.rstd, ps.finalResidual(), w.finalNorm.weight, w.finalNorm.bias, from, to, ps.m.Config.Width)
}

// finalNormBackward begins the backward pass for some rows: dout = ln_f's backward of dhidden.
func (ps *Pass) finalNormBackward(l, from, to int) {
	c, dx := ps.m.Config.Width, ps.dOut(l)
	clear(dx[from*c : to*c])
	normBackward(dx, ps.dhidden, ps.finalResidual(), ps.mean, ps.rstd, ps.m.w.finalNorm.weight, from, to, c)
}

// normBackward adds the gradient of norm's x to dx (N, C) for rows from … to; the formula is that of
// tensor.LayerNormBackward. The gradients of gamma and beta are sums over all rows: see columnSum.
func normBackward(dx, dy, x, mean, rstd, gamma []float32, from, to, c int) {
	tensor.LayerNormBackward(dx[from*c:to*c], nil, nil, dy[from*c:to*c], x[from*c:to*c],
		mean[from:to], rstd[from:to], gamma, to-from, c)
}
