package activities

import (
	"errors"
	"testing"
	"time"

	"github.com/trimtab/trimtab/tensor"
)

func ramp(n int, from float32) []tensor.NamedArray {
	data := make([]float32, n)
	for i := range data {
		data[i] = from + float32(i)
	}
	return []tensor.NamedArray{{Name: "w", Shape: []int{n}, Data: data}}
}

// A state is written as it was when the write began, while the training changes it.
func TestCheckpointWriterRunsInTheBackground(t *testing.T) {
	var s checkpointWriter
	state := ramp(8, 0)
	release, written := make(chan struct{}), make(chan float32, 2)
	write := func(state []tensor.NamedArray) error {
		<-release
		written <- state[0].Data[7]
		return nil
	}
	if err := s.start(state, write); err != nil { // returns although nothing is written yet
		t.Fatal(err)
	}
	if s.idle() || s.failed() != nil {
		t.Error("a write is under way")
	}
	state[0].Data[7] = 100
	second := make(chan error)
	go func() { second <- s.start(state, write) }()
	select {
	case <-second:
		t.Error("a second write began before the first was done")
	case <-time.After(20 * time.Millisecond):
	}
	close(release)
	if err := errors.Join(<-second, s.wait()); err != nil {
		t.Fatal(err)
	}
	if first, then := <-written, <-written; first != 7 || then != 100 {
		t.Errorf("%v and %v were written, want 7 and 100", first, then)
	}
	if !s.idle() {
		t.Error("nothing is under way")
	}
}

// The error of a write is returned once, by the next method that looks.
func TestCheckpointWriterReturnsErrorsOnce(t *testing.T) {
	var s checkpointWriter
	full := errors.New("full")
	fail := func([]tensor.NamedArray) error { return full }
	for name, look := range map[string]func() error{
		"a look":        s.failed,
		"the next save": func() error { return s.start(ramp(4, 0), fail) },
		"the end":       s.wait,
	} {
		if err := s.start(ramp(4, 0), fail); err != nil {
			t.Fatal(err)
		}
		for len(s.done) == 0 {
			time.Sleep(time.Millisecond)
		}
		if err := look(); !errors.Is(err, full) {
			t.Errorf("%s returns %v", name, err)
		}
		if err := errors.Join(s.wait(), s.failed()); err != nil {
			t.Errorf("after %s it is returned again: %v", name, err)
		}
	}
}

// How long the training stands still for a checkpoint: weights and two moments
// of 13.9 million parameters are copied.
func BenchmarkCopyState(b *testing.B) {
	var s checkpointWriter
	state := ramp(3*13_900_000, 0)
	b.SetBytes(4 * int64(len(state[0].Data)))
	for b.Loop() {
		s.copyState(state)
	}
}
