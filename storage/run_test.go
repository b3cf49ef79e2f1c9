package storage_test

import (
	"fmt"
	"reflect"
	"slices"
	"sync"
	"sync/atomic"
	"testing"

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
	if len(events) != 1 || events[0].Type != "run_created" || events[0].Actor != "ann" || events[0].Sequence != 1 {
		t.Errorf("events %+v", events)
	}
}

func TestFindingRuns(t *testing.T) {
	t.Parallel()
	s, ctx := storagetest.New(t), t.Context()
	for _, r := range []storage.Run{{ID: "aaaa1111", Name: "x"}, {ID: "aaaa2222", Name: "x"}, {ID: "bbbb1111", Name: "aaaa"}, {ID: "bbbb", Name: "%"}} {
		must(t, s.CreateRun(ctx, r))
	}
	for ref, want := range map[string]string{"aaaa1111": "aaaa1111", "aaaa1": "aaaa1111", "x": "aaaa2222", "bbbb": "bbbb", "aaaa": "bbbb1111", "%": "bbbb"} {
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

func TestRunStatus(t *testing.T) {
	t.Parallel()
	s, ctx := storagetest.New(t), t.Context()
	newRun(t, s, "run-1")
	newRun(t, s, "run-2")
	blocked := &trimtab.Error{Type: "not_a_number", Message: "loss is NaN\x00", Remedy: "lower lr", Class: trimtab.Invalid}
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
	open, err := s.OpenRuns(ctx)
	must(t, err)
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

func TestRunPlan(t *testing.T) {
	t.Parallel()
	s, ctx := storagetest.New(t), t.Context()
	plan := newRun(t, s, "run-1").Plan
	must(t, s.SetRunPlan(ctx, "run-1", plan, "ann", "no change"))
	low := 0.5
	plan.Stages = append(plan.Stages, trimtab.PlannedStage{Name: "reward", Config: digest("c"), Gates: []trimtab.Gate{{Metric: "accuracy", Min: &low}}})
	for range 2 {
		must(t, s.SetRunPlan(ctx, "run-1", plan, "ann", "another lr"))
	}
	r, err := s.Run(ctx, "run-1")
	must(t, err)
	if !reflect.DeepEqual(r.Plan, plan) {
		t.Errorf("plan %+v", r.Plan)
	}
	events, err := s.History(ctx, "run-1", "")
	must(t, err)
	if len(events) != 2 || events[1].Type != "run_planned" {
		t.Errorf("events %+v", events)
	}
	wantError(t, s.SetRunPlan(ctx, "run-9", plan, "x", ""), trimtab.NotFound, "run_not_found")
}

// An attempt at work tells that it waits, but never over what a person decided.
func TestRunStatusUnless(t *testing.T) {
	t.Parallel()
	s, ctx := storagetest.New(t), t.Context()
	newRun(t, s, "run-1")
	for _, c := range []struct{ set, want trimtab.RunStatus }{
		{trimtab.RunWaiting, trimtab.RunWaiting}, {trimtab.RunPaused, trimtab.RunPaused}, {trimtab.RunRunning, trimtab.RunPaused},
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
		open, is, err := s.CreateRunOnce(ctx, storage.Run{ID: id, Name: "x", SpecDigest: digest("spec"), Origin: origin})
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
	open, err := s.OpenRuns(ctx)
	must(t, err)
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
