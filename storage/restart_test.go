package storage_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/trimtab/trimtab"
	"github.com/trimtab/trimtab/devstack/devstacktest"
	"github.com/trimtab/trimtab/storage"
	"github.com/trimtab/trimtab/storage/storagetest"
)

// A pool outlives its server: what is asked meanwhile is Unavailable, and afterwards all is as before. Not parallel:
// it takes the server from every test.
func TestServerRestarts(t *testing.T) {
	s, ctx := storagetest.New(t), t.Context()
	id := leasedAttempt(t, s)
	commit := func(step int) error {
		return s.Lease(id, 1).Commit(ctx, []storage.StepReport{report(step, 3, 1, 1)},
			&storage.Checkpoint{Step: step + 1, Digest: digest("s")})
	}
	must(t, commit(0))
	devstacktest.RestartPostgres(t, func() {
		for range 10 { // first on broken connections, then on none
			wantError(t, commit(1), trimtab.Unavailable, "postgres_unavailable")
			wantError(t, s.Ping(ctx), trimtab.Unavailable, "postgres_unavailable")
			_, err := s.Runs(ctx, 1)
			wantError(t, err, trimtab.Unavailable, "postgres_unavailable")
		}
		_, err := storage.Open(ctx, nobodyListens)
		wantError(t, err, trimtab.Unavailable, "postgres_unavailable")
	})
	var err error
	for range 20 {
		if err = commit(1); err == nil {
			break
		}
		wantError(t, err, trimtab.Unavailable, "postgres_unavailable")
	}
	must(t, err)
	must(t, commit(0))
	must(t, commit(1))
}

// Connections are cut at random moments, inside transactions too: what
// failed is tried again, and in the end everything is there once.
func TestCutConnections(t *testing.T) {
	t.Parallel()
	urls := storagetest.URLs(t)
	s, ctx := storagetest.Open(t, urls.App), t.Context()
	id := leasedAttempt(t, s)
	done, cut := make(chan struct{}), make(chan int)
	go func() {
		owner, cuts := connect(t, urls.Owner), 0
		defer func() { cut <- cuts }()
		for {
			select {
			case <-done:
				return
			case <-time.After(time.Duration(20+rand.IntN(100)) * time.Millisecond):
			}
			var n int
			err := owner.QueryRow(ctx, `select count(pg_terminate_backend(pid)) from pg_stat_activity
				where datname = current_database() and usename = 'trimtab_app'`).Scan(&n)
			if err != nil {
				t.Error(err)
			}
			cuts += n
		}
	}()
	const steps = 40
	failed := 0
	for step := range steps {
		for {
			err := s.Lease(id, 1).Commit(ctx, []storage.StepReport{report(step, 10, 4, 8)},
				&storage.Checkpoint{Step: step + 1, Digest: digest("s")})
			if err == nil {
				break
			}
			wantError(t, err, trimtab.Unavailable, "postgres_unavailable")
			failed++
		}
	}
	close(done)
	cuts := <-cut
	s = storagetest.Open(t, urls.App) // the pool may hold broken connections
	metrics, err := s.Metrics(ctx, id)
	must(t, err)
	checkpoints, err := s.Checkpoints(ctx, id)
	must(t, err)
	events, err := s.History(ctx, "run-1", "sft")
	must(t, err)
	if len(metrics) != steps*10 || len(checkpoints) != steps || len(events) != 1+steps {
		t.Errorf("%d metrics, %d checkpoints, %d events of %d steps", len(metrics), len(checkpoints), len(events),
			steps)
	}
	t.Logf("%d connections cut, %d commits tried again", cuts, failed)
}

// A restart while connections are in the pool and none was used meanwhile.
func TestIdlePoolAfterARestart(t *testing.T) {
	s, ctx := storagetest.New(t), t.Context()
	newRun(t, s, "run-1")
	devstacktest.RestartPostgres(t, func() {})
	var err error
	for range 20 {
		if _, err = s.Run(ctx, "run-1"); err == nil {
			return
		}
		wantError(t, err, trimtab.Unavailable, "postgres_unavailable")
	}
	t.Fatal(err)
}

func TestCancelledCalls(t *testing.T) {
	s := storagetest.New(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.Runs(ctx, 1); !errors.Is(err, context.Canceled) ||
		trimtab.AsError(err).Class == trimtab.Unavailable {
		t.Errorf("a cancelled call says %v", err)
	}
	ctx, cancel = context.WithTimeout(t.Context(), time.Nanosecond)
	defer cancel()
	if err := s.Ping(ctx); !errors.Is(err, context.DeadlineExceeded) ||
		trimtab.AsError(err).Class == trimtab.Unavailable {
		t.Errorf("a call out of time says %v", err)
	}
}

func TestBadAddress(t *testing.T) {
	t.Parallel()
	_, err := storage.Open(t.Context(), "postgres://host:port:port/")
	wantError(t, err, trimtab.Usage, "postgres_url")
}

const nobodyListens = "postgres://trimtab_app@127.0.0.1:1/trimtab?sslmode=disable"
