package tensor

import (
	"sync"
	"unsafe"
)

// hugePageFloats is the number of float32 in a huge page.
const hugePageFloats = 2 << 20 / 4

// minArenaSlab is how few values are not worth a place of their own.
const minArenaSlab = 1 << 12

// Slab returns n zeros. They lie in huge pages where the system gives them for
// the asking: otherwise sweeps over hundreds of megabytes spend much of their
// time looking up where pages are, and pages that happen to fall on the same
// sets of a cache make a process slow for its whole life. Large slabs have
// pages of their own; small ones share some, which are given back when none of
// them is in use.
func Slab(n int) []float32 {
	switch {
	case n < minArenaSlab:
		return make([]float32, n)
	case n >= hugePageFloats:
		return hugePageSlab(n)
	}
	return sharedArena.take(n)
}

// hugePageSlab are n values that begin with a huge page; the rest, after whole ones,
// lies in ordinary pages.
func hugePageSlab(n int) []float32 {
	x := make([]float32, n+hugePageFloats)
	from := (hugePageFloats - int(uintptr(unsafe.Pointer(&x[0]))/4%hugePageFloats)) % hugePageFloats
	x = x[from : from+n : from+n]
	adviseHuge(x[:n/hugePageFloats*hugePageFloats])
	return x
}

// sharedArena is where small slabs are cut from.
var sharedArena arena

type arena struct {
	mu   sync.Mutex
	rest []float32
}

func (s *arena) take(n int) []float32 {
	size := roundUp(n, 16) // a line of a cache
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.rest) < size {
		s.rest = hugePageSlab(4 * hugePageFloats)
	}
	x := s.rest[:n:n]
	s.rest = s.rest[size:]
	return x
}
