package model

import "github.com/trimtab/trimtab/tensor"

// queryTile is the number of queries whose scores are in memory at once. Tiles begin at multiples of it in the
// sequence, and keys after a tile's last query are never touched. It changes no bit of any result: absent keys have
// probability +0, which is neutral in a chain of FMAs.
const queryTile = 32

// attentionNorm begins block l for some rows:
//
//	ln1 = LN1(x)
func (ps *Pass) attentionNorm(l, from, to int) {
	w, a := &ps.m.w.layers[l], ps.activationsOf(l)
	norm(ps.ln1, a.mean1, a.rstd1, ps.residualIn(l), w.norm1.weight, w.norm1.bias, from, to, ps.m.Config.Width)
}

// attend is causal attention of one head of one sequence:
//
//	att_t = Σ_{j≤t} p_tj v_j,  p_t = softmax_{j≤t}(q_t·k_j/√D)
func (ps *Pass) attend(l, head, worker int) {
	h := ps.headOf(head)
	s := ps.work[worker].s
	q, k, v := h.qkv(ps.activationsOf(l).qkv)
	att := h.column(ps.activationsOf(l).att, h.c)
	for t := 0; t < h.t; t += queryTile {
		rows := min(queryTile, h.t-t)
		keys := t + rows
		h.probabilities(s, q, k, t, rows)
		// att (rows, D) = p (rows, keys) · v (keys, D)
		tensor.Product{M: rows, N: h.d, K: keys, A: s, B: v, LDB: 3 * h.c, C: att[t*h.c:], LDC: h.c}.Run(nil)
	}
}

// probabilities sets s (rows, t+rows) to the attention probabilities of queries t … t+rows-1 of the head. Those of keys
// later than their query are zero.
func (h *headTask) probabilities(s, q, k []float32, t, rows int) {
	keys := t + rows
	// s (rows, keys) = q (rows, D) · kᵀ (D, keys)
	tensor.Product{
		M: rows, N: keys, K: h.d, A: q[t*3*h.c:], LDA: 3 * h.c, B: k, LDB: 3 * h.c, TransB: true, C: s,
	}.Run(nil)
	for i := range rows {
		row := s[i*keys : (i+1)*keys]
		tensor.Softmax(row[:t+i+1], h.scale)
		clear(row[t+i+1:])
	}
}

// attendBackward computes dq, dk and dv of one head of one sequence from datt, with p computed again, tile by tile,
// with the same bits. In the forward pass this was s = q·kᵀ, p = softmax(s/√D), att = p·v, and so
//
//	dv = pᵀ·datt,  dp = datt·vᵀ,  ds = softmax's backward of dp,  dq = ds·k,  dk = dsᵀ·q
//
// dv and dk are chains over all queries in order: each tile adds to them.
func (ps *Pass) attendBackward(l, head, worker int) {
	h := ps.headOf(head)
	p, ds := ps.work[worker].s, ps.work[worker].ds
	q, k, v := h.qkv(ps.activationsOf(l).qkv)
	dq, dk, dv := h.qkv(ps.gradBuffers(l).dqkv)
	datt := h.column(ps.datt, h.c)
	c3 := 3 * h.c
	for r := range h.t {
		clear(dk[r*c3 : r*c3+h.d])
		clear(dv[r*c3 : r*c3+h.d])
	}
	for t := 0; t < h.t; t += queryTile {
		rows := min(queryTile, h.t-t)
		keys := t + rows
		dout := datt[t*h.c:]
		h.probabilities(p, q, k, t, rows)
		// dv (keys, D) += pᵀ (keys, rows) · dout (rows, D)
		tensor.Product{
			M: keys, N: h.d, K: rows, Accumulate: true, A: p, TransA: true, B: dout, LDB: h.c, C: dv, LDC: c3,
		}.Run(nil)
		// dp (rows, keys) = dout (rows, D) · vᵀ (D, keys), in the place of ds
		tensor.Product{M: rows, N: keys, K: h.d, A: dout, LDA: h.c, B: v, LDB: c3, TransB: true, C: ds}.Run(nil)
		for i := range rows {
			from, last := i*keys, i*keys+t+i+1 // the keys up to the query
			tensor.SoftmaxBackward(ds[from:last], p[from:last], ds[from:last], h.scale)
			clear(ds[last : from+keys])
		}
		// dq (rows, D) = ds (rows, keys) · k (keys, D)
		tensor.Product{M: rows, N: h.d, K: keys, A: ds, B: k, LDB: c3, C: dq[t*c3:], LDC: c3}.Run(nil)
		// dk (keys, D) += dsᵀ (keys, rows) · q (rows, D)
		tensor.Product{
			M: keys, N: h.d, K: rows, Accumulate: true, A: ds, TransA: true, B: q[t*c3:], LDB: c3, C: dk, LDC: c3,
		}.Run(nil)
	}
}

// headTask is one attention head of one sequence.
type headTask struct {
	start, t int     // first row of the sequence in the batch, and its number of rows
	head     int     // which of H
	d, c     int     // D and C
	scale    float32 // 1/√D
}

// headOf returns the head of a task's number: heads are numbered by sequence, then within it.
func (ps *Pass) headOf(task int) headTask {
	c := ps.m.Config
	b := task / c.Heads
	start := ps.batch.Starts[b]
	d := c.Width / c.Heads
	return headTask{
		start: start,
		t:     ps.batch.Starts[b+1] - start,
		head:  task % c.Heads,
		d:     d,
		c:     c.Width,
		scale: tensor.Rsqrt1(float32(d)),
	}
}

// qkv returns the parts of x (N, 3C) that belong to the head: three times (T, D), rows 3C apart.
func (h *headTask) qkv(x []float32) (q, k, v []float32) {
	if h.t == 0 {
		return nil, nil, nil
	}
	at := h.start*3*h.c + h.head*h.d
	return x[at:], x[at+h.c:], x[at+2*h.c:]
}

// column returns the part of x (N, width) that belongs to the head: (T, D), rows width apart.
func (h *headTask) column(x []float32, width int) []float32 {
	if h.t == 0 {
		return nil
	}
	return x[h.start*width+h.head*h.d:]
}

// attentionNormBackward ends the backward pass of block l for some rows. In the forward pass the input x of the block
// went into LN1 and past it into the residual stream, and so
//
//	dx = dmid + LN1's backward of dln1
//
// LN1's output is computed again for the gradient of qkvw.
func (ps *Pass) attentionNormBackward(l, from, to int) {
	w, a := &ps.m.w.layers[l], ps.activationsOf(l)
	b, c := ps.gradBuffers(l), ps.m.Config.Width
	dx := ps.dOut(l - 1)
	if ps.selectsRows(l) {
		ps.scatterSelected(dx, b.dResidualMid, from, to)
	} else {
		copy(dx[from*c:to*c], b.dResidualMid[from*c:to*c])
	}
	norm(b.ln1, a.mean1, a.rstd1, a.residualIn, w.norm1.weight, w.norm1.bias, from, to, c)
	normBackward(dx, b.dln1, a.residualIn, a.mean1, a.rstd1, w.norm1.weight, from, to, c)
}
