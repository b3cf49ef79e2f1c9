package activities

import (
	"slices"

	"github.com/trimtab/trimtab/tensor"
)

// checkpointWriter writes checkpoints in the background. Training waits only
// while the state is copied, and for the previous write if that has not ended.
// It is used by one goroutine, that of the training loop.
type checkpointWriter struct {
	backgroundTask
	copy []tensor.NamedArray // the state that is being written; the arrays are reused
}

// start copies the state and runs write on the copy in the background. If the
// previous write failed, it returns that error and does nothing else. The copy is
// valid until the next start, which waits for the write to end.
func (s *checkpointWriter) start(state []tensor.NamedArray, write func(state []tensor.NamedArray) error) error {
	if err := s.wait(); err != nil {
		return err
	}
	s.copyState(state)
	return s.backgroundTask.start(func() error { return write(s.copy) })
}

// copyState copies the state into the writer's own arrays, which are allocated
// anew only where names or shapes have changed.
func (s *checkpointWriter) copyState(state []tensor.NamedArray) {
	same := slices.EqualFunc(s.copy, state, func(a, b tensor.NamedArray) bool {
		return a.Name == b.Name && slices.Equal(a.Shape, b.Shape) && len(a.Data) == len(b.Data)
	})
	if !same {
		s.copy = make([]tensor.NamedArray, len(state))
		for i, n := range state {
			s.copy[i] = tensor.NamedArray{Name: n.Name, Shape: n.Shape, Data: make([]float32, len(n.Data))}
		}
	}
	for i, n := range state {
		copy(s.copy[i].Data, n.Data)
	}
}

// backgroundTask runs one function at a time in the background. Its methods are
// called by one goroutine; the functions run in others, and what they write is
// visible after wait. An error is returned once, by the first method that sees it.
type backgroundTask struct {
	done chan error // capacity 1; nil when no function is running or unseen
}

// start runs f in the background, after waiting for the function before it. If
// that one failed, start returns its error and does not run f.
func (t *backgroundTask) start(f func() error) error {
	if err := t.wait(); err != nil {
		return err
	}
	done := make(chan error, 1)
	t.done = done
	go func() { done <- f() }()
	return nil
}

// wait returns when no function is running, with the error of the last one. It
// returns nil at once if there is none.
func (t *backgroundTask) wait() error {
	if t.done == nil {
		return nil
	}
	err := <-t.done
	t.done = nil
	return err
}

// idle reports whether no function is running and every error has been seen.
func (t *backgroundTask) idle() bool { return t.done == nil }

// busy reports whether a function is still running.
func (t *backgroundTask) busy() bool { return t.done != nil && len(t.done) == 0 }

// failed returns the error of a function that has ended. It does not wait for
// one that is running.
func (t *backgroundTask) failed() error {
	if len(t.done) == 0 { // 0 for a nil channel as well
		return nil
	}
	return t.wait()
}
