package tensor

import (
	"sync"
	"testing"
)

// Slabs are zero, apart from each other, and cannot grow into their neighbours.
func TestSlab(t *testing.T) {
	var wait sync.WaitGroup
	for w := range 4 {
		wait.Go(func() {
			var all [][]float32
			for i, n := range []int{0, 1, minArenaSlab - 1, minArenaSlab, minArenaSlab + 1, 100_000, hugePageFloats / 2,
				hugePageFloats/2 + 1, hugePageFloats, 3*hugePageFloats + 5} {
				x := Slab(n)
				if len(x) != n || cap(x) != n {
					t.Errorf("Slab(%d) has length %d and capacity %d", n, len(x), cap(x))
				}
				for j, v := range x {
					if v != 0 {
						t.Fatalf("Slab(%d)[%d] is %g", n, j, v)
					}
					x[j] = float32(100*w + i + 1)
				}
				all = append(all, x)
			}
			for i, x := range all {
				for j, v := range x {
					if v != float32(100*w+i+1) {
						t.Fatalf("slab %d of %d: element %d became %g", i, w, j, v)
					}
				}
			}
		})
	}
	wait.Wait()
}
