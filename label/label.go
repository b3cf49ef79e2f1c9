// Package label turns people's rankings into comparisons and says how far to
// trust them: how often labellers agree, how far length alone explains them,
// and between which bounds a measured accuracy lies.
//
// A ranking of K responses with dense ranks (1 is best, equal ranks are ties)
// is K·(K−1)/2 pairs, less the tied ones. Pairs are a derived view: what is
// stored, split and trained on is the ranking.
package label

import (
	"bytes"

	"github.com/trimtab/trimtab"
)

// Pair is one comparison of a ranking: the responses' indices in it.
type Pair struct {
	Ranking       int // index of the ranking
	Better, Worse int
}

// Pairs lists the comparisons of rankings, in their order; ties give none.
func Pairs(rankings []trimtab.Ranking) []Pair {
	var pairs []Pair
	for i, r := range rankings {
		for _, p := range r.Pairs() {
			pairs = append(pairs, Pair{i, p[0], p[1]})
		}
	}
	return pairs
}

// PairAccuracy is 1 for each pair whose better response has the higher score, 0 for
// each whose worse one has, ½ where the scores are equal.
func PairAccuracy(pairs []Pair, score func(ranking, response int) float64) []float64 {
	hits := make([]float64, len(pairs))
	for i, p := range pairs {
		switch b, w := score(p.Ranking, p.Better), score(p.Ranking, p.Worse); {
		case b > w:
			hits[i] = 1
		case b == w:
			hits[i] = .5
		}
	}
	return hits
}

// Mean of x; 0 of nothing.
func Mean(x []float64) float64 {
	if len(x) == 0 {
		return 0
	}
	sum := 0.
	for _, v := range x {
		sum += v
	}
	return sum / float64(len(x))
}

// LongerAccuracy is the accuracy on pairs of the rule that the longer response,
// in bytes, is the better one: what a reward model has to beat.
func LongerAccuracy(rankings []trimtab.Ranking, pairs []Pair) float64 {
	return Mean(LongerPairAccuracy(rankings, pairs))
}

// LongerPairAccuracy is that rule's Hits.
func LongerPairAccuracy(rankings []trimtab.Ranking, pairs []Pair) []float64 {
	return PairAccuracy(pairs, func(r, i int) float64 { return float64(Length(rankings[r].Responses[i])) })
}

// LengthMatched is those of pairs whose lengths differ by less than a quarter of their mean.
func LengthMatched(rankings []trimtab.Ranking, pairs []Pair) []Pair {
	var matched []Pair
	for _, p := range pairs {
		a := Length(rankings[p.Ranking].Responses[p.Better])
		b := Length(rankings[p.Ranking].Responses[p.Worse])
		if 8*(max(a, b)-min(a, b)) < a+b {
			matched = append(matched, p)
		}
	}
	return matched
}

// Length of a response in bytes, without space around it.
func Length(r trimtab.Response) int { return len(bytes.TrimSpace(r.Bytes)) }

// Group is what must not be torn apart when rankings are split or resampled:
// the ranking's group, or else its prompt.
func Group(r trimtab.Ranking) string {
	if r.Group != "" {
		return r.Group
	}
	return r.Prompt
}

// PairGroups is the Group of each pair.
func PairGroups(rankings []trimtab.Ranking, pairs []Pair) []string {
	groups := make([]string, len(pairs))
	for i, p := range pairs {
		groups[i] = Group(rankings[p.Ranking])
	}
	return groups
}
