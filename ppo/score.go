package ppo

import (
	"math"
	"slices"

	"github.com/trimtab/trimtab"
)

// Scorer says how good responses are. A sequence is a prompt and the whole
// response as sampled. A reward model is one; a rule can be another.
type Scorer interface {
	Scores(sequences [][]int32) []float32
}

// scoreScale standardises raw scores by the mean and the deviation that samples of
// the reference had. It is state: two numbers, taken once, at step 0.
type scoreScale []float32 // mean, deviation

func (s scoreScale) standardize(raw float32) float32 {
	return float32((float64(raw) - float64(s[0])) / float64(s[1]))
}

// fit sets the scale to the moments of raw.
func (s scoreScale) fit(raw []float32) error {
	mean, variance := moments(raw, true)
	s[0], s[1] = float32(mean), float32(math.Sqrt(variance))
	if !(s[1] > 1e-6) || math.IsInf(variance, 0) {
		return trimtab.NewError(trimtab.Invalid, "constant_scores",
			"train the reward model longer, or set score_samples to 0",
			"ppo: the scores of %d samples of the reference have mean %g and deviation %g: nothing to standardise by",
			len(raw), s[0], s[1])
	}
	return nil
}

// applyEOS is the rule for a response that was cut off before it ended.
func (c Config) applyEOS(score float32, ended bool) float32 {
	switch {
	case ended || c.MissingEOS == EOSIgnore:
		return score
	case c.MissingEOS == EOSPenalty:
		return score - float32(c.MissingEOSValue)
	}
	return float32(c.MissingEOSValue)
}

// Truncate keeps tokens up to and with the first of the stop tokens; ended says that there was one.
func Truncate(tokens, stop []int32) (kept []int32, ended bool) {
	if i := slices.IndexFunc(tokens, func(id int32) bool { return slices.Contains(stop, id) }); i >= 0 {
		return tokens[:i+1], true
	}
	return tokens, false
}

// Rewards fills the reward of each token of one response:
//
//	r_t = −β·(log π(t) − log π_ref(t))   + score at the last token
func Rewards(rewards, logp, ref []float32, beta float64, score float32) {
	for t := range rewards {
		rewards[t] = float32(-beta * K1(logp[t], ref[t]))
	}
	last := len(rewards) - 1
	rewards[last] = float32(float64(rewards[last]) + float64(score))
}
