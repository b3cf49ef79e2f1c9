package activities

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"time"

	"github.com/trimtab/trimtab"
	"github.com/trimtab/trimtab/checkpoint"
	"github.com/trimtab/trimtab/recipes"
	"github.com/trimtab/trimtab/storage"
	"github.com/trimtab/trimtab/tensor"
	"github.com/trimtab/trimtab/train"
)

// Reproducer runs stages again from the record alone, without Temporal, and
// compares them with the record bit for bit. It reads the database and the store
// of the runs and writes to neither: outputs go to a store of its own and to
// memory.
type Reproducer struct {
	activities *Activities
	store      *storage.Store
	recorded   *checkpoint.Store // of the runs
	scratch    *scratchStore     // what was made here
}

// NewReproducer returns a Reproducer that keeps models in the store own.
func NewReproducer(lg *slog.Logger, store *storage.Store, recorded, own *checkpoint.Store,
	pool *tensor.Pool) *Reproducer {
	made := &scratchStore{store: store, files: own.Overlay(recorded), sets: map[trimtab.Digest][]trimtab.Item{},
		documents: map[trimtab.Digest][]byte{}}
	acts := New(lg, store, made.files, pool, "")
	acts.artifacts = made
	return &Reproducer{activities: acts, store: store, recorded: recorded, scratch: made}
}

// Workers returns the number of cores that it computes on.
func (r *Reproducer) Workers() int { return r.activities.pool.Workers() }

// ImportModel imports a Hugging Face folder as a possible input (see
// ReproduceInput.Replace).
func (r *Reproducer) ImportModel(folder string) (trimtab.Digest, error) {
	return checkpoint.Import(r.scratch.files, folder)
}

// ReproduceInput says which attempt to run again.
type ReproduceInput struct {
	Attempt  storage.Attempt // one that took steps itself, and did not reuse another's outputs
	Seed     uint64
	Numerics string
	// Replace returns the digest to read instead of a recorded input; nil is no change.
	Replace func(trimtab.Named) trimtab.Digest
	// All continues to the end after a difference.
	All bool
	// Progress is called after each step; it may be nil.
	Progress func(step, steps int)
}

// StageReproduction is the result of running an attempt again.
type StageReproduction struct {
	Version     int              `json:"version"`      // of the stage's code, when it was recorded
	VersionHere int              `json:"version_here"` // another one may give other bytes
	From        int              `json:"from"`         // the first step that was run
	Start       string           `json:"start"`        // where it started and why, in words
	Steps       int              `json:"steps"`        // the step before which it ended
	Whole       bool             `json:"whole"`        // to the end, with the outputs
	Compared    ComparisonCounts `json:"compared"`
	Differing   int              `json:"differing_steps"`
	// Differences has the first one; with ReproduceInput.All the first of steps, the
	// first of states, and the first of each output.
	Differences []Difference       `json:"differences"`
	Outputs     []ReproducedOutput `json:"outputs"`
}

// ComparisonCounts counts what was compared, equal or not.
type ComparisonCounts struct {
	Steps    int `json:"steps"`
	Metrics  int `json:"metrics"`
	Rollouts int `json:"rollouts"`
	States   int `json:"states"`          // by digest
	InStore  int `json:"states_in_store"` // of those, states whose file exists and was compared by array
	Outputs  int `json:"outputs"`
}

// ReproducedOutput is an output with the recorded one.
type ReproducedOutput struct {
	Name     string         `json:"name"`
	Recorded trimtab.Digest `json:"recorded"`
	Here     trimtab.Digest `json:"here"`
	Stored   bool           `json:"stored"` // the recorded content exists, and not only its digest
}

// Identical reports whether no difference was found.
func (r StageReproduction) Identical() bool { return len(r.Differences) == 0 }

// errDifference ends a reproduction at its first difference. It is never returned
// to callers.
var errDifference = errors.New("it differs")

// Reproduce runs an attempt again: from the checkpoint that it continued from, if
// that is in the store, or else through the steps of the attempt that made the
// checkpoint. An attempt without outputs is run as far as its steps are recorded.
// Differences are in the result; an error says that it could not be run.
func (r *Reproducer) Reproduce(ctx context.Context, in ReproduceInput) (StageReproduction, error) {
	w := &reproduction{Reproducer: r, in: in}
	w.out.Differences, w.out.Outputs = []Difference{}, []ReproducedOutput{} // lists in JSON, never null
	err := w.run(ctx)
	if errors.Is(err, errDifference) {
		err = nil
	}
	return w.out, err
}

// reproduction is the state of one call of Reproduce.
type reproduction struct {
	*Reproducer
	in  ReproduceInput
	out StageReproduction

	attempt         storage.Attempt        // whose steps are compared
	states          map[int]trimtab.Digest // its checkpoints, by the step before which they are
	job             job
	nextStep        int              // the step to take next
	lastStepAttempt int64            // the attempt that recorded the step before nextStep
	lastMetrics     []trimtab.Metric // of that step, if it was taken here
}

// span is a sequence of steps that one attempt took.
type span struct {
	attempt storage.Attempt
	from    storage.Checkpoint // where it begins; without a digest at the beginning of the stage
	stored  bool               // from is in the store
	until   int                // the step before which it ends; 0 is all steps
}

// run runs the spans of the attempt in turn, and compares the outputs at the end.
func (w *reproduction) run(ctx context.Context) error {
	a := w.in.Attempt
	w.out.Whole = len(a.Outputs) > 0
	until := 0 // to the end
	if !w.out.Whole {
		if until = a.Step; until == 0 {
			return trimtab.NewError(trimtab.Conflict, "nothing_recorded", "choose another attempt",
				"attempt %d of %s has no step in the record", a.Number, a.Stage)
		}
	}
	if err := w.checkCacheKey(); err != nil {
		return err
	}
	spans, err := w.spans(ctx, a, until)
	if err != nil {
		return err
	}
	first := spans[0].from // the zero value at the beginning of the stage
	w.out.From = first.Step
	w.out.Start = describeStart(spans)
	w.lastStepAttempt = first.Attempt
	for i, s := range spans {
		if err := w.runSpan(ctx, s, i > 0); err != nil {
			return err
		}
	}
	if !w.out.Whole {
		return nil
	}
	return w.compareEnd(ctx)
}

// latestVersion bounds the search for the version of a stage's code.
const latestVersion = 1000

// checkCacheKey checks that the attempt's cache key follows from its kind, name,
// config, inputs, seed and numerics. The version of the code is part of the key,
// and not recorded beside it, so it is found by trying all versions.
func (w *reproduction) checkCacheKey() error {
	a := w.in.Attempt
	st := trimtab.PlannedStage{Name: a.Stage, Kind: a.Kind, Config: a.Config}
	w.out.VersionHere = recipes.Version(a.Kind)
	for st.Version = 1; st.Version < latestVersion; st.Version++ {
		key, err := recipes.CacheKey(st, a.Inputs, w.in.Seed, w.in.Numerics)
		if err != nil {
			return err
		}
		// An attempt that continued another has either key (see Activities.cacheKey).
		continued, err := recipes.ContinuedKey(key, a.FromCheckpoint)
		if err != nil {
			return err
		}
		if a.CacheKey == key || a.CacheKey == continued {
			w.out.Version = st.Version
			return nil
		}
	}
	return w.addDifference(Difference{Place: placeStage, Name: "cache key", Recorded: string(a.CacheKey),
		Here: "that of another kind, config, seed, numerics or inputs"})
}

// spans returns what has to be run for an attempt up to a step: its own steps,
// after those of the attempts that it continued, as far back as the checkpoints
// between them are not in the store any more.
func (w *reproduction) spans(ctx context.Context, a storage.Attempt, until int) ([]span, error) {
	s := span{attempt: a, until: until}
	if a.FromCheckpoint == "" {
		return []span{s}, nil
	}
	var err error
	if s.from, err = w.store.FindCheckpoint(ctx, a.Run, a.Stage, string(a.FromCheckpoint)); err != nil {
		return nil, err
	}
	// A damaged file counts as missing: the reproduction then starts earlier.
	if w.recorded.CheckState(checkpoint.AttemptName(s.from.Attempt), s.from.Digest) == nil {
		s.stored = true
		return []span{s}, nil
	}
	before, err := w.store.Attempt(ctx, s.from.Attempt)
	if err != nil {
		return nil, err
	}
	spans, err := w.spans(ctx, before, s.from.Step)
	return append(spans, s), err
}

// describeStart says where the first span begins, and why not later.
func describeStart(spans []span) string {
	words := "the beginning"
	if c := spans[0].from; spans[0].stored {
		words = "checkpoint " + c.Digest.Short()
	}
	if len(spans) > 1 {
		words += ", since checkpoint " + spans[len(spans)-1].from.Digest.Short() + " is not in the store"
	}
	return words
}

// handoverName is the attempt name of states that are carried from span to span.
const handoverName = "handover"

// runSpan builds the stage, puts it at the beginning of the span, and takes its
// steps. carried says that the state is that of the span before.
func (w *reproduction) runSpan(ctx context.Context, s span, carried bool) error {
	var state trimtab.Digest
	var err error
	if carried { // through a file, so that two stages are never in memory at once
		if state, err = w.scratch.files.SaveState(handoverName, s.from.Step, w.job.State()); err != nil {
			return err
		}
	}
	w.job = nil // free it before the next one is built
	if w.job, err = w.activities.newJob(ctx, w.segment(s.attempt)); err != nil {
		return err
	}
	switch {
	case carried:
		if _, err = w.scratch.files.LoadState(handoverName, state, w.job.State()); err == nil {
			err = w.scratch.files.RemoveState(handoverName, state)
		}
	case s.stored:
		_, err = w.recorded.LoadState(checkpoint.AttemptName(s.from.Attempt), s.from.Digest, w.job.State())
	}
	if err != nil {
		return err
	}
	// After loading, because the number of steps that is compared is the stage's own.
	if err := w.loadRecord(ctx, s.attempt); err != nil {
		return err
	}
	return w.steps(ctx, s.from.Step, s.until)
}

// segment returns the attempt as a segment input, for newJob, with replaced
// inputs. It has no fencing token, because nothing is written to the record.
func (w *reproduction) segment(a storage.Attempt) SegmentInput {
	in := SegmentInput{Run: a.Run, Attempt: a.ID, Seed: w.in.Seed, Numerics: w.in.Numerics,
		Stage: trimtab.PlannedStage{Name: a.Stage, Kind: a.Kind, Config: a.Config}}
	for _, n := range a.Inputs {
		if w.in.Replace != nil {
			n.Digest = w.in.Replace(n)
		}
		in.Inputs = append(in.Inputs, n)
	}
	return in
}

// loadRecord reads what the record has of an attempt before its steps are taken:
// the digests of its checkpoints. The number of steps is compared at once.
func (w *reproduction) loadRecord(ctx context.Context, a storage.Attempt) error {
	w.attempt, w.states = a, map[int]trimtab.Digest{}
	all, err := w.store.Checkpoints(ctx, a.ID)
	for _, c := range all {
		w.states[c.Step] = c.Digest
	}
	if err != nil || a.Steps == 0 || a.Steps == w.job.Steps() {
		return err
	}
	return w.addDifference(Difference{Place: placeStage, Name: "number of steps", Recorded: decimal(a.Steps),
		Here: decimal(w.job.Steps())})
}

// steps takes the steps of a span and compares each.
func (w *reproduction) steps(ctx context.Context, from, until int) error {
	steps := w.job.Steps()
	if until == 0 || until > steps {
		until = steps
	}
	w.out.Steps, w.nextStep = until, from
	if from >= until && until > 0 { // nothing to do; the loop refuses a stage without steps
		return nil
	}
	loop := train.Loop{Trainer: w.job, From: from, Until: until, Report: w.compareReport, Checkpoint: w.compareState,
		Due: func() bool { return w.states[w.nextStep] != "" }}
	_, err := loop.Run(ctx)
	return err
}

// compareReport compares the report of a step with its rows.
func (w *reproduction) compareReport(ctx context.Context, step int, r trimtab.Report, _ time.Duration) error {
	w.nextStep, w.lastMetrics = step+1, r.Metrics
	if w.in.Progress != nil {
		w.in.Progress(step+1, w.job.Steps())
	}
	d, differ, err := w.compareStep(ctx, step, r)
	w.out.Compared.Steps++
	if err != nil || !differ {
		return err
	}
	w.out.Differing++
	d.Step = &step
	return w.addDifference(d)
}

// compareStep finds the first difference of a step: in the rollouts, which come
// first, in the order in which they are computed, then in the metrics.
func (w *reproduction) compareStep(ctx context.Context, step int,
	r trimtab.Report) (d Difference, differ bool, err error) {
	if w.attempt.Kind == recipes.KindPPO {
		want, err := w.store.Rollouts(ctx, w.attempt.ID, step)
		if err != nil {
			return d, false, err
		}
		w.out.Compared.Rollouts += len(r.Rollouts)
		if d, differ := compareRollouts(want, r.Rollouts); differ {
			return d, true, nil
		}
	}
	want, err := w.store.StepMetrics(ctx, w.attempt.ID, step)
	if err != nil {
		return d, false, err
	}
	w.out.Compared.Metrics += len(r.Metrics)
	d, differ = compareMetrics(placeMetric, want, r.Metrics)
	return d, differ, nil
}

// compareState compares the state before a step with the checkpoint of that step,
// if there is one. The digests of all checkpoints are recorded for good; the files
// of older ones are removed, so the arrays can be compared for the newest alone.
func (w *reproduction) compareState(_ context.Context, next int, state []tensor.NamedArray) error {
	want, got := w.states[next], checkpoint.StateDigest(next, state)
	if want == "" {
		return nil
	}
	w.out.Compared.States++
	d := Difference{Place: placeState, Step: &next, Name: "digest", Recorded: string(want), Here: string(got)}
	first, differ, err := w.recorded.CompareState(checkpoint.AttemptName(w.attempt.ID), want, next, state)
	switch {
	case err == nil:
		w.out.Compared.InStore++
	case !isNotFound(err):
		return err
	}
	if differ {
		d.setMismatch(first)
	}
	switch {
	case want != got:
		return w.addDifference(d)
	case differ:
		d.Place = placeStoredState
		return w.addDifference(d)
	}
	return nil
}

// isNotFound reports whether an error says that something does not exist.
func isNotFound(err error) bool {
	e, ok := errors.AsType[*trimtab.Error](err)
	return ok && e.Class == trimtab.NotFound
}

// addDifference records a difference. It ends the reproduction by errDifference,
// unless all are asked for. Of steps, and of states, only the first is kept.
func (w *reproduction) addDifference(d Difference) error {
	for _, have := range w.out.Differences {
		if d.Step != nil && have.Step != nil && d.inState() == have.inState() {
			return nil
		}
	}
	w.out.Differences = append(w.out.Differences, d)
	if w.in.All {
		return nil
	}
	return errDifference
}

// compareEnd makes the outputs and compares them and their metrics. The final
// metrics of an attempt are those of its last step, of its outputs, and of its
// data, in this order.
func (w *reproduction) compareEnd(ctx context.Context) error {
	outputs, measured, err := w.job.finish(ctx, w.segment(w.in.Attempt))
	if err != nil {
		return err
	}
	if w.lastMetrics == nil { // the checkpoint was after the last step
		if w.lastMetrics, err = w.store.StepMetrics(ctx, w.lastStepAttempt, w.nextStep-1); err != nil {
			return err
		}
	}
	for _, want := range w.in.Attempt.Outputs {
		out := ReproducedOutput{Name: want.Name, Recorded: want.Digest}
		for _, got := range outputs {
			if got.Name == want.Name {
				out.Here = got.Digest
			}
		}
		if err := w.compareOutput(ctx, out); err != nil {
			return err
		}
	}
	measured = append(measured, trimtab.FitMetrics(w.job.fits())...)
	here := slices.Concat(w.lastMetrics, onlyRecorded(w.in.Attempt.Metrics, measured))
	w.out.Compared.Metrics += len(here)
	if d, differ := compareMetrics(placeResult, w.in.Attempt.Metrics, here); differ {
		return w.addDifference(d)
	}
	return nil
}

// compareOutput compares one output with the recorded one, by digest and, where
// the content is there, by content, so that a difference has a place.
func (w *reproduction) compareOutput(ctx context.Context, o ReproducedOutput) error {
	w.out.Compared.Outputs++
	d, differ, stored, err := w.scratch.compare(ctx, o, w.recorded)
	if err != nil {
		return err
	}
	o.Stored = stored
	w.out.Outputs = append(w.out.Outputs, o)
	if differ {
		return w.addDifference(d)
	}
	return nil
}
