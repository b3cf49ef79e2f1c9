package eval

import (
	"github.com/trimtab/trimtab"
	"github.com/trimtab/trimtab/draw"
	"github.com/trimtab/trimtab/label"
)

// MeasureReward compares the scores of a reward model with rankings that it
// was not trained on. scores[r][i] is the score of response i of held[r];
// equal scores of a pair count as half a hit. All intervals are drawn from the
// same source, so that Accuracy and Over are resampled over the same groups.
func MeasureReward(held []trimtab.Ranking, scores [][]float32, src draw.Source) RewardAccuracy {
	score := func(r, i int) float64 { return float64(scores[r][i]) }
	pairs := label.Pairs(held)
	matched := label.LengthMatched(held, pairs)
	hits, groups := label.PairAccuracy(pairs, score), label.PairGroups(held, pairs)
	over := label.PairedDifferences(hits, label.LongerPairAccuracy(held, pairs))
	interval := label.Bootstrap(groups, hits, confidence, resamples, src)
	return RewardAccuracy{
		Pairs:             len(pairs),
		Accuracy:          label.Mean(hits),
		Low:               interval.Low,
		High:              interval.High,
		LongerWins:        label.LongerAccuracy(held, pairs),
		MatchedPairs:      len(matched),
		MatchedAccuracy:   label.Mean(label.PairAccuracy(matched, score)),
		MatchedLongerWins: label.LongerAccuracy(held, matched),
		Interval:          interval,
		Over:              label.Mean(over),
		OverBounds:        label.Bootstrap(groups, over, confidence, resamples, src),
	}
}

// confidence is the probability that an interval of a reward model's accuracy covers.
const confidence = .95

// Metrics lists the accuracy as metrics of a reward stage, for gates and tables.
func (a RewardAccuracy) Metrics() []trimtab.Metric {
	return []trimtab.Metric{
		{Name: "held_out/accuracy", Value: a.Accuracy},
		{Name: "held_out/accuracy_low", Value: a.Low},
		{Name: "held_out/accuracy_high", Value: a.High},
		{Name: "held_out/pairs", Value: float64(a.Pairs)},
		{Name: "held_out/longer_wins", Value: a.LongerWins},
		{Name: "held_out/matched_pairs", Value: float64(a.MatchedPairs)},
		{Name: "held_out/matched_accuracy", Value: a.MatchedAccuracy},
		{Name: "held_out/matched_longer_wins", Value: a.MatchedLongerWins},
		{Name: "held_out/groups", Value: float64(a.Interval.Groups)},
		{Name: "held_out/over_longer", Value: a.Over},
		{Name: "held_out/over_longer_low", Value: a.OverBounds.Low},
		{Name: "held_out/over_longer_high", Value: a.OverBounds.High},
	}
}
