package train

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/trimtab/trimtab"
	"github.com/trimtab/trimtab/tensor"
)

// toy descends on (w-3)², with momentum, one slope a step.
type toy struct {
	steps  int
	w, m   []float32
	before func(step int) (trimtab.Report, error) // nil, or runs first
}

func newToy(steps int) *toy { return &toy{steps: steps, w: make([]float32, 2), m: make([]float32, 2)} }

func (t *toy) Steps() int { return t.steps }

func (t *toy) Step(ctx context.Context, step int) (trimtab.Report, error) {
	if t.before != nil {
		if r, err := t.before(step); err != nil || r.Metrics != nil || r.Rollouts != nil {
			return r, err
		}
	}
	for i := range t.w {
		g := 2*(t.w[i]-3) + float32(step)*0.01*float32(i)
		t.m[i] = float32(0.9*t.m[i]) + g
		t.w[i] -= float32(0.01 * t.m[i])
	}
	return trimtab.Report{Metrics: []trimtab.Metric{{Name: "w", Value: float64(t.w[0])}}}, nil
}

func (t *toy) State() []tensor.NamedArray {
	return []tensor.NamedArray{{Name: "w", Shape: []int{2}, Data: t.w}, {Name: "m", Shape: []int{2}, Data: t.m}}
}

// shelf keeps the checkpoints and the reported steps.
type shelf struct {
	states map[int][]float32
	order  []int
	steps  []int
}

func newShelf() *shelf { return &shelf{states: make(map[int][]float32)} }

func (s *shelf) checkpoint(_ context.Context, next int, state []tensor.NamedArray) error {
	s.order = append(s.order, next)
	s.states[next] = slices.Concat(state[0].Data, state[1].Data)
	return nil
}

func (s *shelf) report(_ context.Context, step int, _ trimtab.Report, _ time.Duration) error {
	s.steps = append(s.steps, step)
	return nil
}

func (s *shelf) loop(t Trainer) Loop {
	return Loop{Trainer: t, CheckpointEvery: 4, Report: s.report, Checkpoint: s.checkpoint}
}

func restore(t *toy, state []float32) *toy {
	copy(t.w, state[:2])
	copy(t.m, state[2:])
	return t
}

func typeOf(err error) string { return trimtab.AsError(err).Type }

func TestRunsAllStepsAndCheckpoints(t *testing.T) {
	s := newShelf()
	next, err := s.loop(newToy(10)).Run(t.Context())
	if next != 10 || err != nil {
		t.Fatalf("next %d, error %v", next, err)
	}
	if !slices.Equal(s.order, []int{4, 8, 10}) || len(s.steps) != 10 {
		t.Errorf("checkpoints %v, steps %v", s.order, s.steps)
	}
}

func TestEndAtACheckpointSavesOnce(t *testing.T) {
	s := newShelf()
	if _, err := s.loop(newToy(8)).Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(s.order, []int{4, 8}) {
		t.Errorf("checkpoints %v", s.order)
	}
}

func TestSegmentsEqualTheWhole(t *testing.T) {
	whole := newToy(20)
	if _, err := (Loop{Trainer: whole}).Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	s := newShelf()
	for from := 0; from < 20; {
		part := newToy(20)
		if from > 0 {
			restore(part, s.states[from])
		}
		l := s.loop(part)
		l.From, l.Until = from, min(from+7, 20)
		next, err := l.Run(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		from = next
	}
	if want := slices.Concat(whole.w, whole.m); !slices.Equal(s.states[20], want) {
		t.Errorf("segments end in %v, the whole in %v", s.states[20], want)
	}
	if len(s.steps) != 20 {
		t.Errorf("steps %v", s.steps)
	}
}

// A crash at any step, resumed from the newest checkpoint, ends in the same bytes.
func TestCrashAnywhereEndsInTheSameBytes(t *testing.T) {
	whole := newToy(11)
	if _, err := (Loop{Trainer: whole}).Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	for crash := range 11 {
		s, broken := newShelf(), newToy(11)
		broken.before = func(step int) (trimtab.Report, error) {
			if step == crash {
				broken.w[0] = 99 // half done
				panic("killed")
			}
			return trimtab.Report{}, nil
		}
		if next, err := s.loop(broken).Run(t.Context()); err == nil || next != crash {
			t.Fatalf("crash at %d: next %d, error %v", crash, next, err)
		}
		again := newToy(11)
		l := s.loop(again)
		if n := len(s.order); n > 0 {
			l.From = s.order[n-1]
			restore(again, s.states[l.From])
		}
		if _, err := l.Run(t.Context()); err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(again.w, whole.w) || !slices.Equal(again.m, whole.m) {
			t.Errorf("crash at %d: %v, want %v", crash, again.w, whole.w)
		}
	}
}

func TestCancelEndsWithoutACheckpoint(t *testing.T) {
	why := errors.New("the worker is gone")
	ctx, cancel := context.WithCancelCause(t.Context())
	s, tr := newShelf(), newToy(10)
	tr.before = func(step int) (trimtab.Report, error) {
		if step == 5 {
			cancel(why)
		}
		return trimtab.Report{}, nil
	}
	next, err := s.loop(tr).Run(ctx)
	if next != 6 || !errors.Is(err, why) {
		t.Errorf("next %d, error %v", next, err)
	}
	if !slices.Equal(s.order, []int{4}) {
		t.Errorf("checkpoints %v", s.order)
	}
}

func TestStopsAtTheNextBoundaryWithACheckpoint(t *testing.T) {
	s, tr := newShelf(), newToy(10)
	l := s.loop(tr)
	l.Stopping = func() bool { return len(s.steps) == 6 }
	next, err := l.Run(t.Context())
	if next != 6 || err != nil || !slices.Equal(s.order, []int{4, 6}) {
		t.Errorf("next %d, error %v, checkpoints %v", next, err, s.order)
	}
	l = s.loop(newToy(10))
	l.Stopping = func() bool { return true }
	if next, err := l.Run(t.Context()); next != 0 || err != nil || len(s.order) != 2 {
		t.Errorf("stopped at once: next %d, error %v, checkpoints %v", next, err, s.order)
	}
}

func TestStopWhereACheckpointIsAlreadyThere(t *testing.T) {
	s := newShelf()
	l := s.loop(newToy(10))
	l.Stopping = func() bool { return len(s.steps) == 4 }
	if next, err := l.Run(t.Context()); next != 4 || err != nil || !slices.Equal(s.order, []int{4}) {
		t.Errorf("next %d, error %v, checkpoints %v", next, err, s.order)
	}
}

func TestNotANumber(t *testing.T) {
	nan := float32(math.NaN())
	for name, r := range map[string]trimtab.Report{
		"metric loss is NaN":            {Metrics: []trimtab.Metric{{Name: "loss", Value: math.NaN()}}},
		"metric loss is +Inf":           {Metrics: []trimtab.Metric{{Name: "loss", Value: math.Inf(1)}}},
		"rollout 3: its score is NaN":   {Rollouts: []trimtab.Rollout{{Index: 3, RawScore: nan}}},
		"rollout 0: its advantage":      {Rollouts: []trimtab.Rollout{{Advantages: []float32{0, nan}}}},
		"rollout 0: its return is -Inf": {Rollouts: []trimtab.Rollout{{Returns: []float32{float32(math.Inf(-1))}}}},
	} {
		s, tr := newShelf(), newToy(10)
		tr.before = func(step int) (trimtab.Report, error) {
			if step == 4 {
				return r, nil
			}
			return trimtab.Report{}, nil
		}
		next, err := s.loop(tr).Run(t.Context())
		if next != 4 || err == nil || typeOf(err) != "not_a_number" || trimtab.AsError(err).Class != trimtab.Invalid {
			t.Errorf("%s: next %d, error %v", name, next, err)
			continue
		}
		if !strings.Contains(err.Error(), name) || !strings.Contains(err.Error(), "step 4") {
			t.Errorf("%s: message %q", name, err)
		}
		if len(s.steps) != 4 || !slices.Equal(s.order, []int{4}) {
			t.Errorf("%s: reported %v, checkpoints %v", name, s.steps, s.order)
		}
	}
}

func TestZeroSteps(t *testing.T) {
	_, err := Loop{Trainer: newToy(0)}.Run(t.Context())
	if err == nil || typeOf(err) != "zero_steps" {
		t.Errorf("error %v", err)
	}
}

func TestStepsOutOfRange(t *testing.T) {
	for _, l := range []Loop{{From: -1}, {From: 11}, {Until: 11}, {From: 5, Until: 4}} {
		l.Trainer = newToy(10)
		if _, err := l.Run(t.Context()); err == nil || typeOf(err) != "step_out_of_range" {
			t.Errorf("%d to %d: error %v", l.From, l.Until, err)
		}
	}
	if next, err := (Loop{Trainer: newToy(10), From: 10}).Run(t.Context()); next != 10 || err != nil {
		t.Errorf("nothing left: next %d, error %v", next, err)
	}
}

func TestPanicBecomesAnError(t *testing.T) {
	cause := errors.New("shapes differ")
	for _, p := range []any{"shapes differ", cause} {
		tr := newToy(3)
		tr.before = func(int) (trimtab.Report, error) { return explode(p) }
		_, err := Loop{Trainer: tr}.Run(t.Context())
		e := trimtab.AsError(err)
		if e.Type != "stage_panic" || e.Class != trimtab.Internal {
			t.Fatalf("error %#v", e)
		}
		if !strings.Contains(err.Error(), "shapes differ") || !strings.Contains(err.Error(), "train.explode:") {
			t.Errorf("message %q", err)
		}
		if strings.Contains(err.Error(), "runtime.") || strings.Count(err.Error(), " < ") >= panicFrames {
			t.Errorf("the stack is not short: %q", err)
		}
	}
	tr := newToy(3)
	tr.before = func(int) (trimtab.Report, error) { var none []int; return trimtab.Report{}, fmt.Errorf("%d", none[3]) }
	if _, err := (Loop{Trainer: tr}).Run(t.Context()); typeOf(err) != "stage_panic" ||
		!strings.Contains(err.Error(), "index out of range") {
		t.Errorf("error %v", err)
	}
}

func explode(p any) (trimtab.Report, error) { panic(p) }

func TestErrorsOfEffectsEndTheLoop(t *testing.T) {
	full := errors.New("disk full")
	l := Loop{Trainer: newToy(3), Report: func(context.Context, int, trimtab.Report,
		time.Duration) error {
		return full
	}}
	if next, err := l.Run(t.Context()); next != 0 || !errors.Is(err, full) {
		t.Errorf("report: next %d, error %v", next, err)
	}
	l = Loop{Trainer: newToy(3), CheckpointEvery: 2,
		Checkpoint: func(context.Context, int, []tensor.NamedArray) error { return full }}
	if next, err := l.Run(t.Context()); next != 2 || !errors.Is(err, full) {
		t.Errorf("checkpoint: next %d, error %v", next, err)
	}
	tr := newToy(3)
	tr.before = func(int) (trimtab.Report, error) { return trimtab.Report{}, full }
	if next, err := (Loop{Trainer: tr}).Run(t.Context()); next != 0 || !errors.Is(err, full) ||
		!strings.HasPrefix(err.Error(), "step 0: ") {
		t.Errorf("step: next %d, error %v", next, err)
	}
}
