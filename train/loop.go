// Package train holds the one training loop. A stage is a Trainer; the loop
// steps it, reports, checkpoints and stops, and knows no store, no database
// and no workflow: its effects are functions.
//
// For step = From … Until-1 it does, in this order:
//
//	stop if the context is done               -> error, no checkpoint
//	stop if Stopping()                        -> checkpoint, no error
//	report, took = Trainer.Step(step)
//	refuse a metric that is not a number
//	Report(step, report, took)
//	Checkpoint(step+1, State()) at multiples of CheckpointEvery, when Due() and at Until
//
// State lies between steps only, so a run that is interrupted anywhere and
// taken up from its last checkpoint ends in the same bytes.
package train

import (
	"context"
	"fmt"
	"math"
	"time"

	"github.com/trimtab/trimtab"
	"github.com/trimtab/trimtab/tensor"
)

// Trainer is a stage. Step is a function of the state, the step, the data
// and the seed alone: one optimizer update, or one whole iteration of ppo.
type Trainer interface {
	// Steps is how many steps the whole stage takes.
	Steps() int
	// Step does the 0-based step. After an error the state is lost.
	Step(ctx context.Context, step int) (trimtab.Report, error)
	// State lists, always in the same order, views of every array that must
	// survive a crash.
	State() []tensor.NamedArray
}

// Loop runs steps From to Until of a Trainer whose state is that of From.
// Functions that are nil are left out.
type Loop struct {
	Trainer         Trainer
	From            int // first step, 0-based
	Until           int // the step after the last; 0 is all steps
	CheckpointEvery int // in steps; 0 is at the end only
	// Due is asked after each step whether it is time for a checkpoint all the same.
	Due func() bool
	// Report records a finished step. An error ends the loop before a checkpoint of that step.
	Report func(ctx context.Context, step int, r trimtab.Report, took time.Duration) error
	// Checkpoint stores the state from which step next is done. The views are valid during the call only.
	Checkpoint func(ctx context.Context, next int, state []tensor.NamedArray) error
	// Stopping asks the loop to end with a checkpoint at the next boundary between steps.
	Stopping func() bool
}

// Run returns the next step to do. Without an error that is Until, or less
// when Stopping said so; with an error it is the step that was not finished.
// Errors: the cause of ctx; zero_steps; step_out_of_range; not_a_number for a
// metric that is NaN or infinite; stage_panic; what the Trainer, Report or
// Checkpoint return. From equal to Until does nothing.
func (l Loop) Run(ctx context.Context) (next int, err error) {
	until, err := l.resolveBounds()
	if err != nil {
		return l.From, err
	}
	saved := l.From
	for step := l.From; step < until; step++ {
		if ctx.Err() != nil {
			return step, fmt.Errorf("before step %d: %w", step, context.Cause(ctx))
		}
		if l.Stopping != nil && l.Stopping() {
			return step, l.checkpoint(ctx, step, saved)
		}
		if err := l.step(ctx, step); err != nil {
			return step, err
		}
		if next := step + 1; l.checkpointDue(next, until) {
			if err := l.checkpoint(ctx, next, saved); err != nil {
				return next, err
			}
			saved = next
		}
	}
	return until, nil
}

// resolveBounds checks the steps and returns the effective Until.
func (l Loop) resolveBounds() (int, error) {
	steps := l.Trainer.Steps()
	if steps <= 0 {
		return 0, trimtab.NewError(trimtab.Invalid, "zero_steps",
			"give more data, or a smaller batch, or more epochs", "the stage has no step to do")
	}
	until := l.Until
	if until == 0 {
		until = steps
	}
	if l.From < 0 || until < l.From || until > steps {
		return 0, trimtab.NewError(trimtab.Invalid, "step_out_of_range",
			"the checkpoint is of another configuration: start the stage again from scratch",
			"asked for steps %d to %d of %d", l.From, until, steps)
	}
	return until, nil
}

func (l Loop) checkpointDue(next, until int) bool {
	return next == until || l.CheckpointEvery > 0 && next%l.CheckpointEvery == 0 || l.Due != nil && l.Due()
}

// step does one step, checks its numbers and reports it.
func (l Loop) step(ctx context.Context, step int) error {
	start := time.Now()
	report, err := l.guarded(ctx, step)
	if err != nil {
		return fmt.Errorf("step %d: %w", step, err)
	}
	if err := checkNumbers(report); err != nil {
		return trimtab.NewError(trimtab.Invalid, "not_a_number",
			"lower the learning rate, or look at the data of this step", "step %d: %w", step, err)
	}
	if l.Report == nil {
		return nil
	}
	if err := l.Report(ctx, step, report, time.Since(start)); err != nil {
		return fmt.Errorf("report step %d: %w", step, err)
	}
	return nil
}

// guarded turns a panic of the stage into an error.
func (l Loop) guarded(ctx context.Context, step int) (report trimtab.Report, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = panicError(step, p)
		}
	}()
	return l.Trainer.Step(ctx, step)
}

func (l Loop) checkpoint(ctx context.Context, next, saved int) error {
	if l.Checkpoint == nil || next == saved {
		return nil
	}
	if err := l.Checkpoint(ctx, next, l.Trainer.State()); err != nil {
		return fmt.Errorf("checkpoint before step %d: %w", next, err)
	}
	return nil
}

// checkNumbers names the first number of a report that is NaN or infinite.
func checkNumbers(r trimtab.Report) error {
	for _, m := range r.Metrics {
		if math.IsNaN(m.Value) || math.IsInf(m.Value, 0) {
			return fmt.Errorf("metric %s is %v", m.Name, m.Value)
		}
	}
	for _, o := range r.Rollouts {
		for _, part := range []struct {
			name string
			x    []float32
		}{
			{"score", []float32{o.Score, o.RawScore}}, {"log-probability", o.LogProbs},
			{"reference log-probability", o.RefLogProb}, {"KL", o.KL}, {"value", o.Values},
			{"reward", o.Rewards}, {"advantage", o.Advantages}, {"return", o.Returns},
		} {
			for _, v := range part.x {
				if v-v != 0 {
					return fmt.Errorf("rollout %d: its %s is %v", o.Index, part.name, v)
				}
			}
		}
	}
	return nil
}
