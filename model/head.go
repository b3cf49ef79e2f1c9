package model

import "github.com/trimtab/trimtab/tensor"

// HeadRow asks for the log-probability of Target after row Row of the batch.
type HeadRow struct {
	Row    int
	Target int32
}

// headLogits is about how many logits are in memory at once, for vocabularies
// up to a few thousand.
const headLogits = 1 << 19

// headBuffers are the buffers of one chunk of rows of the language-model head.
type headBuffers struct {
	rows            []HeadRow // of the chunk
	invTemp         float32
	hidden, dhidden []float32 // (R, C)
	logits          []float32 // (R, V); then probabilities; then dlogits
	logp, entropy   []float32 // (R)
	dlogp           []float32 // (R)
	isArgmax        []bool    // (R)
	firstRow        int       // number of the first row of the chunk
	workerLogits    [][]float32
}

// chunkRows is R: how many rows the head takes at once, and enough of them to
// repay a pass over the vocabulary. Rows do not see each other and gradients
// are chains over rows in order, so it changes no bit.
func chunkRows(vocab int) int { return max(256, headLogits/vocab) }

// LMHead computes, for each of rows in order, with z = invTemp·wte·hidden,
//
//	logp = z[target] - max z - ln Σ exp(z - max z),   entropy = -Σ p ln p
//
// in nats, and calls each(i, logp, entropy) on the calling goroutine. The
// logits of some rows only are in memory at a time. With a gradient slab g,
// each returns dL/dlogp of its row, and the gradients
//
//	dlogits = dL/dlogp · invTemp · (onehot(target) - p)
//
// go on into g and into DHidden. The entropy has no gradient.
func (ps *Pass) LMHead(m *Model, g []float32, rows []HeadRow, invTemp float32,
	each func(i int, logp, entropy float32) (dlogp float32)) {
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
		ps.weights.linear(ps.pool, h.logits, tensor.Start{}, h.hidden, &ps.weights.head, n)
		ps.pool.Run(n, ps.op.headProbs)
		learn := false
		for i := range n {
			h.dlogp[i] = each(from+i, h.logp[i], h.entropy[i])
			learn = learn || h.dlogp[i] != 0
		}
		if g == nil || !learn {
			continue
		}
		ps.pool.Run(n, ps.op.headGrad)
		ps.weights.linearBackward(ps.pool, h.dhidden, h.logits, &ps.weights.head, n)
		tensor.MatMulTNUnder(ps.numerics, ps.pool, dwte, c, h.logits, v, h.hidden, c, v, c, n, true)
		ps.scatterHiddenGrad(c)
	}
}

// TargetIsArgmax says, during LMHead's call of each for row i, whether no
// token has a larger logit than the row's target.
func (ps *Pass) TargetIsArgmax(i int) bool { return ps.head.isArgmax[i-ps.head.firstRow] }

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

func (ps *Pass) gatherHidden(n, c int) {
	for i, r := range ps.head.rows[:n] {
		at := ps.outputIndex(r.Row) * c
		copy(ps.head.hidden[i*c:(i+1)*c], ps.hidden[at:at+c])
	}
}

func (ps *Pass) scatterHiddenGrad(c int) {
	for i, r := range ps.head.rows {
		at := ps.outputIndex(r.Row) * c
		tensor.Add(ps.dhidden[at:at+c], ps.head.dhidden[i*c:(i+1)*c])
	}
}

// headProbabilities turns the logits of one row into probabilities and takes
// the log-probability of its target and the entropy.
func (ps *Pass) headProbabilities(i, worker int) {
	h, v := &ps.head, ps.m.Config.Vocab
	z, p := h.workerLogits[worker], h.logits[i*v:(i+1)*v]
	copy(z, p)
	top, sum := tensor.Softmax(p, h.invTemp)
	of := z[h.rows[i].Target]
	h.logp[i] = logProbability(of, h.invTemp, top, sum)
	h.isArgmax[i] = float32(h.invTemp*of) >= top && (h.invTemp == 1 || of >= tensor.Max(z))
	h.entropy[i] = entropy(p, z, h.invTemp, top, sum)
}

// logProbability of a token whose logit is z, given the results of
// tensor.Softmax or LogSumExp over its row. Sampling and training share it.
func logProbability(z, invTemp, top, sum float32) float32 {
	return float32(invTemp*z) - top - tensor.Log1(sum)
}

// entropy of a row of probabilities p, made of logits z; with z scaled by invTemp,
//
//	-Σ p ln p = max z + ln Σ exp(z - max z) - Σ p·z
func entropy(p, z []float32, invTemp, top, sum float32) float32 {
	return top + tensor.Log1(sum) - float32(invTemp*tensor.Dot(p, z))
}

// headGradient turns the probabilities of one row into dlogits.
func (ps *Pass) headGradient(i, _ int) {
	h, v := &ps.head, ps.m.Config.Vocab
	p := h.logits[i*v : (i+1)*v]
	d := float32(h.dlogp[i] * h.invTemp)
	if d == 0 { // a row that is not learned must not show in any chain
		clear(p)
		return
	}
	tensor.Scale(p, -d)
	p[h.rows[i].Target] += d
}
