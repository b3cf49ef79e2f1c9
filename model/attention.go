package model

import (
	"math"

	"github.com/trimtab/trimtab/tensor"
)

// Attention of one block, with x its input (the residual stream, or its norm) and N the number of rows:
//
//	q, k, v = x·qkvw + qkvb                     H queries, KV keys and KV values of D elements
//	q, k    = rotate(N_q(q)), rotate(N_k(k))    where the model has query-key norms, or rotary positions
//	att_t   = Σ_j p_tj v_j,  p_t = softmax_j(cap(q_t·k_j·scale))
//	out     = att·outw + outb
//
// where j runs over the keys up to t, or over those of the sliding window. H/KV neighbouring queries share a key and a
// value (Ainslie et al., "GQA", 2023).

// attentionActivations are what attention keeps of the N rows of a batch for its backward pass.
type attentionActivations struct {
	norm1  normStats // (N) of the norm before it
	qkv    []float32 // (N, qkvWidth) as attention reads them: normed and rotated
	rawQK  []float32 // (N, (H+KV)·D) queries and keys before their norm, where the model has one
	qkRstd []float32 // (N, H+KV) of those norms, or (N, 2) of norms over all heads
}

// size sizes the buffers for n rows.
func (a *attentionActivations) size(n int, d *dims) {
	a.norm1.size(n, d)
	resizeSlab(&a.qkv, n*d.qkv)
	resizeSlab(&a.rawQK, n*d.rawQK())
	resize(&a.qkRstd, n*d.qkNorms())
}

// rows returns views of rows from … to.
func (a *attentionActivations) rows(from, to int, d *dims) attentionActivations {
	return attentionActivations{
		norm1:  a.norm1.rows(from, to, d),
		qkv:    a.qkv[from*d.qkv : to*d.qkv],
		rawQK:  a.rawQK[from*d.rawQK() : to*d.rawQK()],
		qkRstd: a.qkRstd[from*d.qkNorms() : to*d.qkNorms()],
	}
}

// attender computes att (N, H·D) of block l from its qkv: a Pass within its batch, a decoder against its cache.
type attender interface{ attend(sp span, l int) }

// attentionForward computes the attention of block l and adds it to the residual stream, from residualIn to
// residualMid.
func (ps *Pass) attentionForward(sp *span, l int) {
	d, w, b := &ps.m.dims, &ps.weights.layers[l], &ps.m.w.layers[l]
	if d.normsBefore {
		ps.forRows(sp, l, (*Pass).attentionNorm)
	}
	ps.linear(sp, ps.activationsOf(l).qkv, nil, ps.attentionInput(l), &w.qkv, b.qkvb)
	if d.finishesQKV() {
		ps.forRows(sp, l, (*Pass).finishQKV)
	}
	ps.attender.attend(*sp, l)
	selected, u := ps.selectedRows(sp, l), ps.postAttention(l)
	if ps.selectsRows(l) {
		ps.forRows(&selected, l, (*Pass).gatherSelected)
	}
	if d.parallel { // the MLP reads what mid may now overwrite
		ps.forRows(&selected, l, (*Pass).mlpNorm)
	}
	ps.addBranch(&selected, l, branch{
		y: ps.residualMid(l), residual: ps.selectedIn(l), out: u.attentionOut,
		x: u.att, w: &w.out, bias: b.outb, join: (*Pass).joinAttention,
	})
}

// attentionInput returns what attention of block l reads: the norm of the residual stream, or the stream itself.
func (ps *Pass) attentionInput(l int) []float32 {
	if ps.m.dims.normsBefore {
		return ps.ln1
	}
	return ps.residualIn(l)
}

// attentionNorm computes ln1 = N1(x) of block l for some rows.
func (ps *Pass) attentionNorm(l, from, to int) {
	ps.norm(ps.ln1, &ps.activationsOf(l).norm1, ps.residualIn(l), &ps.m.w.layers[l].norm1, from, to)
}

// joinAttention ends the attention of block l for some rows: see addBranch.
func (ps *Pass) joinAttention(l, from, to int) {
	u := ps.postAttention(l)
	ps.join(ps.residualMid(l), ps.selectedIn(l), u.attentionOut, ps.ln2Output(l), &u.postNorm1,
		&ps.m.w.layers[l].postNorm1, from, to)
}

// finishQKV normalises and rotates the queries and keys of block l for some rows, in place.
func (ps *Pass) finishQKV(l, from, to int) {
	d, a := &ps.m.dims, ps.activationsOf(l)
	for r := from; r < to; r++ {
		row := a.qkv[r*d.qkv : (r+1)*d.qkv]
		if d.qkNorm != NoQKNorm {
			ps.queryKeyNorm(l, r, row)
		}
		if d.rotaryDim > 0 {
			ps.rotate(l, r, row, tensor.Rotate)
		}
	}
}

// queryKeyNorm normalises the queries and keys of row r, after it has kept them as they are.
func (ps *Pass) queryKeyNorm(l, r int, row []float32) {
	d, a, w := &ps.m.dims, ps.activationsOf(l), &ps.m.w.layers[l]
	raw := a.rawQK[r*d.rawQK() : (r+1)*d.rawQK()]
	rstd := a.qkRstd[r*d.qkNorms() : (r+1)*d.qkNorms()]
	copy(raw, row)
	q, n := d.attention, d.queryNorms()
	tensor.RMSNorm(row[:q], rstd[:n], raw[:q], w.queryNorm, d.normOffset, n, q/n, d.eps)
	rest, m := d.rawQK()-q, d.qkNorms()-n
	tensor.RMSNorm(row[q:q+rest], rstd[n:], raw[q:], w.keyNorm, d.normOffset, m, rest/m, d.eps)
}

// queryTile is the number of queries whose scores are in memory at once. Tiles begin at multiples of it in the
// sequence, and keys after a tile's last query are never touched. It changes no bit of any result: absent keys have
// probability +0, which is neutral in a chain of FMAs.
const queryTile = 32

// attend is the attention of block l within the batch.
func (ps *Pass) attend(sp span, l int) { ps.forHeads(&sp, l, ps.m.dims.heads, (*Pass).attendHead) }

// attendHead is the attention of one head of one sequence.
func (ps *Pass) attendHead(l, task, worker int) {
	d := &ps.m.dims
	h := ps.headOf(l, task/d.heads, task%d.heads)
	s := ps.work[worker].s
	q, k, v := h.qkv(ps.activationsOf(l).qkv)
	att := h.column(ps.activationsOf(l).att)
	for t := 0; t < h.t; t += queryTile {
		first, rows := h.firstKey(t), min(queryTile, h.t-t)
		keys := t + rows - first
		h.probabilities(s, nil, q, k, t, rows)
		// att (rows, D) = p (rows, keys) · v (keys, D)
		tensor.Product{
			M: rows, N: d.headDim, K: keys, A: s, B: v[first*d.qkv:], LDB: d.qkv, C: att[t*d.attention:],
			LDC: d.attention,
		}.Run(nil)
	}
}

// headTask is one attention head of one sequence.
type headTask struct {
	d          *dims
	start, t   int // first row of the sequence in the batch, and its number of rows
	head, kv   int // which query head, and which key-value head
	window     int // how many keys a query sees; 0 is all
	scale, cap float32
}

// headOf returns a head of a sequence.
func (ps *Pass) headOf(l, sequence, head int) headTask {
	d := &ps.m.dims
	start := ps.batch.Starts[sequence]
	return headTask{
		d:      d,
		start:  start,
		t:      ps.batch.Starts[sequence+1] - start,
		head:   head,
		kv:     head / d.group,
		window: ps.m.windows[l],
		scale:  d.attentionScale,
		cap:    d.attentionCap,
	}
}

// qkv returns the parts of x (N, qkvWidth) that belong to the head: three times (T, D), rows qkvWidth apart.
func (h *headTask) qkv(x []float32) (q, k, v []float32) {
	if h.t == 0 {
		return nil, nil, nil
	}
	x = x[h.start*h.d.qkv:]
	return x[h.d.query(h.head):], x[h.d.key(h.kv):], x[h.d.value(h.kv):]
}

// column returns the part of x (N, H·D) that belongs to the head: (T, D), rows H·D apart.
func (h *headTask) column(x []float32) []float32 {
	if h.t == 0 {
		return nil
	}
	return x[h.start*h.d.attention+h.head*h.d.headDim:]
}

// keyAlign is what the first key of a tile is a multiple of, the number of lanes of a reduction: which keys before the
// window are computed, and left out again, then changes no bit.
const keyAlign = 16

// firstKey returns the first key that is computed for the queries from t on.
func (h *headTask) firstKey(t int) int { return firstKey(t, h.window) }

// firstKey returns the first key that is computed for the query t and later ones.
func firstKey(t, window int) int {
	if window == 0 {
		return 0
	}
	return max(0, t-window+1) / keyAlign * keyAlign
}

// probabilities sets s (rows, keys) to the attention probabilities of queries t … t+rows-1 of the head for the keys
// from firstKey(t) to the last query. Those of keys that a query does not see are zero. Where scores are capped, capped
// (rows, keys), if there is one, is set to them.
func (h *headTask) probabilities(s, capped, q, k []float32, t, rows int) {
	first, ld := h.firstKey(t), h.d.qkv
	keys := t + rows - first
	// s (rows, keys) = q (rows, D) · kᵀ (D, keys)
	tensor.Product{
		M: rows, N: keys, K: h.d.headDim, A: q[t*ld:], LDA: ld, B: k[first*ld:], LDB: ld, TransB: true, C: s,
	}.Run(nil)
	for i := range rows {
		row, last := s[i*keys:(i+1)*keys], t+i+1-first // the keys after the query begin at last
		scale := h.scale
		if h.cap > 0 {
			tensor.SoftCap(row[:last], h.scale, h.cap)
			if capped != nil {
				copy(capped[i*keys:], row[:last])
			}
			scale = 1
		}
		hideKeys(row, first, t+i, h.window)
		tensor.Softmax(row[:last], scale)
		clear(row[last:])
	}
}

// hideKeys sets the scores of keys before the window of query t to -Inf; row begins with key first.
func hideKeys(row []float32, first, t, window int) {
	if window == 0 {
		return
	}
	fill(row[:max(0, t-window+1-first)], float32(math.Inf(-1)))
}

// attendBackward computes dq, dk and dv of one key-value head of one sequence, and of the query heads that share it,
// from datt, with p computed again, tile by tile, with the same bits. In the forward pass this was s = q·kᵀ,
// p = softmax(cap(s·scale)), att = p·v, and so
//
//	dv = pᵀ·datt,  dp = datt·vᵀ,  ds = softmax's backward of dp,  dq = ds·k,  dk = dsᵀ·q
//
// dv and dk are chains over the query heads, and over all queries of each, in order: each tile adds to them.
func (ps *Pass) attendBackward(l, task, worker int) {
	d := &ps.m.dims
	sequence, kv := task/d.kvHeads, task%d.kvHeads
	h := ps.headOf(l, sequence, kv*d.group)
	_, dk, dv := h.qkv(ps.gradBuffers(l).dqkv)
	for r := range h.t {
		clear(dk[r*d.qkv : r*d.qkv+d.headDim])
		clear(dv[r*d.qkv : r*d.qkv+d.headDim])
	}
	for i := range d.group {
		h.head = kv*d.group + i
		for t := 0; t < h.t; t += queryTile {
			ps.attendTileBackward(l, worker, &h, t)
		}
	}
}

// attendTileBackward does the queries from t on of one head.
func (ps *Pass) attendTileBackward(l, worker int, h *headTask, t int) {
	d, work := &ps.m.dims, &ps.work[worker]
	p, ds, capped := work.s, work.ds, work.capped
	q, k, v := h.qkv(ps.activationsOf(l).qkv)
	dq, dk, dv := h.qkv(ps.gradBuffers(l).dqkv)
	first, rows := h.firstKey(t), min(queryTile, h.t-t)
	keys, ld, at := t+rows-first, d.qkv, first*d.qkv
	dout := h.column(ps.datt)[t*d.attention:]
	h.probabilities(p, capped, q, k, t, rows)
	// dv (keys, D) += pᵀ (keys, rows) · dout (rows, D)
	tensor.Product{
		M: keys, N: d.headDim, K: rows, Accumulate: true, A: p, TransA: true, B: dout, LDB: d.attention,
		C: dv[at:], LDC: ld,
	}.Run(nil)
	// dp (rows, keys) = dout (rows, D) · vᵀ (D, keys), in the place of ds
	tensor.Product{
		M: rows, N: keys, K: d.headDim, A: dout, LDA: d.attention, B: v[at:], LDB: ld, TransB: true, C: ds,
	}.Run(nil)
	for i := range rows {
		from, last := i*keys, i*keys+t+i+1-first // the keys up to the query
		if h.cap > 0 {
			tensor.SoftmaxBackward(ds[from:last], p[from:last], ds[from:last], 1)
			tensor.SoftCapBackward(ds[from:last], capped[from:last], h.scale, h.cap)
		} else {
			tensor.SoftmaxBackward(ds[from:last], p[from:last], ds[from:last], h.scale)
		}
		clear(ds[last : from+keys])
	}
	// dq (rows, D) = ds (rows, keys) · k (keys, D)
	tensor.Product{
		M: rows, N: d.headDim, K: keys, A: ds, B: k[at:], LDB: ld, C: dq[t*ld:], LDC: ld,
	}.Run(nil)
	// dk (keys, D) += dsᵀ (keys, rows) · q (rows, D)
	tensor.Product{
		M: keys, N: d.headDim, K: rows, Accumulate: true, A: ds, TransA: true, B: q[t*ld:], LDB: ld,
		C: dk[at:], LDC: ld,
	}.Run(nil)
}

// attentionBackward takes the gradient of block l from residualMid to residualIn. With dout the gradient of what
// attention gives,
//
//	datt = dout·outwᵀ,  dqkv = attention's backward of datt,  din = dqkv·qkvwᵀ
func (ps *Pass) attentionBackward(sp *span, l int) {
	d, w, b := &ps.m.dims, &ps.weights.layers[l], ps.gradBuffers(l)
	selected := ps.selectedRows(sp, l)
	if d.branches {
		ps.forRows(&selected, l, (*Pass).joinAttentionBackward)
	}
	datt := ps.datt
	if ps.selectsRows(l) {
		datt = ps.lastBlock.datt
	}
	ps.linearBackward(&selected, datt, ps.dAttentionOut(l), &w.out)
	if ps.selectsRows(l) {
		ps.forRows(sp, l, (*Pass).scatterAttentionGrad)
	}
	ps.forHeads(sp, l, d.kvHeads, (*Pass).attendBackward)
	if d.finishesQKV() {
		ps.forRows(sp, l, (*Pass).finishQKVBackward)
	}
	ps.linearBackward(sp, b.dln1, b.dqkv, &w.qkv)
	ps.forRows(sp, l, (*Pass).attentionInputBackward)
}

// dAttentionOut returns the gradient of what attention of block l gives, before a norm or a scale.
func (ps *Pass) dAttentionOut(l int) []float32 {
	if ps.m.dims.branches {
		return ps.gradBuffers(l).dAttentionOut
	}
	return ps.gradBuffers(l).dResidualMid
}

// joinAttentionBackward is the backward pass of joinAttention.
func (ps *Pass) joinAttentionBackward(l, from, to int) {
	u, b := ps.postAttention(l), ps.gradBuffers(l)
	ps.joinBackward(b.dAttentionOut, b.dResidualMid, u.attentionOut, &u.postNorm1, &ps.m.w.layers[l].postNorm1,
		from, to)
}

// finishQKVBackward is the backward pass of finishQKV, in place of dqkv. It keeps the gradient of normed queries and
// keys, for that of the norms' weights.
func (ps *Pass) finishQKVBackward(l, from, to int) {
	d, b := &ps.m.dims, ps.gradBuffers(l)
	for r := from; r < to; r++ {
		row := b.dqkv[r*d.qkv : (r+1)*d.qkv]
		if d.rotaryDim > 0 {
			ps.rotate(l, r, row, tensor.RotateBack)
		}
		if d.qkNorm != NoQKNorm {
			ps.queryKeyNormBackward(l, r, row)
		}
	}
}

// queryKeyNormBackward is the backward pass of queryKeyNorm.
func (ps *Pass) queryKeyNormBackward(l, r int, row []float32) {
	d, a, w := &ps.m.dims, ps.activationsOf(l), &ps.m.w.layers[l]
	raw := a.rawQK[r*d.rawQK() : (r+1)*d.rawQK()]
	rstd := a.qkRstd[r*d.qkNorms() : (r+1)*d.qkNorms()]
	dy := ps.gradBuffers(l).dNormedQK[r*d.rawQK() : (r+1)*d.rawQK()]
	copy(dy, row)
	clear(row[:len(dy)])
	q, n := d.attention, d.queryNorms()
	tensor.RMSNormBackward(row[:q], nil, dy[:q], raw[:q], rstd[:n], w.queryNorm, d.normOffset, n, q/n)
	rest, m := d.rawQK()-q, d.qkNorms()-n
	tensor.RMSNormBackward(row[q:q+rest], nil, dy[q:], raw[q:], rstd[n:], w.keyNorm, d.normOffset, m, rest/m)
}

// attentionInputBackward ends the backward pass of block l for some rows. In the forward pass the input x of the block
// went into attention, through a norm or as it is, and past it into the residual stream; in a block with parallel
// residuals also into the MLP:
//
//	dx = dmid + N1's backward of dln1 (+ N2's backward of dln2)
//
// N1's output is computed again for the gradient of qkvw.
func (ps *Pass) attentionInputBackward(l, from, to int) {
	w, a, d := &ps.m.w.layers[l], ps.activationsOf(l), &ps.m.dims
	b, c := ps.gradBuffers(l), d.width
	dx, past := ps.dOut(l-1), b.dResidualMid
	if d.normAt == NormAfter { // the stream went through the norm after attention
		past = b.dAttentionOut
	}
	if ps.selectsRows(l) {
		ps.scatterSelected(dx, past, from, to)
	} else {
		copy(dx[from*c:to*c], past[from*c:to*c])
	}
	if !d.normsBefore {
		tensor.Add(dx[from*c:to*c], b.dln1[from*c:to*c])
		return
	}
	ps.norm(b.ln1, &a.norm1, a.residualIn, &w.norm1, from, to)
	ps.normBackward(dx, b.dln1, a.residualIn, &a.norm1, &w.norm1, from, to)
	if d.parallel {
		ps.mlpInputBackwardParallel(dx, l, from, to)
	}
}
