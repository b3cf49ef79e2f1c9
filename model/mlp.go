package model

import "github.com/trimtab/trimtab/tensor"

// mlpIn is LN2 for some rows.
func (ps *Pass) mlpIn(l, from, to int) {
	w, u := &ps.m.w.layers[l], ps.up(l)
	norm(ps.ln2Of(l), u.mean2, u.rstd2, ps.streamMid(l), w.ln2, w.ln2b, from, to, ps.m.Config.Width)
}

// mlpOut is GELU for some rows.
func (ps *Pass) mlpOut(l, from, to int) {
	c := ps.m.Config.Width
	tensor.Gelu(ps.actOf(l)[from*4*c:to*4*c], ps.up(l).fc[from*4*c:to*4*c])
}

// mlpOutBackward takes dfc, which holds the gradient of GELU's output, to that
// of its input. On the way it computes again, with the same bits, what
// blockGradients needs and the forward pass did not keep.
func (ps *Pass) mlpOutBackward(l, from, to int) {
	b, c := ps.of(l), ps.m.Config.Width
	dfc, fc := b.dfc[from*4*c:to*4*c], ps.up(l).fc[from*4*c:to*4*c]
	tensor.GeluBoth(dfc, fc, dfc, b.act[from*4*c:to*4*c])
}

// mlpInBackward is dmid = dx + LN2's backward of dln2, and LN2's result again.
func (ps *Pass) mlpInBackward(l, from, to int) {
	w, u, b, c := &ps.m.w.layers[l], ps.up(l), ps.of(l), ps.m.Config.Width
	copy(b.dmid[from*c:to*c], ps.leaving(l)[from*c:to*c])
	normBackward(b.dmid, b.dln2, u.mid, u.mean2, u.rstd2, w.ln2, from, to, c)
	norm(b.ln2, u.mean2, u.rstd2, u.mid, w.ln2, w.ln2b, from, to, c)
}

// blockGradients lists what accumulates the gradients of all parameters of
// block l, whose backward pass is done.
func (ps *Pass) blockGradients(l int) {
	g, a, u, b, dx, c := &ps.grad.layers[l], ps.acts(l), ps.up(l), ps.of(l), ps.leaving(l), ps.m.Config.Width
	n := ps.n
	if ps.narrow(l) {
		n = ps.results()
	}
	ps.linearGradient(g.out, b.act, dx, n, 4*c, c)
	ps.linearGradient(g.fc, b.ln2, b.dfc, n, c, 4*c)
	ps.linearGradient(g.attn, b.ln1, b.dqkv, ps.n, c, 3*c)
	ps.linearGradient(g.proj, u.att, b.dmid, n, c, c)
	ps.sums = append(ps.sums,
		normSum(g.ln2, g.ln2b, b.dln2, u.mid, u.mean2, u.rstd2, n),
		normSum(g.ln1, g.ln1b, b.dln1, a.x, a.mean1, a.rstd1, ps.n),
		biasSum(g.outb, dx, n), biasSum(g.fcb, b.dfc, n),
		biasSum(g.projb, b.dmid, n), biasSum(g.attnb, b.dqkv, ps.n),
	)
}
