package sft

import (
	"slices"

	"github.com/trimtab/trimtab"
	"github.com/trimtab/trimtab/dataset"
	"github.com/trimtab/trimtab/model"
)

// lossMetrics returns the means per response token, with a prefix to their names.
func lossMetrics(s model.TargetSums, prefix string) []trimtab.Metric {
	n := float64(s.Tokens)
	return []trimtab.Metric{
		{Name: prefix + "loss", Value: s.NLL / n},
		{Name: prefix + "entropy", Value: s.Entropy / n},
		{Name: prefix + "mean_token_accuracy", Value: float64(s.Correct) / n},
	}
}

// forwardBackward computes the next-token loss of the response tokens of a batch,
//
//	L = −1/n · Σ over response tokens of log p(token | tokens before)
//
// where n counts the response tokens of all seqs, and adds ∂L to grad. A nil
// grad computes the loss only. Prompt tokens are read as context and carry no
// loss. The sequences pass through the model in micro-batches, in order.
func forwardBackward(ps *model.Pass, m *model.Model, grad []float32, seqs []dataset.Sequence) model.TargetSums {
	var stats model.TargetSums
	dlogp := -1 / float32(responseTokens(seqs)) // dL/dlogp, the same for every response token
	for micro := range dataset.MicroBatches(seqs, dataset.MicroBatchTokens, sequenceTokens) {
		inputs, targets := responseTargets(micro)
		if grad == nil {
			ps.Infer(m, inputs) // keeps no activations
			stats.Add(ps.LogProbs(m, targets, 1))
			continue
		}
		ps.Forward(m, inputs)
		stats.Add(ps.WeightedLogProbs(m, grad, targets, 1, slices.Repeat([]float32{dlogp}, len(targets))))
		ps.BackwardBody(m, grad)
	}
	return stats
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
