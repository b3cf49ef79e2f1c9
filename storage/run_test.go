package storage_test

import (
	"context"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/trimtab/trimtab"
	"github.com/trimtab/trimtab/storage"
	"github.com/trimtab/trimtab/storage/storagetest"
)

func ids(runs []storage.Run) []string {
	var ids []string
	for _, r := range runs {
		ids = append(ids, r.ID)
	}
	return ids
}

func TestRunComesBackAsItWas(t *testing.T) {
	t.Parallel()
	s, ctx := storagetest.New(t), t.Context()
	want := newRun(t, s, "run-0001")
	must(t, s.CreateRun(ctx, want)) // again
	got, err := s.Run(ctx, want.ID)
	must(t, err)
	if got.CreatedAt.IsZero() || got.StartedAt != nil || got.EndedAt != nil || got.Status != trimtab.RunQueued {
		t.Errorf("a new run is %+v", got)
	}
	want.CreatedAt, want.Status = got.CreatedAt, trimtab.RunQueued
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
	other := want
	other.Seed = 7
	wantError(t, s.CreateRun(ctx, other), trimtab.Conflict, "run_exists")
	other.ID, other.Origin = "run-0002", "nobody"
	wantError(t, s.CreateRun(ctx, other), trimtab.NotFound, "origin_not_found")
	events, err := s.History(ctx, want.ID, "")
	must(t, err)
	if len(events) != 1 || events[0].Type != trimtab.EventRunCreated ||
		events[0].Actor != "ann" || events[0].Sequence != 1 {
		t.Errorf("events %+v", events)
	}
}

func TestFindingRuns(t *testing.T) {
	t.Parallel()
	s, ctx := storagetest.New(t), t.Context()
	for _, r := range []storage.Run{{ID: "aaaa1111", Name: "x"}, {ID: "aaaa2222", Name: "x"},
		{ID: "bbbb1111", Name: "aaaa"}, {ID: "bbbb", Name: "%"}} {
		must(t, s.CreateRun(ctx, r))
	}
	for ref, want := range map[string]string{"aaaa1111": "aaaa1111", "aaaa1": "aaaa1111", "x": "aaaa2222",
		"bbbb": "bbbb", "aaaa": "bbbb1111", "%": "bbbb"} {
		r, err := s.Run(ctx, ref)
		if err != nil || r.ID != want {
			t.Errorf("%q is %s (%v), want %s", ref, r.ID, err, want)
		}
	}
	must(t, s.CreateRun(ctx, storage.Run{ID: "cccc1111"}))
	must(t, s.CreateRun(ctx, storage.Run{ID: "cccc2222"}))
	_, err := s.Run(ctx, "cccc")
	wantError(t, err, trimtab.Usage, "run_ambiguous")
	for _, ref := range []string{"ccc", "none", "bbbb_111"} {
		_, err := s.Run(ctx, ref)
		wantError(t, err, trimtab.NotFound, "run_not_found")
	}
	newest, err := s.Runs(ctx, 2)
	must(t, err)
	if !slices.Equal(ids(newest), []string{"cccc2222", "cccc1111"}) {
		t.Errorf("newest two: %v", ids(newest))
	}
}

// Whoever decides whether servers of another build may be ended counts runs under any schema.
func TestRunStatus(t *testing.T) {
	t.Parallel()
	s, ctx := storagetest.New(t), t.Context()
	newRun(t, s, "run-1")
	newRun(t, s, "run-2")
	blocked := &trimtab.Error{Type: "not_a_number", Message: "loss is NaN\x00", Remedy: "lower lr",
		Class: trimtab.Invalid}
	set := func(status trimtab.RunStatus, next string, e *trimtab.Error) storage.Run {
		t.Helper()
		must(t, s.SetRunStatus(ctx, "run-1", status, next, e, "worker"))
		r, err := s.Run(ctx, "run-1")
		must(t, err)
		return r
	}
	first := set(trimtab.RunRunning, "sft", nil)
	if first.StartedAt == nil || first.EndedAt != nil {
		t.Errorf("running: %+v", first)
	}
	set(trimtab.RunRunning, "sft", nil)
	r := set(trimtab.RunBlocked, "rerun sft", blocked)
	set(trimtab.RunBlocked, "rerun sft", blocked)
	if !reflect.DeepEqual(r.Error, blocked) || r.Next != "rerun sft" {
		t.Errorf("blocked: %+v", r)
	}
	r = set(trimtab.RunCompleted, "", nil)
	if r.EndedAt == nil || r.Error != nil || !r.StartedAt.Equal(*first.StartedAt) {
		t.Errorf("completed: %+v", r)
	}
	open := openRuns(t, s)
	if !slices.Equal(ids(open), []string{"run-2"}) {
		t.Errorf("open runs %v", ids(open))
	}
	events, err := s.History(ctx, "run-1", "")
	must(t, err)
	if len(events) != 4 { // created, running, blocked, completed
		t.Errorf("%d events: a repeat told one", len(events))
	}
	if got := string(events[2].Body); got != `{"error":{"type":"not_a_number","message":"loss is NaN\u0000","remedy":"lower lr"},"from":"running","next":"rerun sft","status":"blocked"}` {
		t.Errorf("body %s", got)
	}
	wantError(t, s.SetRunStatus(ctx, "run-9", trimtab.RunRunning, "", nil, "x"), trimtab.NotFound, "run_not_found")
	wantError(t, s.SetRunStatus(ctx, "run-1", "sleeping", "", nil, "x"), trimtab.Invalid, "invalid_record")
}

// A rerun is one transaction, and may be repeated.
func TestReplan(t *testing.T) {
	t.Parallel()
	s, ctx := storagetest.New(t), t.Context()
	a := newAttempt(t, s, "run-1")
	must(t, s.Lease(a.ID, 1).Acquire(ctx))
	must(t, s.Lease(a.ID, 1).Complete(ctx, nil, nil))
	r, err := s.Run(ctx, "run-1")
	must(t, err)
	plan, low := r.Plan, 0.5
	again := storage.Replan{Plan: plan, Stage: "sft", Status: trimtab.RunRunning, Actor: "ann", Reason: "once more"}
	must(t, s.Replan(ctx, again)) // the same plan
	plan.Stages = append(plan.Stages, trimtab.PlannedStage{Name: "reward", Config: digest("c"),
		Gates: []trimtab.Gate{{Metric: "accuracy", Min: &low}}})
	overrides := []trimtab.Override{{Set: "sft.lr=<1"}, {Data: "mine", Kind: trimtab.KindText, Digest: digest("t")}}
	again = storage.Replan{Plan: plan, Stage: "sft", Overrides: overrides, Stale: []string{"sft"},
		Status: trimtab.RunPaused, Next: "resume", Actor: "ann", Reason: "another lr"}
	for range 2 {
		must(t, s.Replan(ctx, again))
	}
	r, err = s.Run(ctx, "run-1")
	must(t, err)
	if !reflect.DeepEqual(r.Plan, plan) || r.Revision != 1 || r.Status != trimtab.RunPaused || r.Next != "resume" {
		t.Errorf("the run is %+v", r)
	}
	if a, err = s.Attempt(ctx, a.ID); err != nil || a.Status != trimtab.AttemptStale {
		t.Errorf("the attempt is %s, %v", a.Status, err)
	}
	events, err := s.History(ctx, "run-1", "")
	must(t, err)
	var types []string
	for _, e := range events {
		types = append(types, string(e.Type))
	}
	if got := strings.Join(types,
		" "); got != "run_created attempt_created attempt_completed run_status run_planned attempt_status run_status" {
		t.Errorf("events %s", got)
	}
	changes, err := s.PlanChanges(ctx, "run-1")
	must(t, err)
	if last := changes[len(changes)-1]; len(changes) != 2 || last.Revision != 1 || last.Stage != "sft" ||
		last.Actor != "ann" || last.Reason != "another lr" || !slices.Equal(last.Overrides, overrides) {
		t.Errorf("changes %+v", changes)
	}

	again.Plan.Run = "run-9"
	wantError(t, s.Replan(ctx, again), trimtab.NotFound, "run_not_found")
	again.Plan.Run, again.Plan.Seed, again.Stale, again.Status = "run-1", 7, []string{"sft"}, "sleeping"
	wantError(t, s.Replan(ctx, again), trimtab.Invalid, "invalid_record")
	if after, err := s.Run(ctx, "run-1"); err != nil || after.Revision != 1 {
		t.Errorf("half of a rerun was written: %+v, %v", after, err)
	}
	again.Status = trimtab.RunRunning
	must(t, s.SetRunStatus(ctx, "run-1", trimtab.RunCancelled, "", nil, "x"))
	wantError(t, s.Replan(ctx, again), trimtab.Conflict, "run_closed")
}

// An attempt at work tells that it waits, but never over what a person decided.
func TestRunStatusUnless(t *testing.T) {
	t.Parallel()
	s, ctx := storagetest.New(t), t.Context()
	newRun(t, s, "run-1")
	for _, c := range []struct{ set, want trimtab.RunStatus }{
		{trimtab.RunWaiting, trimtab.RunWaiting}, {trimtab.RunPaused, trimtab.RunPaused},
		{trimtab.RunRunning, trimtab.RunPaused},
	} {
		must(t, s.SetRunStatus(ctx, "run-1", c.set, "", nil, "worker", trimtab.RunPaused))
		r, err := s.Run(ctx, "run-1")
		must(t, err)
		if r.Status != c.want {
			t.Errorf("set to %s the run is %s, want %s", c.set, r.Status, c.want)
		}
	}
}

// Several launches of one spec at once make one run.
func TestCreateRunOnce(t *testing.T) {
	t.Parallel()
	s, ctx := storagetest.New(t), t.Context()
	make := func(id, origin string) (string, bool) {
		open, is, err := s.CreateRunOnce(ctx, storage.Run{ID: id, Name: "x", SpecDigest: digest("spec"),
			Origin: origin}, storage.AnyName)
		if err != nil {
			t.Error(err)
		}
		return open.ID, is
	}
	var created atomic.Int64
	var wg sync.WaitGroup
	for i := range 6 {
		wg.Go(func() {
			if _, is := make(fmt.Sprint("run-", i), ""); !is {
				created.Add(1)
			}
		})
	}
	wg.Wait()
	open := openRuns(t, s)
	if created.Load() != 1 || len(open) != 1 {
		t.Fatalf("%d launches created, %d runs are open", created.Load(), len(open))
	}
	first := open[0].ID
	if id, is := make("again", ""); !is || id != first {
		t.Errorf("a later launch leads to %q, %v", id, is)
	}
	if _, is := make("rerun-1", first); is {
		t.Error("a rerun was taken for its origin")
	}
	if id, is := make("rerun-2", first); !is || id != "rerun-1" {
		t.Errorf("the same rerun again leads to %q, %v", id, is)
	}
	must(t, s.SetRunStatus(ctx, first, trimtab.RunCompleted, "", nil, "x"))
	must(t, s.SetRunStatus(ctx, "rerun-1", trimtab.RunCancelled, "", nil, "x"))
	if _, is := make("new", ""); is {
		t.Error("a closed run was attached to")
	}
}

// What a name means: another name is another run, and a name of an open run of another spec is taken.
func TestNamesOfRuns(t *testing.T) {
	t.Parallel()
	s, ctx := storagetest.New(t), t.Context()
	launch := func(id, name, spec string, rule storage.NameRule) (string, error) {
		open, is, err := s.CreateRunOnce(ctx, storage.Run{ID: id, Name: name, SpecDigest: digest(spec)}, rule)
		if is {
			return open.ID, err
		}
		return id, err
	}
	for _, c := range []struct {
		id, name, spec string
		rule           storage.NameRule
		want, refused  string
	}{
		{"run-1", "a", "one", storage.UniqueName, "run-1", ""},
		{"run-2", "a", "one", storage.UniqueName, "run-1", ""}, // the same run
		{"run-2", "b", "one", storage.UniqueName, "run-2", ""}, // another name
		{"run-3", "c", "one", storage.SameName, "run-3", ""},   // a spec's own name
		{"run-4", "c", "one", storage.SameName, "run-3", ""},   //
		{"run-4", "any", "one", storage.AnyName, "run-1", ""},  // no name was asked for
		{"run-4", "a", "two", storage.UniqueName, "", "name_taken"},
		{"run-4", "a", "two", storage.SameName, "run-4", ""}, // two specs that are both called a
		{"run-5", "recipe", "three", storage.AnyName, "run-5", ""},
	} {
		got, err := launch(c.id, c.name, c.spec, c.rule)
		if c.refused != "" {
			wantError(t, err, trimtab.Conflict, c.refused)
			continue
		}
		if err != nil || got != c.want {
			t.Errorf("%s of spec %s as %s leads to %s, want %s (%v)", c.name, c.spec, c.id, got, c.want, err)
		}
	}
	must(t, s.SetRunStatus(ctx, "run-1", trimtab.RunCompleted, "", nil, "x"))
	must(t, s.SetRunStatus(ctx, "run-4", trimtab.RunCancelled, "", nil, "x"))
	if got, err := launch("run-6", "a", "six", storage.UniqueName); err != nil || got != "run-6" {
		t.Errorf("the name of closed runs leads to %s, %v", got, err)
	}
	if found, err := s.Run(ctx, "a"); err != nil || found.ID != "run-6" {
		t.Errorf("the name is that of run %s, %v", found.ID, err)
	}
}

// Of launches at once under one name and many specs, one is made and the others refused.
func TestOneNameAtOnce(t *testing.T) {
	t.Parallel()
	s, ctx := storagetest.New(t), t.Context()
	var created, refused atomic.Int64
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			_, is, err := s.CreateRunOnce(ctx, storage.Run{ID: fmt.Sprint("run-", i), Name: "one",
				SpecDigest: digest(fmt.Sprint(i))}, storage.UniqueName)
			switch {
			case err == nil && !is:
				created.Add(1)
			case err != nil && trimtab.AsError(err).Type == "name_taken" && trimtab.ExitCode(err) == 4:
				refused.Add(1)
			default:
				t.Errorf("%v, %v", is, err)
			}
		})
	}
	wg.Wait()
	if created.Load() != 1 || refused.Load() != 7 {
		t.Errorf("%d were made, %d refused", created.Load(), refused.Load())
	}
}

// Of several reruns that were planned when there was the same number of them, one is made.
func TestCreateRerun(t *testing.T) {
	t.Parallel()
	s, ctx := storagetest.New(t), t.Context()
	must(t, s.CreateRun(ctx, storage.Run{ID: "run-1"}))
	must(t, s.CreateRun(ctx, storage.Run{ID: "before", Origin: "run-1"}))
	reruns, err := s.Reruns(ctx, "run-1")
	must(t, err)
	var created, refused atomic.Int64
	var wg sync.WaitGroup
	for i := range 6 {
		wg.Go(func() {
			_, is, err := s.CreateRerun(ctx, storage.Run{ID: fmt.Sprint("rerun-", i), SpecDigest: digest(fmt.Sprint(i)),
				Origin: "run-1"}, reruns)
			switch {
			case err != nil && trimtab.AsError(err).Type == "plan_stale":
				refused.Add(1)
			case err == nil && !is:
				created.Add(1)
			default:
				t.Errorf("%v, %v", is, err)
			}
		})
	}
	wg.Wait()
	if created.Load() != 1 || refused.Load() != 5 {
		t.Errorf("%d were made, %d refused", created.Load(), refused.Load())
	}
	if reruns, err = s.Reruns(ctx, "run-1"); err != nil || len(reruns) != 2 || reruns[0] != "before" {
		t.Errorf("reruns %v, %v", reruns, err)
	}
}

// openRuns are the runs that may still change.
func openRuns(t *testing.T, s *storage.Store) []storage.Run {
	t.Helper()
	all, err := s.Runs(t.Context(), 0)
	must(t, err)
	return slices.DeleteFunc(all, func(r storage.Run) bool { return !r.Status.Open() })
}

// Who comes with another program must learn whether a run is open before the schema is that program's.
func TestOpenRunsOfAnySchema(t *testing.T) {
	t.Parallel()
	urls := storagetest.URLs(t)
	s := storagetest.Open(t, urls.App)
	newRun(t, s, "run-1")
	must(t, s.SetRunStatus(t.Context(), newRun(t, s, "run-2").ID, trimtab.RunCancelled, "", nil, "ann"))
	owner, err := pgx.Connect(t.Context(), urls.Owner)
	must(t, err)
	defer owner.Close(context.Background())
	for _, version := range []string{"version", "1", "999"} {
		_, err := owner.Exec(t.Context(), "update public.schema_version set version = "+version)
		must(t, err)
		if n, err := storage.CountOpenRuns(t.Context(), urls.App); n != 1 || err != nil {
			t.Errorf("schema version %s: %d open runs, %v; want 1", version, n, err)
		}
	}
	_, err = storage.CountOpenRuns(t.Context(), "postgres://trimtab_app:x@127.0.0.1:1/trimtab")
	wantError(t, err, trimtab.Unavailable, "postgres_unavailable")
}
