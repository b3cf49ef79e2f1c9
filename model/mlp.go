package model

import "github.com/trimtab/trimtab/tensor"

// mlpIn is LN2 for some rows, and the bias in which the chains of fc begin.
func (ps *Pass) mlpIn(l, from, to int) {
	w, a, c := &ps.m.w.layers[l], ps.acts(l), ps.m.Config.Width
	norm(ps.ln2, a.mean2, a.rstd2, ps.streamMid(l), w.ln2, w.ln2b, from, to, c)
	spread(a.fc[from*4*c:to*4*c], w.fcb, to-from)
}

// mlpOut is GELU for some rows, and begins the stream that leaves the block:
// mid + outb.
func (ps *Pass) mlpOut(l, from, to int) {
	c := ps.m.Config.Width
	tensor.Gelu(ps.act[from*4*c:to*4*c], ps.acts(l).fc[from*4*c:to*4*c])
	carry(ps.streamOut(l)[from*c:to*c], ps.streamMid(l)[from*c:to*c], ps.m.w.layers[l].outb, to-from)
}

// mlpOutBackward takes dfc, which holds the gradient of GELU's output, to that
// of its input. On the way it computes again, with the same bits, what
// blockGradients needs and the forward pass did not keep.
func (ps *Pass) mlpOutBackward(l, from, to int) {
	b, c := ps.of(l), ps.m.Config.Width
	dfc, fc := b.dfc[from*4*c:to*4*c], ps.acts(l).fc[from*4*c:to*4*c]
	tensor.Gelu(b.act[from*4*c:to*4*c], fc)
	tensor.GeluBackward(dfc, fc, dfc)
}

// mlpInBackward is dmid = dx + LN2's backward of dln2, and both LayerNorms'
// results again.
func (ps *Pass) mlpInBackward(l, from, to int) {
	w, a, b, c := &ps.m.w.layers[l], ps.acts(l), ps.of(l), ps.m.Config.Width
	copy(b.dmid[from*c:to*c], ps.leaving(l)[from*c:to*c])
	normBackward(b.dmid, b.dln2, a.mid, a.mean2, a.rstd2, w.ln2, from, to, c)
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
