package label

import (
	"slices"
	"strconv"
	"strings"

	"github.com/trimtab/trimtab"
)

// AgreeingPairs compares two rankings of the same responses: of the common pairs that
// both order strictly, how many they order alike.
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
	A      string `json:"a,omitempty"` // labellers; empty in a sum over all
	B      string `json:"b,omitempty"`
	Same   int    `json:"same"`
	Common int    `json:"common"`
}

// Share of common pairs that were ordered alike; 0 if there are none.
func (a Agreement) Share() float64 {
	if a.Common == 0 {
		return 0
	}
	return float64(a.Same) / float64(a.Common)
}

// Agreements compares every two labellers who ranked the same responses to
// the same prompt, whatever the order in which they saw them. It returns the
// sum and, by labellers' names in order, each two.
func Agreements(rankings []trimtab.Ranking) (Agreement, []Agreement) {
	sets := map[string][]canonicalRanking{}
	var keys []string
	for _, r := range rankings {
		s := canonicalOrder(r)
		if len(sets[s.key]) == 0 {
			keys = append(keys, s.key)
		}
		sets[s.key] = append(sets[s.key], s)
	}
	between := map[[2]string]*Agreement{}
	var total Agreement
	for _, key := range keys {
		set := sets[key]
		for i := range set {
			for j := range i {
				if set[i].labeller != set[j].labeller {
					same, common := AgreeingPairs(set[i].ranks, set[j].ranks)
					total.Same, total.Common = total.Same+same, total.Common+common
					countBetween(between, set[i].labeller, set[j].labeller, same, common)
				}
			}
		}
	}
	return total, sortedAgreements(between)
}

// canonicalRanking is a ranking with its responses in the order of their texts.
type canonicalRanking struct {
	key      string // the prompt and the responses
	labeller string
	ranks    []int
}

func canonicalOrder(r trimtab.Ranking) canonicalRanking {
	order := make([]int, len(r.Responses))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(i, j int) int {
		return strings.Compare(string(r.Responses[i].Bytes), string(r.Responses[j].Bytes))
	})
	s := canonicalRanking{labeller: r.Labeller, ranks: make([]int, len(order))}
	var key strings.Builder
	write := func(text string) { key.WriteString(strconv.Itoa(len(text)) + ":" + text) }
	write(r.Prompt)
	for place, i := range order {
		s.ranks[place] = r.Ranks[i]
		write(string(r.Responses[i].Bytes))
	}
	s.key = key.String()
	return s
}

func countBetween(m map[[2]string]*Agreement, a, b string, same, common int) {
	names := [2]string{min(a, b), max(a, b)}
	if m[names] == nil {
		m[names] = &Agreement{A: names[0], B: names[1]}
	}
	m[names].Same += same
	m[names].Common += common
}

func sortedAgreements(m map[[2]string]*Agreement) []Agreement {
	out := make([]Agreement, 0, len(m))
	for _, a := range m {
		out = append(out, *a)
	}
	slices.SortFunc(out, func(x, y Agreement) int {
		return slices.Compare([]string{x.A, x.B}, []string{y.A, y.B})
	})
	return out
}
