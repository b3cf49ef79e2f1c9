package activities

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/trimtab/trimtab"
	"github.com/trimtab/trimtab/storage"
	"github.com/trimtab/trimtab/tensor"
	"github.com/trimtab/trimtab/train"
	"go.temporal.io/sdk/activity"
)

// Beats and patience of a segment.
const (
	beat       = 2 * time.Second  // heartbeats, and the shown progress
	stallAfter = 15 * time.Minute // without a step, or ten times the longest step where that is more
	firstStep  = 2 * time.Hour    // that loading and the first step may take
)

// stalled is the cause of a context that the watchdog cancelled.
func stalled(patience time.Duration) error {
	return trimtab.NewError(trimtab.Unavailable, "stage_stalled", "the segment is tried again from its last checkpoint",
		"no step was finished in %s", patience)
}

// patience is how long a step may take before the stage counts as stalled, given the longest so far.
func patience(longest time.Duration) time.Duration {
	if longest == 0 {
		return firstStep
	}
	return max(stallAfter, 10*longest)
}

// Segment goes on from a checkpoint for at most the stage's SegmentSteps, and makes the outputs when the last step is done.
func (a *Activities) Segment(ctx context.Context, in SegmentInput) (SegmentResult, error) {
	res, err := a.segment(ctx, in)
	return res, Wrap(err)
}

func (a *Activities) segment(ctx context.Context, in SegmentInput) (SegmentResult, error) {
	r := &running{a: a, in: in, worker: activity.GetWorkerStopChannel(ctx)}
	work, stop := context.WithCancelCause(context.WithoutCancel(ctx))
	defer stop(nil)
	r.phase.Store("loading")
	r.moved.Store(time.Now().UnixNano())
	go r.watch(ctx, work, stop)

	// A holder that was frozen in the middle of a write is waited for, with heartbeats.
	if err := a.store.Fence(ctx, in.Attempt, in.Sequence); err != nil {
		return SegmentResult{}, err
	}
	if err := r.restore(work); err != nil {
		return SegmentResult{}, r.cause(work, err)
	}
	if err := r.steps(work, ctx); err != nil {
		return SegmentResult{}, r.cause(work, err)
	}
	if err := r.dropShards(); err != nil {
		return SegmentResult{}, err
	}
	return r.result(work, ctx)
}

// running is one segment at work.
type running struct {
	a      *Activities
	in     SegmentInput
	worker <-chan struct{} // closed when the worker has to stop

	job   job
	step  int
	check trimtab.Digest // the checkpoint that step stands on
	older trimtab.Digest // the one before it; files of others are removed
	maker int64          // the attempt that reported the step before step

	pending []storage.StepReport // steps since that checkpoint

	shown time.Time // when the progress was shown last

	phase atomic.Value // what the heartbeat says
	at    atomic.Int64 // step, for the heartbeat
	moved atomic.Int64 // unix nanoseconds of the last progress

	longest atomic.Int64 // nanoseconds of the longest step
}

// watch ticks apart from the work, so that a slow step is not taken for a dead
// worker, and ends work that makes no progress or lost its attempt.
func (r *running) watch(ctx, work context.Context, stop context.CancelCauseFunc) {
	tick := time.NewTicker(beat)
	defer tick.Stop()
	for {
		activity.RecordHeartbeat(ctx, map[string]any{"phase": r.phase.Load(), "step": r.at.Load(), "checkpoint": r.in.From})
		if limit := patience(time.Duration(r.longest.Load())); time.Since(time.Unix(0, r.moved.Load())) > limit {
			stop(stalled(limit))
			r.a.say(context.WithoutCancel(ctx), r.in.Run, r.in.Stage.Name, 0, "stalled while %v: no step was finished in %s", r.phase.Load(), limit)
		}
		select {
		case <-work.Done():
			return
		case <-tick.C:
		}
	}
}

// cause prefers the reason why the work was stopped to what the stop looked like.
func (r *running) cause(work context.Context, err error) error {
	if c := context.Cause(work); c != nil && !errors.Is(c, context.Canceled) {
		return c
	}
	return err
}

// restore makes the stage and puts it where the attempt's newest checkpoint is.
func (r *running) restore(ctx context.Context) error {
	last, found, err := r.newest(ctx)
	if err != nil {
		return err
	}
	if r.job = r.a.warm.take(r.in.Attempt, last.Digest); r.job == nil {
		if r.job, err = r.a.newJob(ctx, r.in); err != nil {
			return err
		}
		if found {
			err = r.load(last)
		} else {
			err = r.inherit(ctx)
		}
		if err != nil {
			return err
		}
	}
	if found {
		r.step, r.check, r.maker = last.Step, last.Digest, r.in.Attempt
	}
	if steps := r.job.Steps(); r.step > steps {
		return trimtab.NewError(trimtab.Invalid, "step_out_of_range", "rerun the stage from the beginning, or with as many steps as it had",
			"the checkpoint is of step %d, the stage has %d", r.step, steps)
	}
	r.at.Store(int64(r.step))
	return r.a.store.StartAttempt(ctx, r.in.Attempt, r.in.Sequence, r.job.Steps(), r.a.build)
}

// newest is the attempt's last checkpoint. Files of all but the last two are
// removed here. They are named by rows, never by what lies in the folder: a
// worker that has lost the fence meanwhile, and thaws just here, must not take
// its successor's states.
func (r *running) newest(ctx context.Context) (last storage.Checkpoint, found bool, err error) {
	all, err := r.a.store.Checkpoints(ctx, r.in.Attempt)
	if err != nil || len(all) == 0 {
		return last, false, err
	}
	last = all[len(all)-1]
	if len(all) > 1 {
		r.older = all[len(all)-2].Digest
	}
	for _, c := range all[:max(0, len(all)-2)] {
		if c.Digest == last.Digest || c.Digest == r.older {
			continue
		}
		if err := r.a.files.RemoveState(attemptKey(r.in.Attempt), c.Digest); err != nil {
			return last, true, err
		}
	}
	return last, true, nil
}

func (r *running) load(c storage.Checkpoint) error {
	step, err := r.a.files.LoadState(attemptKey(c.Attempt), c.Digest, r.job.State())
	if err == nil && step != c.Step {
		return trimtab.NewError(trimtab.Verification, "checkpoint_mismatch", "rerun the stage from the beginning",
			"checkpoint %s is of step %d, its row says %d", c.Digest.Short(), step, c.Step)
	}
	return err
}

// origin is the earlier attempt's checkpoint that the attempt starts from, if the rerun asked for one.
func (r *running) origin(ctx context.Context) (c storage.Checkpoint, found bool, err error) {
	row, err := r.a.store.Attempt(ctx, r.in.Attempt)
	if err != nil || row.FromCheckpoint == "" {
		return c, false, err
	}
	c, err = r.a.store.FindCheckpoint(ctx, row.Run, row.Stage, string(row.FromCheckpoint))
	return c, err == nil, err
}

// inherit starts from there.
func (r *running) inherit(ctx context.Context) error {
	c, found, err := r.origin(ctx)
	if err != nil || !found {
		return err
	}
	if err := r.load(c); err != nil {
		return err
	}
	r.step, r.maker = c.Step, c.Attempt
	return nil
}

func attemptKey(id int64) string { return fmt.Sprintf("attempt-%d", id) }

// steps runs the loop to the segment's end, or to the next step when it has to stop.
func (r *running) steps(work, ctx context.Context) error {
	total := r.job.Steps()
	if r.step >= total {
		return nil
	}
	trainer, err := r.withShards(work)
	if err != nil {
		return err
	}
	r.phase.Store("training")
	started, first := time.Now(), r.step
	loop := train.Loop{
		Trainer: trainer, From: r.step, Until: min(r.step+r.in.Stage.SegmentSteps, total), CheckpointEvery: r.in.Stage.CheckpointSteps,
		Report: func(ctx context.Context, step int, rep trimtab.Report, took time.Duration) error {
			r.pending = append(r.pending, storage.StepReport{Step: step, Report: rep, Seconds: took.Seconds()})
			r.at.Store(int64(step + 1))
			r.moved.Store(time.Now().UnixNano())
			r.longest.Store(max(r.longest.Load(), int64(took)))
			return r.progress(ctx, step+1, total, first, started, rep)
		},
		Checkpoint: r.checkpoint,
		Stopping:   func() bool { return r.stopping(ctx) },
	}
	next, err := loop.Run(work)
	if next > r.step {
		r.maker = r.in.Attempt
	}
	r.step = next
	return err
}

// stopping is asked between steps: the workflow paused or cancelled, or the worker has to end.
func (r *running) stopping(ctx context.Context) bool {
	select {
	case <-r.worker:
		return true
	case <-ctx.Done():
		return true
	default:
		return false
	}
}

// checkpoint makes the state durable: the file first, then its row with all reports since the last one.
func (r *running) checkpoint(ctx context.Context, next int, state []tensor.Named) error {
	r.phase.Store("checkpoint")
	defer r.phase.Store("training")
	key := attemptKey(r.in.Attempt)
	digest, err := r.a.files.SaveState(key, next, state)
	if err != nil {
		return err
	}
	c := storage.Checkpoint{Attempt: r.in.Attempt, Step: next, Digest: digest}
	if err := r.a.store.Commit(ctx, r.in.Attempt, r.in.Sequence, r.pending, &c); err != nil {
		return err
	}
	superseded := r.older
	r.pending, r.older, r.check = nil, r.check, digest
	if superseded == "" || superseded == digest || superseded == r.older {
		return nil
	}
	return r.a.files.RemoveState(key, superseded)
}

// progress shows a line at most once a second. It is a hint, but one that only the holder of the attempt may give.
func (r *running) progress(ctx context.Context, step, total, first int, started time.Time, rep trimtab.Report) error {
	if time.Since(r.shown) < beat/2 && step < total {
		return nil
	}
	r.shown = time.Now()
	p := storage.Progress{Step: step, Steps: total, Phase: r.in.Stage.Kind, Metrics: rep.Metrics, At: time.Now()}
	if s := time.Since(started).Seconds(); s > 0 {
		p.TokensPerSecond = float64(r.job.tokensPerStep()) * float64(step-first) / s
	}
	return r.a.store.SetProgress(ctx, r.in.Attempt, r.in.Sequence, p)
}

// result makes the outputs if the last step is done.
func (r *running) result(work, ctx context.Context) (SegmentResult, error) {
	res := SegmentResult{Checkpoint: r.check, Step: r.step, Steps: r.job.Steps()}
	select {
	case <-r.worker:
		return res, trimtab.NewError(trimtab.Unavailable, "worker_stopping", "", "the worker was asked to stop at step %d; the stage goes on elsewhere", r.step)
	default:
	}
	if r.step < res.Steps {
		if ctx.Err() == nil { // else it was paused or cancelled, and nobody knows for how long
			r.a.warm.keep(r.in.Attempt, r.check, r.job)
		}
		return res, nil
	}
	r.phase.Store("outputs")
	outputs, metrics, err := r.job.finish(work)
	if err != nil {
		return res, r.cause(work, err)
	}
	last, err := r.a.store.StepMetrics(work, r.maker, res.Steps-1)
	if err != nil {
		return res, r.cause(work, err)
	}
	res.Done, res.Outputs, res.Metrics = true, outputs, append(last, metrics...)
	return res, nil
}
