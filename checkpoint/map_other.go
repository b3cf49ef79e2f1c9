//go:build !unix

package checkpoint

import "os"

// mapFile maps no file here: models are read into memory.
func mapFile(*os.File, int64) []byte { return nil }

// unmap has nothing to release.
func unmap([]byte) {}
