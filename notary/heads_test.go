package notary_test

import (
	"os"
	"strings"
	"testing"
	"time"

	"github.com/trimtab/trimtab"
	"github.com/trimtab/trimtab/notary"
)

// later verifies the record as it will be seen after a while, held against the heads of the file.
func (r *recorded) later(after time.Duration, more ...notary.SavedHead) notary.Verification {
	r.t.Helper()
	v := notary.Verifier{Store: r.store, Keys: []string{r.signer.Verifier()}, Saved: append(r.savedHeads(), more...),
		Now: time.Now().Add(after)}
	rep, err := v.Verify(r.t.Context())
	must(r.t, err)
	return rep
}

// A record that has lost all its heads, in the table and in the file, is no verified record; a saved head finds it out,
// or shows that it is what it was. One that has only begun is not yet signed, and one without events needs no head.
func TestLostHeads(t *testing.T) {
	r := newRecord(t)
	if rep := r.later(time.Hour); len(rep.Problems)+len(rep.Notes) > 0 {
		t.Errorf("without events: %+v, %+v", rep.Problems, rep.Notes)
	}
	r.fill()
	if rep := r.later(time.Minute); len(rep.Problems) > 0 ||
		!strings.Contains(said(rep.Notes), "no head of it was signed yet") {
		t.Errorf("just begun: %+v, %+v", rep.Problems, rep.Notes)
	}
	if rep := r.later(time.Hour); !strings.Contains(said(rep.Problems), "is under a signed head") {
		t.Errorf("never signed: %+v", rep.Problems)
	}
	r.keep()
	saved := r.savedHeads()
	if rep := r.later(time.Hour); len(rep.Problems)+len(rep.Notes) > 0 || rep.Unsigned.Events > 0 {
		t.Errorf("signed: %+v, %+v, %+v", rep.Problems, rep.Notes, rep.Unsigned)
	}
	r.exec("alter table tree_head disable trigger all; truncate tree_head; alter table tree_head enable trigger all; " +
		"alter table tree_head enable always trigger tree_head_stays, enable always trigger tree_head_is_kept")
	if rep := r.later(time.Hour); len(rep.Problems) != 1 ||
		!strings.Contains(said(rep.Problems), "it lacks the signed head that is kept as") {
		t.Errorf("gone from the table: %+v", rep.Problems)
	}
	must(t, os.Remove(notary.HeadsIn(r.folder)))
	rep := r.later(time.Hour)
	if len(rep.Problems) != 1 || rep.Problems[0].Where != "the record" ||
		!strings.Contains(rep.Problems[0].What, "--against") {
		t.Errorf("all gone: %+v", rep.Problems)
	}
	rep = r.later(time.Hour, saved...)
	if len(rep.Problems) != 1 || !strings.Contains(said(rep.Problems), "it lacks the signed head") ||
		rep.Unsigned.Events > 0 {
		t.Errorf("against the saved one: %+v", rep.Problems)
	}
}

// The newest heads are taken out of the table and the file: an event of an earlier verification knows of them, and else
// the number of events under no head, and since when, is all there is to see.
func TestNewestHeadsTakenOut(t *testing.T) {
	r := newRecord(t)
	r.fill()
	r.keep()
	older, err := os.ReadFile(notary.HeadsIn(r.folder))
	must(t, err)
	must(t, r.store.SetRunStatus(t.Context(), "run-two", "running", "later", nil, "trimtab"))
	r.keep()
	takeOut := func() {
		r.exec("alter table tree_head disable trigger all; delete from tree_head where size > (select min(size) from " +
			"tree_head); alter table tree_head enable trigger all; " +
			"alter table tree_head enable always trigger tree_head_stays, enable always trigger tree_head_is_kept")
		must(t, os.WriteFile(notary.HeadsIn(r.folder), older, 0o644))
	}
	takeOut()
	if rep := r.later(time.Minute); len(rep.Problems)+len(rep.Notes) > 0 || rep.Unsigned.Events != 1 {
		t.Errorf("a minute later: %+v, %+v, %+v", rep.Problems, rep.Notes, rep.Unsigned)
	}
	if rep := r.later(time.Hour); len(rep.Problems) > 0 ||
		!strings.Contains(said(rep.Notes), "1 events, the oldest of") {
		t.Errorf("an hour later: %+v, %+v", rep.Problems, rep.Notes)
	}
	r = newRecord(t)
	r.fill()
	r.keep()
	older, err = os.ReadFile(notary.HeadsIn(r.folder))
	must(t, err)
	must(t, r.store.SetRunStatus(t.Context(), "run-two", "running", "later", nil, "trimtab"))
	r.keep()
	rep := r.verify(true)
	must(t, r.store.RecordEvent(t.Context(), notary.Stream, "ann", trimtab.EventAuditVerified,
		map[string]any{"events": rep.Events, "head": rep.Newest.Size, "problems": 0}))
	takeOut()
	if rep := r.later(time.Minute); len(rep.Problems) != 1 ||
		!strings.Contains(said(rep.Problems), "newer ones were taken out") {
		t.Errorf("after a verification: %+v", rep.Problems)
	}
}

// An event that came into the tree after a head was signed cannot be much older than the head.
func TestBackdatedEvents(t *testing.T) {
	r := newRecord(t)
	r.fill()
	must(t, r.notary.SignHead(t.Context(), time.Now()))
	before, _ := forgeries(t)
	r.exec(before)
	r.exec("select pg_temp.forge('run-new', 'decision', 'ppo', 1, '{}', '', now() - interval '1 day')")
	if rep := r.later(0); !strings.Contains(said(rep.Notes), "1 events, the oldest of") {
		t.Errorf("before it is in the tree: %+v", rep.Notes)
	}
	must(t, r.notary.SignHead(t.Context(), time.Now()))
	if rep := r.later(0); len(rep.Problems) > 0 ||
		!strings.Contains(said(rep.Notes), "event 1 of run-new: its time is ") {
		t.Errorf("%+v, %+v", rep.Problems, rep.Notes)
	}
}

// Events that were under no head for days are told: that they were signed afterwards makes them no older.
func TestEventsThatWaitedForAHead(t *testing.T) {
	r := newRecord(t)
	r.fill()
	must(t, r.notary.SignHead(t.Context(), time.Now()))
	must(t, r.store.SetRunStatus(t.Context(), "run-two", "running", "later", nil, "trimtab"))
	must(t, r.notary.SignHead(t.Context(), time.Now().Add(72*time.Hour)))
	rep := r.later(72 * time.Hour)
	if len(rep.Problems) > 0 || len(rep.Notes) != 1 || !strings.Contains(said(rep.Notes), "for as long as 3 days") {
		t.Errorf("%+v, %+v", rep.Problems, rep.Notes)
	}
}
