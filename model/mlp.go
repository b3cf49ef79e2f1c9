package model

import "github.com/trimtab/trimtab/tensor"

// mlpNorm is LN2 for some rows.
func (ps *Pass) mlpNorm(l, from, to int) {
	w, u := &ps.m.w.layers[l], ps.postAttention(l)
	norm(ps.ln2Output(l), u.mean2, u.rstd2, ps.residualMid(l), w.ln2w, w.ln2b, from, to, ps.m.Config.Width)
}

// mlpGelu is GELU for some rows.
func (ps *Pass) mlpGelu(l, from, to int) {
	c := ps.m.Config.Width
	tensor.Gelu(ps.geluOutput(l)[from*4*c:to*4*c], ps.postAttention(l).fc[from*4*c:to*4*c])
}

// mlpGeluBackward takes dfc, which holds the gradient of GELU's output, to that
// of its input. On the way it computes again, with the same bits, what
// listBlockGradients needs and the forward pass did not keep.
func (ps *Pass) mlpGeluBackward(l, from, to int) {
	b, c := ps.gradBuffers(l), ps.m.Config.Width
	dfc, fc := b.dfc[from*4*c:to*4*c], ps.postAttention(l).fc[from*4*c:to*4*c]
	tensor.GeluForwardBackward(dfc, fc, dfc, b.act[from*4*c:to*4*c])
}

// mlpNormBackward is dmid = dx + LN2's backward of dln2, and LN2's result again.
func (ps *Pass) mlpNormBackward(l, from, to int) {
	w, u, b, c := &ps.m.w.layers[l], ps.postAttention(l), ps.gradBuffers(l), ps.m.Config.Width
	copy(b.dResidualMid[from*c:to*c], ps.dOut(l)[from*c:to*c])
	normBackward(b.dResidualMid, b.dln2, u.residualMid, u.mean2, u.rstd2, w.ln2w, from, to, c)
	norm(b.ln2, u.mean2, u.rstd2, u.residualMid, w.ln2w, w.ln2b, from, to, c)
}

// listBlockGradients lists what accumulates the gradients of all parameters of
// block l, whose backward pass is done.
func (ps *Pass) listBlockGradients(l int) {
	g, a, u, b, dx, c := &ps.grad.layers[l], ps.activationsOf(l), ps.postAttention(l), ps.gradBuffers(l), ps.dOut(l), ps.m.Config.Width
	n := ps.n
	if ps.selectsRows(l) {
		n = ps.outputCount()
	}
	ps.linearWeightGrad(g.fcprojw, b.act, dx, n, 4*c, c)
	ps.linearWeightGrad(g.fcw, b.ln2, b.dfc, n, c, 4*c)
	ps.linearWeightGrad(g.qkvw, b.ln1, b.dqkv, ps.n, c, 3*c)
	ps.linearWeightGrad(g.attprojw, u.att, b.dResidualMid, n, c, c)
	ps.columnSums = append(ps.columnSums,
		normParamSum(g.ln2w, g.ln2b, b.dln2, u.residualMid, u.mean2, u.rstd2, n),
		normParamSum(g.ln1w, g.ln1b, b.dln1, a.residualIn, a.mean1, a.rstd1, ps.n),
		biasSum(g.fcprojb, dx, n), biasSum(g.fcb, b.dfc, n),
		biasSum(g.attprojb, b.dResidualMid, n), biasSum(g.qkvb, b.dqkv, ps.n),
	)
}
