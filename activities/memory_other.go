//go:build !linux

package activities

// freeMemory is not known here.
func freeMemory() (free int64, known bool) { return 0, false }

// Memory is not known here.
func Memory() (total, free int64, known bool) { return 0, 0, false }
