package label

import (
	"slices"

	"github.com/trimtab/trimtab/draw"
)

// Interval is where a mean lies, and on how many independent groups that
// rests: of one group there is no interval, Low and High are the mean.
type Interval struct {
	Low, High float64
	Groups    int
}

// Bootstrap returns the percentile interval that holds the mean of values
// with probability level (for example .95). Whole groups are drawn with
// replacement (the cluster bootstrap), since the values of one group, say the
// pairs of one prompt, are not independent. groups[i] is the group of
// values[i]. It returns zeros for no values. The draws depend on src and the
// number of groups alone: over the same pairs two intervals see the same
// groups, and that of Differences is the paired one.
func Bootstrap(groups []string, values []float64, level float64, resamples int, src draw.Source) Interval {
	sums, counts := sumByGroup(groups, values)
	if len(sums) == 0 || resamples < 1 {
		return Interval{}
	}
	means := make([]float64, resamples)
	for r := range means {
		s := src.At(uint64(r))
		sum, n := 0., 0
		for range sums {
			g := s.IntN(len(sums))
			sum, n = sum+sums[g], n+counts[g]
		}
		means[r] = sum / float64(n)
	}
	slices.Sort(means)
	tail := (1 - level) / 2
	return Interval{quantile(means, tail), quantile(means, 1-tail), len(sums)}
}

// PairedDifferences is each of a less its counterpart in b: of two scorers on the
// same pairs, by how much the first does better.
func PairedDifferences(a, b []float64) []float64 {
	d := make([]float64, len(a))
	for i := range a {
		d[i] = a[i] - b[i]
	}
	return d
}

// sumByGroup sums values by group, groups in order of first appearance.
func sumByGroup(groups []string, values []float64) (sums []float64, counts []int) {
	at := map[string]int{}
	for i, g := range groups {
		k, ok := at[g]
		if !ok {
			k = len(sums)
			at[g] = k
			sums, counts = append(sums, 0), append(counts, 0)
		}
		sums[k] += values[i]
		counts[k]++
	}
	return sums, counts
}

// quantile of sorted x, the nearest rank.
func quantile(x []float64, q float64) float64 {
	return x[min(len(x)-1, max(0, int(q*float64(len(x)))))]
}
