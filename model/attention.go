package model

import (
	"github.com/trimtab/trimtab/tensor"
)

// queryTile is the number of queries whose scores are held at once. Tiles
// begin at multiples of it in the sequence; keys after a tile are never
// touched. It changes no bit of any result: absent keys have probability +0,
// which is neutral in a chain of FMAs.
const queryTile = 32

// attentionNorm begins a block for some of its rows: LN1.
func (ps *Pass) attentionNorm(l, from, to int) {
	w, a := &ps.m.w.layers[l], ps.activationsOf(l)
	norm(ps.ln1, a.mean1, a.rstd1, ps.residualIn(l), w.ln1w, w.ln1b, from, to, ps.m.Config.Width)
}

// attendTask is causal attention of one head of one sequence:
//
//	att_t = Σ_{j≤t} p_tj v_j,  p_t = softmax_j≤t(q_t·k_j/√D)
func (ps *Pass) attend(l, head, worker int) {
	h := ps.headOf(head)
	s := ps.work[worker].s
	q, k, v := h.qkv(ps.activationsOf(l).qkv)
	att := h.column(ps.activationsOf(l).att, h.c)
	for t := 0; t < h.t; t += queryTile {
		rows := min(queryTile, h.t-t)
		keys := t + rows
		h.probabilities(s, q, k, t, rows)
		tensor.MatMul(nil, att[t*h.c:], h.c, s, keys, v, 3*h.c, rows, h.d, keys, false)
	}
}

// probabilities fills s (rows, t+rows) with the attention of queries t … of
// the head to the keys up to each; probabilities of later keys are zero.
func (h *headTask) probabilities(s, q, k []float32, t, rows int) {
	keys := t + rows
	tensor.MatMulNT(nil, s, keys, q[t*3*h.c:], 3*h.c, k, 3*h.c, rows, keys, h.d, false)
	for i := range rows {
		row := s[i*keys : (i+1)*keys]
		tensor.Softmax(row[:t+i+1], h.scale)
		clear(row[t+i+1:])
	}
}

// attendBackward computes dq, dk and dv of one head of one sequence from datt.
// Probabilities are computed again, tile by tile, with the same bits.
func (ps *Pass) attendBackward(l, head, worker int) {
	h := ps.headOf(head)
	s, ds := ps.work[worker].s, ps.work[worker].ds
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
		do := datt[t*h.c:]
		h.probabilities(s, q, k, t, rows)
		tensor.MatMulTN(nil, dv, c3, s, keys, do, h.c, keys, h.d, rows, true)
		tensor.MatMulNT(nil, ds, keys, do, h.c, v, c3, rows, keys, h.d, false)
		for i := range rows {
			from, last := i*keys, i*keys+t+i+1
			tensor.SoftmaxBackward(ds[from:last], s[from:last], ds[from:last], h.scale)
			clear(ds[last : from+keys])
		}
		tensor.MatMul(nil, dq[t*c3:], c3, ds, keys, k, c3, rows, h.d, keys, false)
		tensor.MatMulTN(nil, dk, c3, ds, keys, q[t*c3:], c3, keys, h.d, rows, true)
	}
}

// headTask is one head of one sequence.
type headTask struct {
	start, t   int // first row and number of rows
	head, d, c int
	scale      float32 // 1/√D
}

func (ps *Pass) headOf(task int) headTask {
	c := ps.m.Config
	b := task / c.Heads
	start := ps.batch.Starts[b]
	d := c.Width / c.Heads
	return headTask{
		start: start, t: ps.batch.Starts[b+1] - start,
		head: task % c.Heads, d: d, c: c.Width,
		scale: tensor.Rsqrt1(float32(d)),
	}
}

// qkv are the parts of x (N, 3C) that belong to the head, rows 3C apart.
func (h *headTask) qkv(x []float32) (q, k, v []float32) {
	if h.t == 0 {
		return nil, nil, nil
	}
	at := h.start*3*h.c + h.head*h.d
	return x[at:], x[at+h.c:], x[at+2*h.c:]
}

// column is the part of x (N, width) that belongs to the head.
func (h *headTask) column(x []float32, width int) []float32 {
	if h.t == 0 {
		return nil
	}
	return x[h.start*width+h.head*h.d:]
}

// attentionNormBackward ends the block's backward for some of its rows: dx of
// the block before = dmid + LN1's backward of dln1. LN1's result is computed
// again.
func (ps *Pass) attentionNormBackward(l, from, to int) {
	w, a, b, c := &ps.m.w.layers[l], ps.activationsOf(l), ps.gradBuffers(l), ps.m.Config.Width
	dx := ps.dOut(l - 1)
	if ps.selectsRows(l) {
		ps.scatterSelected(dx, b.dResidualMid, from, to)
	} else {
		copy(dx[from*c:to*c], b.dResidualMid[from*c:to*c])
	}
	norm(b.ln1, a.mean1, a.rstd1, a.residualIn, w.ln1w, w.ln1b, from, to, c)
	normBackward(dx, b.dln1, a.residualIn, a.mean1, a.rstd1, w.ln1w, from, to, c)
}
