package storage_test

import (
	"encoding/json"
	"testing"

	"github.com/trimtab/trimtab"
	"github.com/trimtab/trimtab/storage/storagetest"
)

func TestDecisions(t *testing.T) {
	t.Parallel()
	s, ctx := storagetest.New(t), t.Context()
	id := newAttempt(t, s, "run-1").ID
	decide := func(decision, reason string) int {
		t.Helper()
		body := json.RawMessage(`{"reason": "` + reason + `"}`)
		must(t, s.RecordDecision(ctx, "run-1", "sft", id, decision, body, "ann"))
		events, err := s.History(ctx, "run-1", "sft")
		must(t, err)
		last := events[len(events)-1]
		if last.Type != "decision" || last.Attempt != 1 || last.Actor != "ann" {
			t.Errorf("last event %+v", last)
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
	must(t, s.RecordDecision(ctx, "run-1", "reward", 0, "skip", nil, "ann"))
	wantError(t, s.RecordDecision(ctx, "run-1", "sft", 999, "skip", nil, "ann"), trimtab.NotFound, "attempt_not_found")
}
