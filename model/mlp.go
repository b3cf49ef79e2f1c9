package model

import "github.com/trimtab/trimtab/tensor"

// blockOut ends a block for some of its rows: the attention's projection into
// the stream, LN2, and the multi-layer perceptron.
//
//	mid = x + att·proj + projb
//	out = mid + gelu(LN2(mid)·fc + fcb)·out + outb
func (ps *Pass) blockOut(task, _ int) {
	from, to := ps.rows(task)
	w, a, c := &ps.m.w.layers[ps.l], ps.acts(ps.l), ps.m.Config.Width
	n := to - from
	mid, out := ps.streamMid(ps.l), ps.streamOut(ps.l)
	linearInto(mid[from*c:to*c], ps.streamIn(ps.l)[from*c:to*c], a.att[from*c:to*c], w.proj, w.projb, n, c, c)
	norm(ps.ln2, a.mean2, a.rstd2, mid, w.ln2, w.ln2b, from, to, c)
	fc, act := a.fc[from*4*c:to*4*c], ps.act[from*4*c:to*4*c]
	linear(fc, ps.ln2[from*c:to*c], w.fc, w.fcb, n, c, 4*c)
	tensor.Gelu(act, fc)
	linearInto(out[from*c:to*c], mid[from*c:to*c], act, w.out, w.outb, n, 4*c, c)
}

// blockOutBackward takes dx, the gradient of the block's output, back to the
// attention's output for some of its rows:
//
//	dact = dx·outᵀ, dfc = dact·gelu'(fc), dln2 = dfc·fcᵀ
//	dmid = dx + LN2's backward of dln2, datt = dmid·projᵀ
//
// On the way it computes again, with the same bits, what blockGradients needs
// and the forward pass did not keep.
func (ps *Pass) blockOutBackward(task, _ int) {
	from, to := ps.rows(task)
	w, a, c := &ps.m.w.layers[ps.l], ps.acts(ps.l), ps.m.Config.Width
	n := to - from
	dx, dmid, dfc := ps.dx[from*c:to*c], ps.dmid[from*c:to*c], ps.dfc[from*4*c:to*4*c]
	fc := a.fc[from*4*c : to*4*c]
	linearBackward(dfc, dx, w.out, n, 4*c, c)
	tensor.Gelu(ps.act[from*4*c:to*4*c], fc)
	tensor.GeluBackward(dfc, fc, dfc)
	linearBackward(ps.dln2[from*c:to*c], dfc, w.fc, n, c, 4*c)
	copy(dmid, dx)
	normBackward(ps.dmid, ps.dln2, a.mid, a.mean2, a.rstd2, w.ln2, from, to, c)
	linearBackward(ps.datt[from*c:to*c], dmid, w.proj, n, c, c)
	norm(ps.ln1, a.mean1, a.rstd1, a.x, w.ln1, w.ln1b, from, to, c)
	norm(ps.ln2, a.mean2, a.rstd2, a.mid, w.ln2, w.ln2b, from, to, c)
}

// blockGradients accumulates the gradients of all parameters of the block but
// LN1's, for which dln1 is not known yet: those join the next sums.
func (ps *Pass) blockGradients() {
	g, a := &ps.grad.layers[ps.l], ps.acts(ps.l)
	c := ps.m.Config.Width
	ps.linearGradient(g.out, ps.act, ps.dx, 4*c, c)
	ps.linearGradient(g.fc, ps.ln2, ps.dfc, c, 4*c)
	ps.linearGradient(g.proj, a.att, ps.dmid, c, c)
	ps.linearGradient(g.attn, ps.ln1, ps.dqkv, c, 3*c)
	ps.sums = append(ps.sums,
		normSum(g.ln2, g.ln2b, ps.dln2, a.mid, a.mean2, a.rstd2),
		biasSum(g.outb, ps.dx), biasSum(g.fcb, ps.dfc),
		biasSum(g.projb, ps.dmid), biasSum(g.attnb, ps.dqkv),
	)
	ps.runSums()
}
