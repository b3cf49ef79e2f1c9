package activities

import (
	"sync"

	"github.com/trimtab/trimtab"
)

// untold are the errors with which segments of attempts ended here, and that wait
// for somebody to mend the machine. What fills the disk of the store may fill that
// of Temporal: then it hears nothing of them, takes the worker for lost, and the
// worker knows better when the attempt's state is shown.
type untold struct {
	mu sync.Mutex
	of map[int64]*trimtab.Error
}

// ended takes note of a segment's end; nil is that another one begins.
func (u *untold) ended(attempt int64, e *trimtab.Error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if e == nil || !Lasting(e.Type) {
		delete(u.of, attempt)
		return
	}
	if u.of == nil {
		u.of = map[int64]*trimtab.Error{}
	}
	u.of[attempt] = e
}

// instead is what to show in the place of an error: what is known to have been
// before it, or itself. Anything else that is shown says that it was heard of.
func (u *untold) instead(attempt int64, e *trimtab.Error) *trimtab.Error {
	u.mu.Lock()
	defer u.mu.Unlock()
	if e == nil || e.Type != workerLost {
		delete(u.of, attempt)
		return e
	}
	if better := u.of[attempt]; better != nil {
		return better
	}
	return e
}
