package activities

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/trimtab/trimtab"
	"github.com/trimtab/trimtab/checkpoint"
	"github.com/trimtab/trimtab/failpoint"
	"github.com/trimtab/trimtab/recipes"
	"github.com/trimtab/trimtab/redact"
	"github.com/trimtab/trimtab/storage"
	"github.com/trimtab/trimtab/tensor"
)

// Activities holds what the activities need; its exported methods are the
// activities, registered with Temporal under their names. Small activities run
// concurrently; segments and rollouts run one at a time (see TrainQueue).
type Activities struct {
	log       *slog.Logger
	store     *storage.Store
	files     *checkpoint.Store
	artifacts artifactStore // inputs and outputs of stages
	pool      *tensor.Pool
	build     string // SHA-256 of the executable, for the record

	clock    Clock
	memory   func() (free int64, known bool) // bytes that the process can still allocate
	onChange func(run string, attempt int64) // see WithChangeHook
	onEnd    func(context.Context)           // see WithEndHook

	cache      stageCache       // the stage of the last segment
	unreported unreportedErrors // of segments that ended here
}

// Option replaces a part of Activities, or adds a hook.
type Option func(*Activities)

// WithClock replaces the machine's clock, for tests.
func WithClock(c Clock) Option { return func(a *Activities) { a.clock = c } }

// WithMemory replaces the measurement of free memory, bytes, for tests.
func WithMemory(free func() (free int64, known bool)) Option {
	return func(a *Activities) { a.memory = free }
}

// WithEndHook has f called whenever a stage or a run has ended.
func WithEndHook(f func(context.Context)) Option { return func(a *Activities) { a.onEnd = f } }

// WithChangeHook has f called when an attempt, by its id, or the run itself (0)
// may have started or ended. f reads from the record what has changed. It must
// not block: activities wait for it.
func WithChangeHook(f func(run string, attempt int64)) Option {
	return func(a *Activities) { a.onChange = f }
}

// New returns the activities of one worker process. The build id is recorded
// with every attempt and is part of no cache key.
func New(
	lg *slog.Logger, store *storage.Store, files *checkpoint.Store, pool *tensor.Pool, build string, options ...Option,
) *Activities {
	a := &Activities{
		log:       lg,
		store:     store,
		files:     files,
		artifacts: newRecordStore(store, files),
		pool:      pool,
		build:     build,
		clock:     monotonic{time.Now()},
		memory:    freeMemory,
		onChange:  func(string, int64) {},
		onEnd:     func(context.Context) {},
	}
	for _, o := range options {
		o(a)
	}
	return a
}

// Begin creates the row of an attempt. With in.Reuse it looks for an earlier
// attempt with the same cache key, of this run or another, and takes over its
// outputs if they are still there. Calling it again for the same attempt, as
// Temporal may, returns the row that exists.
func (a *Activities) Begin(ctx context.Context, in BeginInput) (BeginResult, error) {
	defer startHeartbeat(ctx)()
	res, err := a.begin(ctx, in)
	return res, Wrap(err)
}

// begin is Begin without the conversion of errors.
func (a *Activities) begin(ctx context.Context, in BeginInput) (BeginResult, error) {
	key, err := a.cacheKey(ctx, in)
	if err != nil {
		return BeginResult{}, err
	}
	row := storage.Attempt{
		Run:            in.Run,
		Stage:          in.Stage.Name,
		Kind:           in.Stage.Kind,
		Number:         in.Number,
		Status:         trimtab.AttemptQueued,
		Config:         in.Stage.Config,
		CacheKey:       key,
		Inputs:         in.Inputs,
		FromCheckpoint: in.From,
		Reason:         in.Reason,
		Actor:          in.Actor,
		BuildID:        a.build,
	}
	if in.Reuse {
		// Two runs that start at the same time may both find nothing and both compute: that
		// costs time, and gives the same bytes.
		old, ok, err := a.store.Reusable(ctx, key)
		if err != nil {
			return BeginResult{}, err
		}
		if ok && a.outputsPresent(ctx, in, old) {
			row.Status = trimtab.AttemptReused
			row.ReusedFrom = old.ID
			row.Outputs = old.Outputs
			row.Metrics = old.Metrics
			row.Steps = old.Steps
			row.Step = old.Step
		}
	}
	row, err = a.store.CreateAttempt(ctx, row)
	if err != nil {
		return BeginResult{}, err
	}
	a.onChange(in.Run, row.ID)
	if row.Status != trimtab.AttemptReused {
		a.logRun(ctx, in.Run, in.Stage.Name, in.Number, "attempt %d starts", in.Number)
		return BeginResult{Attempt: row.ID}, nil
	}
	// Of the row as it is stored: an earlier try of this activity may have chosen another attempt.
	producer, err := a.store.Attempt(ctx, row.ReusedFrom)
	if err != nil {
		return BeginResult{}, err
	}
	a.logRun(ctx, in.Run, in.Stage.Name, in.Number, "unchanged: the output of attempt %d of run %s is reused",
		producer.Number, producer.Run)
	return BeginResult{
		Attempt: row.ID,
		Reused:  true,
		Outputs: row.Outputs,
		Metrics: row.Metrics,
		Missed:  checkGates(in.Stage.Gates, row.Metrics),
	}, nil
}

// cacheKey returns the attempt's cache key. An attempt that continues from a
// checkpoint has the key of one from the beginning if the checkpoint's attempt
// had that key too, because it then ends in the same bytes; otherwise the
// checkpoint is part of the key.
func (a *Activities) cacheKey(ctx context.Context, in BeginInput) (trimtab.Digest, error) {
	key, err := recipes.CacheKey(in.Stage, in.Inputs, in.Seed, in.Numerics)
	if err != nil || in.From == "" {
		return key, err
	}
	c, err := a.store.FindCheckpoint(ctx, in.Run, in.Stage.Name, string(in.From))
	if err != nil {
		return "", err
	}
	producer, err := a.store.Attempt(ctx, c.Attempt)
	if err != nil || producer.CacheKey == key {
		return key, err
	}
	return recipes.ContinuedKey(key, in.From)
}

// outputsPresent reports whether the models that an attempt made are in this
// worker's store, undamaged. They may not be: the database can be used with
// another folder, and a folder can lose a file.
func (a *Activities) outputsPresent(ctx context.Context, in BeginInput, old storage.Attempt) bool {
	for _, out := range old.Outputs {
		if out.Name != "model" {
			continue // rankings and evaluations are in the database, with the row
		}
		if _, err := a.files.Files(out.Digest); err != nil {
			a.logRun(ctx, in.Run, in.Stage.Name, in.Number, "the output of attempt %d of run %s cannot be reused: %v",
				old.Number, old.Run, err)
			return false
		}
	}
	return true
}

// Complete closes an attempt with its outputs and metrics, under the fencing
// token of its last segment, and returns the gates that the metrics miss.
func (a *Activities) Complete(ctx context.Context, in CompleteInput) (CompleteResult, error) {
	defer startHeartbeat(ctx)()
	if err := a.store.Lease(in.Attempt, in.Sequence).Complete(ctx, in.Outputs, in.Metrics); err != nil {
		return CompleteResult{}, Wrap(err)
	}
	a.onEnd(ctx)
	a.onChange(in.Run, in.Attempt)
	// A crash here repeats the activity: completing an attempt twice is one completion.
	if err := failpoint.At("stage_completed"); err != nil {
		return CompleteResult{}, Wrap(err)
	}
	return CompleteResult{Missed: checkGates(in.Gates, in.Metrics)}, nil
}

// protectedStatuses are statuses of a run that an attempt must not overwrite:
// those that a person gave it, and those of its end.
var protectedStatuses = []trimtab.RunStatus{trimtab.RunPaused, trimtab.RunBlocked, trimtab.RunCompleted,
	trimtab.RunCancelled, trimtab.RunFailed}

// SetAttemptStatus writes the status of an attempt, and of its run if
// in.RunStatus is not empty, and returns how far the attempt's checkpoints are.
// If the workflow believes that the worker was lost, and this worker knows of
// another error with which the segment ended, it writes that error and returns
// its type.
func (a *Activities) SetAttemptStatus(ctx context.Context, in AttemptStatusInput) (AttemptStatusResult, error) {
	defer startHeartbeat(ctx)()
	in.Error = withClass(in.Error, in.Class)
	cause := "" // the type of a better-known error
	if better := a.unreported.rootCause(in.Attempt, in.Error); better != in.Error {
		in.Error, cause = better, better.Type
	}
	if err := a.store.SetAttemptStatus(ctx, in.Attempt, in.Status, in.Error, in.Actor); err != nil {
		return AttemptStatusResult{}, Wrap(err)
	}
	a.onChange(in.Run, in.Attempt)
	if in.Error != nil {
		a.logRun(ctx, in.Run, in.Stage, in.Number, "%s: %s", in.Status, in.Error.Error())
	}
	if in.RunStatus != "" {
		next := ""
		if in.Error != nil {
			next = strings.TrimSuffix("interrupted, resumes by itself: "+in.Error.Error(), ": ")
		}
		if err := a.store.SetRunStatus(ctx, in.Run, in.RunStatus, next, in.Error, in.Actor,
			protectedStatuses...); err != nil {
			return AttemptStatusResult{}, Wrap(err)
		}
	}
	c, _, err := a.store.LatestCheckpoint(ctx, in.Attempt)
	return AttemptStatusResult{Checkpoint: c.Digest, Step: c.Step, Cause: cause}, Wrap(err)
}

// SetRunStatus writes the status of a run, with what happens next and the error
// behind it, and adds a line to the run's log. Watchers of the run are notified
// by the change hook; the end hook follows if the run is over.
func (a *Activities) SetRunStatus(ctx context.Context, in RunStatusInput) error {
	defer startHeartbeat(ctx)()
	in.Error = withClass(in.Error, in.Class)
	err := a.store.SetRunStatus(ctx, in.Run, in.Status, in.Next, in.Error, in.Actor)
	if err == nil {
		a.onChange(in.Run, 0)
		text := string(in.Status)
		if in.Error != nil {
			text += ": " + in.Error.Error()
		}
		a.logRun(ctx, in.Run, "", 0, "run %s", text)
		if !in.Status.Open() {
			a.onEnd(ctx)
		}
	}
	return Wrap(err)
}

// Replan records a rerun: the new plan, and the stages that it makes stale. The
// same transaction sets the run's status, so that nobody who decides afterwards
// sees the old block.
func (a *Activities) Replan(ctx context.Context, in ReplanInput) error {
	defer startHeartbeat(ctx)()
	// An empty status is of a history in which a rerun always showed the run as running.
	r := storage.Replan{Plan: in.Plan, Stage: in.Stage, Overrides: in.Overrides, Stale: in.Stale,
		Status: cmp.Or(in.Status, trimtab.RunRunning), Next: in.Next, Actor: in.Actor, Reason: in.Reason}
	if in.Taking != nil {
		r.Taken = storage.Decision{Request: in.Taking.Request, Number: in.Taking.Request.Attempt,
			Update: in.Taking.Update}
	}
	return Wrap(a.store.Replan(ctx, r))
}

// Requested fails unless a person has asked in the record for what an Update
// wants, and no other Update has claimed that request. The record checks database
// roles, which Temporal does not know: without this, access to Temporal would be
// enough to decide.
func (a *Activities) Requested(ctx context.Context, in TakenRequest) error {
	defer startHeartbeat(ctx)()
	return Wrap(a.store.CheckRequest(ctx, in.Request, in.Update))
}

// Decide records a person's decision, and the status that the run has after it.
// An empty status leaves the run's as it is. Histories of older builds have no
// request; the decision then stands in its place.
func (a *Activities) Decide(ctx context.Context, in DecisionInput) error {
	defer startHeartbeat(ctx)()
	d := storage.Decision{Number: in.Number}
	if in.Taking == nil { // of a history without requests: the decision stands for one
		d.Request = Request{Run: in.Run, Stage: in.Stage, Decision: in.Decision, Reason: in.Reason, Actor: in.Actor}
	} else {
		d.Request, d.Update = in.Taking.Request, in.Taking.Update
	}
	if err := a.store.RecordDecision(ctx, d); err != nil {
		return Wrap(err)
	}
	a.logRun(ctx, in.Run, in.Stage, in.Number, "%s by %s: %s", in.Decision, in.Actor, in.Reason)
	if in.Status == "" {
		return nil
	}
	return Wrap(a.store.SetRunStatus(ctx, in.Run, in.Status, in.Next, nil, in.Actor))
}

// logRun writes a line to the run's log in the record and to the worker's own. A
// failure to write it stops nothing.
func (a *Activities) logRun(ctx context.Context, run, stage string, attempt int, format string, args ...any) {
	line := storage.LogLine{Level: "info", Stage: stage, Attempt: attempt,
		Message: redact.Text(fmt.Sprintf(format, args...))}
	if err := a.store.Log(ctx, run, line); err != nil {
		a.log.Warn("cannot write to the run's log", "run", run, "error", err)
	}
	a.log.Info(line.Message, "run", run, "stage", stage, "attempt", attempt)
}
