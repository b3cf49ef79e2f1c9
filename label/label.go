// Package label turns people's rankings into pairwise comparisons and measures
// how far to trust them: how often labellers agree, how much of their choice
// the length of the responses alone predicts, and the confidence interval of a
// measured accuracy.
//
// A ranking of K responses has dense ranks: 1 is best, equal ranks are ties. It
// is K·(K−1)/2 pairs, less the tied ones. Pairs are a derived view: the ranking
// is what is stored, split and trained on.
//
// The pairs of one prompt are not independent. Splits and resampling therefore
// keep together what has the same Group.
package label

import (
	"bytes"

	"github.com/trimtab/trimtab"
)

// Pair is one comparison of a ranking.
type Pair struct {
	Ranking       int // index of the ranking
	Better, Worse int // indices of the two responses in it
}

// Pairs lists the comparisons of rankings, in their order. Tied responses are
// not compared.
func Pairs(rankings []trimtab.Ranking) []Pair {
	var pairs []Pair
	for i, r := range rankings {
		for _, p := range r.Pairs() {
			pairs = append(pairs, Pair{Ranking: i, Better: p[0], Worse: p[1]})
		}
	}
	return pairs
}

// Win is 1 if score is above other, ½ if they are equal and 0 if it is below.
// It is the one rule for ties, of the accuracy of a scorer on pairs and of win
// rates: a scorer that gives both responses the same score earns what a coin
// toss earns on average, and the win rates of two opponents add up to 1.
func Win(score, other float64) float64 {
	switch {
	case score > other:
		return 1
	case score == other:
		return .5
	}
	return 0
}

// PairAccuracy is the accuracy of a scorer on each pair: the Win of the score
// of the better response over that of the worse one. Its Mean is the scorer's
// accuracy.
func PairAccuracy(pairs []Pair, score func(ranking, response int) float64) []float64 {
	wins := make([]float64, len(pairs))
	for i, p := range pairs {
		wins[i] = Win(score(p.Ranking, p.Better), score(p.Ranking, p.Worse))
	}
	return wins
}

// LongerAccuracy is the accuracy on pairs of the rule that the longer response,
// in bytes, is the better one. It is the baseline that a reward model has to
// beat: in most collections people prefer longer responses.
func LongerAccuracy(rankings []trimtab.Ranking, pairs []Pair) float64 {
	return Mean(LongerPairAccuracy(rankings, pairs))
}

// LongerPairAccuracy is the PairAccuracy of that rule.
func LongerPairAccuracy(rankings []trimtab.Ranking, pairs []Pair) []float64 {
	return PairAccuracy(pairs, func(ranking, response int) float64 {
		return float64(Length(rankings[ranking].Responses[response]))
	})
}

// LengthMatched returns the pairs whose lengths differ by less than a quarter
// of their mean. On these pairs length predicts little of the choice.
func LengthMatched(rankings []trimtab.Ranking, pairs []Pair) []Pair {
	var matched []Pair
	for _, p := range pairs {
		better := Length(rankings[p.Ranking].Responses[p.Better])
		worse := Length(rankings[p.Ranking].Responses[p.Worse])
		difference := max(better, worse) - min(better, worse)
		if 8*difference < better+worse { // difference < ¼ · (better+worse)/2, in whole numbers
			matched = append(matched, p)
		}
	}
	return matched
}

// Length is the number of bytes of a response, not counting white space around it.
func Length(r trimtab.Response) int { return len(bytes.TrimSpace(r.Bytes)) }

// Group names what must stay together when rankings are split or resampled: the
// ranking's own group, or else its prompt.
func Group(r trimtab.Ranking) string {
	if r.Group != "" {
		return r.Group
	}
	return r.Prompt
}

// PairGroups returns the Group of each pair's ranking.
func PairGroups(rankings []trimtab.Ranking, pairs []Pair) []string {
	groups := make([]string, len(pairs))
	for i, p := range pairs {
		groups[i] = Group(rankings[p.Ranking])
	}
	return groups
}
