package runs_test

import (
	"context"
	"log/slog"
	"testing"
	"time"

	"github.com/trimtab/trimtab"
	"github.com/trimtab/trimtab/activities"
	"github.com/trimtab/trimtab/checkpoint"
	"github.com/trimtab/trimtab/devstack/devstacktest"
	"github.com/trimtab/trimtab/recipes"
	"github.com/trimtab/trimtab/runs"
	"github.com/trimtab/trimtab/storage/storagetest"
	"github.com/trimtab/trimtab/tensor"
	"github.com/trimtab/trimtab/workflows"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/worker"
)

func TestMain(m *testing.M) { devstacktest.Main(m) }

// bench is a service with a worker of its own: real Postgres, real Temporal.
type bench struct {
	t   *testing.T
	ctx context.Context
	*runs.Service
	temporal  client.Client
	namespace string
	dir       string        // of the files
	acts      any           // *activities.Activities, or what stands in for it
	slots     int           // segments at a time
	throttle  time.Duration // of heartbeats, which bring pauses; 0 is the default
	stop      func()
}

// newBench starts a worker for a database of its own. Task queues are shared
// by all tests of the process, so tests with benches do not run in parallel.
func newBench(t *testing.T, threads int) *bench {
	t.Helper()
	b := newServers(t, threads)
	b.start()
	return b
}

// newServers is newBench before its worker starts.
func newServers(t *testing.T, threads int) *bench {
	t.Helper()
	e := devstacktest.Start(t) // may build the server, which takes longer than any test
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	t.Cleanup(cancel)
	store := storagetest.Open(t, storagetest.On(t, e.PostgresURL).App)
	dir := t.TempDir()
	files, err := checkpoint.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	lg := slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelWarn}))
	c, err := client.DialContext(ctx, client.Options{HostPort: e.Temporal, Namespace: e.Namespace, Logger: lg})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	pool := tensor.NewPool(threads)
	t.Cleanup(pool.Close)
	b := &bench{t: t, ctx: ctx, Service: runs.New(lg, store, files, c), temporal: c, namespace: e.Namespace, dir: dir, slots: 1, stop: func() {},
		acts: activities.New(lg, store, files, pool, "test")}
	t.Cleanup(func() { b.stop() })
	return b
}

// start lets a worker serve both queues; stop ends it.
func (b *bench) start() {
	small := worker.New(b.temporal, workflows.SmallQueue, worker.Options{WorkerStopTimeout: 10 * time.Second})
	small.RegisterWorkflow(workflows.Run)
	small.RegisterWorkflow(workflows.Stage)
	train := worker.New(b.temporal, workflows.TrainQueue, worker.Options{WorkerStopTimeout: 10 * time.Second, DisableWorkflowWorker: true, MaxConcurrentActivityExecutionSize: b.slots,
		MaxHeartbeatThrottleInterval: b.throttle})
	for _, w := range []worker.Worker{small, train} {
		w.RegisterActivity(b.acts)
		if err := w.Start(); err != nil {
			b.t.Fatal(err)
		}
	}
	b.stop = func() {
		train.Stop()
		small.Stop()
		b.stop = func() {}
	}
}

// launch starts the smallest run with overrides.
func (b *bench) launch(sets ...string) string {
	b.t.Helper()
	spec, err := recipes.Load("instructgpt", "smallest", sets)
	if err != nil {
		b.t.Fatal(err)
	}
	l, err := b.Launch(b.ctx, runs.LaunchRequest{Spec: spec, Actor: "tester", New: true})
	if err != nil {
		b.t.Fatal(err)
	}
	return l.Run.ID
}

// await waits until the run is in one of the states.
func (b *bench) await(run string, states ...trimtab.RunStatus) runs.Document {
	b.t.Helper()
	for {
		d, err := b.Show(b.ctx, run)
		if err != nil {
			b.t.Fatal(err)
		}
		for _, s := range states {
			if d.Status == s {
				return d
			}
		}
		if !d.Status.Open() {
			b.t.Fatalf("run is %s, want %v: %v", d.Status, states, d.Error)
		}
		select {
		case <-b.ctx.Done():
			b.t.Fatalf("run is still %s (%s), want %v", d.Status, d.Next, states)
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// models are the digests of what the run made.
func models(d runs.Document) map[string]trimtab.Digest {
	m := map[string]trimtab.Digest{}
	for _, model := range d.Models {
		m[model.Name] = model.Digest
	}
	return m
}
