package tensor

import (
	"syscall"
	"unsafe"
)

// madvCollapse is MADV_COLLAPSE of Linux 6.1, which syscall does not name:
// it makes huge pages of what has been touched already, too.
const madvCollapse = 25

// adviseHuge asks for huge pages for x, which fills whole ones. It is a wish:
// where the system refuses, nothing changes.
func adviseHuge(x []float32) {
	memory := unsafe.Slice((*byte)(unsafe.Pointer(&x[0])), 4*len(x))
	if syscall.Madvise(memory, syscall.MADV_HUGEPAGE) == nil {
		_ = syscall.Madvise(memory, madvCollapse)
	}
}
