package reward

import (
	"github.com/trimtab/trimtab"
	"github.com/trimtab/trimtab/model"
	"github.com/trimtab/trimtab/tensor"
)

// microTokens is about how many tokens go through the model at once.
const microTokens = 4096

// EvalStats is what rankings came to under a model.
type EvalStats struct {
	Rankings                     int     // with at least one untied pair
	LossSum                      float64 // sum over rankings of their mean loss
	Pairs, Correct               int     // untied pairs, and those the model orders as the labeller did
	MarginSum                    float64 // sum over pairs
	Responses                    int
	MinScore, MaxScore, ScoreSum float64 // smallest, largest, sum
}

// Accuracy is the share of untied pairs ordered as the labeller did; equal scores are wrong.
func (t EvalStats) Accuracy() float64 { return float64(t.Correct) / float64(max(t.Pairs, 1)) }

func (t *EvalStats) add(o PairStats, scores []float32) {
	if o.Pairs > 0 {
		t.Rankings++
	}
	t.LossSum += o.Loss
	t.Pairs += o.Pairs
	t.Correct += o.Correct
	t.MarginSum += o.Margin
	for _, s := range scores {
		v := float64(s)
		if t.Responses == 0 {
			t.MinScore, t.MaxScore = v, v
		}
		t.MinScore, t.MaxScore = min(t.MinScore, v), max(t.MaxScore, v)
		t.ScoreSum += v
		t.Responses++
	}
}

func (t EvalStats) metrics(prefix string) []trimtab.Metric {
	return []trimtab.Metric{
		{Name: prefix + "loss", Value: t.LossSum / float64(max(t.Rankings, 1))},
		{Name: prefix + "accuracy", Value: t.Accuracy()},
		{Name: prefix + "margin", Value: t.MarginSum / float64(max(t.Pairs, 1))},
		{Name: prefix + "min_reward", Value: t.MinScore},
		{Name: prefix + "mean_reward", Value: t.ScoreSum / float64(max(t.Responses, 1))},
		{Name: prefix + "max_reward", Value: t.MaxScore},
	}
}

// Evaluate scores rankings with m and compares.
func Evaluate(ps *model.Pass, m *model.Model, rankings []Ranking) EvalStats {
	return forwardBackward(ps, m, nil, rankings)
}

// forwardBackward tallies rankings in order, and adds the gradient of their mean loss to g if g is not nil.
func forwardBackward(ps *model.Pass, m *model.Model, g []float32, rankings []Ranking) EvalStats {
	var t EvalStats
	weight := 1 / float32(max(len(rankings), 1))
	for len(rankings) > 0 {
		n := fit(rankings)
		b, rows := lastTokenBatch(sequences(rankings[:n]))
		if g == nil {
			ps.Infer(m, b)
		} else {
			ps.Forward(m, b)
		}
		scores := ps.ScalarHead(m, rows)
		dscores := make([]float32, len(scores))
		at := 0
		for _, r := range rankings[:n] {
			to := at + len(r.Ranks)
			t.add(RankingLoss(dscores[at:to], scores[at:to], r.Ranks), scores[at:to])
			at = to
		}
		if g != nil {
			tensor.Scale(dscores, weight)
			ps.ScalarBackward(m, g, rows, dscores)
			ps.BackwardBody(m, g)
		}
		rankings = rankings[n:]
	}
	return t
}

// fit is how many of rankings go through the model at once: at least one.
func fit(rankings []Ranking) int {
	n, tokens := 0, 0
	for n < len(rankings) && (n == 0 || tokens+rankings[n].tokens() <= microTokens) {
		tokens += rankings[n].tokens()
		n++
	}
	return n
}

func sequences(rankings []Ranking) [][]int32 {
	var seqs [][]int32
	for _, r := range rankings {
		seqs = append(seqs, r.Sequences...)
	}
	return seqs
}

// lastTokenBatch lays seqs end to end; rows, all that is wanted, are those of their last tokens.
func lastTokenBatch(seqs [][]int32) (b model.Batch, rows []int) {
	b = model.NewBatch(seqs...)
	for _, to := range b.Starts[1:] {
		rows = append(rows, to-1)
	}
	b.OutputRows = rows
	return b, rows
}

// Scorer scores prompt-and-response sequences with a trained model.
type Scorer struct {
	pass  *model.Pass
	model *model.Model
}

// NewScorer scores with m, a scalar model, in ps.
func NewScorer(ps *model.Pass, m *model.Model) *Scorer {
	return &Scorer{pass: ps, model: m}
}

// ScoreSum are the values of the head at the last token of each sequence.
func (s *Scorer) Scores(sequences [][]int32) []float32 {
	scores := make([]float32, 0, len(sequences))
	for len(sequences) > 0 {
		n, tokens := 0, 0
		for n < len(sequences) && (n == 0 || tokens+len(sequences[n]) <= microTokens) {
			tokens += len(sequences[n])
			n++
		}
		b, rows := lastTokenBatch(sequences[:n])
		s.pass.Infer(s.model, b)
		scores = append(scores, s.pass.ScalarHead(s.model, rows)...)
		sequences = sequences[n:]
	}
	return scores
}
