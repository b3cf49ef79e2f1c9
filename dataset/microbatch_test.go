package dataset

import (
	"slices"
	"testing"
)

// Slices hold as many items as fit the budget, in order; one that does not fit is alone.
func TestMicroBatches(t *testing.T) {
	tokens := func(n int) int { return n }
	for _, c := range []struct {
		items []int
		want  [][]int
	}{
		{nil, nil},
		{[]int{3, 4, 3, 1}, [][]int{{3, 4, 3}, {1}}},
		{[]int{12, 1, 10, 11}, [][]int{{12}, {1}, {10}, {11}}},
		{[]int{5, 5, 5, 5, 5}, [][]int{{5, 5}, {5, 5}, {5}}},
		{[]int{0, 0, 10, 0}, [][]int{{0, 0, 10, 0}}},
	} {
		batches := MicroBatches(c.items, 10, tokens)
		for range 2 { // an iterator can be used again
			if got := slices.Collect(batches); !slices.EqualFunc(got, c.want, slices.Equal) {
				t.Errorf("%v is cut into %v, want %v", c.items, got, c.want)
			}
		}
	}
	for first := range MicroBatches([]int{9, 9, 9}, 10, tokens) {
		if !slices.Equal(first, []int{9}) {
			t.Errorf("the first slice is %v", first)
		}
		break
	}
}
