//go:build !linux

package main

import "os"

// mountDisk says that no disk in memory can be mounted here.
func (f *folder) mountDisk() bool {
	f.t.Log("left out, for no disk can be mounted here: the faults that need one")
	return false
}

// removeFolder removes a folder of which no process is left.
func removeFolder(dir string) error { return os.RemoveAll(dir) }
