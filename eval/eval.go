// Package eval measures models: how well they predict text, how far a policy
// has moved from its reference, how often one model beats another, and how
// often a reward model agrees with people's rankings. It also declares the
// report that an evaluate stage writes. Which models to compare on which
// prompts, and which judge to ask, is decided by the caller.
//
// An interval is a percentile bootstrap over independent units (prompts,
// groups of rankings), never over the pairs or tokens within one of them. Its
// draws are a function of the source given, so the same source gives the same
// interval.
package eval

import (
	"github.com/trimtab/trimtab/draw"
	"github.com/trimtab/trimtab/label"
)

// Estimate is a measured number with its 95 % confidence interval.
type Estimate struct {
	Value float64 `json:"value"`
	Low   float64 `json:"low"`
	High  float64 `json:"high"`
	N     int     `json:"n"` // number of independent units that were measured
}

// resamples is the number of bootstrap resamples of an Estimate.
const resamples = 1000

// Mean estimates the mean of values, one value for each independent unit. The
// mean of no values is the zero Estimate.
//
// The interval leaves out the same number of resamples, 2.5 % of them, at
// either end. label.Bootstrap takes an upper bound that is one resample higher.
// Both kinds of interval are recorded with runs, so neither may change.
func Mean(src draw.Source, values []float64) Estimate {
	if len(values) == 0 {
		return Estimate{}
	}
	ones := make([]float64, len(values))
	for i := range ones {
		ones[i] = 1
	}
	means := label.Resample(values, ones, resamples, src)
	outside := len(means) * 25 / 1000
	return Estimate{
		Value: label.Mean(values),
		Low:   means[outside],
		High:  means[len(means)-1-outside],
		N:     len(values),
	}
}

// WinRate estimates how often a beats b. a[i] and b[i] are the scores of the
// two opponents on unit i, and equal scores count ½ (label.Win).
func WinRate(src draw.Source, a, b []float64) Estimate {
	wins := make([]float64, len(a))
	for i := range a {
		wins[i] = label.Win(a[i], b[i])
	}
	return Mean(src, wins)
}
