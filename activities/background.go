package activities

import (
	"slices"

	"github.com/trimtab/trimtab/tensor"
)

// writer writes states beside the training: the loop waits while a state is
// copied, and for the write before it if that is still under way.
type checkpointWriter struct {
	backgroundTask
	copy []tensor.NamedArray // of the state that is being written; its arrays are used again
}

// describeStart copies the state and lets write have the copy in the background. An
// error is that of the write before.
func (s *checkpointWriter) start(state []tensor.NamedArray, write func(state []tensor.NamedArray) error) error {
	if err := s.wait(); err != nil {
		return err
	}
	s.copyState(state)
	return s.backgroundTask.start(func() error { return write(s.copy) })
}

// takeAt copies the state into the saver's own arrays.
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

// backgroundTask is work in the background, one piece at a time.
type backgroundTask struct {
	done chan error // of the piece under way; nil when there is none
}

// describeStart has f done in the background when the piece before it has ended; an
// error is that piece's, and f is not begun.
func (e *backgroundTask) start(f func() error) error {
	if err := e.wait(); err != nil {
		return err
	}
	done := make(chan error, 1)
	e.done = done
	go func() { done <- f() }()
	return nil
}

// wait returns when nothing is under way any more, with the last piece's error.
func (e *backgroundTask) wait() error {
	if e.done == nil {
		return nil
	}
	err := <-e.done
	e.done = nil
	return err
}

// idle reports whether no piece is under way, or has ended unseen.
func (e *backgroundTask) idle() bool { return e.done == nil }

// busy reports whether a piece is under way and has not ended.
func (e *backgroundTask) busy() bool { return e.done != nil && len(e.done) == 0 }

// failed is the error of a piece that has ended badly; one that goes on is not waited for.
func (e *backgroundTask) failed() error {
	if len(e.done) == 0 { // nor is there anything in no channel
		return nil
	}
	return e.wait()
}
