package activities

import (
	"fmt"
	"log/slog"
	"syscall"
	"testing"

	"github.com/trimtab/trimtab"
	"github.com/trimtab/trimtab/checkpoint"
	"github.com/trimtab/trimtab/storage"
	"github.com/trimtab/trimtab/storage/storagetest"
	"github.com/trimtab/trimtab/tensor"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/testsuite"
)

// A run whose worker was taken for lost while the disk was full says that the disk was full, once it can say anything.
func TestUnreportedErrors(t *testing.T) {
	files, err := checkpoint.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	pool := tensor.NewPool(1)
	defer pool.Close()
	store, ctx := storagetest.New(t), t.Context()
	a := New(slog.New(slog.DiscardHandler), store, files, pool, "test")
	if err := store.CreateRun(ctx, storage.Run{ID: "run-1", Plan: trimtab.Plan{Run: "run-1"}}); err != nil {
		t.Fatal(err)
	}
	attempt, err := store.CreateAttempt(ctx, storage.Attempt{Run: "run-1", Stage: "sft", Kind: "sft", Number: 1})
	if err != nil {
		t.Fatal(err)
	}
	var suite testsuite.WorkflowTestSuite
	env := suite.NewTestActivityEnvironment()
	env.RegisterActivity(a)
	show := func(status trimtab.AttemptStatus, run trimtab.RunStatus, e *trimtab.Error) (res AttemptStatusResult,
		shown string) {
		t.Helper()
		v, err := env.ExecuteActivity(a.SetAttemptStatus,
			AttemptStatusInput{Run: "run-1", Stage: "sft", Attempt: attempt.ID, Number: 1,
				Status: status, RunStatus: run, Error: e, Class: ClassOf(e), Actor: "trimtab"})
		if err == nil {
			err = v.Get(&res)
		}
		if err != nil {
			t.Fatal(err)
		}
		r, err := store.Run(ctx, "run-1")
		if err != nil {
			t.Fatal(err)
		}
		if r.Status != run {
			t.Errorf("the run is %s, want %s", r.Status, run)
		}
		if r.Error != nil {
			shown = r.Error.Type
		}
		return res, shown
	}
	lost := Unwrap(temporal.NewHeartbeatTimeoutError())
	full := classify(fmt.Errorf("write: %w", syscall.ENOSPC))
	if res, shown := show(trimtab.AttemptRetrying, trimtab.RunWaiting, lost); shown != "worker_lost" ||
		res.Cause != "" {
		t.Errorf("a lost worker is shown as %q, cause %q", shown, res.Cause)
	}
	a.unreported.record(attempt.ID, full)
	for range 2 { // the activity may be tried again
		if res, shown := show(trimtab.AttemptRetrying, trimtab.RunWaiting, lost); shown != DiskFull ||
			res.Cause != DiskFull {
			t.Errorf("a worker lost over a full disk is shown as %q, cause %q", shown, res.Cause)
		}
	}
	show(trimtab.AttemptRunning, trimtab.RunRunning, nil)
	if res, shown := show(trimtab.AttemptRetrying, trimtab.RunWaiting, lost); shown != "worker_lost" ||
		res.Cause != "" {
		t.Errorf("later it is shown as %q, cause %q", shown, res.Cause)
	}
	a.unreported.record(attempt.ID, trimtab.NewError(trimtab.Internal, "stage_panic", "", "odd"))
	if _, shown := show(trimtab.AttemptRetrying, trimtab.RunWaiting, lost); shown != "worker_lost" {
		t.Errorf("after a crash it is shown as %q", shown)
	}
}
