//go:build !linux

package activities

// freeMemory is unknown on this system, so no stage is refused for lack of memory.
func freeMemory() (free int64, known bool) { return 0, false }

// Memory is unknown on this system: known is false, and callers make no
// comparison with what a run needs.
func Memory() (total, free int64, known bool) { return 0, 0, false }
