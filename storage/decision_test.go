package storage_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/trimtab/trimtab"
	"github.com/trimtab/trimtab/storage"
	"github.com/trimtab/trimtab/storage/storagetest"
)

// decide asks for a decision and takes it, as a command and a worker do.
func decide(t testing.TB, s *storage.Store, r storage.Request) storage.Request {
	t.Helper()
	asked, err := s.RequestDecision(t.Context(), r)
	must(t, err)
	must(t, s.RecordDecision(t.Context(), storage.Decision{Request: asked, Number: r.Attempt}))
	return asked
}

// What an older build decides has no request; it is recorded as it was then.
func TestDecisionsWithoutRequest(t *testing.T) {
	t.Parallel()
	s, ctx := storagetest.New(t), t.Context()
	id := newAttempt(t, s, "run-1").ID
	decide := func(decision, reason string) int {
		t.Helper()
		must(t, s.RecordDecision(ctx, storage.Decision{Number: 1,
			Request: storage.Request{Run: "run-1", Stage: "sft", Decision: decision, Reason: reason, Actor: "ann"}}))
		events, err := s.History(ctx, "run-1", "sft")
		must(t, err)
		last := events[len(events)-1]
		if want := `{"decision":"` + decision + `","details":{"decision":"` + decision + `","reason":"` + reason +
			`"}}`; last.Type != trimtab.EventDecision ||
			last.Attempt != 1 || last.Actor != "ann" || string(last.Body) != want {
			t.Errorf("last event %+v %s, want %s", last, last.Body, want)
		}
		return len(events)
	}
	for i, want := range []int{2, 2} { // created, approved; and the same again
		if got := decide("approve", "good enough"); got != want {
			t.Errorf("call %d: %d events, want %d", i, got, want)
		}
	}
	for range 2 {
		if got := decide("skip", "no data"); got != 4 { // its status too
			t.Errorf("%d events after the skip", got)
		}
	}
	a, err := s.Attempt(ctx, id)
	must(t, err)
	if a.Status != trimtab.AttemptSkipped {
		t.Errorf("status %s", a.Status)
	}
	other := storage.Decision{Request: storage.Request{Run: "run-1", Stage: "reward", Decision: "skip", Actor: "ann"}}
	must(t, s.RecordDecision(ctx, other))
	other.Number = 9
	wantError(t, s.RecordDecision(ctx, other), trimtab.NotFound, "attempt_not_found")
}

// A decision counts if its request is in the record, word for word, and once.
func TestRequests(t *testing.T) {
	t.Parallel()
	s, ctx := storagetest.New(t), t.Context()
	newAttempt(t, s, "run-1")
	newRun(t, s, "run-2")
	request := storage.Request{Run: "run-1", Stage: "sft", Attempt: 1, Decision: "approve", Reason: "good \x00enough",
		Actor: "ann"}
	asked, err := s.RequestDecision(ctx, request)
	must(t, err)
	must(t, s.CheckRequest(ctx, asked, "u1"))
	for what, change := range map[string]func(*storage.Request){
		"another run":      func(r *storage.Request) { r.Run = "run-2" },
		"another stage":    func(r *storage.Request) { r.Stage = "ppo" },
		"another attempt":  func(r *storage.Request) { r.Attempt = 2 },
		"another decision": func(r *storage.Request) { r.Decision = "skip" },
		"another reason":   func(r *storage.Request) { r.Reason = "bad" },
		"another person":   func(r *storage.Request) { r.Actor = "bo" },
		"another event":    func(r *storage.Request) { r.Sequence-- },
		"none such":        func(r *storage.Request) { r.Sequence = 99 },
		"a rerun":          func(r *storage.Request) { r.Plan = digest("plan") },
	} {
		other := asked
		change(&other)
		wantError(t, s.CheckRequest(ctx, other, "u1"), trimtab.Conflict, "decision_unrequested")
		wantError(t, s.RecordDecision(ctx, storage.Decision{Request: other}), trimtab.Conflict, "decision_unrequested")
		t.Log(what)
	}
	before, err := s.History(ctx, "run-1", "")
	must(t, err)
	taken := storage.Decision{Request: asked, Number: 1, Update: "u1"}
	for range 2 { // a worker that was killed after it says so again
		must(t, s.RecordDecision(ctx, taken))
		must(t, s.CheckRequest(ctx, asked, "u1"))
	}
	after, err := s.History(ctx, "run-1", "")
	must(t, err)
	last := after[len(after)-1]
	var told struct {
		Role    string
		Request int64
		Update  string
	}
	must(t, json.Unmarshal(last.Body, &told))
	if len(after) != len(before)+1 || last.Actor != "ann" || told.Role != storage.AppRole ||
		told.Request != asked.Sequence || told.Update != "u1" {
		t.Errorf("the decision is told as %+v %s", last, last.Body)
	}
	taken.Update = "u2"
	wantError(t, s.RecordDecision(ctx, taken), trimtab.Conflict, "decision_taken")
	wantError(t, s.CheckRequest(ctx, asked, "u2"), trimtab.Conflict, "decision_taken")

	refused, err := s.RequestDecision(ctx, request)
	must(t, err)
	must(t, s.RefuseDecision(ctx, refused, trimtab.NewError(trimtab.Conflict, "not_now", "", "the run is not blocked")))
	wantError(t, s.CheckRequest(ctx, refused, "u3"), trimtab.Conflict, "decision_taken")
}

// A rerun's request binds the plan that the person saw.
func TestRequestOfARerun(t *testing.T) {
	t.Parallel()
	s, ctx := storagetest.New(t), t.Context()
	run := newRun(t, s, "run-1")
	plan := run.Plan
	plan.Numerics = "v9"
	sum, err := plan.Digest()
	must(t, err)
	asked, err := s.RequestDecision(ctx, storage.Request{Run: "run-1", Stage: "sft", Decision: "rerun",
		Reason: "longer", Actor: "ann", Plan: sum,
		Overrides: []trimtab.Override{{Set: "sft.num_train_epochs=2"}}})
	must(t, err)
	again := storage.Replan{Plan: plan, Stage: "sft", Status: trimtab.RunRunning, Actor: "ann", Reason: "longer",
		Taken: storage.Decision{Request: asked, Update: "u1"}}
	for range 2 {
		must(t, s.Replan(ctx, again))
	}
	events, err := s.History(ctx, "run-1", "")
	must(t, err)
	var types []string
	for _, e := range events {
		types = append(types, string(e.Type))
	}
	if got := strings.Join(types, " "); got != "run_created decision_requested decision run_planned run_status" {
		t.Errorf("events %s", got)
	}
	again.Taken.Update = "u2"
	wantError(t, s.Replan(ctx, again), trimtab.Conflict, "decision_taken")
	again.Taken.Plan = digest("another plan")
	wantError(t, s.Replan(ctx, again), trimtab.Conflict, "decision_unrequested")
}

// Who asks is the role of the session: a person with a role of his own is
// known by it whatever he says, and no worker can ask in his place.
func TestRoleOfARequest(t *testing.T) {
	t.Parallel()
	urls := storagetest.URLs(t)
	ctx := t.Context()
	app := storagetest.Open(t, urls.App)
	newAttempt(t, app, "run-1")
	ana, name := storagetest.PersonRole(t, urls)
	asked, err := storagetest.Open(t, ana).RequestDecision(ctx,
		storage.Request{Run: "run-1", Stage: "sft", Attempt: 1, Decision: "approve", Reason: "x", Actor: "root"})
	must(t, err)
	must(t, app.RecordDecision(ctx, storage.Decision{Request: asked, Number: 1, Update: "u1"}))
	decided, err := app.Decisions(ctx, storage.Attempt{Run: "run-1", Stage: "sft", Number: 1})
	must(t, err)
	if len(decided) != 1 || decided[0].Role != name || decided[0].Actor != "root" || decided[0].Reason != "x" {
		t.Errorf("decided %+v, want by role %s", decided, name)
	}

	worker, err := pgx.Connect(ctx, urls.App)
	must(t, err)
	defer worker.Close(ctx)
	for _, sql := range []string{
		`select append_event('run-1', '` + name + `', 'decision_requested', 'sft', 1, '{}')`,
		`set role ` + name, `set session authorization ` + name,
		`update event set actor = '` + name + `' where type = 'decision_requested'`,
		`insert into event select stream, 99, at, '` + name +
			`', type, stage, attempt, body, facts, hash from event where type = 'decision_requested'`,
		`create or replace function append_event(stream text, actor text, type text, stage text, attempt integer, body bytea) returns bigint language sql as 'select 1'`,
	} {
		_, err := worker.Exec(ctx, sql)
		events, listed := app.History(ctx, "run-1", "sft")
		must(t, listed)
		last := events[len(events)-1]
		if appended := strings.Contains(sql, "select append"); appended != (err == nil) || appended &&
			last.Actor != storage.AppRole {
			t.Errorf("%s: %v; the last event is %+v", sql, err, last)
		}
	}
}
