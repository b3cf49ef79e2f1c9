package activities

import "time"

// Clock measures durations within a worker process. It never goes back and does
// not jump when the machine's time of day is set. Nothing is decided by the time
// of day; the times that people read are the database's.
type Clock interface {
	Elapsed() time.Duration
}

// monotonic is the machine's monotonic clock.
type monotonic struct{ start time.Time }

// Elapsed returns the time since the worker started.
func (c monotonic) Elapsed() time.Duration { return time.Since(c.start) }
