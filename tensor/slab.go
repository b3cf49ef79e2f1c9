package tensor

import (
	"sync"
	"unsafe"
)

// hugePage is the number of float32 in a huge page.
const hugePage = 2 << 20 / 4

// smallSlab is how few values are not worth a place of their own.
const smallSlab = 1 << 12

// Slab returns n zeros. They lie in huge pages where the system gives them for
// the asking: otherwise sweeps over hundreds of megabytes spend much of their
// time looking up where pages are, and pages that happen to fall on the same
// sets of a cache make a process slow for its whole life. Large slabs have
// pages of their own; small ones share some, which are given back when none of
// them is in use.
func Slab(n int) []float32 {
	switch {
	case n < smallSlab:
		return make([]float32, n)
	case n >= hugePage:
		return pages(n)
	}
	return shared.take(n)
}

// pages are n values that begin with a huge page; the rest, after whole ones,
// lies in ordinary pages.
func pages(n int) []float32 {
	x := make([]float32, n+hugePage)
	from := (hugePage - int(uintptr(unsafe.Pointer(&x[0]))/4%hugePage)) % hugePage
	x = x[from : from+n : from+n]
	adviseHuge(x[:n/hugePage*hugePage])
	return x
}

// shared is where small slabs are cut from.
var shared shelf

type shelf struct {
	mu   sync.Mutex
	rest []float32
}

func (s *shelf) take(n int) []float32 {
	size := roundUp(n, 16) // a line of a cache
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.rest) < size {
		s.rest = pages(4 * hugePage)
	}
	x := s.rest[:n:n]
	s.rest = s.rest[size:]
	return x
}
