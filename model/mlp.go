package model

import "github.com/trimtab/trimtab/tensor"

// mlpNorm begins the MLP of block l for some rows:
//
//	ln2 = LN2(mid)
func (ps *Pass) mlpNorm(l, from, to int) {
	w, u := &ps.m.w.layers[l], ps.postAttention(l)
	norm(ps.ln2Output(l), u.mean2, u.rstd2, ps.residualMid(l), w.norm2.weight, w.norm2.bias, from, to, ps.m.Config.Width)
}

// mlpGelu is the activation of the MLP for some rows:
//
//	act = gelu(fc)
func (ps *Pass) mlpGelu(l, from, to int) {
	c := ps.m.Config.Width
	tensor.Gelu(ps.geluOutput(l)[from*4*c:to*4*c], ps.postAttention(l).fc[from*4*c:to*4*c])
}

// mlpGeluBackward is the backward pass of mlpGelu, in place: dfc holds dact, the gradient of GELU's output, and
// becomes that of its input,
//
//	dfc = dact·gelu'(fc)
//
// It also computes act again, with the same bits, for the gradient of fcprojw.
func (ps *Pass) mlpGeluBackward(l, from, to int) {
	b, c := ps.gradBuffers(l), ps.m.Config.Width
	dfc, fc := b.dfc[from*4*c:to*4*c], ps.postAttention(l).fc[from*4*c:to*4*c]
	tensor.GeluForwardBackward(dfc, fc, dfc, b.act[from*4*c:to*4*c])
}

// mlpNormBackward is the backward pass of mlpNorm for some rows. In the forward pass mid went into LN2 and past it
// into the residual stream, and so
//
//	dmid = dout + LN2's backward of dln2
//
// It also computes ln2 again, with the same bits, for the gradient of fcw.
func (ps *Pass) mlpNormBackward(l, from, to int) {
	w, u := &ps.m.w.layers[l], ps.postAttention(l)
	b, c := ps.gradBuffers(l), ps.m.Config.Width
	copy(b.dResidualMid[from*c:to*c], ps.dOut(l)[from*c:to*c])
	normBackward(b.dResidualMid, b.dln2, u.residualMid, u.mean2, u.rstd2, w.norm2.weight, from, to, c)
	norm(b.ln2, u.mean2, u.rstd2, u.residualMid, w.norm2.weight, w.norm2.bias, from, to, c)
}

// listBlockGradients lists the tasks that accumulate the gradients of all parameters of block l, whose backward pass
// is done. For y = x·w + b they are
//
//	dw += xᵀ·dy,  db += Σ dy over the rows
func (ps *Pass) listBlockGradients(l int) {
	g := &ps.grad.layers[l]
	a, u := ps.activationsOf(l), ps.postAttention(l)
	b, dout := ps.gradBuffers(l), ps.dOut(l)
	c, n := ps.m.Config.Width, ps.n
	if ps.selectsRows(l) {
		n = ps.outputCount() // after the attention; before it there are all rows
	}
	ps.linearWeightGrad(g.downw, b.act, dout, n, 4*c, c)
	ps.linearWeightGrad(g.upw, b.ln2, b.dfc, n, c, 4*c)
	ps.linearWeightGrad(g.qkvw, b.ln1, b.dqkv, ps.n, c, 3*c)
	ps.linearWeightGrad(g.outw, u.att, b.dResidualMid, n, c, c)
	ps.columnSums = append(ps.columnSums,
		normParamSum(g.norm2.weight, g.norm2.bias, b.dln2, u.residualMid, u.mean2, u.rstd2, n),
		normParamSum(g.norm1.weight, g.norm1.bias, b.dln1, a.residualIn, a.mean1, a.rstd1, ps.n),
		biasSum(g.downb, dout, n), biasSum(g.upb, b.dfc, n),
		biasSum(g.outb, b.dResidualMid, n), biasSum(g.qkvb, b.dqkv, ps.n),
	)
}
