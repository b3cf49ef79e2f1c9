package activities

import "time"

// Clock tells the time in the two ways that there are.
type Clock interface {
	// Now is the time of day, for people to read. It jumps when somebody sets
	// the machine's clock: nothing is decided by it.
	Now() time.Time
	// Elapsed only grows, by a second in a second, whatever the time of day does.
	Elapsed() time.Duration
}

// machineClock is the clock of this machine.
type machineClock struct{ start time.Time }

func (c machineClock) Now() time.Time         { return time.Now() }
func (c machineClock) Elapsed() time.Duration { return time.Since(c.start) } // by the monotonic clock
