package label

import (
	"slices"

	"github.com/trimtab/trimtab/draw"
)

// Question is a prompt whose responses wait to be ranked.
type Question struct {
	Wanted int      // rankings by different people; two or more measure agreement
	By     []string // labellers who have ranked it, or would not
}

// Next picks the question to show a labeller: one that he has not had and
// that still wants rankings, of those with the fewest rankings, so that all
// are ranked once before any is ranked twice. Which of them is drawn from
// src, so that labellers at work at once seldom have the same question; name
// the source after the labeller. It reports false when nothing is left for
// him.
func Next(questions []Question, labeller string, src draw.Source) (int, bool) {
	var open []int
	fewest := 0
	for i, q := range questions {
		if len(q.By) >= q.Wanted || slices.Contains(q.By, labeller) {
			continue
		}
		if len(open) == 0 || len(q.By) < fewest {
			open, fewest = open[:0], len(q.By)
		}
		if len(q.By) == fewest {
			open = append(open, i)
		}
	}
	if len(open) == 0 {
		return 0, false
	}
	return draw.Pick(src.At(uint64(len(open)), uint64(fewest)), open), true
}

// Presented is the order in which the k responses to a question are shown: a
// permutation drawn from src, so that no model's samples stand first more
// often than another's.
func Presented(src draw.Source, question uint64, k int) []int { return src.At(question).Perm(k) }
