//go:build !linux

package main

import "os"

// onDisk says that no disk in memory can be mounted here.
func (f *folder) onDisk() bool {
	f.t.Log("left out, for no disk can be mounted here: the faults that need one")
	return false
}

// remove removes a folder of which no process is left.
func remove(dir string) error { return os.RemoveAll(dir) }
