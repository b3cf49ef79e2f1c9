//go:build !linux

package gguf

import "os"

// mapFile maps nothing: the file is read instead.
func mapFile(*os.File, int64) ([]byte, error) { return nil, nil }

// unmapFile has nothing to release.
func unmapFile([]byte) error { return nil }
