package model

import (
	"github.com/trimtab/trimtab/tensor"
)

// HeadRow asks for the log-probability of the token Target after row Row of the batch.
type HeadRow struct {
	Row    int
	Target int32
}

// LogProbs are the results of the language-model head for a list of rows.
type LogProbs struct {
	LogP    []float32 // of the targets, in nats
	Entropy []float32 // of the distributions, in nats
	// IsArgmax says that no token has a larger logit than the target.
	IsArgmax []bool
}

// TargetSums are sums over the targets of any number of LogProbs, added one by one in order.
type TargetSums struct {
	NLL     float64 // negative log-likelihood, nats
	Entropy float64 // of the distributions, nats
	Tokens  int     // number of targets
	Correct int     // targets with the largest logit
}

// Add adds the targets of p.
func (s *TargetSums) Add(p LogProbs) {
	for i, logp := range p.LogP {
		s.NLL -= float64(logp)
		s.Entropy += float64(p.Entropy[i])
		s.Tokens++
		if p.IsArgmax[i] {
			s.Correct++
		}
	}
}

// headLogits is about how many logits are in memory at once, 2 MB, for vocabularies up to a few thousand; larger ones
// take more.
const headLogits = 1 << 19

// headBuffers holds what the head computes.
type headBuffers struct {
	LogProbs
	rows    []HeadRow // those of the last LogProbs
	invTemp float32
	held    int // the first of the rows whose probabilities logits holds; -1 if it holds none

	// Of one chunk of R rows.
	chunk    []HeadRow
	from     int       // the first of them among rows
	dlogp    []float32 // (R) and dentropy: dL/dlogp and dL/dentropy; dentropy may be nil
	dentropy []float32
	hidden   []float32 // (R, C) rows of Pass.hidden
	dhidden  []float32 // (R, C) their gradient
	logits   []float32 // (R, V); then probabilities; then dlogits
	capped   []float32 // (R, V) logits, where the model caps them and a backward pass may follow

	workerLogits [][]float32 // (workers, V) a copy of the row that is being turned into probabilities
}

// chunkRows returns R, the number of rows that the head computes at once: at least enough of them to repay a pass
// over the vocabulary. Rows are independent, and gradients are chains over rows in order, and so it changes no bit.
func chunkRows(vocab int) int { return max(256, headLogits/vocab) }

// LogProbs computes, for each of rows, with the logits z = invTemp·head·hidden and p = softmax(z),
//
//	logp = z[target] - max z - ln Σ exp(z - max z),  entropy = -Σ p ln p
//
// The results are views that the next call overwrites. Only the logits of some rows are in memory at a time. It follows
// a Forward or Infer of m whose batch had these rows.
func (ps *Pass) LogProbs(m *Model, rows []HeadRow, invTemp float32) LogProbs {
	ps.beginHead(m, rows, invTemp)
	for from := 0; from < len(rows); from += chunkRows(m.dims.vocab) {
		ps.headForward(from)
	}
	return ps.head.LogProbs
}

// LogProbsBackward takes the gradients of the results of the last LogProbs back to the gradient of the head's weights
// in g and to DHidden:
//
//	dlogits = invTemp·(dlogp·(onehot(target) - p) - dentropy·p·(ln p + entropy))
//
// dentropy may be nil, which stands for zeros. Rows whose gradients are zero add nothing. Logits that are no longer in
// memory are computed again, with the same bits.
func (ps *Pass) LogProbsBackward(m *Model, g, dlogp, dentropy []float32) {
	ps.mustHold(m)
	h := &ps.head
	ps.weights.packHeadTransposed(ps.pool)
	for from := 0; from < len(h.rows); from += chunkRows(m.dims.vocab) {
		to := min(len(h.rows), from+chunkRows(m.dims.vocab))
		if !hasGradient(dlogp[from:to]) && (dentropy == nil || !hasGradient(dentropy[from:to])) {
			continue
		}
		if h.held != from {
			ps.headForward(from)
		}
		h.dlogp, h.dentropy = dlogp[from:to], nil
		if dentropy != nil {
			h.dentropy = dentropy[from:to]
		}
		ps.headBackward(m, g)
	}
}

// WeightedLogProbs is LogProbs and LogProbsBackward in one, for losses whose gradients dL/dlogp are known in advance,
// as cross-entropy's are: each chunk of logits is computed once.
func (ps *Pass) WeightedLogProbs(m *Model, g []float32, rows []HeadRow, invTemp float32, dlogp []float32) LogProbs {
	ps.mustHold(m)
	ps.beginHead(m, rows, invTemp)
	ps.weights.packHeadTransposed(ps.pool)
	for from := 0; from < len(rows); from += chunkRows(m.dims.vocab) {
		ps.headForward(from)
		to := from + len(ps.head.chunk)
		if hasGradient(dlogp[from:to]) {
			ps.head.dlogp, ps.head.dentropy = dlogp[from:to], nil
			ps.headBackward(m, g)
		}
	}
	return ps.head.LogProbs
}

// hasGradient reports whether any of dy is not zero.
func hasGradient(dy []float32) bool {
	for _, d := range dy {
		if d != 0 {
			return true
		}
	}
	return false
}

// beginHead sizes the buffers for rows and packs the head's weights, if the rows repay that.
func (ps *Pass) beginHead(m *Model, rows []HeadRow, invTemp float32) {
	ps.mustMatch(m)
	h := &ps.head
	h.rows, h.invTemp, h.held = rows, invTemp, -1
	h.size(len(rows), &m.dims, ps.pool.Workers(), !ps.infer)
	ps.weights.useHead(m, ps.pool, len(rows))
}

// size sizes the buffers for so many rows.
func (h *headBuffers) size(rows int, d *dims, workers int, backward bool) {
	chunk := min(rows, chunkRows(d.vocab))
	resize(&h.LogP, rows)
	resize(&h.Entropy, rows)
	resize(&h.IsArgmax, rows)
	resizeSlab(&h.hidden, chunk*d.width)
	resizeSlab(&h.dhidden, chunk*d.width)
	resizeSlab(&h.logits, chunk*d.vocab)
	if d.logitCap > 0 && backward {
		resizeSlab(&h.capped, chunk*d.vocab)
	}
	resize(&h.workerLogits, workers)
	for i := range h.workerLogits {
		resize(&h.workerLogits[i], d.vocab)
	}
}

// headForward computes the chunk of rows that begins at from.
func (ps *Pass) headForward(from int) {
	h, d := &ps.head, &ps.m.dims
	h.from, h.chunk = from, h.rows[from:min(len(h.rows), from+chunkRows(d.vocab))]
	n := len(h.chunk)
	ps.gatherHidden(n, d.width)
	ps.weights.linear(h.logits, h.hidden, &ps.weights.head, n).Run(ps.pool)
	ps.pool.Run(n, ps.op.headProbs)
	h.held = from
}

// headBackward takes the gradients of the chunk, whose probabilities are in memory, back.
func (ps *Pass) headBackward(m *Model, g []float32) {
	h, d := &ps.head, &m.dims
	n := len(h.chunk)
	h.held = -1
	ps.pool.Run(n, ps.op.headGrad)
	ps.weights.linearBackward(ps.pool, h.dhidden, h.logits, &ps.weights.head, n)
	tensor.Product{
		Numerics: ps.numerics, M: d.vocab, N: d.width, K: n, Accumulate: true,
		A: h.logits, TransA: true, B: h.hidden, C: m.headGradient(g),
	}.Run(ps.pool)
	ps.scatterHiddenGrad(d.width)
}

// gatherHidden copies the hidden rows (n, C) of the chunk's n head rows side by side.
func (ps *Pass) gatherHidden(n, c int) {
	for i, r := range ps.head.chunk[:n] {
		at := ps.outputIndex(r.Row) * c
		copy(ps.head.hidden[i*c:(i+1)*c], ps.hidden[at:at+c])
	}
}

// scatterHiddenGrad adds the gradients of the chunk's rows to DHidden, in order, since several head rows may ask for
// one row.
func (ps *Pass) scatterHiddenGrad(c int) {
	for i, r := range ps.head.chunk {
		at := ps.outputIndex(r.Row) * c
		tensor.Add(ps.dhidden[at:at+c], ps.head.dhidden[i*c:(i+1)*c])
	}
}

// finishLogits scales and caps a row of logits, as the model does before any temperature.
func (d *dims) finishLogits(z []float32) {
	if d.logitCap > 0 {
		tensor.SoftCap(z, d.logitScale, d.logitCap)
	} else if d.logitScale != 1 {
		tensor.Scale(z, d.logitScale)
	}
}

// headProbabilities turns the logits of row i of the chunk into probabilities and takes the log-probability of its
// target and the entropy.
func (ps *Pass) headProbabilities(i, worker int) {
	h, d := &ps.head, &ps.m.dims
	v := d.vocab
	z, p, row := h.workerLogits[worker], h.logits[i*v:(i+1)*v], h.from+i
	d.finishLogits(p)
	copy(z, p)
	if d.logitCap > 0 && !ps.infer {
		copy(h.capped[i*v:(i+1)*v], p)
	}
	top, sum := tensor.Softmax(p, h.invTemp)
	target := z[h.chunk[i].Target]
	h.LogP[row] = logProbability(target, h.invTemp, top, sum)
	// Scaling may round neighbours to one number, and so the logits themselves decide between those.
	h.IsArgmax[row] = float32(h.invTemp*target) >= top && (h.invTemp == 1 || target >= tensor.Max(z))
	h.Entropy[row] = entropy(p, z, h.invTemp, top, sum)
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
	h, dims := &ps.head, &ps.m.dims
	v := dims.vocab
	p := h.logits[i*v : (i+1)*v]
	d, e := float32(h.dlogp[i]*h.invTemp), float32(0)
	if h.dentropy != nil {
		e = float32(h.dentropy[i] * h.invTemp)
	}
	switch {
	case d == 0 && e == 0: // zeros add nothing to any chain, even where p is not finite
		clear(p)
		return
	case e != 0:
		entropyGradient(p, d, e, h.Entropy[h.from+i])
	default:
		tensor.Scale(p, -d)
	}
	p[h.chunk[i].Target] += d
	switch {
	case dims.logitCap > 0:
		tensor.SoftCapBackward(p, h.capped[i*v:(i+1)*v], dims.logitScale, dims.logitCap)
	case dims.logitScale != 1:
		tensor.Scale(p, dims.logitScale)
	}
}

// entropyGradient sets p to -p·(d + e·(ln p + entropy)), where p ln p is 0 for p = 0.
func entropyGradient(p []float32, d, e, entropy float32) {
	for i, x := range p {
		if x == 0 {
			continue
		}
		p[i] = -x * (d + float32(e*(tensor.Log1(x)+entropy)))
	}
}

// Logits returns the logits (W, V) of all rows that the last Forward or Infer of m returned, scaled and capped as the
// model does, at temperature 1. They take W·V floats: LogProbs is for many rows.
func (ps *Pass) Logits(m *Model) []float32 {
	ps.mustMatch(m)
	d, n := &m.dims, ps.outputCount()
	logits := tensor.Slab(n * d.vocab)
	ps.weights.useHead(m, ps.pool, n)
	ps.weights.linear(logits, ps.hidden[:n*d.width], &ps.weights.head, n).Run(ps.pool)
	for i := range n {
		d.finishLogits(logits[i*d.vocab : (i+1)*d.vocab])
	}
	return logits
}
