package runs_test

import (
	"context"
	"encoding/json"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/trimtab/trimtab"
	"github.com/trimtab/trimtab/activities"
	"github.com/trimtab/trimtab/checkpoint"
	"github.com/trimtab/trimtab/devstack"
	"github.com/trimtab/trimtab/devstack/devstacktest"
	"github.com/trimtab/trimtab/notary"
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
	env       []string              // what another process needs to work for this bench
	urls      storagetest.Addresses // of the database
	dir       string                // of the files
	acts      any                   // *activities.Activities, or what stands in for it
	slots     int                   // segments at a time
	throttle  time.Duration         // of heartbeats, which bring pauses; 0 is the default
	stop      func()
}

// newBench starts a worker for a database of its own. Task queues are shared
// by all tests of the process, so tests with benches do not run in parallel.
func newBench(t *testing.T, threads int, options ...activities.Option) *bench {
	t.Helper()
	return newBenchIn(t, t.TempDir(), threads, options...)
}

// newBenchIn is newBench with its files in a folder that is there.
func newBenchIn(t *testing.T, dir string, threads int, options ...activities.Option) *bench {
	t.Helper()
	b := newServers(t, dir, threads, options...)
	b.start()
	return b
}

// newServers is newBenchIn before its worker starts.
func newServers(t *testing.T, dir string, threads int, options ...activities.Option) *bench {
	t.Helper()
	e := devstacktest.Start(t) // may build the server, which takes longer than any test
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	t.Cleanup(cancel)
	urls := storagetest.URLsOn(t, e.PostgresURL)
	url := urls.App
	store := storagetest.Open(t, url)
	files, err := checkpoint.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	lg := slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelWarn}))
	o, err := e.TemporalOptions()
	if err != nil {
		t.Fatal(err)
	}
	o.Logger = lg
	c, err := client.DialContext(ctx, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	pool := tensor.NewPool(threads)
	t.Cleanup(pool.Close)
	b := &bench{t: t, ctx: ctx, Service: runs.New(lg, store, files, c), temporal: c, namespace: e.Namespace, urls: urls,
		dir: dir, slots: 1, stop: func() {},
		acts: activities.New(lg, store, files, pool, "test", options...)}
	where, err := json.Marshal(devstack.Endpoints{Temporal: e.Temporal, TemporalTLS: e.TemporalTLS,
		Namespace: e.Namespace})
	if err != nil {
		t.Fatal(err)
	}
	b.env = []string{"TEST_POSTGRES=" + url, "TEST_TEMPORAL=" + string(where), "TEST_FILES=" + dir}
	t.Cleanup(func() {
		b.stop()
		b.sound()
	})
	return b
}

// sound fails the test if anything of any run was lost, duplicated or left half written, or differs from its event.
func (b *bench) sound() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	all, err := b.Store().Runs(ctx, 0)
	if err != nil {
		b.t.Error(err)
	}
	rep, err := notary.Verifier{Store: b.Store(), NoHeads: true}.Verify(ctx)
	if err != nil {
		b.t.Error(err)
	}
	for _, p := range rep.Problems {
		b.t.Errorf("the record: %s: %s", p.Where, p.What)
	}
	for _, r := range all {
		_, findings, err := b.Check(ctx, r.ID)
		if err != nil {
			b.t.Errorf("run %s: %v", r.ID, err)
		}
		for _, f := range findings {
			if f.Broken > 0 {
				b.t.Errorf("run %s breaks %s (%d): %s", r.ID, f.Name, f.Broken, strings.Join(f.Offenders, "; "))
			}
		}
	}
}

// start lets a worker serve both queues; stop ends it.
func (b *bench) start() {
	end := serve(b.t, b.temporal, b.acts, worker.Options{Identity: "bench", MaxConcurrentActivityExecutionSize: b.slots,
		MaxHeartbeatThrottleInterval: b.throttle})
	b.stop = func() {
		end()
		b.stop = func() {}
	}
}

// serve is a worker process at work, as `trimtab worker` makes one; training says how it takes segments.
func serve(t *testing.T, c client.Client, acts any, training worker.Options) (stop func()) {
	t.Helper()
	small := worker.New(c, activities.SmallQueue, worker.Options{WorkerStopTimeout: 10 * time.Second,
		Identity: training.Identity})
	small.RegisterWorkflow(workflows.Run)
	small.RegisterWorkflow(workflows.Stage)
	training.WorkerStopTimeout, training.DisableWorkflowWorker = 10*time.Second, true
	train := worker.New(c, activities.TrainQueue, training)
	for _, w := range []worker.Worker{small, train} {
		w.RegisterActivity(acts)
		if err := w.Start(); err != nil {
			t.Fatal(err)
		}
	}
	return func() {
		train.Stop()
		small.Stop()
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
func (b *bench) await(run string, states ...trimtab.RunStatus) runs.View {
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

// addModels are the digests of what the run made.
func models(d runs.View) map[string]trimtab.Digest {
	m := map[string]trimtab.Digest{}
	for _, model := range d.Models {
		m[model.Name] = model.Digest
	}
	return m
}
