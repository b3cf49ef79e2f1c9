package model

import "github.com/trimtab/trimtab/tensor"

// One block, with x the residual stream, a row for each token, and N, N' norms of which a model has some:
//
//	mid = x + attention(N1(x))        out = mid + mlp(N2(mid))         norms before (GPT-2, Llama)
//	mid = N1'(x + attention(x))       out = N2'(mid + mlp(mid))        after (GPT-1)
//	mid = x + N1'(attention(x))       out = mid + N2'(mlp(mid))        of the output (OLMo 2)
//	mid = x + N1'(attention(N1(x)))   out = mid + N2'(mlp(N2(mid)))    both (Gemma 2)
//	mid = x + attention(N1(x))        out = mid + mlp(N2(x))           parallel residuals (GPT-NeoX)

// forwardSpan takes sp through the model.
func (ps *Pass) forwardSpan(sp *span) {
	ps.forRows(sp, 0, (*Pass).embed)
	last := len(ps.weights.layers) - 1
	for l := range last + 1 {
		ps.attentionForward(sp, l)
		selected := ps.selectedRows(sp, l)
		ps.mlpForward(&selected, l)
	}
	selected := ps.selectedRows(sp, last)
	ps.forRows(&selected, 0, (*Pass).finalNormRows)
}

// branch is the last product of attention or of the MLP, which is added to the residual stream.
type branch struct {
	// (N, C) the residual stream after and before it, which may be one array
	y, residual []float32
	out         []float32                       // (N, C) what the product gives, where it is needed by itself
	x           []float32                       // (N, in)
	w           *weightMatrix                   // from in to C
	bias        []float32                       // (C)
	join        func(ps *Pass, l, from, to int) // from out to y
}

// addBranch computes y = residual + x·w + bias for the rows of sp, in one product, or, where a norm or a scale comes
// between, by way of out.
func (ps *Pass) addBranch(sp *span, l int, b branch) {
	d := &ps.m.dims
	if !d.branches {
		ps.linear(sp, b.y, b.residual, b.x, b.w, b.bias)
		return
	}
	var sum []float32
	if d.normAt == NormAfter { // the norm is that of the sum
		sum = b.residual
	}
	ps.linear(sp, b.out, sum, b.x, b.w, b.bias)
	ps.forRows(sp, l, b.join)
}

// join computes the residual stream y after attention or the MLP for some rows, from out, what that gave, or its sum
// with the residual stream. scratch (N, C) holds the norm.
func (ps *Pass) join(y, residual, out, scratch []float32, s *normStats, w *normParams, from, to int) {
	d := &ps.m.dims
	c := d.width
	if d.normAt == NormAfter {
		ps.norm(y, s, out, w, from, to)
		return
	}
	copy(y[from*c:to*c], residual[from*c:to*c])
	if d.normAt == NormBefore {
		tensor.Axpy(y[from*c:to*c], d.residualScale, out[from*c:to*c])
		return
	}
	ps.norm(scratch, s, out, w, from, to)
	tensor.Add(y[from*c:to*c], scratch[from*c:to*c])
}

// joinBackward sets dout, the gradient of join's out, for some rows, given dy, that of its y.
func (ps *Pass) joinBackward(dout, dy, out []float32, s *normStats, w *normParams, from, to int) {
	d := &ps.m.dims
	c := d.width
	if d.normAt == NormBefore {
		copy(dout[from*c:to*c], dy[from*c:to*c])
		tensor.Scale(dout[from*c:to*c], d.residualScale)
		return
	}
	clear(dout[from*c : to*c])
	ps.normBackward(dout, dy, out, s, w, from, to)
}

// backwardSpan takes sp through the backward pass of block l, from dout, the gradient of what leaves the block, to that
// of what enters it. Parameter gradients are left to listBlockGradients.
func (ps *Pass) backwardSpan(sp *span, l int) {
	selected := ps.selectedRows(sp, l)
	if l == len(ps.layers)-1 {
		ps.forRows(&selected, l, (*Pass).finalNormBackward)
	}
	ps.mlpBackward(&selected, l)
	ps.attentionBackward(sp, l)
}

// listBlockGradients lists the tasks that accumulate the gradients of all parameters of block l, whose backward pass
// is done. For y = x·w + b they are
//
//	dw += xᵀ·dy,  db += Σ dy over the rows
func (ps *Pass) listBlockGradients(l int) {
	g, w := &ps.grad.layers[l], &ps.weights.layers[l]
	a, u, b := ps.activationsOf(l), ps.postAttention(l), ps.gradBuffers(l)
	n := ps.n
	if ps.selectsRows(l) {
		n = ps.outputCount() // after the attention; before it there are all rows
	}
	attentionIn, mlpIn := a.residualIn, u.residualMid
	if ps.m.dims.normsBefore {
		attentionIn, mlpIn = b.ln1, b.ln2
	}
	ps.linearWeightGrad(g.downw, b.act, ps.dMLPOut(l), n, &w.down)
	ps.linearWeightGrad(g.upw, mlpIn, b.dup, n, &w.up)
	ps.linearWeightGrad(g.qkvw, attentionIn, b.dqkv, ps.n, &w.qkv)
	ps.linearWeightGrad(g.outw, u.att, ps.dAttentionOut(l), n, &w.out)
	ps.normGrad(&g.norm2, b.dln2, ps.mlpStream(l), &u.norm2, n)
	ps.normGrad(&g.norm1, b.dln1, a.residualIn, &a.norm1, ps.n)
	ps.normGrad(&g.postNorm2, ps.dOut(l), u.mlpOut, &u.postNorm2, n)
	ps.normGrad(&g.postNorm1, b.dResidualMid, u.attentionOut, &u.postNorm1, n)
	ps.biasGrad(g.downb, ps.dMLPOut(l), n)
	ps.biasGrad(g.upb, b.dup, n)
	ps.biasGrad(g.outb, ps.dAttentionOut(l), n)
	ps.biasGrad(g.qkvb, b.dqkv, ps.n)
	ps.queryKeyNormGrad(g, a, b)
}
