package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
)

// diskInodes is how many files and folders the disk of a data folder holds; the databases need about 4,000.
const diskInodes = 20_000

// mountDisk puts the data folder, not yet made, on a disk of its own in memory;
// false, and a line that says so, where this process may not do that.
func (f *folder) mountDisk() bool {
	f.t.Helper()
	err := os.Mkdir(f.data, 0o711)
	if err == nil {
		err = syscall.Mount("none", f.data, "tmpfs", 0, fmt.Sprintf("nr_inodes=%d,mode=711", diskInodes))
	}
	if errors.Is(err, syscall.EPERM) {
		f.t.Logf("left out, for no disk can be mounted here: the faults that need one (%v)", err)
		return false
	}
	if err != nil {
		f.t.Fatal(err)
	}
	return true
}

// removeFolder removes a folder of which no process is left, and the disk in it, if it has one.
func removeFolder(dir string) error {
	if err := syscall.Unmount(filepath.Join(dir, "data"), 0); err != nil && !errors.Is(err, syscall.EINVAL) &&
		!errors.Is(err, syscall.ENOENT) && !errors.Is(err, syscall.EPERM) {
		return fmt.Errorf("unmount the disk in %s: %w", dir, err)
	}
	return os.RemoveAll(dir)
}
