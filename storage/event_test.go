package storage_test

import (
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/trimtab/trimtab"
	"github.com/trimtab/trimtab/storage"
	"github.com/trimtab/trimtab/storage/storagetest"
)

// A stream counts 1, 2, 3 … without gaps, and its times rise, whoever writes to it at once.
func TestStreamsHaveNoGaps(t *testing.T) {
	t.Parallel()
	s, ctx := storagetest.New(t), t.Context()
	newRun(t, s, "run-1")
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for j := range 10 {
				if err := s.SetRunStatus(ctx, "run-1", trimtab.RunWaiting, fmt.Sprint(i, j), nil, "ann"); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	events, err := s.History(ctx, "run-1", "")
	must(t, err)
	if len(events) != 81 {
		t.Fatalf("%d events, want 81", len(events))
	}
	if !slices.IsSortedFunc(events, func(a, b storage.Event) int { return a.At.Compare(b.At) }) {
		t.Error("times do not rise")
	}
	for i, e := range events {
		if e.Sequence != int64(i+1) {
			t.Fatalf("event %d has sequence %d", i+1, e.Sequence)
		}
	}
}

func TestLogs(t *testing.T) {
	t.Parallel()
	s, ctx := storagetest.New(t), t.Context()
	at := time.Date(2026, 1, 2, 3, 4, 5, 6000, time.UTC)
	for i := range 5 {
		must(t, s.Log(ctx, "run-1", storage.LogLine{At: at, Level: "info", Stage: "sft", Attempt: 1,
			Message: fmt.Sprintf("line %d\x00\xff", i)}))
	}
	must(t, s.Log(ctx, "run-2", storage.LogLine{Message: "another run's"}))
	lines, after, err := s.Logs(ctx, "run-1", 0, 3)
	must(t, err)
	rest, last, err := s.Logs(ctx, "run-1", after, 0)
	must(t, err)
	if len(lines) != 3 || len(rest) != 2 || lines[0] != (storage.LogLine{At: at, Level: "info", Stage: "sft",
		Attempt: 1, Message: "line 0��"}) {
		t.Errorf("lines %+v, then %+v", lines, rest)
	}
	none, same, err := s.Logs(ctx, "run-1", last, 0)
	must(t, err)
	if len(none) != 0 || same != last {
		t.Errorf("after the end: %v, %d", none, same)
	}
}
