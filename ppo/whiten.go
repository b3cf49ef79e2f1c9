package ppo

import "math"

// The ways to whiten. They differ in the divisor of the variance.
const (
	WhitenNone       = "none"
	WhitenPopulation = "population" // n, as in lm-human-preferences
	WhitenUnbiased   = "unbiased"   // n−1, as in TRL
)

// Whiten scales x in place to variance 1, and to mean 0 unless keepMean:
//
//	x ← (x − μ)·(σ² + 1e-8)^(−1/2)  [+ μ]
//
// how is one of the constants above; WhitenNone changes nothing. All elements
// of x count: there is no padding to mask.
func Whiten(x []float32, how string, keepMean bool) {
	if how == WhitenNone || len(x) == 0 {
		return
	}
	mean, variance := moments(x, how == WhitenUnbiased)
	scale := 1 / math.Sqrt(variance+1e-8)
	newMean := 0.0
	if keepMean {
		newMean = mean
	}
	for i, v := range x {
		x[i] = float32(float64((float64(v)-mean)*scale) + newMean)
	}
}

// whitenAcross whitens one array of all episodes together: its mean and
// variance are over every response token of the batch. field selects the array
// of an episode, which is (R).
func whitenAcross(episodes []*episode, how string, keepMean bool, field func(*episode) []float32) {
	var all []float32
	for _, e := range episodes {
		all = append(all, field(e)...)
	}
	Whiten(all, how, keepMean)
	for _, e := range episodes {
		all = all[copy(field(e), all):]
	}
}

// moments returns mean and variance of x, summed in order in float64. The
// unbiased variance of a single value is 0, and so are both moments of none.
func moments(x []float32, unbiased bool) (mean, variance float64) {
	if len(x) == 0 {
		return 0, 0
	}
	n := float64(len(x))
	for _, v := range x {
		mean += float64(v)
	}
	mean /= n
	for _, v := range x {
		d := float64(v) - mean
		variance += float64(d * d)
	}
	if !unbiased {
		return mean, variance / n
	}
	return mean, variance / max(n-1, 1)
}
