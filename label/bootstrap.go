package label

import (
	"slices"

	"github.com/trimtab/trimtab/draw"
)

// Bootstrap returns the percentile interval that holds the mean of values
// with probability level (for example .95). Whole groups are drawn with
// replacement (the cluster bootstrap), since the values of one group, say the
// pairs of one prompt, are not independent. groups[i] is the group of
// values[i]. It returns 0, 0 for no values.
func Bootstrap(groups []string, values []float64, level float64, resamples int, src draw.Source) (low, high float64) {
	sums, counts := byGroup(groups, values)
	if len(sums) == 0 || resamples < 1 {
		return 0, 0
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
	return quantile(means, tail), quantile(means, 1-tail)
}

// byGroup sums values by group, groups in order of first appearance.
func byGroup(groups []string, values []float64) (sums []float64, counts []int) {
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
