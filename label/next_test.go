package label

import (
	"slices"
	"testing"

	"github.com/trimtab/trimtab/draw"
)

// Two labellers work through questions that want one or two rankings.
func TestNext(t *testing.T) {
	questions := []Question{{Wanted: 2}, {Wanted: 1}, {Wanted: 2}, {Wanted: 1}, {Wanted: 0}}
	had := map[string][]int{}
	for turn := 0; ; turn++ {
		who := []string{"anna", "ben"}[turn%2]
		at, ok := Next(questions, who, draw.New(1, "next", who))
		if !ok {
			break
		}
		if len(questions[at].By) == 1 && slices.ContainsFunc(questions[:4], func(q Question) bool { return len(q.By) == 0 }) {
			t.Errorf("question %d is ranked twice before all are ranked once", at)
		}
		questions[at].By = append(questions[at].By, who)
		had[who] = append(had[who], at)
	}
	for who, list := range had {
		slices.Sort(list)
		if len(slices.Compact(slices.Clone(list))) != len(list) {
			t.Errorf("%s had a question twice: %v", who, list)
		}
	}
	if len(had["anna"])+len(had["ben"]) != 6 {
		t.Errorf("rankings: %v, want 2 + 1 + 2 + 1", had)
	}
	if _, ok := Next(nil, "anna", draw.New(1)); ok {
		t.Error("a question out of none")
	}
}

func TestPresented(t *testing.T) {
	src := draw.New(1, "present")
	first := make([]int, 4)
	for q := range uint64(4000) {
		order := Presented(src, q, 4)
		if s := slices.Sorted(slices.Values(order)); !slices.Equal(s, []int{0, 1, 2, 3}) {
			t.Fatal(order)
		}
		first[order[0]]++
	}
	for i, n := range first {
		if n < 850 || n > 1150 {
			t.Errorf("response %d stands first %d times of 4000", i, n)
		}
	}
}
