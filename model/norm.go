package model

import "github.com/trimtab/trimtab/tensor"

// Norms of rows of C elements: layer norm (Ba, Kiros & Hinton, 2016) or RMS norm (Zhang & Sennrich, 2019),
//
//	y = weight·(x - mean)·rstd + bias,  y = (offset + weight)·x·rstd

// normStats are what a norm keeps of each row for its backward pass; RMS norm has no mean.
type normStats struct{ mean, rstd []float32 } // (N)

// size sizes the buffers for n rows.
func (s *normStats) size(n int, d *dims) {
	if !d.rms {
		resize(&s.mean, n)
	}
	resize(&s.rstd, n)
}

// rows returns views of rows from … to.
func (s *normStats) rows(from, to int, d *dims) normStats {
	if len(s.rstd) == 0 {
		return normStats{}
	}
	if d.rms {
		return normStats{rstd: s.rstd[from:to]}
	}
	return normStats{s.mean[from:to], s.rstd[from:to]}
}

// norm computes y (N, C), the norm of rows from … to of x (N, C), and stores the statistics that its backward pass
// needs. y may be x.
func (ps *Pass) norm(y []float32, s *normStats, x []float32, w *normParams, from, to int) {
	d := &ps.m.dims
	c := d.width
	if d.rms {
		tensor.RMSNorm(y[from*c:to*c], s.rstd[from:to], x[from*c:to*c], w.weight, d.normOffset, to-from, c, d.eps)
		return
	}
	tensor.LayerNormEps(y[from*c:to*c], s.mean[from:to], s.rstd[from:to], x[from*c:to*c], w.weight, w.bias,
		to-from, c, d.eps)
}

// normBackward adds the gradient of norm's x to dx (N, C) for rows from … to. The gradients of its parameters are sums
// over all rows: see columnSum.
func (ps *Pass) normBackward(dx, dy, x []float32, s *normStats, w *normParams, from, to int) {
	d := &ps.m.dims
	c := d.width
	if d.rms {
		tensor.RMSNormBackward(dx[from*c:to*c], nil, dy[from*c:to*c], x[from*c:to*c], s.rstd[from:to], w.weight,
			d.normOffset, to-from, c)
		return
	}
	tensor.LayerNormBackward(dx[from*c:to*c], nil, nil, dy[from*c:to*c], x[from*c:to*c],
		s.mean[from:to], s.rstd[from:to], w.weight, to-from, c)
}

// finalNormRows computes hidden = N(out) for some rows, where out is the residual stream after the last block.
func (ps *Pass) finalNormRows(_, from, to int) {
	if c := ps.m.dims.width; len(ps.m.w.finalNorm.weight) == 0 {
		copy(ps.hidden[from*c:to*c], ps.finalResidual()[from*c:to*c])
		return
	}
	ps.norm(ps.hidden, &ps.finalNorm, ps.finalResidual(), &ps.m.w.finalNorm, from, to)
}

// finalNormBackward begins the backward pass for some rows: dout = N's backward of dhidden.
func (ps *Pass) finalNormBackward(l, from, to int) {
	c, dx := ps.m.dims.width, ps.dOut(l)
	if len(ps.m.w.finalNorm.weight) == 0 {
		copy(dx[from*c:to*c], ps.dhidden[from*c:to*c])
		return
	}
	clear(dx[from*c : to*c])
	ps.normBackward(dx, ps.dhidden, ps.finalResidual(), &ps.finalNorm, &ps.m.w.finalNorm, from, to)
}
