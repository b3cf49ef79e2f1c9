package activities

import (
	"cmp"
	"context"
	"errors"
	"path/filepath"
	"runtime/debug"
	"slices"
	"sync/atomic"
	"time"

	"github.com/trimtab/trimtab"
	"github.com/trimtab/trimtab/checkpoint"
	"github.com/trimtab/trimtab/failpoint"
	"github.com/trimtab/trimtab/storage"
	"github.com/trimtab/trimtab/tensor"
	"github.com/trimtab/trimtab/train"
	"go.temporal.io/sdk/activity"
)

// Beats and patience of a segment.
const (
	heartbeatInterval = 2 * time.Second  // heartbeats, and the shown progress
	minStallTimeout   = 15 * time.Minute // without a step, or ten times the longest step where that is more
	firstStepTimeout  = 2 * time.Hour    // that loading and the first step may take
)

// stalledError is the cause of a context that the watchdog cancelled.
func stalledError(patience time.Duration) error {
	return trimtab.NewError(trimtab.Unavailable, "stage_stalled", "the segment is tried again from its last checkpoint",
		"no step was finished in %s", patience)
}

// stallTimeout is how long a step may take before the stage counts as stalled, given the longest so far.
func stallTimeout(longest time.Duration) time.Duration {
	if longest == 0 {
		return firstStepTimeout
	}
	return max(minStallTimeout, 10*longest)
}

// Segment goes on from a checkpoint for at most the stage's SegmentSteps, and makes the outputs when the last step is
// done.
func (a *Activities) Segment(ctx context.Context, in SegmentInput) (SegmentResult, error) {
	a.unreported.record(in.Attempt, nil)
	res, err := a.segment(ctx, in)
	if err != nil {
		a.unreported.record(in.Attempt, sanitize(classify(err)))
	}
	return res, Wrap(err)
}

func (a *Activities) segment(ctx context.Context, in SegmentInput) (SegmentResult, error) {
	r := &segmentRun{a: a, in: in, workerStop: activity.GetWorkerStopChannel(ctx)}
	work, stop := context.WithCancelCause(storage.Holding(context.WithoutCancel(ctx), in.Attempt, in.Sequence))
	defer stop(nil)
	r.phase.Store("loading")
	r.markAdvanced()
	r.progressAt.Store(r.advancedAt.Load())
	go r.watch(ctx, work, stop)

	// A holder that was frozen in the middle of a write is waited for, with heartbeats.
	if err := a.store.Fence(ctx, in.Attempt, in.Sequence); err != nil {
		return SegmentResult{}, err
	}
	if err := r.restore(work); err != nil {
		return SegmentResult{}, r.stopCause(work, err)
	}
	if err := r.trainSteps(work, ctx); err != nil {
		return SegmentResult{}, r.stopCause(work, err)
	}
	if err := r.removeShards(); err != nil {
		return SegmentResult{}, err
	}
	res, err := r.result(work, ctx)
	if err == nil {
		err = failpoint.At("segment_done")
	}
	return res, err
}

// segmentRun is one segment at work.
type segmentRun struct {
	a          *Activities
	in         SegmentInput
	workerStop <-chan struct{} // closed when the worker has to stop

	job             job
	fits            []trimtab.Metric // what of its data it reads
	step            int
	lastStepAttempt int64 // the attempt that reported the step before step

	pendingReports []storage.StepReport // steps since the last checkpoint was begun
	writer         checkpointWriter
	progressTask   backgroundTask // shows the progress
	checkpointedAt time.Duration  // on the clock: when that was

	// what the write in the background sets; after saver.wait
	latest    trimtab.Digest // the last checkpoint
	previous  trimtab.Digest // the one before it; files of others are removed
	writeTime time.Duration  // to write it

	progressAt atomic.Int64 // nanoseconds on the clock: when the progress was shown last

	phase         atomic.Value // what the heartbeat says
	heartbeatStep atomic.Int64 // step, for the heartbeat
	advancedAt    atomic.Int64 // nanoseconds on the clock of the last progress

	longestStep atomic.Int64 // nanoseconds of the longest step
}

// markAdvanced tells the watchdog that something came about.
func (r *segmentRun) markAdvanced() { r.advancedAt.Store(int64(r.a.clock.Elapsed())) }

// watch ticks apart from the work, so that a slow step is not taken for a dead
// worker, and ends work that makes no progress or lost its attempt.
func (r *segmentRun) watch(ctx, work context.Context, stop context.CancelCauseFunc) {
	tick := time.NewTicker(heartbeatInterval)
	defer tick.Stop()
	for {
		activity.RecordHeartbeat(ctx, map[string]any{"phase": r.phase.Load(), "step": r.heartbeatStep.Load(),
			"checkpoint": r.in.From})
		if limit := stallTimeout(time.Duration(r.longestStep.Load())); r.a.clock.Elapsed()-time.Duration(r.advancedAt.Load()) > limit {
			stop(stalledError(limit))
			r.a.logRun(context.WithoutCancel(ctx), r.in.Run, r.in.Stage.Name, 0,
				"stalled while %v: no step was finished in %s", r.phase.Load(), limit)
		}
		r.touchProgress(work)
		select {
		case <-work.Done():
			return
		case <-tick.C:
		}
	}
}

// touchProgress tells now and then, during a long step, that somebody works at it.
func (r *segmentRun) touchProgress(ctx context.Context) {
	now := int64(r.a.clock.Elapsed())
	if now-r.progressAt.Load() < int64(5*heartbeatInterval) {
		return
	}
	r.progressAt.Store(now)
	ctx, cancel := context.WithTimeout(ctx, heartbeatInterval)
	defer cancel()
	_ = r.a.store.TouchProgress(ctx, r.in.Attempt, r.in.Sequence) // a hint
}

// stopCause prefers the reason why the work was stopped to what the stop looked like.
func (r *segmentRun) stopCause(work context.Context, err error) error {
	if c := context.Cause(work); c != nil && !errors.Is(c, context.Canceled) {
		return c
	}
	return err
}

// restore makes the stage and puts it where the attempt's newest sound checkpoint is.
func (r *segmentRun) restore(ctx context.Context) error {
	all, err := r.a.store.Checkpoints(ctx, r.in.Attempt)
	if err != nil {
		return err
	}
	n := len(all) // the first n have not been tried
	if n > 0 {
		r.job = r.a.cache.takeAt(r.in.Attempt, all[n-1].Digest)
	}
	warm := r.job != nil
	if !warm {
		debug.FreeOSMemory() // what an earlier stage left would stand beside this one's
		if n, err = r.loadNewest(ctx, all); err != nil {
			return err
		}
	}
	if n > 0 {
		last := all[n-1]
		r.step, r.latest, r.lastStepAttempt = last.Step, last.Digest, r.in.Attempt
	}
	if err := r.pruneStates(all, n); err != nil {
		return err
	}
	if steps := r.job.Steps(); r.step > steps {
		return trimtab.NewError(trimtab.Invalid, "step_out_of_range",
			"rerun the stage from the beginning, or with as many steps as it had",
			"the checkpoint is of step %d, the stage has %d", r.step, steps)
	}
	r.heartbeatStep.Store(int64(r.step))
	if r.in.Sequence > 1 && !warm {
		r.a.logRun(ctx, r.in.Run, r.in.Stage.Name, 0, "goes on from step %d", r.step)
	}
	r.fits = trimtab.FitMetrics(r.job.fits())
	if err := r.a.store.StartAttempt(ctx, r.in.Attempt, r.in.Sequence, r.job.Steps(), r.a.build,
		tensor.Implementation(), r.fits...); err != nil {
		return err
	}
	if r.in.Sequence == 1 {
		r.logFits(ctx)
	}
	r.a.onChange(r.in.Run, r.in.Attempt)
	return nil
}

// logFits writes to the run's log what of the stage's data is cut or left out.
func (r *segmentRun) logFits(ctx context.Context) {
	for _, f := range r.job.fits() {
		if !f.Whole() && f.Items != "text" { // documents that go over several rows lose nothing
			r.a.logRun(ctx, r.in.Run, r.in.Stage.Name, 0, "%s", f)
		}
	}
}

// loadNewest makes the stage and loads the newest checkpoint that is whole. It
// returns how many checkpoints there are up to that one; 0 is the beginning.
func (r *segmentRun) loadNewest(ctx context.Context, all []storage.Checkpoint) (n int, err error) {
	if r.job, err = r.a.newJob(ctx, r.in); err != nil {
		return 0, err
	}
	for n := len(all); n > 0; n-- {
		c := all[n-1]
		err := r.load(c)
		if err == nil {
			return n, nil
		}
		if !isDamage(err) {
			return 0, err
		}
		if n > len(all)-keptCheckpoints { // the files of older ones were removed
			if err := r.quarantine(ctx, c, err); err != nil {
				return 0, err
			}
		}
	}
	if len(all) > 0 { // a load that failed leaves anything
		if r.job, err = r.a.newJob(ctx, r.in); err != nil {
			return 0, err
		}
	}
	return 0, r.restoreOrigin(ctx)
}

// keptCheckpoints is how many checkpoints of an attempt keep their files: the last, and one to fall back to.
const keptCheckpoints = 2

// isDamage reports whether an error is about a checkpoint whose file is not what it was.
func isDamage(err error) bool {
	switch trimtab.AsError(err).Type {
	case "artifact_missing", "artifact_corrupt", "checkpoint_mismatch":
		return true
	}
	return false
}

// quarantine reports a damaged checkpoint and keeps its file for inspection; the one before it is used.
func (r *segmentRun) quarantine(ctx context.Context, c storage.Checkpoint, damage error) error {
	path, err := r.a.files.Quarantine(checkpoint.AttemptName(r.in.Attempt), c.Digest)
	if err != nil {
		return err
	}
	where := "its file is gone"
	if path != "" {
		where = "its file is kept as " + filepath.Base(path)
	}
	r.a.logRun(ctx, r.in.Run, r.in.Stage.Name, 0,
		"the checkpoint before step %d is damaged, %s; the one before it is used: %v", c.Step, where, damage)
	return r.a.store.ReportDamage(ctx, r.in.Attempt, r.in.Sequence, c, path == "", trimtab.AsError(damage))
}

// pruneStates removes the files of all but the last checkpoints up to the nth. They
// are named by rows, never by what lies in the folder: a worker that has lost
// the fence meanwhile, and thaws just here, must not take its successor's states.
func (r *segmentRun) pruneStates(all []storage.Checkpoint, n int) error {
	if n > 1 {
		r.previous = all[n-2].Digest
	}
	for _, c := range all[:max(0, n-keptCheckpoints)] {
		if c.Digest == r.latest || c.Digest == r.previous {
			continue
		}
		if err := r.a.files.RemoveState(checkpoint.AttemptName(r.in.Attempt), c.Digest); err != nil {
			return err
		}
	}
	return nil
}

func (r *segmentRun) load(c storage.Checkpoint) error {
	step, err := r.a.files.LoadState(checkpoint.AttemptName(c.Attempt), c.Digest, r.job.State())
	if err == nil && step != c.Step {
		return trimtab.NewError(trimtab.Verification, "checkpoint_mismatch", "rerun the stage from the beginning",
			"checkpoint %s is of step %d, its row says %d", c.Digest.Short(), step, c.Step)
	}
	return err
}

// origin is the earlier attempt's checkpoint that the attempt starts from, if the rerun asked for one.
func (r *segmentRun) origin(ctx context.Context) (c storage.Checkpoint, found bool, err error) {
	row, err := r.a.store.Attempt(ctx, r.in.Attempt)
	if err != nil || row.FromCheckpoint == "" {
		return c, false, err
	}
	c, err = r.a.store.FindCheckpoint(ctx, row.Run, row.Stage, string(row.FromCheckpoint))
	return c, err == nil, err
}

// restoreOrigin starts from there.
func (r *segmentRun) restoreOrigin(ctx context.Context) error {
	c, found, err := r.origin(ctx)
	if err != nil || !found {
		return err
	}
	if err := r.load(c); err != nil {
		return err
	}
	r.step, r.lastStepAttempt = c.Step, c.Attempt
	return nil
}

// trainSteps runs the loop to the segment's end, or to the next step when it has to
// stop; at its end the last checkpoint is written.
func (r *segmentRun) trainSteps(work, ctx context.Context) error {
	total := r.job.Steps()
	if r.step >= total && total > 0 { // the loop refuses a stage without steps
		return nil
	}
	trainer, err := r.withShards(work)
	if err != nil {
		return err
	}
	r.phase.Store("training")
	r.checkpointedAt = r.a.clock.Elapsed()
	started, first := r.checkpointedAt, r.step
	loop := train.Loop{
		Trainer: trainer, From: r.step, Until: min(r.step+r.in.Stage.SegmentSteps, total),
		CheckpointEvery: r.in.Stage.CheckpointSteps, Due: r.checkpointDue,
		Report: func(ctx context.Context, step int, rep trimtab.Report, took time.Duration) error {
			r.pendingReports = append(r.pendingReports,
				storage.StepReport{Step: step, Report: rep, Seconds: took.Seconds()})
			r.heartbeatStep.Store(int64(step + 1))
			r.markAdvanced()
			r.longestStep.Store(max(r.longestStep.Load(), int64(took)))
			if err := r.writer.failed(); err != nil {
				return err
			}
			return r.reportProgress(ctx, step+1, total, first, started, rep)
		},
		Checkpoint: r.checkpoint,
		Stopping:   func() bool { return r.stopping(ctx) },
	}
	next, err := loop.Run(work)
	if next > r.step {
		r.lastStepAttempt = r.in.Attempt
	}
	r.step = next
	r.phase.Store("checkpoint")
	return cmp.Or(r.writer.wait(), r.progressTask.wait(), err) // what failed in the background came first
}

// stopping is asked between steps: the workflow paused or cancelled, or the worker has to end.
func (r *segmentRun) stopping(ctx context.Context) bool {
	select {
	case <-r.workerStop:
		return true
	case <-ctx.Done():
		return true
	default:
		return false
	}
}

// checkpointInterval is how long a stage computes without a checkpoint, unless its
// plan says otherwise; maxWriteShare bounds the share of the time that is spent
// on writing them, where they are large.
const (
	checkpointInterval = 10 * time.Second
	maxWriteShare      = 20
)

// checkpointDue says after a step whether it is time for a checkpoint.
func (r *segmentRun) checkpointDue() bool {
	after := cmp.Or(time.Duration(r.in.Stage.CheckpointSeconds)*time.Second, checkpointInterval)
	return r.a.clock.Elapsed()-r.checkpointedAt >= after && r.writer.idle() &&
		r.a.clock.Elapsed()-r.checkpointedAt >= maxWriteShare*r.writeTime
}

// checkpoint copies the state, and makes the copy durable while the training
// goes on: the file first, then its row with all reports since the last one.
func (r *segmentRun) checkpoint(ctx context.Context, next int, state []tensor.NamedArray) error {
	reports := r.pendingReports
	r.pendingReports, r.checkpointedAt = nil, r.a.clock.Elapsed()
	return r.writer.start(state, func(state []tensor.NamedArray) error {
		started := r.a.clock.Elapsed()
		err := r.writeCheckpoint(ctx, next, state, reports)
		r.writeTime = r.a.clock.Elapsed() - started
		r.markAdvanced()
		return err
	})
}

// writeCheckpoint is the part of a checkpoint that is beside the training.
func (r *segmentRun) writeCheckpoint(ctx context.Context, next int, state []tensor.NamedArray,
	reports []storage.StepReport) error {
	key := checkpoint.AttemptName(r.in.Attempt)
	digest, err := r.a.files.SaveState(key, next, state)
	if err != nil {
		return err
	}
	c := storage.Checkpoint{Attempt: r.in.Attempt, Step: next, Digest: digest}
	if err := r.commitWithRetry(ctx, reports, &c); err != nil {
		return err
	}
	superseded := r.previous
	r.previous, r.latest = r.latest, digest
	if superseded == "" || superseded == digest || superseded == r.previous {
		return nil
	}
	return r.a.files.RemoveState(key, superseded)
}

// commitWithRetry waits for a database that is away, so that nothing that was computed
// is lost by it; the training waits too, at its next checkpoint. A database whose
// disk is full can take long to mend: that is told at once.
func (r *segmentRun) commitWithRetry(ctx context.Context, reports []storage.StepReport, c *storage.Checkpoint) error {
	for n, began := 0, r.a.clock.Elapsed(); ; n++ {
		err := r.a.store.Commit(ctx, r.in.Attempt, r.in.Sequence, reports, c)
		if err == nil {
			return nil
		}
		if e := trimtab.AsError(err); e.Class != trimtab.Unavailable || e.Type == DiskFull ||
			r.a.clock.Elapsed()-began > databaseTimeout {
			return err
		}
		r.a.log.Warn("the checkpoint waits for the database", "run", r.in.Run, "stage", r.in.Stage.Name, "step", c.Step,
			"error", err)
		select {
		case <-ctx.Done():
			return err
		case <-time.After(min(5*time.Second, 100*time.Millisecond<<min(n, 6))):
		}
	}
}

// databaseTimeout is how long a checkpoint waits for the database before the
// segment gives up, and is tried again from the last one.
const databaseTimeout = 5 * time.Minute

// reportProgress shows a line at most once a second, beside the training. It is a
// hint, but one that only the holder of the attempt may give; nothing stops
// when it cannot be given.
func (r *segmentRun) reportProgress(ctx context.Context, step, total, first int, started time.Duration,
	rep trimtab.Report) error {
	now := r.a.clock.Elapsed()
	if now-time.Duration(r.progressAt.Load()) < heartbeatInterval/2 && step < total {
		return nil
	}
	if r.progressTask.busy() && step < total {
		return nil
	}
	r.progressAt.Store(int64(now))
	p := storage.Progress{Step: step, Steps: total, Phase: r.in.Stage.Kind, Metrics: slices.Concat(rep.Metrics, r.fits)}
	if s := (now - started).Seconds(); s > 0 {
		p.TokensPerSecond = float64(r.job.tokensPerStep()) * float64(step-first) / s
	}
	return r.progressTask.start(func() error {
		err := r.a.store.SetProgress(ctx, r.in.Attempt, r.in.Sequence, p)
		if err != nil && trimtab.AsError(err).Class == trimtab.Unavailable {
			return nil
		}
		return err
	})
}

// result makes the outputs if the last step is done.
func (r *segmentRun) result(work, ctx context.Context) (SegmentResult, error) {
	res := SegmentResult{Checkpoint: r.latest, Step: r.step, Steps: r.job.Steps()}
	select {
	case <-r.workerStop:
		return res, trimtab.NewError(trimtab.Unavailable, "worker_stopping", "",
			"the worker was asked to stop at step %d; the stage goes on elsewhere", r.step)
	default:
	}
	if r.step < res.Steps {
		if ctx.Err() == nil { // else it was paused or cancelled, and nobody knows for how long
			r.a.cache.put(r.in.Attempt, r.latest, r.job)
		}
		return res, nil
	}
	r.phase.Store("outputs")
	outputs, metrics, err := r.job.finish(work)
	if err != nil {
		return res, r.stopCause(work, err)
	}
	last, err := r.a.store.StepMetrics(work, r.lastStepAttempt, res.Steps-1)
	if err != nil {
		return res, r.stopCause(work, err)
	}
	res.Done, res.Outputs, res.Metrics = true, outputs, slices.Concat(last, metrics, r.fits)
	return res, nil
}
