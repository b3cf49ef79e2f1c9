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
// compares bit for bit what they do with what was recorded. It reads the
// database and the store of runs and writes to neither: what is made goes to a
// store of its own, and to memory.
type Reproducer struct {
	acts     *Activities
	store    *storage.Store
	recorded *checkpoint.Store
	made     *scratch
}

// NewReproducer makes one that keeps models in own.
func NewReproducer(lg *slog.Logger, store *storage.Store, recorded, own *checkpoint.Store, pool *tensor.Pool) *Reproducer {
	made := &scratch{store: store, files: own.Over(recorded), sets: map[trimtab.Digest][]trimtab.Item{}, documents: map[trimtab.Digest][]byte{}}
	acts := New(lg, store, made.files, pool, "")
	acts.keep = made
	return &Reproducer{acts: acts, store: store, recorded: recorded, made: made}
}

// Workers is on how many cores it computes.
func (r *Reproducer) Workers() int { return r.acts.pool.Workers() }

// ImportModel takes a Hugging Face folder in, to be an input.
func (r *Reproducer) ImportModel(folder string) (trimtab.Digest, error) {
	return checkpoint.Import(r.made.files, folder)
}

// ReproduceInput says what to run again.
type ReproduceInput struct {
	Attempt  storage.Attempt // that took the steps: not one that was reused
	Seed     uint64
	Numerics string
	// Replace gives the digest to read in place of a recorded input's; nil is the same.
	Replace func(trimtab.Named) trimtab.Digest
	// All goes on to the end after a difference.
	All bool
	// Progress is told after each step; it may be nil.
	Progress func(step, steps int)
}

// Reproduction is what came of running an attempt again.
type Reproduction struct {
	Version     int                `json:"version"`      // of the stage's code, when it was recorded
	VersionHere int                `json:"version_here"` // another one may give other bytes
	From        int                `json:"from"`         // the first step that was run
	Start       string             `json:"start"`        // what from, in words
	Steps       int                `json:"steps"`        // until where, of the stage
	Whole       bool               `json:"whole"`        // to the end, outputs and all
	Compared    Compared           `json:"compared"`
	Differing   int                `json:"differing_steps"`
	Differences []Difference       `json:"differences"` // the first one; with All the first of steps and of states, and one of each output
	Outputs     []ReproducedOutput `json:"outputs"`
}

// Compared counts what was compared, whether it differs or not.
type Compared struct {
	Steps    int `json:"steps"`
	Metrics  int `json:"metrics"`
	Rollouts int `json:"rollouts"`
	States   int `json:"states"`          // by digest
	InStore  int `json:"states_in_store"` // of those, whose file is there and was compared by array
	Outputs  int `json:"outputs"`
}

// ReproducedOutput is an output beside the recorded one.
type ReproducedOutput struct {
	Name     string         `json:"name"`
	Recorded trimtab.Digest `json:"recorded"`
	Here     trimtab.Digest `json:"here"`
	Stored   bool           `json:"stored"` // the recorded one is there to compare with, and not only its digest
}

// Identical reports whether no difference was found.
func (r Reproduction) Identical() bool { return len(r.Differences) == 0 }

// errDiffers ends a reproduction at its first difference.
var errDiffers = errors.New("it differs")

// Reproduce runs an attempt again: from the checkpoint that it began from where
// that is in the store, else through the steps of the attempt that made it. An
// attempt without outputs is run as far as its steps are recorded. Differences
// are in the result; errors are of the running.
func (r *Reproducer) Reproduce(ctx context.Context, in ReproduceInput) (Reproduction, error) {
	w := &again{Reproducer: r, in: in}
	w.out.Differences, w.out.Outputs = []Difference{}, []ReproducedOutput{}
	err := w.run(ctx)
	if errors.Is(err, errDiffers) {
		err = nil
	}
	return w.out, err
}

// again is a reproduction at work.
type again struct {
	*Reproducer
	in  ReproduceInput
	out Reproduction

	attempt storage.Attempt        // whose steps are compared
	states  map[int]trimtab.Digest // its checkpoints, by the step before which they are
	job     job
	next    int              // step
	maker   int64            // the attempt that recorded the step before
	last    []trimtab.Metric // of that step, if it was taken here
}

// leg is the steps of one attempt.
type leg struct {
	attempt storage.Attempt
	from    storage.Checkpoint // where it begins; without a digest from scratch
	stored  bool               // from is in the store
	until   int                // 0 is all steps
}

func (w *again) run(ctx context.Context) error {
	a := w.in.Attempt
	w.out.Whole = len(a.Outputs) > 0
	until := 0
	if !w.out.Whole {
		if until = a.Step; until == 0 {
			return trimtab.NewError(trimtab.Conflict, "nothing_recorded", "choose another attempt", "attempt %d of %s has no step in the record", a.Number, a.Stage)
		}
	}
	if err := w.key(); err != nil {
		return err
	}
	legs, err := w.legs(ctx, a, until)
	if err != nil {
		return err
	}
	w.out.From, w.out.Start, w.maker = legs[0].from.Step, start(legs), legs[0].from.Attempt
	for i, l := range legs {
		if err := w.leg(ctx, l, i > 0); err != nil {
			return err
		}
	}
	if !w.out.Whole {
		return nil
	}
	return w.end(ctx)
}

// latestVersion is more than any stage's code has ever had.
const latestVersion = 1000

// key compares the attempt's cache key with its kind, name, config, inputs,
// seed and numerics, and learns of which version of the code the key is.
func (w *again) key() error {
	a := w.in.Attempt
	st := trimtab.PlannedStage{Name: a.Stage, Kind: a.Kind, Config: a.Config}
	w.out.VersionHere = recipes.Version(a.Kind)
	for st.Version = 1; st.Version < latestVersion; st.Version++ {
		key, err := recipes.CacheKey(st, a.Inputs, w.in.Seed, w.in.Numerics)
		if err != nil {
			return err
		}
		continued, err := recipes.ContinuedKey(key, a.FromCheckpoint)
		if err != nil {
			return err
		}
		if a.CacheKey == key || a.CacheKey == continued {
			w.out.Version = st.Version
			return nil
		}
	}
	return w.found(Difference{Place: placeStage, Name: "cache key", Recorded: string(a.CacheKey), Here: "that of another kind, config, seed, numerics or inputs"})
}

// legs are what has to be run of an attempt: its own steps, behind those of the
// attempts that it goes on from if the state between them is not stored any more.
func (w *again) legs(ctx context.Context, a storage.Attempt, until int) ([]leg, error) {
	l := leg{attempt: a, until: until}
	if a.FromCheckpoint == "" {
		return []leg{l}, nil
	}
	var err error
	if l.from, err = w.store.FindCheckpoint(ctx, a.Run, a.Stage, string(a.FromCheckpoint)); err != nil {
		return nil, err
	}
	if w.recorded.CheckState(checkpoint.AttemptName(l.from.Attempt), l.from.Digest) == nil {
		l.stored = true
		return []leg{l}, nil
	}
	before, err := w.store.Attempt(ctx, l.from.Attempt)
	if err != nil {
		return nil, err
	}
	legs, err := w.legs(ctx, before, l.from.Step)
	return append(legs, l), err
}

// start says where the first leg begins, and why not later.
func start(legs []leg) string {
	words := "the beginning"
	if c := legs[0].from; legs[0].stored {
		words = "checkpoint " + c.Digest.Short()
	}
	if len(legs) > 1 {
		words += ", since checkpoint " + legs[len(legs)-1].from.Digest.Short() + " is not in the store"
	}
	return words
}

// handover is the name of states that are carried from leg to leg.
const handover = "handover"

// leg makes the stage, puts it where the leg begins, and takes its steps.
func (w *again) leg(ctx context.Context, l leg, carried bool) error {
	var state trimtab.Digest
	var err error
	if carried { // through a file, so that two stages are never in memory at once
		if state, err = w.made.files.SaveState(handover, l.from.Step, w.job.State()); err != nil {
			return err
		}
	}
	w.job = nil
	if w.job, err = w.acts.newJob(ctx, w.segment(l.attempt)); err != nil {
		return err
	}
	switch {
	case carried:
		if _, err = w.made.files.LoadState(handover, state, w.job.State()); err == nil {
			err = w.made.files.RemoveState(handover, state)
		}
	case l.stored:
		_, err = w.recorded.LoadState(checkpoint.AttemptName(l.from.Attempt), l.from.Digest, w.job.State())
	}
	if err != nil {
		return err
	}
	if err := w.look(ctx, l.attempt); err != nil {
		return err
	}
	return w.steps(ctx, l.from.Step, l.until)
}

// segment is the attempt as a worker is told of it.
func (w *again) segment(a storage.Attempt) SegmentInput {
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

// look reads what is needed of an attempt before its steps.
func (w *again) look(ctx context.Context, a storage.Attempt) error {
	w.attempt, w.states = a, map[int]trimtab.Digest{}
	all, err := w.store.Checkpoints(ctx, a.ID)
	for _, c := range all {
		w.states[c.Step] = c.Digest
	}
	if err != nil || a.Steps == 0 || a.Steps == w.job.Steps() {
		return err
	}
	return w.found(Difference{Place: placeStage, Name: "number of steps", Recorded: decimal(a.Steps), Here: decimal(w.job.Steps())})
}

// steps takes and compares the steps of a leg.
func (w *again) steps(ctx context.Context, from, until int) error {
	steps := w.job.Steps()
	if until == 0 || until > steps {
		until = steps
	}
	w.out.Steps, w.next = until, from
	if from >= until && until > 0 { // nothing to do; the loop refuses a stage without steps
		return nil
	}
	loop := train.Loop{Trainer: w.job, From: from, Until: until, Report: w.report, Checkpoint: w.state,
		Due: func() bool { return w.states[w.next] != "" }}
	_, err := loop.Run(ctx)
	return err
}

// report compares what a step told with its rows.
func (w *again) report(ctx context.Context, step int, r trimtab.Report, _ time.Duration) error {
	w.next, w.last = step+1, r.Metrics
	if w.in.Progress != nil {
		w.in.Progress(step+1, w.job.Steps())
	}
	d, differ, err := w.step(ctx, step, r)
	w.out.Compared.Steps++
	if err != nil || !differ {
		return err
	}
	w.out.Differing++
	d.Step = &step
	return w.found(d)
}

// step finds the first difference of a step: in the rollouts, which come
// first, in the order in which they are computed, then in the metrics.
func (w *again) step(ctx context.Context, step int, r trimtab.Report) (d Difference, differ bool, err error) {
	if w.attempt.Kind == recipes.KindPPO {
		was, err := w.store.Rollouts(ctx, w.attempt.ID, step)
		if err != nil {
			return d, false, err
		}
		w.out.Compared.Rollouts += len(r.Rollouts)
		if d, differ := compareRollouts(was, r.Rollouts); differ {
			return d, true, nil
		}
	}
	was, err := w.store.StepMetrics(ctx, w.attempt.ID, step)
	if err != nil {
		return d, false, err
	}
	w.out.Compared.Metrics += len(r.Metrics)
	d, differ = compareMetrics(placeMetric, was, r.Metrics)
	return d, differ, nil
}

// state compares the state before a step with the checkpoint of that step. Its
// digest is recorded for good; its file is removed when newer ones are there.
func (w *again) state(_ context.Context, next int, state []tensor.Named) error {
	was, is := w.states[next], checkpoint.StateDigest(next, state)
	if was == "" {
		return nil
	}
	w.out.Compared.States++
	d := Difference{Place: placeState, Step: &next, Name: "digest", Recorded: string(was), Here: string(is)}
	first, differ, err := w.recorded.CompareState(checkpoint.AttemptName(w.attempt.ID), was, next, state)
	switch {
	case err == nil:
		w.out.Compared.InStore++
	case !absent(err):
		return err
	}
	if differ {
		d.at(first)
	}
	switch {
	case was != is:
		return w.found(d)
	case differ:
		d.Place = placeStoredState
		return w.found(d)
	}
	return nil
}

// absent reports whether an error says that something is not in a store.
func absent(err error) bool {
	e, ok := errors.AsType[*trimtab.Error](err)
	return ok && e.Class == trimtab.NotFound
}

// found takes a difference down, and ends the work unless all are wanted. Of
// steps only the first is kept, and of states.
func (w *again) found(d Difference) error {
	for _, have := range w.out.Differences {
		if d.Step != nil && have.Step != nil && d.ofState() == have.ofState() {
			return nil
		}
	}
	w.out.Differences = append(w.out.Differences, d)
	if w.in.All {
		return nil
	}
	return errDiffers
}

// end makes the outputs and compares them, and what was measured of them.
func (w *again) end(ctx context.Context) error {
	outputs, measured, err := w.job.finish(ctx)
	if err != nil {
		return err
	}
	if w.last == nil { // the checkpoint was after the last step
		if w.last, err = w.store.StepMetrics(ctx, w.maker, w.next-1); err != nil {
			return err
		}
	}
	for _, was := range w.in.Attempt.Outputs {
		out := ReproducedOutput{Name: was.Name, Recorded: was.Digest}
		for _, is := range outputs {
			if is.Name == was.Name {
				out.Here = is.Digest
			}
		}
		if err := w.output(ctx, out); err != nil {
			return err
		}
	}
	measured = append(measured, trimtab.FitMetrics(w.job.fits())...)
	here := slices.Concat(w.last, recordedOf(w.in.Attempt.Metrics, measured))
	w.out.Compared.Metrics += len(here)
	if d, differ := compareMetrics(placeResult, w.in.Attempt.Metrics, here); differ {
		return w.found(d)
	}
	return nil
}

// output compares an output with the recorded one.
func (w *again) output(ctx context.Context, o ReproducedOutput) error {
	w.out.Compared.Outputs++
	d, differ, stored, err := w.made.compare(ctx, o, w.recorded)
	if err != nil {
		return err
	}
	o.Stored = stored
	w.out.Outputs = append(w.out.Outputs, o)
	if differ {
		return w.found(d)
	}
	return nil
}
