package label

import (
	"slices"
	"strconv"
	"strings"

	"github.com/trimtab/trimtab"
)

// AgreeingPairs compares two rankings of the same responses, given as ranks in
// the same order of responses. It counts the common pairs, which neither
// ranking ties, and those of them that both order the same way.
func AgreeingPairs(a, b []int) (same, common int) {
	for i := range a {
		for j := range i {
			if a[i] == a[j] || b[i] == b[j] {
				continue
			}
			common++
			if (a[i] < a[j]) == (b[i] < b[j]) {
				same++
			}
		}
	}
	return same, common
}

// Agreement counts the pairs that two labellers both ordered.
type Agreement struct {
	A      string `json:"a,omitempty"` // name of one labeller; empty in a total
	B      string `json:"b,omitempty"` // name of the other, after A in byte order
	Same   int    `json:"same"`        // pairs that both ordered the same way
	Common int    `json:"common"`      // pairs that both ordered
}

// Share is the fraction of common pairs that both ordered the same way, or 0 if
// there are none. Chance is not subtracted: random orders agree on half.
func (a Agreement) Share() float64 {
	if a.Common == 0 {
		return 0
	}
	return float64(a.Same) / float64(a.Common)
}

// Agreements compares every two labellers who ranked the same responses to the
// same prompt, whatever the order in which they saw them. A labeller who ranked
// them twice is not compared with themselves. It returns the total, and one
// Agreement for each two labellers, sorted by their names.
func Agreements(rankings []trimtab.Ranking) (total Agreement, each []Agreement) {
	sameResponses := map[string][]canonicalRanking{}
	var keys []string // in order of first appearance, since a map's order is random
	for _, ranking := range rankings {
		r := canonicalOrder(ranking)
		if len(sameResponses[r.key]) == 0 {
			keys = append(keys, r.key)
		}
		sameResponses[r.key] = append(sameResponses[r.key], r)
	}
	byLabellers := map[[2]string]*Agreement{}
	for _, key := range keys {
		set := sameResponses[key]
		for i := range set {
			for j := range i {
				if set[i].labeller == set[j].labeller {
					continue
				}
				same, common := AgreeingPairs(set[i].ranks, set[j].ranks)
				total.Same += same
				total.Common += common
				countBetween(byLabellers, set[i].labeller, set[j].labeller, same, common)
			}
		}
	}
	return total, sortedAgreements(byLabellers)
}

// canonicalRanking is a ranking with its responses in the byte order of their
// texts, so that rankings of the same responses can be compared rank by rank.
type canonicalRanking struct {
	key      string // identifies the prompt and the set of responses
	labeller string
	ranks    []int // (K) of the responses in canonical order
}

// canonicalOrder sorts the responses of a ranking. The key concatenates prompt
// and responses, each with its length before it, so that different texts cannot
// run together to the same key.
func canonicalOrder(r trimtab.Ranking) canonicalRanking {
	order := make([]int, len(r.Responses))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(i, j int) int {
		return strings.Compare(string(r.Responses[i].Bytes), string(r.Responses[j].Bytes))
	})
	var key strings.Builder
	addToKey := func(text string) { key.WriteString(strconv.Itoa(len(text)) + ":" + text) }
	addToKey(r.Prompt)
	ranks := make([]int, len(order))
	for position, i := range order {
		ranks[position] = r.Ranks[i]
		addToKey(string(r.Responses[i].Bytes))
	}
	return canonicalRanking{key: key.String(), labeller: r.Labeller, ranks: ranks}
}

// countBetween adds counts to the Agreement of two labellers, given in any order.
func countBetween(byLabellers map[[2]string]*Agreement, a, b string, same, common int) {
	names := [2]string{min(a, b), max(a, b)}
	if byLabellers[names] == nil {
		byLabellers[names] = &Agreement{A: names[0], B: names[1]}
	}
	byLabellers[names].Same += same
	byLabellers[names].Common += common
}

// sortedAgreements lists the agreements by the labellers' names.
func sortedAgreements(byLabellers map[[2]string]*Agreement) []Agreement {
	all := make([]Agreement, 0, len(byLabellers))
	for _, a := range byLabellers {
		all = append(all, *a)
	}
	slices.SortFunc(all, func(x, y Agreement) int {
		return slices.Compare([]string{x.A, x.B}, []string{y.A, y.B})
	})
	return all
}
