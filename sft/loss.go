package sft

import (
	"github.com/trimtab/trimtab"
	"github.com/trimtab/trimtab/dataset"
	"github.com/trimtab/trimtab/model"
)

// lossStats over the learned tokens of a batch.
type lossStats struct {
	nll, entropy float64
	tokens       int
	correct      int // tokens that the model held likeliest
}

func (s lossStats) metrics(prefix string) []trimtab.Metric {
	n := float64(s.tokens)
	return []trimtab.Metric{
		{Name: prefix + "loss", Value: s.nll / n},
		{Name: prefix + "entropy", Value: s.entropy / n},
		{Name: prefix + "mean_token_accuracy", Value: float64(s.correct) / n},
	}
}

// forwardBackward sums up the masked loss over seqs,
//
//	L = −1/n · Σ over response tokens of log p(token | tokens before)
//
// where n counts the response tokens of all seqs, and adds dL to g if g is
// not nil. It goes through seqs in order, about microTokens at a time.
func forwardBackward(ps *model.Pass, m *model.Model, g []float32, seqs []dataset.Sequence) lossStats {
	var s lossStats
	weight := -1 / float32(responseTokens(seqs))
	run := ps.Forward
	if g == nil {
		run = ps.Infer
	}
	for len(seqs) > 0 {
		n := fit(seqs)
		inputs, targets := responseTargets(seqs[:n])
		run(m, inputs)
		ps.LMHead(m, g, targets, 1, func(i int, logp, entropy float32) float32 {
			s.nll -= float64(logp)
			s.entropy += float64(entropy)
			s.tokens++
			if ps.TargetIsArgmax(i) {
				s.correct++
			}
			return weight
		})
		if g != nil {
			ps.BackwardBody(m, g)
		}
		seqs = seqs[n:]
	}
	return s
}

// responseTokens counts the tokens that are not prompt.
func responseTokens(seqs []dataset.Sequence) int {
	n := 0
	for _, s := range seqs {
		n += len(s.Tokens) - s.PromptLen
	}
	return n
}

// fit is how many of seqs go through the model at once: at least one.
func fit(seqs []dataset.Sequence) int {
	n, tokens := 0, 0
	for n < len(seqs) && (n == 0 || tokens+len(seqs[n].Tokens) <= microTokens) {
		tokens += len(seqs[n].Tokens)
		n++
	}
	return n
}

// responseTargets makes each sequence's tokens but the last the input, and its response tokens the targets.
func responseTargets(seqs []dataset.Sequence) (model.Batch, []model.HeadRow) {
	inputs := make([][]int32, len(seqs))
	var targets []model.HeadRow
	start := 0
	for i, s := range seqs {
		inputs[i] = s.Tokens[:len(s.Tokens)-1]
		for at := s.PromptLen; at < len(s.Tokens); at++ {
			targets = append(targets, model.HeadRow{Row: start + at - 1, Target: s.Tokens[at]})
		}
		start += len(inputs[i])
	}
	return model.NewBatch(inputs...).ForHeads(targets), targets
}
