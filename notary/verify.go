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

// Problem is one thing that is not as it was recorded, or as the migrations made it.
type Problem struct {
	Where string `json:"where"` // the event, row, head, file, table or right
	What  string `json:"what"`
}

// Unsigned are events that no signed head covers: whoever may write to the database could have added or changed them.
type Unsigned struct {
	Events int64      `json:"events"`
	Since  *time.Time `json:"since"` // when the oldest of them was appended, as it says itself; null for none
}

// Verification is what a verification looked at and found.
type Verification struct {
	Events      int64            `json:"events"`
	Leaves      int64            `json:"leaves"` // events in the tree
	Heads       int              `json:"heads"`  // signed heads that were compared
	Newest      audit.Head       `json:"-"`      // the largest head whose signature holds
	Unsigned    Unsigned         `json:"unsigned"`
	Rows        map[string]int64 `json:"rows"`        // of each audited table
	Files       int              `json:"files"`       // models whose files were read
	Checkpoints int              `json:"checkpoints"` // attempts whose newest checkpoint was read
	Problems    []Problem        `json:"problems"`
	More        int              `json:"more"`  // problems beyond those
	Notes       []Problem        `json:"notes"` // what is odd, and changes nothing of the record

	named int       // problems of this part
	first time.Time // of the first event
	seen  headSeen  // the largest head that earlier verifications saw
}

// maxProblems is how many problems of each part are named, so that those of one do not hide those of the next.
const maxProblems = 100

func (r *Verification) add(where, what string, args ...any) {
	if r.named == maxProblems {
		r.More++
		return
	}
	r.named++
	r.Problems = append(r.Problems, Problem{where, fmt.Sprintf(what, args...)})
}

// note names what is odd.
func (r *Verification) note(where, what string, args ...any) {
	if len(r.Notes) < maxProblems {
		r.Notes = append(r.Notes, Problem{where, fmt.Sprintf(what, args...)})
	}
}

// SavedHead is a signed head that lies outside the database, and where.
type SavedHead struct{ Where, Note string }

// Verifier is what to hold the record against.
type Verifier struct {
	Store *storage.Store
	Keys  []string // that heads may be signed with
	Saved []SavedHead
	// Model reads the files of a model and compares their digests; nil leaves files out.
	Model func(digest string) error
	// State reads the newest checkpoint of an attempt that has any; nil leaves checkpoints out.
	State func(ctx context.Context, attempt int64) error
	// NoHeads is set where nobody signs heads, as in tests: a record without any is no problem.
	NoHeads bool
	Now     time.Time // when it is verified; zero is now
	// Progress is told now and then what is done, of how many; 0 is not known. It may be nil.
	Progress func(doing string, done, of int64)
}

// OutOfScope says what a verification does not find out, a sentence each.
var OutOfScope = []string{
	"checkpoints other than the newest of each attempt, which retention removes",
	"the tables fence, progress and log, which are for the work itself and for people: no events tell of them",
	"the counts that data show prints of datasets of which items were erased",
	"what was appended since the newest signed head, if it is consistent in itself",
	"a server whose own program or system catalogs were changed so that plain selects lie:" +
		" restore a dump elsewhere and verify it there, with a saved head",
	"whether a stage computes what it put out: trimtab reproduce does",
}

// Verify verifies the record as it is at one instant: the schema and the rights, each stream's chain, the
// tree over all of them, every signed head, the rows that events tell of, and the
// files of the models and checkpoints. The database is asked for rows and for nothing that it computes, but for
// the counts of datasets, which no event tells of: a function that was held against the migrations counts them again.
// It needs memory for the streams and the attempts of one
// run, not for the events. Errors are of the looking; what is wrong is in the report.
func (v Verifier) Verify(ctx context.Context) (Verification, error) {
	if v.Now.IsZero() {
		v.Now = time.Now()
	}
	rep := Verification{Problems: []Problem{}, Notes: []Problem{}}
	err := v.Store.Snapshot(ctx, func(r storage.Snapshot) error {
		streams := map[string]storage.Stream{}
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
			rep.named = 0
			if err := rep.unreadable(p.what, r.Savepoint(ctx, p.do)); err != nil {
				return err
			}
		}
		return nil
	})
	return rep, err
}

// unreadable makes a problem of what cannot be read because it was changed; a
// database that is away, or whoever lost patience, is an error.
func (r *Verification) unreadable(what string, err error) error {
	if err == nil || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) ||
		storage.IsUnavailable(err) {
		return err
	}
	r.add(what, "they cannot be read to the end: %v", err)
	return nil
}

// progress is told every so many.
const progressEvery = 10_000

func (v Verifier) reportProgress(doing string, done, of int64) {
	if v.Progress != nil && done%progressEvery == 0 {
		v.Progress(doing, done, of)
	}
}

// schema holds tables, functions, triggers, rights, roles and settings against those that the migrations make.
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

func eventName(stream string, sequence int64) string {
	return fmt.Sprintf("event %d of %s", sequence, stream)
}

// models reads the files of every model in the record.
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

// states reads the newest checkpoint of every attempt that has one: that is never removed.
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

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
