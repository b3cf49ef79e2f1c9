package tensor

import (
	"syscall"
	"unsafe"
)

// Advice of madvise(2); syscall does not name the second.
const (
	adviceHuge     = syscall.MADV_HUGEPAGE
	adviceCollapse = 25 // MADV_COLLAPSE, Linux 6.1: also what has been touched already
)

// adviseHuge asks for huge pages for the part of x that fills whole ones. It is
// a wish: where the system refuses, nothing changes.
func adviseHuge(x []float32) {
	const bytes = 4 * hugePage
	start := uintptr(unsafe.Pointer(&x[0]))
	from := (bytes - start%bytes) % bytes
	whole := (uintptr(4*len(x)) - from) / bytes * bytes
	if uintptr(4*len(x)) < from+bytes {
		return
	}
	memory := unsafe.Slice((*byte)(unsafe.Pointer(&x[0])), 4*len(x))[from : from+whole]
	if syscall.Madvise(memory, adviceHuge) == nil {
		_ = syscall.Madvise(memory, adviceCollapse)
	}
}
