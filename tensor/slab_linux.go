package tensor

import (
	"syscall"
	"unsafe"
)

// madvCollapse is MADV_COLLAPSE of Linux 6.1, which package syscall does not name. Unlike MADV_HUGEPAGE it also makes
// huge pages of memory that has been touched already.
const madvCollapse = 25

// adviseHuge asks for huge pages for x, which fills whole ones. It is advice: where the kernel refuses, or is older,
// the memory stays in ordinary pages, and the program is only slower.
func adviseHuge(x []float32) {
	memory := unsafe.Slice((*byte)(unsafe.Pointer(&x[0])), 4*len(x))
	if syscall.Madvise(memory, syscall.MADV_HUGEPAGE) == nil {
		_ = syscall.Madvise(memory, madvCollapse)
	}
}
