package activities

import "time"

// Clock only grows, by a second in a second. The time of day, which jumps when
// somebody sets the machine's clock, decides nothing: what people read is told
// by the database.
type Clock interface {
	Elapsed() time.Duration
}

// monotonic is the machine's clock that nobody sets.
type monotonic struct{ start time.Time }

// Elapsed is the time since the worker began.
func (c monotonic) Elapsed() time.Duration { return time.Since(c.start) }
