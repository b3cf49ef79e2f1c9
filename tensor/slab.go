package tensor

import (
	"sync"
	"unsafe"
)

// hugePageFloats is the number of float32 in a huge page of 2 MB.
const hugePageFloats = 2 << 20 / 4

// minArenaSlab is the length from which a slab is worth a place in the arena: 16 KB.
const minArenaSlab = 1 << 12

// Slab returns n zeros, in huge pages where the operating system grants them. With ordinary pages, sweeps over
// hundreds of megabytes spend much of their time on TLB misses, and physical pages that happen to fall on the same
// sets of a cache slow a process down for its whole life.
//
// Slabs of a huge page and more have pages of their own. Smaller ones share an arena, whose memory the garbage
// collector frees when none of them is in use any longer; the smallest come from the ordinary heap. Slab is safe for
// concurrent use.
func Slab(n int) []float32 {
	switch {
	case n < minArenaSlab:
		return make([]float32, n)
	case n >= hugePageFloats:
		return hugePageSlab(n)
	}
	return sharedArena.take(n)
}

// hugePageSlab returns n zeros that begin at a huge page. What is left after whole huge pages lies in ordinary ones.
func hugePageSlab(n int) []float32 {
	x := make([]float32, n+hugePageFloats)
	from := (hugePageFloats - int(uintptr(unsafe.Pointer(&x[0]))/4%hugePageFloats)) % hugePageFloats
	x = x[from : from+n : from+n]
	adviseHuge(x[:n/hugePageFloats*hugePageFloats])
	return x
}

// sharedArena is where slabs between minArenaSlab and a huge page are cut from.
var sharedArena arena

// arena hands out pieces of a few huge pages, one after the other. Nothing is given back to it: when the rest is too
// short it begins anew, and the collector frees the old memory with its last slab.
type arena struct {
	mu   sync.Mutex
	rest []float32
}

// take returns n zeros that share no cache line with another slab, so that workers do not slow each other down.
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
