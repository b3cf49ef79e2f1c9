package activities

import (
	"sync"

	"github.com/trimtab/trimtab"
)

// unreportedErrors remembers the errors with which segments of attempts ended in
// this process and which a person has to fix on the machine. The disk that is
// full may be that of Temporal too: then the error never reaches the workflow,
// which takes the worker for lost. When the workflow has that recorded, the
// worker puts the true cause in its place. A worker that was started again in
// between knows nothing. It is safe for concurrent use.
type unreportedErrors struct {
	mu        sync.Mutex
	byAttempt map[int64]*trimtab.Error
}

// record notes how a segment of an attempt ended; nil is that a new one starts.
func (u *unreportedErrors) record(attempt int64, e *trimtab.Error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	// Other errors are retried in any case, so nothing is lost without their cause.
	if e == nil || !NeedsOperator(e.Type) {
		delete(u.byAttempt, attempt)
		return
	}
	if u.byAttempt == nil {
		u.byAttempt = map[int64]*trimtab.Error{}
	}
	u.byAttempt[attempt] = e
}

// rootCause returns the error to show for an attempt instead of e: the noted one
// if e says that the worker was lost, otherwise e. Any other e means that the
// workflow has heard of how the segment ended, so the note is dropped.
func (u *unreportedErrors) rootCause(attempt int64, e *trimtab.Error) *trimtab.Error {
	u.mu.Lock()
	defer u.mu.Unlock()
	if e == nil || e.Type != workerLost {
		delete(u.byAttempt, attempt)
		return e
	}
	if cause := u.byAttempt[attempt]; cause != nil {
		return cause
	}
	return e
}
