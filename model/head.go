package model

import "github.com/trimtab/trimtab/tensor"

// HeadRow asks for the log-probability of the token Target after row Row of the batch.
type HeadRow struct {
	Row    int
	Target int32
}

// headLogits is about how many logits are in memory at once, 2 MB, for vocabularies up to a few thousand; larger ones
// take more.
const headLogits = 1 << 19

// headBuffers holds the buffers of LMHead for one chunk of R rows.
type headBuffers struct {
	rows     []HeadRow // (R) those of the chunk
	firstRow int       // the number of the first of them among all head rows
	invTemp  float32

	hidden       []float32   // (R, C) rows of Pass.hidden
	dhidden      []float32   // (R, C) their gradient
	logits       []float32   // (R, V); then probabilities; then dlogits
	logp         []float32   // (R) of the targets
	entropy      []float32   // (R)
	dlogp        []float32   // (R) what each has returned
	isArgmax     []bool      // (R) no token has a larger logit than the target
	workerLogits [][]float32 // (workers, V) a copy of the row that is being turned into probabilities
}

// chunkRows returns R, the number of rows that the head computes at once: at least enough of them to repay a pass
// over the vocabulary. Rows are independent, and gradients are chains over rows in order, and so it changes no bit.
func chunkRows(vocab int) int { return max(256, headLogits/vocab) }

// LMHead is the language-model head: for each of rows, in order, with the logits z = invTemp·wte·hidden and p =
// softmax(z), it computes
//
//	logp = z[target] - max z - ln Σ exp(z - max z),  entropy = -Σ p ln p
//
// in nats, and calls each(i, logp, entropy) on the calling goroutine. Only the logits of some rows are in memory at a
// time. It follows a Forward or Infer of m whose batch had these rows.
//
// With a gradient slab g, each returns dL/dlogp of its row, and
//
//	dlogits = dL/dlogp · invTemp · (onehot(target) - p)
//
// is taken back to wte's gradient in g and to DHidden. Rows of dL/dlogp = 0 add nothing. The entropy has no gradient.
func (ps *Pass) LMHead(
	m *Model, g []float32, rows []HeadRow, invTemp float32,
	each func(i int, logp, entropy float32) (dlogp float32),
) {
	ps.mustMatch(m)
	c, v := m.Config.Width, m.Config.Vocab
	var dwte []float32 // (V, C)
	if g != nil {
		ps.mustHold(m)
		dwte = g[:v*c]
	}
	h := &ps.head
	chunk := min(len(rows), chunkRows(v))
	h.size(chunk, c, v, ps.pool.Workers())
	h.invTemp = invTemp
	ps.weights.useHead(m, ps.pool, len(rows))
	if g != nil {
		ps.weights.packHeadTransposed(ps.pool)
	}
	for from := 0; from < len(rows); from += chunk {
		h.rows, h.firstRow = rows[from:min(from+chunk, len(rows))], from
		n := len(h.rows)
		ps.gatherHidden(n, c)
		ps.weights.linear(h.logits, h.hidden, &ps.weights.head, n).Run(ps.pool)
		ps.pool.Run(n, ps.op.headProbs)
		learn := false // whether a row of the chunk has a gradient
		for i := range n {
			h.dlogp[i] = each(from+i, h.logp[i], h.entropy[i])
			learn = learn || h.dlogp[i] != 0
		}
		if g == nil || !learn {
			continue
		}
		ps.pool.Run(n, ps.op.headGrad)
		ps.weights.linearBackward(ps.pool, h.dhidden, h.logits, &ps.weights.head, n)
		tensor.Product{
			Numerics: ps.numerics, M: v, N: c, K: n, Accumulate: true,
			A: h.logits, TransA: true, B: h.hidden, C: dwte,
		}.Run(ps.pool)
		ps.scatterHiddenGrad(c)
	}
}

// TargetIsArgmax reports, while LMHead calls each for row i, whether no token has a larger logit than the row's
// target.
func (ps *Pass) TargetIsArgmax(i int) bool { return ps.head.isArgmax[i-ps.head.firstRow] }

// size sizes the buffers for a chunk of so many rows.
func (h *headBuffers) size(chunk, c, v, workers int) {
	resizeSlab(&h.hidden, chunk*c)
	resizeSlab(&h.dhidden, chunk*c)
	resizeSlab(&h.logits, chunk*v)
	resize(&h.logp, chunk)
	resize(&h.entropy, chunk)
	resize(&h.dlogp, chunk)
	resize(&h.isArgmax, chunk)
	resize(&h.workerLogits, workers)
	for i := range h.workerLogits {
		resize(&h.workerLogits[i], v)
	}
}

// gatherHidden copies the hidden rows (n, C) of the chunk's n head rows side by side.
func (ps *Pass) gatherHidden(n, c int) {
	for i, r := range ps.head.rows[:n] {
		at := ps.outputIndex(r.Row) * c
		copy(ps.head.hidden[i*c:(i+1)*c], ps.hidden[at:at+c])
	}
}

// scatterHiddenGrad adds the gradients of the chunk's rows to DHidden, in order, since several head rows may ask for
// one row.
func (ps *Pass) scatterHiddenGrad(c int) {
	for i, r := range ps.head.rows {
		at := ps.outputIndex(r.Row) * c
		tensor.Add(ps.dhidden[at:at+c], ps.head.dhidden[i*c:(i+1)*c])
	}
}

// headProbabilities turns the logits of row i of the chunk into probabilities and takes the log-probability of its
// target and the entropy.
func (ps *Pass) headProbabilities(i, worker int) {
	h, v := &ps.head, ps.m.Config.Vocab
	z, p := h.workerLogits[worker], h.logits[i*v:(i+1)*v]
	copy(z, p)
	top, sum := tensor.Softmax(p, h.invTemp)
	target := z[h.rows[i].Target]
	h.logp[i] = logProbability(target, h.invTemp, top, sum)
	// Scaling may round neighbours to one number, and so the logits themselves decide between those.
	h.isArgmax[i] = float32(h.invTemp*target) >= top && (h.invTemp == 1 || target >= tensor.Max(z))
	h.entropy[i] = entropy(p, z, h.invTemp, top, sum)
}

// logProbability returns the log-probability of a token whose logit is z, given the results of tensor.Softmax or
// tensor.LogSumExp for its row. Sampling and training share it: it is why a sample's log-probabilities are computed
// again with the same bits.
func logProbability(z, invTemp, top, sum float32) float32 {
	return float32(invTemp*z) - top - tensor.Log1(sum)
}

// entropy returns the entropy, in nats, of a row of probabilities p, made of logits z: with z scaled by invTemp,
//
//	-Σ p ln p = max z + ln Σ exp(z - max z) - Σ p·z
func entropy(p, z []float32, invTemp, top, sum float32) float32 {
	return top + tensor.Log1(sum) - float32(invTemp*tensor.Dot(p, z))
}

// headGradient turns the probabilities of row i of the chunk into dlogits.
func (ps *Pass) headGradient(i, _ int) {
	h, v := &ps.head, ps.m.Config.Vocab
	p := h.logits[i*v : (i+1)*v]
	d := float32(h.dlogp[i] * h.invTemp)
	if d == 0 { // zeros add nothing to any chain, even where p is not finite
		clear(p)
		return
	}
	tensor.Scale(p, -d)
	p[h.rows[i].Target] += d
}
