package activities

import (
	"sync"

	"github.com/trimtab/trimtab"
)

// unreported are the errors with which segments of attempts ended here, and that wait
// for somebody to mend the machine. What fills the disk of the store may fill that
// of Temporal: then it hears nothing of them, takes the worker for lost, and the
// worker knows better when the attempt's state is shown.
type unreportedErrors struct {
	mu        sync.Mutex
	byAttempt map[int64]*trimtab.Error
}

// record takes note of a segment's end; nil is that another one begins.
func (u *unreportedErrors) record(attempt int64, e *trimtab.Error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if e == nil || !NeedsOperator(e.Type) {
		delete(u.byAttempt, attempt)
		return
	}
	if u.byAttempt == nil {
		u.byAttempt = map[int64]*trimtab.Error{}
	}
	u.byAttempt[attempt] = e
}

// rootCause is what to show in the place of an error: what is known to have been
// before it, or itself. Anything else that is shown says that it was heard of.
func (u *unreportedErrors) rootCause(attempt int64, e *trimtab.Error) *trimtab.Error {
	u.mu.Lock()
	defer u.mu.Unlock()
	if e == nil || e.Type != workerLost {
		delete(u.byAttempt, attempt)
		return e
	}
	if better := u.byAttempt[attempt]; better != nil {
		return better
	}
	return e
}
