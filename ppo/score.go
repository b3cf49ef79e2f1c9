package ppo

import (
	"math"
	"slices"

	"github.com/trimtab/trimtab"
	"github.com/trimtab/trimtab/dataset"
	"github.com/trimtab/trimtab/draw"
)

// Scorer says how good responses are. A sequence is a prompt with the whole
// response as sampled, and gets one score. reward.Scorer is one; a rule can be
// another. The same sequence must always get the same score.
type Scorer interface {
	Scores(sequences [][]int32) []float32
}

// scoreScale standardises raw scores by the mean and the standard deviation of
// the scores of samples of the reference. It is two numbers, estimated once
// before the first iteration, and part of the trainer's state.
type scoreScale []float32 // (2) mean, standard deviation

// standardize returns (rawScore − mean) / deviation.
func (s scoreScale) standardize(rawScore float32) float32 {
	return float32((float64(rawScore) - float64(s[0])) / float64(s[1]))
}

// fit sets the scale to the moments of rawScores. It returns constant_scores if
// their deviation is too small to divide by.
func (s scoreScale) fit(rawScores []float32) error {
	mean, variance := moments(rawScores, true)
	s[0] = float32(mean)
	s[1] = float32(math.Sqrt(variance))
	if !(s[1] > 1e-6) || math.IsInf(variance, 0) { // negated, so that NaN fails too
		return trimtab.NewError(trimtab.Invalid, "constant_scores",
			"train the reward model longer, or set score_samples to 0",
			"ppo: scores cannot be standardised: those of %d samples of the reference have mean %g and deviation %g",
			len(rawScores), s[0], s[1])
	}
	return nil
}

// fitScoreScale estimates the score scale from ScoreSamples responses of the
// reference to prompts in an order of their own. With ScoreSamples 0 the scale
// leaves scores as they are.
func (t *Trainer) fitScoreScale() error {
	if t.config.ScoreSamples == 0 {
		t.scoreScale[0] = 0
		t.scoreScale[1] = 1
		return nil
	}
	source := func(purpose string) draw.Source { return draw.New(t.in.Seed, t.in.Stage, "scale", purpose) }
	order := dataset.EpochSampler{Source: source("prompts"), N: len(t.in.Prompts)}
	prompts := make([]int, t.config.ScoreSamples)
	for i := range prompts {
		prompts[i] = order.Index(i)
	}
	samples := t.generate(t.in.Reference, prompts, source("sample"), 0)
	return t.scoreScale.fit(t.in.Scorer.Scores(sequences(samples)))
}

// computeScores fills the score of each episode: the raw score, standardised,
// after the rule for responses without an end-of-text token.
func (t *Trainer) computeScores(episodes []*episode) {
	for _, e := range episodes {
		e.score = t.config.applyEOS(t.scoreScale.standardize(e.rawScore), e.ended)
	}
}

// applyEOS applies MissingEOS to the standardised score of a response. A
// response that ended keeps its score.
func (c Config) applyEOS(score float32, ended bool) float32 {
	switch {
	case ended || c.MissingEOS == EOSIgnore:
		return score
	case c.MissingEOS == EOSPenalty:
		return score - float32(c.MissingEOSPenalty)
	}
	return float32(c.MissingEOSPenalty)
}

// Truncate cuts tokens after the first stop token, which is kept. ended reports
// whether there was one; without one all tokens are kept.
func Truncate(tokens, stop []int32) (kept []int32, ended bool) {
	if i := slices.IndexFunc(tokens, func(id int32) bool { return slices.Contains(stop, id) }); i >= 0 {
		return tokens[:i+1], true
	}
	return tokens, false
}
