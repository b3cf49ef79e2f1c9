package model

import "github.com/trimtab/trimtab/tensor"

// The MLP of one block, with x its input (the residual stream, or its norm) and f its activation:
//
//	out = f(x·upw + upb)·downw + downb
//
// or, with a gate (Shazeer, "GLU Variants Improve Transformer", 2020; SwiGLU where f is SiLU), upw holding the weights
// of both projections:
//
//	out = (f(x·gatew)·(x·upw))·downw + downb

// mlpForward computes the MLP of block l for the selected rows and adds it to the residual stream, from residualMid to
// residualOut.
func (ps *Pass) mlpForward(selected *span, l int) {
	d, w, b := &ps.m.dims, &ps.weights.layers[l], &ps.m.w.layers[l]
	u := ps.postAttention(l)
	if d.normsBefore && !d.parallel {
		ps.forRows(selected, l, (*Pass).mlpNorm)
	}
	ps.linear(selected, u.up, nil, ps.mlpInput(l), &w.up, b.upb)
	ps.forRows(selected, l, (*Pass).mlpActivation)
	ps.addBranch(selected, l, branch{
		y: ps.residualOut(l), residual: ps.residualMid(l), out: u.mlpOut,
		x: ps.activationOutput(l), w: &w.down, bias: b.downb, join: (*Pass).joinMLP,
	})
}

// mlpInput returns what the MLP of block l reads: the norm of the residual stream, or the stream itself.
func (ps *Pass) mlpInput(l int) []float32 {
	if ps.m.dims.normsBefore {
		return ps.ln2Output(l)
	}
	return ps.residualMid(l)
}

// mlpStream returns the residual stream that the MLP of block l reads through its norm: after attention, or, in a block
// with parallel residuals, before it.
func (ps *Pass) mlpStream(l int) []float32 {
	if ps.m.dims.parallel {
		return ps.selectedIn(l)
	}
	return ps.residualMid(l)
}

// mlpNorm begins the MLP of block l for some rows:
//
//	ln2 = N2(mid)
func (ps *Pass) mlpNorm(l, from, to int) {
	ps.norm(ps.ln2Output(l), &ps.postAttention(l).norm2, ps.mlpStream(l), &ps.m.w.layers[l].norm2, from, to)
}

// mlpActivation is the activation of the MLP for some rows:
//
//	act = f(up),  act = f(gate)·up
func (ps *Pass) mlpActivation(l, from, to int) {
	d, up, act := &ps.m.dims, ps.postAttention(l).up, ps.activationOutput(l)
	n := d.inner
	if !d.gated {
		d.activation.Forward(act[from*n:to*n], up[from*n:to*n])
		return
	}
	for r := from; r < to; r++ {
		row := up[r*2*n : (r+1)*2*n]
		d.activation.Gated(act[r*n:(r+1)*n], row[:n], row[n:])
	}
}

// joinMLP ends the MLP of block l for some rows: see addBranch.
func (ps *Pass) joinMLP(l, from, to int) {
	u := ps.postAttention(l)
	ps.join(ps.residualOut(l), ps.residualMid(l), u.mlpOut, ps.ln2Output(l), &u.postNorm2,
		&ps.m.w.layers[l].postNorm2, from, to)
}

// mlpBackward takes the gradient of block l from residualOut to residualMid. With dout the gradient of what the MLP
// gives,
//
//	dact = dout·downwᵀ,  dup = dact·f'(up),  din = dup·upwᵀ
func (ps *Pass) mlpBackward(selected *span, l int) {
	w, b := &ps.weights.layers[l], ps.gradBuffers(l)
	if ps.m.dims.branches {
		ps.forRows(selected, l, (*Pass).joinMLPBackward)
	}
	ps.linearBackward(selected, b.dactivation(&ps.m.dims), ps.dMLPOut(l), &w.down)
	ps.forRows(selected, l, (*Pass).mlpActivationBackward)
	ps.linearBackward(selected, b.dln2, b.dup, &w.up)
	ps.forRows(selected, l, (*Pass).mlpInputBackward)
}

// dMLPOut returns the gradient of what the MLP of block l gives, before a norm or a scale.
func (ps *Pass) dMLPOut(l int) []float32 {
	if ps.m.dims.branches {
		return ps.gradBuffers(l).dMLPOut
	}
	return ps.dOut(l)
}

// joinMLPBackward is the backward pass of joinMLP.
func (ps *Pass) joinMLPBackward(l, from, to int) {
	u, b := ps.postAttention(l), ps.gradBuffers(l)
	ps.joinBackward(b.dMLPOut, ps.dOut(l), u.mlpOut, &u.postNorm2, &ps.m.w.layers[l].postNorm2, from, to)
}

// mlpActivationBackward is the backward pass of mlpActivation: from dact, the gradient of its output, to dup. Without a
// gate they are one array.
//
//	dup = dact·f'(up),  dgate = dact·up·f'(gate),  dup = dact·f(gate)
//
// It also computes act again, with the same bits, for the gradient of downw.
func (ps *Pass) mlpActivationBackward(l, from, to int) {
	d, b, up := &ps.m.dims, ps.gradBuffers(l), ps.postAttention(l).up
	n := d.inner
	if !d.gated {
		dup := b.dup[from*n : to*n]
		d.activation.ForwardBackward(dup, up[from*n:to*n], dup, b.act[from*n:to*n])
		return
	}
	for r := from; r < to; r++ {
		x, dx := up[r*2*n:(r+1)*2*n], b.dup[r*2*n:(r+1)*2*n]
		d.activation.GatedBackward(dx[:n], dx[n:], b.act[r*n:(r+1)*n], x[:n], x[n:], b.dact[r*n:(r+1)*n])
	}
}

// mlpInputBackward is the backward pass from the MLP's input to residualMid for some rows. In the forward pass mid went
// into the MLP, through a norm or as it is, and past it into the residual stream, and so
//
//	dmid = dout + N2's backward of dln2
//
// In a block with parallel residuals the MLP reads the block's input, whose gradient attentionInputBackward computes.
// It also computes ln2 again, with the same bits, for the gradient of upw.
func (ps *Pass) mlpInputBackward(l, from, to int) {
	w, u, d := &ps.m.w.layers[l], ps.postAttention(l), &ps.m.dims
	b, c := ps.gradBuffers(l), d.width
	past := ps.dOut(l)
	if d.normAt == NormAfter { // the stream went through the norm after the MLP
		past = b.dMLPOut
	}
	dmid := b.dResidualMid
	copy(dmid[from*c:to*c], past[from*c:to*c])
	switch {
	case d.normsBefore:
		if !d.parallel {
			ps.normBackward(dmid, b.dln2, u.residualMid, &u.norm2, &w.norm2, from, to)
		}
		ps.norm(b.ln2, &u.norm2, ps.mlpStream(l), &w.norm2, from, to)
	default:
		tensor.Add(dmid[from*c:to*c], b.dln2[from*c:to*c])
	}
}

// mlpInputBackwardParallel adds the gradient of the MLP's input to dx (N, C), that of the block's input, for rows
// from … to of the batch.
func (ps *Pass) mlpInputBackwardParallel(dx []float32, l, from, to int) {
	w, u := &ps.m.w.layers[l], ps.postAttention(l)
	b, c := ps.gradBuffers(l), ps.m.dims.width
	if !ps.selectsRows(l) {
		ps.normBackward(dx, b.dln2, ps.activationsOf(l).residualIn, &u.norm2, &w.norm2, from, to)
		return
	}
	first, last := ps.selectedRange(from, to)
	for i := first; i < last; i++ {
		r := ps.outputRows[i]
		s := u.norm2.rows(i, i+1, &ps.m.dims)
		ps.normBackward(dx[r*c:(r+1)*c], b.dln2[i*c:(i+1)*c], ps.selectedIn(l)[i*c:(i+1)*c], &s, &w.norm2, 0, 1)
	}
}
