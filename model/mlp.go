package model

import "github.com/trimtab/trimtab/tensor"

// blockOut ends a block for some of its rows: the attention's projection into
// the stream, LN2, and the multi-layer perceptron.
//
//	mid = x + att·proj + projb
//	out = mid + gelu(LN2(mid)·fc + fcb)·out + outb
func (ps *Pass) blockOut(l, from, to int) {
	w, a, c := &ps.m.w.layers[l], ps.acts(l), ps.m.Config.Width
	n := to - from
	mid, out := ps.streamMid(l), ps.streamOut(l)
	linearInto(mid[from*c:to*c], ps.streamIn(l)[from*c:to*c], a.att[from*c:to*c], w.proj, w.projb, n, c, c)
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
func (ps *Pass) blockOutBackward(l, from, to int) {
	w, a, b, c := &ps.m.w.layers[l], ps.acts(l), ps.of(l), ps.m.Config.Width
	n := to - from
	dx, dmid, dfc := ps.leaving(l)[from*c:to*c], b.dmid[from*c:to*c], b.dfc[from*4*c:to*4*c]
	fc := a.fc[from*4*c : to*4*c]
	linearBackward(dfc, dx, w.out, n, 4*c, c)
	tensor.Gelu(b.act[from*4*c:to*4*c], fc)
	tensor.GeluBackward(dfc, fc, dfc)
	linearBackward(b.dln2[from*c:to*c], dfc, w.fc, n, c, 4*c)
	copy(dmid, dx)
	normBackward(b.dmid, b.dln2, a.mid, a.mean2, a.rstd2, w.ln2, from, to, c)
	linearBackward(ps.datt[from*c:to*c], dmid, w.proj, n, c, c)
	norm(b.ln1, a.mean1, a.rstd1, a.x, w.ln1, w.ln1b, from, to, c)
	norm(b.ln2, a.mean2, a.rstd2, a.mid, w.ln2, w.ln2b, from, to, c)
}

// blockGradients lists what accumulates the gradients of all parameters of
// block l, whose backward pass is done.
func (ps *Pass) blockGradients(l int) {
	g, a, b, dx, c := &ps.grad.layers[l], ps.acts(l), ps.of(l), ps.leaving(l), ps.m.Config.Width
	ps.linearGradient(g.out, b.act, dx, 4*c, c)
	ps.linearGradient(g.fc, b.ln2, b.dfc, c, 4*c)
	ps.linearGradient(g.attn, b.ln1, b.dqkv, c, 3*c)
	ps.linearGradient(g.proj, a.att, b.dmid, c, c)
	ps.sums = append(ps.sums,
		normSum(g.ln2, g.ln2b, b.dln2, a.mid, a.mean2, a.rstd2),
		normSum(g.ln1, g.ln1b, b.dln1, a.x, a.mean1, a.rstd1),
		biasSum(g.outb, dx), biasSum(g.fcb, b.dfc),
		biasSum(g.projb, b.dmid), biasSum(g.attnb, b.dqkv),
	)
}
