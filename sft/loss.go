package sft

import (
	"slices"

	"github.com/trimtab/trimtab"
	"github.com/trimtab/trimtab/dataset"
	"github.com/trimtab/trimtab/model"
)

// lossStats holds sums over the response tokens of a batch.
type lossStats struct {
	nll     float64 // negative log-likelihood, nats
	entropy float64 // of the model's distributions, nats
	tokens  int     // number of response tokens
	correct int     // tokens to which the model gave the largest logit
}

// metrics returns the means per response token, with a prefix to their names.
func (s lossStats) metrics(prefix string) []trimtab.Metric {
	n := float64(s.tokens)
	return []trimtab.Metric{
		{Name: prefix + "loss", Value: s.nll / n},
		{Name: prefix + "entropy", Value: s.entropy / n},
		{Name: prefix + "mean_token_accuracy", Value: float64(s.correct) / n},
	}
}

// forwardBackward computes the next-token loss of the response tokens of a batch,
//
//	L = −1/n · Σ over response tokens of log p(token | tokens before)
//
// where n counts the response tokens of all seqs, and adds ∂L to grad. A nil
// grad computes the loss only. Prompt tokens are read as context and carry no
// loss. The sequences pass through the model in micro-batches, in order.
func forwardBackward(ps *model.Pass, m *model.Model, grad []float32, seqs []dataset.Sequence) lossStats {
	var stats lossStats
	dlogp := -1 / float32(responseTokens(seqs)) // dL/dlogp, the same for every response token
	for micro := range dataset.MicroBatches(seqs, dataset.MicroBatchTokens, sequenceTokens) {
		inputs, targets := responseTargets(micro)
		if grad == nil {
			ps.Infer(m, inputs) // keeps no activations
			stats.add(ps.LogProbs(m, targets, 1))
			continue
		}
		ps.Forward(m, inputs)
		stats.add(ps.WeightedLogProbs(m, grad, targets, 1, slices.Repeat([]float32{dlogp}, len(targets))))
		ps.BackwardBody(m, grad)
	}
	return stats
}

// add adds the targets of a micro-batch.
func (s *lossStats) add(p model.LogProbs) {
	for i, logp := range p.LogP {
		s.nll -= float64(logp)
		s.entropy += float64(p.Entropy[i])
		s.tokens++
		if p.IsArgmax[i] {
			s.correct++
		}
	}
}

// sequenceTokens counts the tokens of a sequence, prompt included.
func sequenceTokens(s dataset.Sequence) int { return len(s.Tokens) }

// responseTokens counts the tokens of seqs that follow the prompts.
func responseTokens(seqs []dataset.Sequence) int {
	n := 0
	for _, s := range seqs {
		n += len(s.Tokens) - s.PromptLen
	}
	return n
}

// responseTargets lays seqs end to end as one batch whose targets are the
// response tokens.
func responseTargets(seqs []dataset.Sequence) (model.Batch, []model.HeadRow) {
	tokens, promptLens := make([][]int32, len(seqs)), make([]int, len(seqs))
	for i, s := range seqs {
		tokens[i] = s.Tokens
		promptLens[i] = s.PromptLen
	}
	return model.NextTokens(tokens, promptLens)
}
