//go:build !linux

package main

import "os"

// mountDisk reports that a tmpfs can be mounted on Linux only.
func (f *folder) mountDisk() bool {
	f.t.Log("no disk can be mounted here, so the faults that need one are left out")
	return false
}

// removeFolder removes a folder that no process uses any more.
func removeFolder(dir string) error { return os.RemoveAll(dir) }
