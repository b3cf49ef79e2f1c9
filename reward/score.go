package reward

import (
	"github.com/trimtab/trimtab"
	"github.com/trimtab/trimtab/dataset"
	"github.com/trimtab/trimtab/model"
	"github.com/trimtab/trimtab/tensor"
)

// EvalStats sums over rankings that a reward model has scored.
type EvalStats struct {
	Rankings  int     // rankings with at least one pair that is not tied
	LossSum   float64 // sum over rankings of their mean loss
	Pairs     int     // pairs that are not tied
	Correct   int     // pairs that the scores order as the labeller did; equal scores count as wrong
	MarginSum float64 // sum over pairs of the better response's score less the worse one's

	Responses          int
	MinScore, MaxScore float64
	ScoreSum           float64
}

// Accuracy is the share of pairs that the scores order as the labeller did; 0
// if there are no pairs. A pair with equal scores counts as wrong: this is the
// accuracy that training steps record. That of a finished model on held-out
// rankings counts ½ (label.Win).
func (s EvalStats) Accuracy() float64 { return float64(s.Correct) / float64(max(s.Pairs, 1)) }

// add adds one ranking with its scores.
func (s *EvalStats) add(pairs PairStats, scores []float32) {
	if pairs.Pairs > 0 {
		s.Rankings++
	}
	s.LossSum += pairs.Loss
	s.Pairs += pairs.Pairs
	s.Correct += pairs.Correct
	s.MarginSum += pairs.Margin
	for _, score := range scores {
		v := float64(score)
		if s.Responses == 0 {
			s.MinScore = v
			s.MaxScore = v
		}
		s.MinScore = min(s.MinScore, v)
		s.MaxScore = max(s.MaxScore, v)
		s.ScoreSum += v
		s.Responses++
	}
}

// metrics returns the means, with a prefix to their names: the loss over
// rankings, accuracy and margin over pairs, mean_reward over responses.
func (s EvalStats) metrics(prefix string) []trimtab.Metric {
	return []trimtab.Metric{
		{Name: prefix + "loss", Value: s.LossSum / float64(max(s.Rankings, 1))},
		{Name: prefix + "accuracy", Value: s.Accuracy()},
		{Name: prefix + "margin", Value: s.MarginSum / float64(max(s.Pairs, 1))},
		{Name: prefix + "min_reward", Value: s.MinScore},
		{Name: prefix + "mean_reward", Value: s.ScoreSum / float64(max(s.Responses, 1))},
		{Name: prefix + "max_reward", Value: s.MaxScore},
	}
}

// Evaluate scores the responses of rankings with m, a scalar model, and
// compares the scores with the ranks.
func Evaluate(ps *model.Pass, m *model.Model, rankings []Ranking) EvalStats {
	return forwardBackward(ps, m, nil, rankings)
}

// forwardBackward scores rankings in order and adds the gradient of their mean
// loss to grad. A nil grad computes the statistics only. Each ranking weighs
// the same, however many pairs it has. All responses of a ranking are in the
// same micro-batch, since their losses are coupled.
func forwardBackward(ps *model.Pass, m *model.Model, grad []float32, rankings []Ranking) EvalStats {
	var stats EvalStats
	weight := 1 / float32(max(len(rankings), 1))
	for micro := range dataset.MicroBatches(rankings, dataset.MicroBatchTokens, Ranking.tokens) {
		b, lastRows := lastTokenBatch(sequences(micro))
		if grad == nil {
			ps.Infer(m, b) // keeps no activations
		} else {
			ps.Forward(m, b)
		}
		scores := ps.ScalarHead(m, lastRows)
		dscores := make([]float32, len(scores))
		first := 0 // of the ranking's responses among the scores
		for _, r := range micro {
			end := first + len(r.Ranks)
			stats.add(RankingLoss(dscores[first:end], scores[first:end], r.Ranks), scores[first:end])
			first = end
		}
		if grad != nil {
			tensor.Scale(dscores, weight)
			ps.ScalarBackward(m, grad, lastRows, dscores)
			ps.BackwardBody(m, grad)
		}
	}
	return stats
}

// sequences lists the responses of all rankings, in order.
func sequences(rankings []Ranking) [][]int32 {
	var seqs [][]int32
	for _, r := range rankings {
		seqs = append(seqs, r.Sequences...)
	}
	return seqs
}

// lastTokenBatch lays seqs end to end. The rows of their last tokens are
// returned and are the only output rows of the batch: the scalar head reads
// nothing else. Sequences must not be empty.
func lastTokenBatch(seqs [][]int32) (b model.Batch, lastRows []int) {
	b = model.NewBatch(seqs...)
	for _, end := range b.Starts[1:] {
		lastRows = append(lastRows, end-1)
	}
	b.OutputRows = lastRows
	return b, lastRows
}

// Scorer scores sequences with a trained reward model; it implements
// ppo.Scorer. It uses its Pass, and so is not safe for concurrent use.
type Scorer struct {
	pass  *model.Pass
	model *model.Model
}

// NewScorer returns a scorer that runs m, a scalar model, in ps.
func NewScorer(ps *model.Pass, m *model.Model) *Scorer {
	return &Scorer{pass: ps, model: m}
}

// Scores returns one score for each sequence of prompt and response: the
// output of the scalar head at the last token. A score depends on its own
// sequence only, bit for bit.
func (s *Scorer) Scores(sequences [][]int32) []float32 {
	scores := make([]float32, 0, len(sequences))
	length := func(seq []int32) int { return len(seq) }
	for micro := range dataset.MicroBatches(sequences, dataset.MicroBatchTokens, length) {
		b, lastRows := lastTokenBatch(micro)
		s.pass.Infer(s.model, b)
		scores = append(scores, s.pass.ScalarHead(s.model, lastRows)...)
	}
	return scores
}
