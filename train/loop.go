// Package train holds the one training loop. A stage is a Trainer. The loop
// steps it, reports, checkpoints and stops. It knows no store, no database and
// no workflow: its effects are functions that the caller gives.
//
// For step = From … Until-1 it does, in this order:
//
//	stop if the context is done               -> error, no checkpoint
//	stop if Stopping()                        -> checkpoint, no error
//	report, took = Trainer.Step(step)
//	refuse a report with NaN or infinite numbers
//	Report(step, report, took)
//	Checkpoint(step+1, State()) at multiples of CheckpointEvery, when Due() and at Until
//
// Checkpoints hold the state between two steps. So a run that is interrupted
// anywhere and resumed from its last checkpoint ends in the same bytes.
package train

import (
	"context"
	"fmt"
	"math"
	"time"

	"github.com/trimtab/trimtab"
	"github.com/trimtab/trimtab/tensor"
)

// Trainer is a stage. Step is a function of the state, the step, the data and
// the seed alone. Package traintest checks that.
type Trainer interface {
	// Steps returns how many steps the whole stage takes.
	Steps() int
	// Step performs the 0-based step: one optimizer update, or a whole iteration
	// of PPO. After an error the state is undefined and has to be restored.
	Step(ctx context.Context, step int) (trimtab.Report, error)
	// State returns views of all arrays that the next step depends on, always of
	// the same memory and in the same order. Restoring a fresh trainer means
	// copying a checkpoint into these arrays.
	State() []tensor.NamedArray
}

// Loop runs the steps From to Until of a Trainer whose state is that before
// step From. Functions that are nil are not called.
type Loop struct {
	Trainer         Trainer
	From            int // first step, 0-based
	Until           int // the step after the last; 0 stands for all steps
	CheckpointEvery int // in steps; 0 checkpoints at the end only
	// Due reports, after each step, whether a checkpoint is due although the step
	// is no multiple of CheckpointEvery, for example by time.
	Due func() bool
	// Report records a finished step. An error ends the loop without a checkpoint of that step.
	Report func(ctx context.Context, step int, r trimtab.Report, took time.Duration) error
	// Checkpoint stores the state before step next. The arrays are views, valid during the call only.
	Checkpoint func(ctx context.Context, next int, state []tensor.NamedArray) error
	// Stopping reports whether the loop should end, with a checkpoint, before the next step.
	Stopping func() bool
}

// Run runs the loop and returns the next step to do. Without an error that is
// Until, or less if Stopping ended the loop; with an error it is the step that
// was not finished. If From equals Until it does nothing.
//
// Errors: the cause of ctx; zero_steps; step_out_of_range; not_a_number for a
// report with a number that is NaN or infinite; stage_panic; and what the
// Trainer, Report and Checkpoint return.
func (l Loop) Run(ctx context.Context) (next int, err error) {
	until, err := l.resolveBounds()
	if err != nil {
		return l.From, err
	}
	saved := l.From // the last step before which the state is stored
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

// resolveBounds checks the bounds and returns Until with its default resolved.
func (l Loop) resolveBounds() (until int, err error) {
	steps := l.Trainer.Steps()
	if steps <= 0 {
		return 0, trimtab.NewError(trimtab.Invalid, "zero_steps",
			"give more data, or a smaller batch, or more epochs", "the stage has no steps to do")
	}
	until = l.Until
	if until == 0 {
		until = steps
	}
	if l.From < 0 || until < l.From || until > steps {
		return 0, trimtab.NewError(trimtab.Invalid, "step_out_of_range",
			"the checkpoint is of another configuration: start the stage again from scratch",
			"cannot run steps %d to %d: the stage has %d", l.From, until, steps)
	}
	return until, nil
}

// checkpointDue reports whether to store the state before step next.
func (l Loop) checkpointDue(next, until int) bool {
	return next == until || l.CheckpointEvery > 0 && next%l.CheckpointEvery == 0 || l.Due != nil && l.Due()
}

// step performs one step, checks its numbers and reports it.
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

// guarded calls the trainer's Step and turns a panic into an error, so that a
// fault in a stage ends the stage and not the worker.
func (l Loop) guarded(ctx context.Context, step int) (report trimtab.Report, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = panicError(step, p)
		}
	}()
	return l.Trainer.Step(ctx, step)
}

// checkpoint stores the state before step next, unless it is stored already:
// saved is the step of the last checkpoint.
func (l Loop) checkpoint(ctx context.Context, next, saved int) error {
	if l.Checkpoint == nil || next == saved {
		return nil
	}
	if err := l.Checkpoint(ctx, next, l.Trainer.State()); err != nil {
		return fmt.Errorf("checkpoint before step %d: %w", next, err)
	}
	return nil
}

// checkNumbers returns an error that names the first number of a report that is
// NaN or infinite. Such a step must not be recorded or checkpointed: no later
// step could repair the weights.
func checkNumbers(r trimtab.Report) error {
	for _, m := range r.Metrics {
		if math.IsNaN(m.Value) || math.IsInf(m.Value, 0) {
			return fmt.Errorf("metric %s is %v", m.Name, m.Value)
		}
	}
	for _, o := range r.Rollouts {
		for _, part := range []struct {
			name   string
			values []float32
		}{
			{"score", []float32{o.Score, o.RawScore}},
			{"log-probability", o.LogProbs},
			{"reference log-probability", o.RefLogProb},
			{"KL", o.KL},
			{"value", o.Values},
			{"reward", o.Rewards},
			{"advantage", o.Advantages},
			{"return", o.Returns},
		} {
			for _, v := range part.values {
				if v-v != 0 { // NaN or infinite: v-v is then NaN
					return fmt.Errorf("rollout %d: its %s is %v", o.Index, part.name, v)
				}
			}
		}
	}
	return nil
}
