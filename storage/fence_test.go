package storage_test

import (
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/trimtab/trimtab"
	"github.com/trimtab/trimtab/storage"
	"github.com/trimtab/trimtab/storage/storagetest"
)

func TestFence(t *testing.T) {
	t.Parallel()
	s, ctx := storagetest.New(t), t.Context()
	id := newAttempt(t, s, "run-1").ID
	must(t, s.Lease(id, 3).Acquire(ctx))
	for _, token := range []int64{3, 2, 0, -1} {
		wantError(t, s.Lease(id, token).Acquire(ctx), trimtab.Conflict, "fenced")
	}
	must(t, s.Lease(id, 4).Acquire(ctx))
	wantError(t, s.Lease(999, 1).Acquire(ctx), trimtab.NotFound, "attempt_not_found")
	wantError(t, s.Lease(999, 1).Commit(ctx, nil, nil), trimtab.NotFound, "attempt_not_found")
}

// An error names an attempt by its number within its stage, never by the id of a row.
func TestErrorsNameAttempts(t *testing.T) {
	t.Parallel()
	s, ctx := storagetest.New(t), t.Context()
	newAttempt(t, s, "run-0") // so that an id is no number
	id := newAttempt(t, s, "run-1").ID
	must(t, s.Lease(id, 3).Acquire(ctx))
	must(t, s.Lease(id, 3).Commit(ctx, []storage.StepReport{report(0, 1, 0, 0)}, nil))
	other := report(0, 2, 0, 0)
	fenced, diverged := s.Lease(id, 2).Acquire(ctx), s.Lease(id, 3).Commit(ctx, []storage.StepReport{other}, nil)
	must(t, s.SetAttemptStatus(ctx, id, trimtab.AttemptCancelled, nil, "tester"))
	for _, err := range []error{fenced, diverged, s.Lease(id, 3).Start(ctx, 1, "build", "avx2"),
		s.Lease(id, 3).Complete(ctx, nil, nil)} {
		if err == nil || !strings.Contains(err.Error(), "attempt 1 of stage sft of run run-1") {
			t.Errorf("it says %v", err)
		}
	}
}

// The older of two holders cannot write, whatever the younger has written by then.
func TestTwoHolders(t *testing.T) {
	t.Parallel()
	s, ctx := storagetest.New(t), t.Context()
	id := newAttempt(t, s, "run-1").ID
	must(t, s.Lease(id, 1).Acquire(ctx))
	must(t, s.Lease(id, 1).Commit(ctx, []storage.StepReport{report(0, 1, 0, 0)}, nil))
	must(t, s.Lease(id, 2).Acquire(ctx))
	wantError(t, s.Lease(id, 1).Commit(ctx, []storage.StepReport{report(1, 1, 0, 0)}, nil), trimtab.Conflict, "fenced")
	wantError(t, s.Lease(id, 3).Commit(ctx, []storage.StepReport{report(1, 1, 0, 0)}, nil), trimtab.Conflict, "fenced")
	must(t, s.Lease(id, 2).Commit(ctx, []storage.StepReport{report(0, 1, 0, 0), report(1, 1, 0, 0)}, nil))
	a, err := s.Attempt(ctx, id)
	must(t, err)
	if a.Step != 2 {
		t.Errorf("%d steps, want 2", a.Step)
	}
}

// Holders that take the attempt from one another while they write: after
// each taking of the fence, nothing of an earlier holder arrives.
func TestHoldersRace(t *testing.T) {
	t.Parallel()
	s, ctx := storagetest.New(t), t.Context()
	id := newAttempt(t, s, "run-1").ID
	var newest, written, refused atomic.Int64
	var wg sync.WaitGroup
	for holder := range int64(4) {
		wg.Go(func() {
			for round := range int64(10) {
				token := round*4 + holder + 1
				if err := s.Lease(id, token).Acquire(ctx); err != nil {
					continue
				}
				newest.Store(max(newest.Load(), token))
				before := newest.Load()
				step := int(token)
				err := s.Lease(id, token).Commit(ctx, []storage.StepReport{report(step, 1, 0, 0)}, nil)
				switch {
				case err == nil && before > token:
					t.Errorf("token %d wrote after %d had the fence", token, before)
				case err == nil:
					written.Add(1)
				default:
					wantError(t, err, trimtab.Conflict, "fenced")
					refused.Add(1)
				}
			}
		})
	}
	wg.Wait()
	rows, err := s.Metrics(ctx, id)
	must(t, err)
	if int64(len(rows)) != written.Load() || written.Load() == 0 {
		t.Errorf("%d rows of %d commits", len(rows), written.Load())
	}
	t.Logf("%d commits, %d refused", written.Load(), refused.Load())
}

// A holder that is frozen inside a transaction is cut off, so that its
// successor does not wait for it for ever; when it thaws, that passes by itself.
func TestFrozenHolder(t *testing.T) {
	t.Parallel()
	url := storagetest.URLs(t).App
	s, ctx := storagetest.Open(t, url), t.Context()
	id := newAttempt(t, s, "run-1").ID
	frozen, err := pgx.Connect(ctx, url+"&idle_in_transaction_session_timeout=300ms")
	must(t, err)
	defer frozen.Close(ctx)
	tx, err := frozen.Begin(ctx)
	must(t, err)
	_, err = tx.Exec(ctx, "select from fence where attempt = $1 for share", id)
	must(t, err)
	must(t, s.Lease(id, 2).Acquire(ctx))
	_, err = tx.Exec(ctx, "select 1")
	if err == nil {
		t.Error("the frozen transaction goes on")
	}
}
