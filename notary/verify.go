package notary

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/trimtab/trimtab/audit"
	"github.com/trimtab/trimtab/storage"
)

// Problem is one thing that is not as it was recorded, or not as the
// migrations made it.
type Problem struct {
	// Where names the event, row, head, file, table or right.
	Where string `json:"where"`
	What  string `json:"what"`
}

// Unsigned counts the events that no signed head covers: anybody with write
// access to the database could have added or changed them.
type Unsigned struct {
	Events int64 `json:"events"`
	// Since is the time of the oldest of them, as it says itself; null for none.
	Since *time.Time `json:"since"`
}

// Verification is what a verification looked at and what it found.
type Verification struct {
	// Events counts the events, Leaves those that are in the tree, and Heads the
	// signed heads that were compared.
	Events int64 `json:"events"`
	Leaves int64 `json:"leaves"`
	Heads  int   `json:"heads"`
	// Newest is the largest head whose signature is valid.
	Newest   audit.Head `json:"-"`
	Unsigned Unsigned   `json:"unsigned"`
	// Rows counts the rows of each audited table.
	Rows map[string]int64 `json:"rows"`
	// Files counts the models, and Checkpoints the attempts, whose files were
	// read.
	Files       int `json:"files"`
	Checkpoints int `json:"checkpoints"`
	// Problems are what is wrong, and More counts those that are not listed.
	Problems []Problem `json:"problems"`
	More     int       `json:"more"`
	// Notes are unusual, but do not put the record in doubt.
	Notes []Problem `json:"notes"`

	named int       // problems of the current part that are listed
	first time.Time // time of the earliest event
	seen  headSeen
}

// maxProblems is how many problems of each part are named, so that those of
// one part do not hide those of the next.
const maxProblems = 100

// add reports a problem, or counts it if too many are named already.
func (r *Verification) add(where, what string, args ...any) {
	if r.named == maxProblems {
		r.More++
		return
	}
	r.named++
	r.Problems = append(r.Problems, Problem{where, fmt.Sprintf(what, args...)})
}

// note reports what is unusual but does not put the record in doubt.
func (r *Verification) note(where, what string, args ...any) {
	if len(r.Notes) < maxProblems {
		r.Notes = append(r.Notes, Problem{where, fmt.Sprintf(what, args...)})
	}
}

// SavedHead is a signed head from outside of the database, and where it is
// kept.
type SavedHead struct{ Where, Note string }

// Verifier says what the record is verified against.
type Verifier struct {
	Store *storage.Store
	// Keys are the public keys that heads may be signed with.
	Keys []string
	// Saved are heads from outside of the database.
	Saved []SavedHead
	// Model reads the files of a model and compares their digest. If it is nil,
	// no files are read.
	Model func(digest string) error
	// State reads the newest checkpoint of an attempt that has one. If it is
	// nil, no checkpoints are read.
	State func(ctx context.Context, attempt int64) error
	// NoHeads is set where nobody signs heads, as in tests: a record without
	// heads is then no problem.
	NoHeads bool
	// Now is the time of the verification; zero is the current time.
	Now time.Time
	// Progress, if not nil, is called now and then with what is being done, how
	// much of it is done, and how much there is; 0 is unknown.
	Progress func(doing string, done, of int64)
}

// OutOfScope lists what a verification does not find out, one sentence each.
var OutOfScope = []string{
	"checkpoints other than the newest of each attempt, which retention removes",
	"the tables fence, progress and log, which serve the running work and people: no events record them",
	"the counts that data show prints of datasets of which items were erased",
	"what was appended since the newest signed head, if it is consistent in itself",
	"a server whose own program or system catalogs were changed so that plain selects lie:" +
		" restore a dump elsewhere and verify it there, with a saved head",
	"whether a stage computes what it put out: trimtab reproduce does",
}

// Verify verifies the record as of one instant: the schema and the rights,
// the chain of each stream, the tree over all events, every signed head, the
// rows that events record, and the files of models and checkpoints.
//
// The database is asked for rows and for nothing that it computes, except the
// counts of datasets, which no event records: a function that is compared
// with the migrations counts them again.
//
// Memory grows with the number of streams and with the attempts of one run,
// not with the number of events. An error means that the record could not be
// examined; what is wrong with it is in the Verification.
func (v Verifier) Verify(ctx context.Context) (Verification, error) {
	if v.Now.IsZero() {
		v.Now = time.Now()
	}
	rep := Verification{Problems: []Problem{}, Notes: []Problem{}}
	err := v.Store.Snapshot(ctx, func(r storage.Snapshot) error {
		streams := map[string]storage.Stream{}
		// Later parts rely on earlier ones: without the schema, selects need
		// not return the rows; without the chains, facts need not be those
		// recorded.
		parts := []struct {
			what string
			do   func(r storage.Snapshot) error
		}{
			{"the schema", func(r storage.Snapshot) error { return v.schema(ctx, r, &rep) }},
			{"the events", func(r storage.Snapshot) error { return v.chains(ctx, r, &rep, streams) }},
			{"the tree", func(r storage.Snapshot) error { return v.tree(ctx, r, &rep, streams) }},
			{"the rows", func(r storage.Snapshot) error { return v.facts(ctx, r, &rep) }},
			{"the models", func(r storage.Snapshot) error { return v.models(ctx, r, &rep) }},
			{"the checkpoints", func(r storage.Snapshot) error { return v.states(ctx, r, &rep) }},
		}
		for _, p := range parts {
			// Each part may list maxProblems.
			rep.named = 0
			if err := rep.unreadable(p.what, r.Savepoint(ctx, p.do)); err != nil {
				return err
			}
		}
		return nil
	})
	return rep, err
}

// unreadable turns an error into a problem, if it is one: rows that cannot be
// read because they were changed. A database that does not answer, and a
// cancelled context, are returned as errors.
func (r *Verification) unreadable(what string, err error) error {
	if err == nil || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) ||
		storage.IsUnavailable(err) {
		return err
	}
	r.add(what, "they cannot be read to the end: %v", err)
	return nil
}

// progressEvery is the number of rows between two calls of Progress.
const progressEvery = 10_000

// reportProgress calls Progress now and then.
func (v Verifier) reportProgress(doing string, done, of int64) {
	if v.Progress != nil && done%progressEvery == 0 {
		v.Progress(doing, done, of)
	}
}

// schema compares tables, functions, triggers, rights, roles and settings
// with those that the migrations make.
func (v Verifier) schema(ctx context.Context, r storage.Snapshot, rep *Verification) error {
	odd, err := r.Schema(ctx)
	for _, o := range odd {
		if o.Harmless {
			rep.note(o.Where, "%s", o.What)
		} else {
			rep.add(o.Where, "%s", o.What)
		}
	}
	return err
}

// eventName is an event as reports name it.
func eventName(stream string, sequence int64) string {
	return fmt.Sprintf("event %d of %s", sequence, stream)
}

// models verifies the files of every model in the record.
func (v Verifier) models(ctx context.Context, r storage.Snapshot, rep *Verification) error {
	if v.Model == nil {
		return nil
	}
	digests, err := r.ModelDigests(ctx)
	if err != nil {
		return err
	}
	for _, d := range digests {
		rep.Files++
		if v.Progress != nil {
			v.Progress("models", int64(rep.Files), int64(len(digests)))
		}
		if err := v.Model(d); err != nil {
			if errors.Is(err, context.Canceled) {
				return err
			}
			rep.add("model "+d, "%v", err)
		}
	}
	return nil
}

// states reads the newest checkpoint of every attempt that has one: retention
// never removes that one.
func (v Verifier) states(ctx context.Context, r storage.Snapshot, rep *Verification) error {
	if v.State == nil {
		return nil
	}
	attempts, err := r.CheckpointedAttempts(ctx)
	if err != nil {
		return err
	}
	for _, a := range attempts {
		rep.Checkpoints++
		if v.Progress != nil {
			v.Progress("checkpoints", int64(rep.Checkpoints), int64(len(attempts)))
		}
		if err := v.State(ctx, a.ID); err != nil {
			if errors.Is(err, context.Canceled) {
				return err
			}
			rep.add(fmt.Sprintf("checkpoint of %s attempt %d of %s", a.Stage, a.Number, a.Run), "%v", err)
		}
	}
	return nil
}

// sortedKeys returns the keys of a map in order, so that reports are the same
// every time.
func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
