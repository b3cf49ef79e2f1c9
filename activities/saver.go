package activities

import (
	"slices"

	"github.com/trimtab/trimtab/tensor"
)

// saver writes states beside the training: the loop waits while a state is
// copied, and for the write before it if that is still under way.
type saver struct {
	copy []tensor.Named // of the state that is being written; its arrays are used again
	done chan error     // of the write under way; nil when there is none
}

// start copies the state and lets write have the copy in the background. An
// error is that of the write before.
func (s *saver) start(state []tensor.Named, write func(state []tensor.Named) error) error {
	if err := s.wait(); err != nil {
		return err
	}
	s.take(state)
	done := make(chan error, 1)
	s.done = done
	go func() { done <- write(s.copy) }()
	return nil
}

// take copies the state into the saver's own arrays.
func (s *saver) take(state []tensor.Named) {
	same := slices.EqualFunc(s.copy, state, func(a, b tensor.Named) bool {
		return a.Name == b.Name && slices.Equal(a.Shape, b.Shape) && len(a.Data) == len(b.Data)
	})
	if !same {
		s.copy = make([]tensor.Named, len(state))
		for i, n := range state {
			s.copy[i] = tensor.Named{Name: n.Name, Shape: n.Shape, Data: make([]float32, len(n.Data))}
		}
	}
	for i, n := range state {
		copy(s.copy[i].Data, n.Data)
	}
}

// wait returns when nothing is under way any more, with the last write's error.
func (s *saver) wait() error {
	if s.done == nil {
		return nil
	}
	err := <-s.done
	s.done = nil
	return err
}

// idle reports whether no write is under way, or has ended unseen.
func (s *saver) idle() bool { return s.done == nil }

// failed is the error of a write that has ended badly; one that goes on is not waited for.
func (s *saver) failed() error {
	if len(s.done) == 0 { // nor is there anything in no channel
		return nil
	}
	return s.wait()
}
