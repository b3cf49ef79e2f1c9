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

// Limits of the watchdog.
const (
	minStallTimeout  = 15 * time.Minute // without a step, or ten times the longest step where that is more
	firstStepTimeout = 2 * time.Hour    // for loading the stage and its first step
)

// stalledError is the cause with which the watchdog cancels a context.
func stalledError(patience time.Duration) error {
	return trimtab.NewError(trimtab.Unavailable, "stage_stalled", "the segment is tried again from its last checkpoint",
		"no step was finished in %s", patience)
}

// stallTimeout returns how long a step may take before the stage counts as
// stalled, given the longest step so far (0 if none was finished).
func stallTimeout(longest time.Duration) time.Duration {
	if longest == 0 {
		return firstStepTimeout
	}
	return max(minStallTimeout, 10*longest)
}

// Segment continues a stage from its newest checkpoint for at most SegmentSteps
// steps, and makes the outputs when the last step is done. A pause, a
// cancellation or the end of the worker process stops it at the next step, with a
// checkpoint. Only the end of the worker is an error then, so that the workflow
// schedules the rest elsewhere.
func (a *Activities) Segment(ctx context.Context, in SegmentInput) (SegmentResult, error) {
	a.unreported.record(in.Attempt, nil)
	res, err := a.segment(ctx, in)
	if err != nil {
		a.unreported.record(in.Attempt, sanitize(classify(err)))
	}
	return res, Wrap(err)
}

// segment is Segment without the conversion of errors. The context work is not
// cancelled with the activity, because a step and the checkpoint after it have to
// be finished; the watchdog cancels it.
func (a *Activities) segment(ctx context.Context, in SegmentInput) (SegmentResult, error) {
	r := &segmentRun{a: a, in: in, workerStop: activity.GetWorkerStopChannel(ctx)}
	work, stop := context.WithCancelCause(context.WithoutCancel(ctx))
	defer stop(nil) // ends the watchdog
	r.phase.Store("loading")
	r.markAdvanced()
	r.progressAt.Store(r.advancedAt.Load())
	go r.watch(ctx, work, stop)

	// The lease may have to wait for an earlier worker that was suspended in the middle of a
	// write; the watchdog sends heartbeats meanwhile.
	if err := r.lease().Acquire(ctx); err != nil {
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

// segmentRun is one segment, or one shard of rollouts, at work. The training
// goroutine owns the fields, except for two groups that are marked below.
type segmentRun struct {
	a          *Activities
	in         SegmentInput
	workerStop <-chan struct{} // closed when the worker process is ending

	job             job
	fits            []trimtab.Metric // how much of its data the stage reads
	step            int
	lastStepAttempt int64 // the attempt that recorded the step before step: this one, or the one that it continues

	pendingReports []storage.StepReport // of the steps since the last checkpoint was started
	writer         checkpointWriter
	progressTask   backgroundTask // writes the shown progress
	checkpointedAt time.Duration  // on the clock: when the last checkpoint was started

	// Set by the background write; read after writer.wait.

	latest    trimtab.Digest // the newest checkpoint
	previous  trimtab.Digest // the one before it; the files of older ones are removed
	writeTime time.Duration  // that the last write took

	// Shared with the watchdog. Times are nanoseconds on the clock.

	phase         atomic.Value // a string, for the heartbeat
	heartbeatStep atomic.Int64 // for the heartbeat
	progressAt    atomic.Int64 // when the shown progress was written last
	advancedAt    atomic.Int64 // when the segment made progress last
	longestStep   atomic.Int64 // duration of the longest step
}

// lease is the segment's claim on its attempt. Every write of a segment goes
// through it: a worker that was taken for dead, and is not, writes nothing. The
// error is then Conflict "fenced", and ends the segment.
func (r *segmentRun) lease() storage.Lease { return r.a.store.Lease(r.in.Attempt, r.in.Sequence) }

// markAdvanced restarts the watchdog's timer: the segment has made progress.
func (r *segmentRun) markAdvanced() { r.advancedAt.Store(int64(r.a.clock.Elapsed())) }

// watch is the watchdog. It runs concurrently with the work, so that a slow step is not
// taken for a dead worker: it sends heartbeats, and cancels work that makes no
// progress. It returns when work is done or cancelled.
func (r *segmentRun) watch(ctx, work context.Context, stop context.CancelCauseFunc) {
	tick := time.NewTicker(heartbeatInterval)
	defer tick.Stop()
	for {
		activity.RecordHeartbeat(ctx, map[string]any{"phase": r.phase.Load(), "step": r.heartbeatStep.Load(),
			"checkpoint": r.in.From})
		idle := r.a.clock.Elapsed() - time.Duration(r.advancedAt.Load())
		if limit := stallTimeout(time.Duration(r.longestStep.Load())); idle > limit {
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

// touchProgress refreshes the time of the shown progress during a long step, so
// that people see that the worker is alive. It waits for the database at most one
// heartbeat, since heartbeats come from the same goroutine.
func (r *segmentRun) touchProgress(ctx context.Context) {
	now := int64(r.a.clock.Elapsed())
	if now-r.progressAt.Load() < int64(5*heartbeatInterval) {
		return
	}
	r.progressAt.Store(now)
	ctx, cancel := context.WithTimeout(ctx, heartbeatInterval)
	defer cancel()
	_ = r.lease().TouchProgress(ctx) // people can do without it; the next one may succeed
}

// stopCause returns the reason for which work was cancelled, if it was, in place
// of err, which may only say that a context was cancelled.
func (r *segmentRun) stopCause(work context.Context, err error) error {
	if c := context.Cause(work); c != nil && !errors.Is(c, context.Canceled) {
		return c
	}
	return err
}

// restore builds the stage, or takes it from the cache, and puts it at the
// newest undamaged checkpoint of the attempt. Then it records the attempt as
// running.
func (r *segmentRun) restore(ctx context.Context) error {
	all, err := r.a.store.Checkpoints(ctx, r.in.Attempt)
	if err != nil {
		return err
	}
	n := len(all) // checkpoints up to the one that is loaded
	// The cached stage is used only if its state is exactly the newest checkpoint:
	// another worker may have continued the attempt since.
	if n > 0 {
		r.job = r.a.cache.takeAt(r.in.Attempt, all[n-1].Digest)
	}
	cached := r.job != nil
	if !cached {
		debug.FreeOSMemory() // what an earlier stage left must not add to this one's memory
		if n, err = r.loadNewest(ctx, all); err != nil {
			return err
		}
	}
	if n > 0 {
		// The record decides, not the input: the workflow may not have heard of the newest one.
		last := all[n-1]
		r.step, r.latest, r.lastStepAttempt = last.Step, last.Digest, r.in.Attempt
	}
	if err := r.pruneStates(all, n); err != nil {
		return err
	}
	// A rerun with fewer steps may continue from a checkpoint that is beyond its end.
	if steps := r.job.Steps(); r.step > steps {
		return trimtab.NewError(trimtab.Invalid, "step_out_of_range",
			"rerun the stage from the beginning, or with as many steps as it had",
			"the checkpoint is of step %d, the stage has %d", r.step, steps)
	}
	r.heartbeatStep.Store(int64(r.step))
	if r.in.Sequence > 1 && !cached {
		r.a.logRun(ctx, r.in.Run, r.in.Stage.Name, 0, "resumes from step %d", r.step)
	}
	r.fits = trimtab.FitMetrics(r.job.fits())
	err = r.lease().Start(ctx, r.job.Steps(), r.a.build, tensor.Implementation(), r.fits...)
	if err != nil {
		return err
	}
	if r.in.Sequence == 1 { // once an attempt
		r.logFits(ctx)
	}
	r.a.onChange(r.in.Run, r.in.Attempt)
	return nil
}

// logFits writes to the run's log how much of the stage's data is cut or left out.
func (r *segmentRun) logFits(ctx context.Context) {
	for _, f := range r.job.fits() {
		if !f.Whole() && f.Items != "text" { // a document that is split over rows loses nothing
			r.a.logRun(ctx, r.in.Run, r.in.Stage.Name, 0, "%s", f)
		}
	}
}

// loadNewest builds the stage and loads the newest checkpoint that is undamaged.
// It returns the number of checkpoints up to that one; 0 is the beginning of the
// attempt. Damaged checkpoints are quarantined.
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
	if len(all) > 0 { // a failed load leaves the stage in an undefined state
		if r.job, err = r.a.newJob(ctx, r.in); err != nil {
			return 0, err
		}
	}
	return 0, r.restoreOrigin(ctx)
}

// keptCheckpoints is how many checkpoints of an attempt keep their files: the
// newest, and one to fall back to.
const keptCheckpoints = 2

// isDamage reports whether an error says that a checkpoint's file is missing or damaged.
func isDamage(err error) bool {
	switch trimtab.AsError(err).Type {
	case "artifact_missing", "artifact_corrupt", "checkpoint_mismatch":
		return true
	}
	return false
}

// quarantine reports a damaged checkpoint and keeps its file for inspection. The
// stage falls back to the checkpoint before it.
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
	return r.lease().ReportDamage(ctx, c, path == "", trimtab.AsError(damage))
}

// pruneStates removes the files of all checkpoints up to the nth but the newest
// two. Which files those are comes from rows, never from a listing of the folder:
// a worker that was suspended and has lost its lease meanwhile must not remove
// its successor's states.
func (r *segmentRun) pruneStates(all []storage.Checkpoint, n int) error {
	if n > 1 {
		r.previous = all[n-2].Digest
	}
	for _, c := range all[:max(0, n-keptCheckpoints)] {
		if c.Digest == r.latest || c.Digest == r.previous { // equal states share a file
			continue
		}
		if err := r.a.files.RemoveState(checkpoint.AttemptName(r.in.Attempt), c.Digest); err != nil {
			return err
		}
	}
	return nil
}

// load loads a checkpoint into the stage. The step in the file has to be that of
// the row: a file of another step under the same attempt is damage too. Error:
// checkpoint_mismatch, and those of LoadState.
func (r *segmentRun) load(c storage.Checkpoint) error {
	step, err := r.a.files.LoadState(checkpoint.AttemptName(c.Attempt), c.Digest, r.job.State())
	if err == nil && step != c.Step {
		return trimtab.NewError(trimtab.Verification, "checkpoint_mismatch", "rerun the stage from the beginning",
			"checkpoint %s is of step %d, its row says %d", c.Digest.Short(), step, c.Step)
	}
	return err
}

// origin returns the checkpoint of an earlier attempt from which the attempt
// continues, if the rerun named one.
func (r *segmentRun) origin(ctx context.Context) (c storage.Checkpoint, found bool, err error) {
	row, err := r.a.store.Attempt(ctx, r.in.Attempt)
	if err != nil || row.FromCheckpoint == "" {
		return c, false, err
	}
	c, err = r.a.store.FindCheckpoint(ctx, row.Run, row.Stage, string(row.FromCheckpoint))
	return c, err == nil, err
}

// restoreOrigin loads the origin, if there is one.
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

// trainSteps runs the training loop to the end of the segment, or to the next
// step when it has to stop. It ends with a checkpoint, and waits for its write.
func (r *segmentRun) trainSteps(work, ctx context.Context) error {
	total := r.job.Steps()
	if r.step >= total && total > 0 { // all steps are done; the loop itself refuses a stage without steps
		return nil
	}
	// Rollouts of other workers replace those of the first step alone.
	trainer, err := r.withShards(work)
	if err != nil {
		return err
	}
	r.phase.Store("training")
	r.checkpointedAt = r.a.clock.Elapsed()
	started, first := r.checkpointedAt, r.step // for the shown speed
	loop := train.Loop{
		Trainer:         trainer,
		From:            r.step,
		Until:           min(r.step+r.in.Stage.SegmentSteps, total),
		CheckpointEvery: r.in.Stage.CheckpointSteps,
		Due:             r.checkpointDue,
		Report: func(ctx context.Context, step int, rep trimtab.Report, took time.Duration) error {
			r.pendingReports = append(r.pendingReports,
				storage.StepReport{Step: step, Report: rep, Seconds: took.Seconds()})
			r.heartbeatStep.Store(int64(step + 1))
			r.markAdvanced()
			r.longestStep.Store(max(r.longestStep.Load(), int64(took)))
			if err := r.writer.failed(); err != nil { // steps that cannot be stored are not worth computing
				return err
			}
			return r.reportProgress(ctx, step+1, total, first, started, rep)
		},
		Checkpoint: r.checkpoint,
		Stopping:   func() bool { return r.stopping(ctx) },
	}
	// work and not ctx: a step that has begun is finished, and so is its checkpoint.
	next, err := loop.Run(work)
	if next > r.step {
		r.lastStepAttempt = r.in.Attempt
	}
	r.step = next
	r.phase.Store("checkpoint")
	// A background error comes first: where there are two, it is the cause of the other.
	return cmp.Or(r.writer.wait(), r.progressTask.wait(), err)
}

// stopping reports, between steps, whether the segment has to stop: because the
// workflow was paused or cancelled, or because the worker process is ending.
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

// checkpointInterval is how long a stage computes without a checkpoint, unless
// its plan says otherwise: the most work that a crash can cost.
const checkpointInterval = 10 * time.Second

// writeTimeFactor bounds the cost of large checkpoints: the interval is at least
// this many times what the last write took, so that writing takes at most 5 % of
// the time.
const writeTimeFactor = 20

// checkpointDue reports, after a step, whether it is time for a checkpoint.
func (r *segmentRun) checkpointDue() bool {
	interval := cmp.Or(time.Duration(r.in.Stage.CheckpointSeconds)*time.Second, checkpointInterval)
	elapsed := r.a.clock.Elapsed() - r.checkpointedAt
	// writeTime belongs to the background write until that is idle.
	return elapsed >= interval && r.writer.idle() && elapsed >= writeTimeFactor*r.writeTime
}

// checkpoint copies the state and writes the copy in the background, while
// training continues. next is the step from which it continues. The training loop
// calls it at the end of a segment, too.
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

// writeCheckpoint runs in the background. It stores the file before the row that
// references it, commits the row in one transaction with all reports since the
// checkpoint before, and removes the file of the checkpoint before the last.
func (r *segmentRun) writeCheckpoint(
	ctx context.Context, next int, state []tensor.NamedArray, reports []storage.StepReport,
) error {
	key := checkpoint.AttemptName(r.in.Attempt)
	digest, err := r.a.files.SaveState(key, next, state)
	if err != nil {
		return err
	}
	c := storage.Checkpoint{Attempt: r.in.Attempt, Step: next, Digest: digest}
	if err := r.commitWithRetry(ctx, reports, &c); err != nil {
		return err
	}
	// The row of a removed file stays: its digest is part of the record.
	superseded := r.previous
	r.previous, r.latest = r.latest, digest
	if superseded == "" || superseded == digest || superseded == r.previous { // equal states share a file
		return nil
	}
	return r.a.files.RemoveState(key, superseded)
}

// commitWithRetry commits a checkpoint and waits while the database is
// unavailable, so that the computed steps are not lost; training waits too, when
// its next checkpoint is due. A full disk of the database can last long, so that
// error is returned at once, for people to see.
func (r *segmentRun) commitWithRetry(ctx context.Context, reports []storage.StepReport, c *storage.Checkpoint) error {
	for n, began := 0, r.a.clock.Elapsed(); ; n++ {
		err := r.lease().Commit(ctx, reports, c)
		if err == nil {
			return nil
		}
		e := trimtab.AsError(err)
		if e.Class != trimtab.Unavailable || e.Type == DiskFull || r.a.clock.Elapsed()-began > databaseTimeout {
			return err
		}
		r.a.log.Warn("the checkpoint waits for the database",
			"run", r.in.Run, "stage", r.in.Stage.Name, "step", c.Step, "error", err)
		// 100 ms, doubled each time, at most 5 s.
		select {
		case <-ctx.Done():
			return err
		case <-time.After(min(5*time.Second, 100*time.Millisecond<<min(n, 6))):
		}
	}
}

// databaseTimeout is how long a checkpoint waits for the database. After it, the
// segment fails and is tried again from the last checkpoint.
const databaseTimeout = 5 * time.Minute

// reportProgress writes the shown progress in the background, at most once a
// second. A failure to write it stops nothing, unless it says that the lease on
// the attempt is lost.
func (r *segmentRun) reportProgress(
	ctx context.Context, step, total, first int, started time.Duration, rep trimtab.Report,
) error {
	now := r.a.clock.Elapsed()
	if now-time.Duration(r.progressAt.Load()) < heartbeatInterval/2 && step < total {
		return nil
	}
	if r.progressTask.busy() && step < total { // a slow database skips reports; the last one is always written
		return nil
	}
	r.progressAt.Store(int64(now))
	// The metrics of a step are shown before its checkpoint is recorded. If the worker
	// ends first, the step is taken again, and gives the same ones.
	p := storage.Progress{Step: step, Steps: total, Phase: r.in.Stage.Kind, Metrics: slices.Concat(rep.Metrics, r.fits)}
	if s := (now - started).Seconds(); s > 0 {
		p.TokensPerSecond = float64(r.job.tokensPerStep()) * float64(step-first) / s
	}
	return r.progressTask.start(func() error {
		err := r.lease().SetProgress(ctx, p)
		if err != nil && trimtab.AsError(err).Class == trimtab.Unavailable {
			return nil
		}
		return err
	})
}

// result makes the outputs if the last step is done, and otherwise keeps the
// stage in the cache for the next segment.
func (r *segmentRun) result(work, ctx context.Context) (SegmentResult, error) {
	res := SegmentResult{Checkpoint: r.latest, Step: r.step, Steps: r.job.Steps()}
	select {
	case <-r.workerStop:
		return res, trimtab.NewError(trimtab.Unavailable, "worker_stopping", "",
			"the worker was asked to stop at step %d; another worker continues", r.step)
	default:
	}
	if r.step < res.Steps {
		if ctx.Err() == nil { // a stage that is paused or cancelled should not hold memory
			r.a.cache.put(r.in.Attempt, r.latest, r.job)
		}
		return res, nil
	}
	r.phase.Store("outputs")
	outputs, metrics, err := r.job.finish(work, r.in)
	if err != nil {
		return res, r.stopCause(work, err)
	}
	// The metrics of the last step count for gates too. Another attempt may have taken
	// it, or another worker, so they come from the record.
	last, err := r.a.store.StepMetrics(work, r.lastStepAttempt, res.Steps-1)
	if err != nil {
		return res, r.stopCause(work, err)
	}
	res.Done = true
	res.Outputs = outputs
	res.Metrics = slices.Concat(last, metrics, r.fits)
	return res, nil
}
