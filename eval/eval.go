// Package eval measures models: how well they predict text, how often a
// reward model agrees with people, how far a policy has moved, how often one
// model beats another. It returns numbers and intervals; what to compare with
// what, and which judge to ask, is the caller's.
//
// An interval is a percentile bootstrap over independent things (prompts,
// rankings), never over the pairs or tokens inside one of them. Its draws are
// a function of the source given, so that it repeats.
package eval

import (
	"slices"

	"github.com/trimtab/trimtab/draw"
)

// Estimate is a measured number with a 95 % interval.
type Estimate struct {
	Value float64 `json:"value"`
	Low   float64 `json:"low"`
	High  float64 `json:"high"`
	N     int     `json:"n"` // how many independent things were measured
}

// resamples of a bootstrap.
const resamples = 1000

// Bootstrap estimates a ratio of sums, Σ top / Σ bottom, over n independent
// things, by resampling the things with replacement. Resamples whose bottom is
// 0 are left out; without anything to divide by the value is 0.
func Bootstrap(src draw.Source, top, bottom []float64) Estimate {
	n := len(top)
	e := Estimate{N: n}
	var ok bool
	if e.Value, ok = ratio(top, bottom, func(i int) int { return i }); !ok {
		return e
	}
	var values []float64
	for r := range resamples {
		s := src.At(uint64(r))
		if v, ok := ratio(top, bottom, func(int) int { return s.IntN(n) }); ok {
			values = append(values, v)
		}
	}
	slices.Sort(values)
	e.Low, e.High = quantile(values, 0.025), quantile(values, 0.975)
	return e
}

func ratio(top, bottom []float64, pick func(int) int) (float64, bool) {
	var t, b float64
	for i := range top {
		k := pick(i)
		t += top[k]
		b += bottom[k]
	}
	if b == 0 {
		return 0, false
	}
	return t / b, true
}

// quantile q of sorted values, by the nearest rank.
func quantile(sorted []float64, q float64) float64 {
	return sorted[int(float64(q*float64(len(sorted)-1))+0.5)]
}

// Mean estimates the mean of values, one for each independent thing.
func Mean(src draw.Source, values []float64) Estimate {
	return Bootstrap(src, values, ones(len(values)))
}

// WinRate estimates how often a beats b, thing by thing; a draw counts half.
func WinRate(src draw.Source, a, b []float64) Estimate {
	wins := make([]float64, len(a))
	for i := range a {
		wins[i] = pairwiseWin(a[i], b[i])
	}
	return Mean(src, wins)
}

func pairwiseWin(a, b float64) float64 {
	switch {
	case a > b:
		return 1
	case a == b:
		return 0.5
	}
	return 0
}

func ones(n int) []float64 {
	x := make([]float64, n)
	for i := range x {
		x[i] = 1
	}
	return x
}
