package storage_test

import (
	"math"
	"reflect"
	"slices"
	"testing"

	"github.com/trimtab/trimtab"
	"github.com/trimtab/trimtab/storage"
	"github.com/trimtab/trimtab/storage/storagetest"
)

func TestCreateAttempt(t *testing.T) {
	t.Parallel()
	s, ctx := storagetest.New(t), t.Context()
	first := newAttempt(t, s, "run-1")
	if first.ID == 0 || first.Status != trimtab.AttemptQueued || first.CreatedAt.IsZero() ||
		first.Inputs[0].Digest != digest("base") {
		t.Errorf("a new attempt is %+v", first)
	}
	same := storage.Attempt{Run: "run-1", Stage: "sft", Kind: "sft", Number: 1, Config: digest("config"),
		CacheKey: digest("key")}
	again, err := s.CreateAttempt(ctx, same)
	must(t, err)
	if !reflect.DeepEqual(again, first) {
		t.Errorf("again:\n%+v\n%+v", again, first)
	}
	same.Config = digest("other")
	_, err = s.CreateAttempt(ctx, same)
	wantError(t, err, trimtab.Verification, "replay_diverged")
	reused, err := s.CreateAttempt(ctx, storage.Attempt{Run: "run-1", Stage: "sft", Kind: "sft", Number: 2,
		Status:     trimtab.AttemptReused,
		ReusedFrom: first.ID, Outputs: []trimtab.Named{{Name: "model", Digest: digest("m")}},
		Metrics: []trimtab.Metric{{Name: "loss", Value: 1}}})
	must(t, err)
	abandoned, err := s.Attempt(ctx, first.ID)
	must(t, err)
	if abandoned.Status != trimtab.AttemptFailed || abandoned.Error == nil ||
		abandoned.Error.Type != "attempt_abandoned" || abandoned.EndedAt == nil {
		t.Errorf("an attempt that another one takes the place of is %+v", abandoned)
	}
	wantError(t, s.Lease(first.ID, 0).Start(ctx, 9, "build", "avx2"), trimtab.Conflict, "fenced")
	if reused.ReusedFrom != first.ID || reused.EndedAt == nil || len(reused.Outputs) != 1 || len(reused.Metrics) != 1 {
		t.Errorf("reused: %+v", reused)
	}
	_, err = s.CreateAttempt(ctx, storage.Attempt{Run: "nobody", Stage: "sft", Number: 1})
	wantError(t, err, trimtab.NotFound, "run_not_found")
	_, err = s.CreateAttempt(ctx, storage.Attempt{Run: "run-1", Stage: "sft"})
	wantError(t, err, trimtab.Invalid, "invalid_record")
	all, err := s.Attempts(ctx, "run-1")
	must(t, err)
	if !reflect.DeepEqual(all, []storage.Attempt{abandoned, reused}) {
		t.Errorf("attempts %+v", all)
	}
	_, err = s.Attempt(ctx, 999)
	wantError(t, err, trimtab.NotFound, "attempt_not_found")
	_, err = s.CreateAttempt(ctx, storage.Attempt{Run: "run-1", Stage: "reward", Kind: "reward", Number: 1})
	must(t, err)
	stages, err := s.LastStages(ctx, []string{"run-1", "nobody"})
	if err != nil || len(stages) != 1 || stages["run-1"] != "reward" {
		t.Errorf("last stages %v, %v", stages, err)
	}
}

func TestLifeOfAnAttempt(t *testing.T) {
	t.Parallel()
	s, ctx := storagetest.New(t), t.Context()
	id := newAttempt(t, s, "run-1").ID
	wantError(t, s.Lease(id, 5).Start(ctx, 100, "build", "avx2"), trimtab.Conflict, "fenced")
	must(t, s.Lease(id, 5).Acquire(ctx))
	must(t, s.Lease(id, 5).Start(ctx, 100, "build", "avx2"))
	must(t, s.Lease(id, 5).Start(ctx, 100, "build", "avx2"))
	a, err := s.Attempt(ctx, id)
	must(t, err)
	if a.Status != trimtab.AttemptRunning || a.Steps != 100 || a.BuildID != "build" || a.StartedAt == nil ||
		a.Seconds < 0 {
		t.Errorf("started: %+v", a)
	}
	must(t, s.SetAttemptStatus(ctx, id, trimtab.AttemptFailed,
		trimtab.NewError(trimtab.Internal, "panic", "", "index out of range"), "worker"))
	must(t, s.Lease(id, 5).Start(ctx, 100, "build 2", "avx2")) // a crash is tried again
	outputs := []trimtab.Named{{Name: "model", Digest: digest("m")}, {Name: "extra", Digest: digest("e")}}
	metrics := []trimtab.Metric{{Name: "z", Value: math.Copysign(0, -1)}, {Name: "a", Value: math.Inf(1)}}
	wantError(t, s.Lease(id, 4).Complete(ctx, outputs, metrics), trimtab.Conflict, "fenced")
	must(t, s.Lease(id, 5).Complete(ctx, outputs, metrics))
	must(t, s.Lease(id, 5).Complete(ctx, outputs, metrics))
	wantError(t, s.Lease(id, 5).Complete(ctx, outputs[:1], metrics), trimtab.Verification, "replay_diverged")
	wantError(t, s.Lease(id, 5).Complete(ctx, outputs, []trimtab.Metric{{Name: "z"}, metrics[1]}),
		trimtab.Verification, "replay_diverged")
	wantError(t, s.Lease(id, 5).Start(ctx, 100, "build", "avx2"), trimtab.Conflict, "attempt_closed")
	a, err = s.Attempt(ctx, id)
	must(t, err)
	if a.Status != trimtab.AttemptCompleted || !slices.Equal(a.Outputs, outputs) || !slices.Equal(a.Metrics, metrics) ||
		a.EndedAt == nil || a.Error != nil {
		t.Errorf("completed: %+v", a)
	}
	events, err := s.History(ctx, "run-1", "sft")
	must(t, err)
	var types []trimtab.EventType
	for _, e := range events {
		types = append(types, e.Type)
		if e.Attempt != 1 || e.Stage != "sft" {
			t.Errorf("event %+v", e)
		}
	}
	want := []trimtab.EventType{
		trimtab.EventAttemptCreated,
		trimtab.EventAttemptStarted,
		trimtab.EventAttemptStatus,
		trimtab.EventAttemptStarted,
		trimtab.EventAttemptCompleted,
	}
	if !slices.Equal(types, want) {
		t.Errorf("events %v, want %v", types, want)
	}
}

func TestReuseAndStaleness(t *testing.T) {
	t.Parallel()
	s, ctx := storagetest.New(t), t.Context()
	a := newAttempt(t, s, "run-1")
	find := func() (storage.Attempt, bool) {
		t.Helper()
		found, ok, err := s.Reusable(ctx, digest("key"))
		must(t, err)
		return found, ok
	}
	if _, ok := find(); ok {
		t.Error("a queued attempt is reusable")
	}
	must(t, s.Lease(a.ID, 1).Acquire(ctx))
	must(t, s.Lease(a.ID, 1).Complete(ctx, nil, nil))
	if found, ok := find(); !ok || found.ID != a.ID {
		t.Errorf("found %+v", found)
	}
	if _, ok, err := s.Reusable(ctx, ""); ok || err != nil {
		t.Errorf("the empty key is reusable (%v)", err)
	}
	plan := trimtab.Plan{Run: "run-1"}
	// not this stage
	must(t, s.Replan(ctx, storage.Replan{Plan: plan, Stale: []string{"reward"}, Status: trimtab.RunRunning}))
	again := storage.Replan{Plan: plan, Stale: []string{"sft", "reward"}, Status: trimtab.RunRunning, Actor: "ann",
		Reason: "base was made again"}
	for range 2 {
		must(t, s.Replan(ctx, again))
	}
	stale, err := s.Attempt(ctx, a.ID)
	must(t, err)
	if stale.Status != trimtab.AttemptStale || stale.EndedAt == nil {
		t.Errorf("stale: %+v", stale)
	}
	if _, ok := find(); ok {
		t.Error("a stale attempt without outputs is reusable")
	}
	wantError(t, s.Lease(a.ID, 1).Complete(ctx, nil, nil), trimtab.Conflict, "attempt_closed")
	events, err := s.History(ctx, "run-1", "sft")
	must(t, err)
	last := events[len(events)-1]
	if len(events) != 3 ||
		string(last.Body) != `{"error":null,"from":"completed","reason":"base was made again","status":"stale"}` {
		t.Errorf("%d events, last %s", len(events), last.Body)
	}
}

// What an attempt made from inputs that count no more is still what those
// inputs make: when they come out the same again, it is taken over.
func TestStaleOutputsAreReusable(t *testing.T) {
	t.Parallel()
	s, ctx := storagetest.New(t), t.Context()
	a := newAttempt(t, s, "run-1")
	outputs := []trimtab.Named{{Name: "model", Digest: digest("m")}}
	must(t, s.Lease(a.ID, 1).Acquire(ctx))
	must(t, s.Lease(a.ID, 1).Complete(ctx, outputs, nil))
	must(t, s.Replan(ctx, storage.Replan{Plan: trimtab.Plan{Run: "run-1"}, Stale: []string{"sft"},
		Status: trimtab.RunRunning, Actor: "ann"}))
	found, ok, err := s.Reusable(ctx, digest("key"))
	if err != nil || !ok || found.ID != a.ID || !slices.Equal(found.Outputs, outputs) {
		t.Errorf("found %+v, %v, %v", found, ok, err)
	}
}

func TestProgress(t *testing.T) {
	t.Parallel()
	s, ctx := storagetest.New(t), t.Context()
	id := newAttempt(t, s, "run-1").ID
	if _, ok, err := s.Progress(ctx, id); ok || err != nil {
		t.Errorf("progress before any (%v)", err)
	}
	must(t, s.Lease(id, 7).Acquire(ctx))
	for step := range 3 {
		want := storage.Progress{Step: step, Steps: 3, Phase: "sample", TokensPerSecond: 1.5,
			Metrics: []trimtab.Metric{{Name: "loss", Value: math.Inf(1)}}}
		must(t, s.Lease(id, 7).SetProgress(ctx, want))
		got, ok, err := s.Progress(ctx, id)
		if got.Silent < 0 || got.Silent > 60 {
			t.Errorf("silent for %g s", got.Silent)
		}
		got.Silent = 0
		must(t, err)
		want.At = got.At
		if !ok || got.At.IsZero() || !reflect.DeepEqual(got, want) {
			t.Errorf("got %+v, want %+v", got, want)
		}
	}
	wantError(t, s.Lease(id, 6).SetProgress(ctx, storage.Progress{}), trimtab.Conflict, "fenced")
	wantError(t, s.Lease(999, 6).SetProgress(ctx, storage.Progress{}), trimtab.NotFound, "attempt_not_found")
}
