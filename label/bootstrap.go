package label

import (
	"slices"

	"github.com/trimtab/trimtab/draw"
)

// Interval is a confidence interval of a mean, with the number of independent
// groups that it rests on. One group gives no spread: Low and High are then
// the mean itself.
type Interval struct {
	Low, High float64
	Groups    int
}

// Bootstrap returns the percentile interval of the mean of values at a
// confidence level, for example .95 (Efron and Tibshirani, "An Introduction to
// the Bootstrap", section 13.3). It is a cluster bootstrap: whole groups are
// drawn with replacement, since the values of one group, say the pairs of one
// prompt, are not independent. groups[i] is the group of values[i]. It returns
// the zero Interval if there are no values or no resamples.
//
// The draws depend on src and on the number of groups alone. Two intervals over
// the same pairs therefore resample the same groups, and the interval of
// PairedDifferences is that of a paired comparison.
func Bootstrap(groups []string, values []float64, level float64, resamples int, src draw.Source) Interval {
	sums, counts := sumByGroup(groups, values)
	if len(sums) == 0 || resamples < 1 {
		return Interval{}
	}
	means := Resample(sums, counts, resamples, src)
	tail := (1 - level) / 2
	return Interval{Low: quantile(means, tail), High: quantile(means, 1-tail), Groups: len(sums)}
}

// Resample returns the ratio Σ numerators / Σ denominators of each of some
// bootstrap resamples, in ascending order. A resample draws len(numerators)
// independent units with replacement: unit i brings numerators[i] and
// denominators[i], which are positive. Resample r draws from src.At(r), so the
// same source gives the same ratios. This is the only resampling loop of the
// module; eval.Mean uses it too.
func Resample(numerators, denominators []float64, resamples int, src draw.Source) []float64 {
	ratios := make([]float64, resamples)
	for r := range ratios {
		stream := src.At(uint64(r))
		var numerator, denominator float64
		for range numerators {
			unit := stream.IntN(len(numerators))
			numerator += numerators[unit]
			denominator += denominators[unit]
		}
		ratios[r] = numerator / denominator
	}
	slices.Sort(ratios)
	return ratios
}

// PairedDifferences returns a[i] − b[i]. With the PairAccuracy of two scorers
// on the same pairs, it is by how much the first does better on each.
func PairedDifferences(a, b []float64) []float64 {
	differences := make([]float64, len(a))
	for i := range a {
		differences[i] = a[i] - b[i]
	}
	return differences
}

// sumByGroup returns the sum and the number of the values of each group, groups
// in order of first appearance. Counts are float64 because Resample divides by
// their sums; they are whole and far below 2^53, so no sum of them is rounded.
func sumByGroup(groups []string, values []float64) (sums, counts []float64) {
	index := map[string]int{}
	for i, group := range groups {
		k, ok := index[group]
		if !ok {
			k = len(sums)
			index[group] = k
			sums = append(sums, 0)
			counts = append(counts, 0)
		}
		sums[k] += values[i]
		counts[k]++
	}
	return sums, counts
}

// quantile returns the element of sorted with the 0-based rank ⌊q·n⌋, at most
// n−1. There is no interpolation between elements.
func quantile(sorted []float64, q float64) float64 {
	n := len(sorted)
	return sorted[min(n-1, max(0, int(q*float64(n))))]
}

// Mean returns the arithmetic mean of values, or 0 if there are none.
func Mean(values []float64) float64 {
	if len(values) == 0 {
		return 0
	}
	sum := 0.
	for _, v := range values {
		sum += v
	}
	return sum / float64(len(values))
}
