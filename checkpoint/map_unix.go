//go:build unix

package checkpoint

import (
	"os"
	"syscall"
)

// mapFile maps a file of size bytes for reading, or returns nil where it has another size or cannot be mapped.
func mapFile(f *os.File, size int64) []byte {
	info, err := f.Stat()
	if err != nil || !info.Mode().IsRegular() || info.Size() != size || size == 0 || int64(int(size)) != size {
		return nil
	}
	data, err := syscall.Mmap(int(f.Fd()), 0, int(size), syscall.PROT_READ, syscall.MAP_SHARED)
	if err != nil {
		return nil
	}
	return data
}

// unmap releases what mapFile returned.
func unmap(data []byte) {
	if data != nil {
		_ = syscall.Munmap(data) // nothing reads it any more, and nothing can be done
	}
}
