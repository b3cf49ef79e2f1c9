// Package activities is what workflows call: it joins the stages' arithmetic
// with files, Postgres and the clock.
//
// A segment loads what its digests name, restores the newest checkpoint of its
// attempt, and lets train.Loop step from there. Every write of a segment bears
// its fencing token, so that a worker that was taken for dead cannot write
// after its successor. Truth is in Postgres: what Temporal remembers of a
// checkpoint is a hint.
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
	"go.temporal.io/sdk/activity"
)

// Activities holds what the activities need; its methods are the activities.
type Activities struct {
	log       *slog.Logger
	store     *storage.Store
	files     *checkpoint.Store
	artifacts artifactStore
	pool      *tensor.Pool
	build     string // SHA-256 of the executable, for the record

	clock    Clock
	memory   func() (free int64, known bool) // bytes
	onChange func(run string, attempt int64) // that an attempt, or the run itself (0), has begun or ended

	cache      stageCache       // the stage at work, kept between segments
	unreported unreportedErrors // why segments ended, should nobody have heard of it

	onEnd func(context.Context) // told when a stage or a run has ended
}

// Option changes what Activities find on a machine, for tests.
type Option func(*Activities)

// WithClock replaces the machine's clock.
func WithClock(c Clock) Option { return func(a *Activities) { a.clock = c } }

// WithMemory replaces what is known of the machine's free memory, bytes.
func WithMemory(free func() (free int64, known bool)) Option {
	return func(a *Activities) { a.memory = free }
}

// WithEndHook has f called whenever a stage or a run has ended.
func WithEndHook(f func(context.Context)) Option { return func(a *Activities) { a.onEnd = f } }

// WithChangeHook calls f after an attempt of a run, by its id, or the run itself
// (0) may have begun or ended, as the record has it then. f must not block.
func WithChangeHook(f func(run string, attempt int64)) Option {
	return func(a *Activities) { a.onChange = f }
}

// New makes the activities of one worker process. The build id is recorded
// with every attempt and is part of no key.
func New(lg *slog.Logger, store *storage.Store, files *checkpoint.Store, pool *tensor.Pool, build string,
	options ...Option) *Activities {
	a := &Activities{log: lg, store: store, files: files, artifacts: recordStore{store, files}, pool: pool,
		build: build, clock: monotonic{time.Now()}, memory: freeMemory,
		onChange: func(string, int64) {}, onEnd: func(context.Context) {}}
	for _, o := range options {
		o(a)
	}
	return a
}

// Begin makes the attempt's row, or takes over an earlier attempt's outputs.
func (a *Activities) Begin(ctx context.Context, in BeginInput) (BeginResult, error) {
	defer startHeartbeat(ctx)()
	res, err := a.begin(ctx, in)
	return res, Wrap(err)
}

func (a *Activities) begin(ctx context.Context, in BeginInput) (BeginResult, error) {
	key, err := a.cacheKey(ctx, in)
	if err != nil {
		return BeginResult{}, err
	}
	row := storage.Attempt{Run: in.Run, Stage: in.Stage.Name, Kind: in.Stage.Kind, Number: in.Number,
		Status: trimtab.AttemptQueued,
		Config: in.Stage.Config, CacheKey: key, Inputs: in.Inputs, FromCheckpoint: in.From, Reason: in.Reason,
		Actor: in.Actor, BuildID: a.build}
	if in.Reuse {
		old, ok, err := a.store.Reusable(ctx, key)
		if err != nil {
			return BeginResult{}, err
		}
		if ok && a.outputsPresent(ctx, in, old) {
			row.Status, row.ReusedFrom, row.Outputs, row.Metrics, row.Steps, row.Step = trimtab.AttemptReused, old.ID, old.Outputs, old.Metrics, old.Steps, old.Step
		}
	}
	row, err = a.store.CreateAttempt(ctx, row)
	if err != nil {
		return BeginResult{}, err
	}
	a.onChange(in.Run, row.ID)
	if row.Status != trimtab.AttemptReused {
		a.logRun(ctx, in.Run, in.Stage.Name, in.Number, "attempt %d begins", in.Number)
		return BeginResult{Attempt: row.ID}, nil
	}
	// of the row as it is stored: an earlier try may have chosen another
	made, err := a.store.Attempt(ctx, row.ReusedFrom)
	if err != nil {
		return BeginResult{}, err
	}
	a.logRun(ctx, in.Run, in.Stage.Name, in.Number, "unchanged: the output of attempt %d of run %s is reused",
		made.Number, made.Run)
	return BeginResult{Attempt: row.ID, Reused: true, Outputs: row.Outputs, Metrics: row.Metrics,
		Missed: missedGates(in.Stage.Gates, row.Metrics)}, nil
}

// checkCacheKey is the attempt's cache key.
func (a *Activities) cacheKey(ctx context.Context, in BeginInput) (trimtab.Digest, error) {
	key, err := recipes.CacheKey(in.Stage, in.Inputs, in.Seed, in.Numerics)
	if err != nil || in.From == "" {
		return key, err
	}
	c, err := a.store.FindCheckpoint(ctx, in.Run, in.Stage.Name, string(in.From))
	if err != nil {
		return "", err
	}
	maker, err := a.store.Attempt(ctx, c.Attempt)
	if err != nil || maker.CacheKey == key {
		return key, err
	}
	return recipes.ContinuedKey(key, in.From)
}

// outputsPresent reports whether the models that an attempt made are in this store,
// undamaged: the record may be of another folder, or a folder lose a file.
func (a *Activities) outputsPresent(ctx context.Context, in BeginInput, old storage.Attempt) bool {
	for _, out := range old.Outputs {
		if out.Name != "model" {
			continue // in the record itself
		}
		if _, err := a.files.Files(out.Digest); err != nil {
			a.logRun(ctx, in.Run, in.Stage.Name, in.Number, "the output of attempt %d of run %s cannot be reused: %v",
				old.Number, old.Run, err)
			return false
		}
	}
	return true
}

// Complete closes an attempt with its outputs and says which gates they miss.
func (a *Activities) Complete(ctx context.Context, in CompleteInput) (CompleteResult, error) {
	defer startHeartbeat(ctx)()
	if err := a.store.CompleteAttempt(ctx, in.Attempt, in.Sequence, in.Outputs, in.Metrics); err != nil {
		return CompleteResult{}, Wrap(err)
	}
	a.onEnd(ctx)
	a.onChange(in.Run, in.Attempt)
	if err := failpoint.At("stage_completed"); err != nil {
		return CompleteResult{}, Wrap(err)
	}
	return CompleteResult{Missed: missedGates(in.Gates, in.Metrics)}, nil
}

// missedGates says in words which gates the metrics do not pass.
func missedGates(gates []trimtab.Gate, metrics []trimtab.Metric) []string {
	var words []string
	for _, g := range gates {
		v, ok := trimtab.Report{Metrics: metrics}.Value(g.Metric)
		switch {
		case !ok:
			words = append(words, fmt.Sprintf("the gate's metric %s was not measured", g.Metric))
		case g.Min != nil && !(v >= *g.Min):
			words = append(words, fmt.Sprintf("%s is %.4g, the gate wants at least %g", g.Metric, v, *g.Min))
		case g.Max != nil && !(v <= *g.Max):
			words = append(words, fmt.Sprintf("%s is %.4g, the gate wants at most %g", g.Metric, v, *g.Max))
		}
	}
	return words
}

// protectedStatuses are the states of a run that a person, or its end, gave it: an attempt at work does not show over
// them.
var protectedStatuses = []trimtab.RunStatus{trimtab.RunPaused, trimtab.RunBlocked, trimtab.RunCompleted,
	trimtab.RunCancelled, trimtab.RunFailed}

// SetAttemptStatus shows what an attempt is doing and tells how far its checkpoints are.
func (a *Activities) SetAttemptStatus(ctx context.Context, in AttemptStatusInput) (AttemptStatusResult, error) {
	defer startHeartbeat(ctx)()
	in.Error = withClass(in.Error, in.Class)
	cause := ""
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
			next = strings.TrimSuffix("interrupted, goes on by itself: "+in.Error.Error(), ": ")
		}
		if err := a.store.SetRunStatus(ctx, in.Run, in.RunStatus, next, in.Error, in.Actor,
			protectedStatuses...); err != nil {
			return AttemptStatusResult{}, Wrap(err)
		}
	}
	c, _, err := a.store.LatestCheckpoint(ctx, in.Attempt)
	return AttemptStatusResult{Checkpoint: c.Digest, Step: c.Step, Cause: cause}, Wrap(err)
}

// SetRunStatus shows what a run is doing.
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

// Replan records a rerun: the new plan, and what it makes stale. The run shows
// as running at once, so that who decided does not see the old block.
func (a *Activities) Replan(ctx context.Context, in ReplanInput) error {
	defer startHeartbeat(ctx)()
	r := storage.Replan{Plan: in.Plan, Stage: in.Stage, Overrides: in.Overrides, Stale: in.Stale,
		Status: cmp.Or(in.Status, trimtab.RunRunning), Next: in.Next, Actor: in.Actor, Reason: in.Reason}
	if in.Taking != nil {
		r.Taken = storage.Decision{Request: in.Taking.Request, Number: in.Taking.Request.Attempt,
			Update: in.Taking.Update}
	}
	return Wrap(a.store.Replan(ctx, r))
}

// Requested fails unless a person has asked in the record for what an Update wants, and nothing has come of it yet.
func (a *Activities) Requested(ctx context.Context, in TakenRequest) error {
	defer startHeartbeat(ctx)()
	return Wrap(a.store.CheckRequest(ctx, in.Request, in.Update))
}

// Decide records a person's decision and what the run shows after it.
func (a *Activities) Decide(ctx context.Context, in DecisionInput) error {
	defer startHeartbeat(ctx)()
	d := storage.Decision{Number: in.Number}
	if in.Taking == nil {
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

// startHeartbeat tells Temporal, until it is stopped, that somebody is at a small
// activity: one whose worker died is soon given to another.
func startHeartbeat(ctx context.Context) (stop func()) {
	done := make(chan struct{})
	if activity.IsActivity(ctx) {
		go func() {
			tick := time.NewTicker(heartbeatInterval)
			defer tick.Stop()
			for {
				select {
				case <-done:
					return
				case <-tick.C:
					activity.RecordHeartbeat(ctx)
				}
			}
		}()
	}
	return func() { close(done) }
}

// logRun writes a line of the run's log; a log that cannot be written stops nothing.
func (a *Activities) logRun(ctx context.Context, run, stage string, attempt int, format string, args ...any) {
	line := storage.LogLine{Level: "info", Stage: stage, Attempt: attempt,
		Message: redact.Text(fmt.Sprintf(format, args...))}
	if err := a.store.Log(ctx, run, line); err != nil {
		a.log.Warn("the run's log", "run", run, "error", err)
	}
	a.log.Info(line.Message, "run", run, "stage", stage, "attempt", attempt)
}
