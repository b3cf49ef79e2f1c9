package model

import (
	"slices"
	"testing"

	"github.com/trimtab/trimtab/tensor"
)

// Groups are whole sequences and all of them, even where sequences are; where
// one sequence outweighs the others there are none.
func TestCut(t *testing.T) {
	for _, c := range []struct {
		name    string
		workers int
		lengths []int
		groups  int
	}{
		{"equal rows", 2, []int{63, 63, 63, 63, 63, 63, 63, 63}, 4},
		{"one worker", 1, []int{100, 20, 300}, 3},
		{"fewer sequences than workers", 4, []int{50, 50}, 0},
		{"one long sequence", 2, []int{900, 3, 3, 3}, 0},
		{"empty sequences", 2, []int{0, 40, 0, 0, 40, 0}, 2},
		{"nothing", 2, []int{0, 0}, 0},
	} {
		pool := tensor.NewPool(c.workers)
		ps := NewPass(pool)
		ps.batch.Starts = []int{0}
		for _, n := range c.lengths {
			ps.n += n
			ps.batch.Starts = append(ps.batch.Starts, ps.n)
		}
		ps.rowBlock = rowsPerTask(ps.n, c.workers)
		ps.formGroups()
		pool.Close()
		if ps.groupCount() != c.groups {
			t.Errorf("%s: %d groups, want %d", c.name, ps.groupCount(), c.groups)
		}
		if n := ps.groupCount(); n > 0 && (ps.groupBounds[0] != 0 || ps.groupBounds[n] != len(c.lengths) ||
			!slices.IsSorted(ps.groupBounds)) {
			t.Errorf("%s: cut at %v", c.name, ps.groupBounds)
		}
	}
}
