package ppo

import "math"

// The ways to whiten, which differ in the divisor of the variance.
const (
	WhitenNone       = "none"
	WhitenPopulation = "population" // n, as lm-human-preferences
	WhitenUnbiased   = "unbiased"   // n−1, as TRL
)

// Whiten scales x in place to variance 1, and to mean 0 unless keepMean:
//
//	x ← (x − μ)·(σ² + 1e-8)^(−1/2)  [+ μ]
//
// x holds valid tokens only; there is no padding to leave out.
func Whiten(x []float32, how string, keepMean bool) {
	if how == WhitenNone || len(x) == 0 {
		return
	}
	mean, variance := moments(x, how == WhitenUnbiased)
	scale := 1 / math.Sqrt(variance+1e-8)
	shift := 0.0
	if keepMean {
		shift = mean
	}
	for i, v := range x {
		x[i] = float32(float64((float64(v)-mean)*scale) + shift)
	}
}

// moments of x, summed in order. The unbiased variance of one value is 0.
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
