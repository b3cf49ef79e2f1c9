package model

import (
	"slices"
	"testing"
)

// Targets are shifted by one against the inputs, from the index given on.
func TestNextTokens(t *testing.T) {
	seqs := [][]int32{{5, 6, 7}, {}, {8}, {1, 2, 3, 4}}
	for _, c := range []struct {
		from    []int
		targets []HeadRow
		rows    []int
	}{
		{nil, []HeadRow{{Row: 0, Target: 6}, {Row: 1, Target: 7}, {Row: 2, Target: 2}, {Row: 3, Target: 3},
			{Row: 4, Target: 4}}, nil},
		{[]int{2, 1, 1, 3}, []HeadRow{{Row: 1, Target: 7}, {Row: 4, Target: 4}}, []int{1, 4}},
	} {
		b, targets := NextTokens(seqs, c.from)
		if want := []int32{5, 6, 1, 2, 3}; !slices.Equal(b.Tokens, want) || !slices.Equal(b.Starts, []int{0, 2, 2, 2, 5}) {
			t.Errorf("from %v: tokens %v, starts %v, want tokens %v", c.from, b.Tokens, b.Starts, want)
		}
		if !slices.Equal(targets, c.targets) || !slices.Equal(b.OutputRows, c.rows) {
			t.Errorf("from %v: targets %v, output rows %v; want %v, %v", c.from, targets, b.OutputRows, c.targets, c.rows)
		}
	}
}
