package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
)

// diskInodes is the number of files and folders that the disk of a data folder
// can hold. The databases need about 4,000 of them.
const diskInodes = 20_000

// mountDisk creates the data folder as a tmpfs of its own, so that its inodes
// can be exhausted without harming the machine. It returns false, after logging
// why, where this process has no right to mount.
func (f *folder) mountDisk() bool {
	f.t.Helper()
	err := os.Mkdir(f.data, 0o711)
	if err == nil {
		err = syscall.Mount("none", f.data, "tmpfs", 0, fmt.Sprintf("nr_inodes=%d,mode=711", diskInodes))
	}
	if errors.Is(err, syscall.EPERM) {
		f.t.Logf("no disk can be mounted here, so the faults that need one are left out: %v", err)
		return false
	}
	if err != nil {
		f.t.Fatal(err)
	}
	return true
}

// removeFolder removes a folder that no process uses any more, and unmounts the
// disk in it if there is one. EINVAL and ENOENT mean that nothing is mounted
// there, and EPERM that nothing can have been mounted.
func removeFolder(dir string) error {
	if err := syscall.Unmount(filepath.Join(dir, "data"), 0); err != nil && !errors.Is(err, syscall.EINVAL) &&
		!errors.Is(err, syscall.ENOENT) && !errors.Is(err, syscall.EPERM) {
		return fmt.Errorf("unmount the disk in %s: %w", dir, err)
	}
	return os.RemoveAll(dir)
}
