package runs_test

import (
	"bytes"
	"context"
	"flag"
	"slices"
	"testing"
	"time"

	"github.com/trimtab/trimtab"
	"github.com/trimtab/trimtab/storage"
)

var queued = flag.Int("queued", 40,
	"how many runs are queued when the worker of TestQueueDrains starts; 20 with -short")

// Many queued runs drain through one worker: each completes, with one attempt of each stage.
func TestQueueDrains(t *testing.T) {
	if testing.Short() {
		*queued = min(*queued, 20)
	}
	b, n := newNoopBench(t, 1)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	defer cancel()
	b.ctx = ctx
	b.stop()
	start := time.Now()
	for range *queued {
		b.launch("seed=" + n.seed())
	}
	t.Logf("%d runs launched in %.1f s", *queued, time.Since(start).Seconds())
	start = time.Now()
	b.start()
	for {
		open, err := b.Store().Runs(b.ctx, 0)
		b.do(err)
		open = slices.DeleteFunc(open, func(r storage.Run) bool { return !r.Status.Open() })
		if len(open) == 0 {
			break
		}
		select {
		case <-b.ctx.Done():
			t.Fatalf("%d of %d runs are open, the first is %s: %s", len(open), *queued, open[0].Status, open[0].Next)
		case <-time.After(time.Second):
		}
	}
	took := time.Since(start)
	t.Logf("%d runs drained in %.1f s", *queued, took.Seconds())
	all, err := b.Store().Runs(b.ctx, 0)
	b.do(err)
	if len(all) != *queued {
		t.Errorf("%d runs", len(all))
	}
	for _, r := range all {
		attempts, err := b.Store().Attempts(b.ctx, r.ID)
		b.do(err)
		if r.Status != trimtab.RunCompleted || len(attempts) != len(r.Plan.Stages) {
			t.Errorf("run %s is %s with %d attempts: %v", r.ID, r.Status, len(attempts), r.Error)
		}
		for _, a := range attempts {
			if a.Number != 1 || a.Status != trimtab.AttemptCompleted {
				t.Errorf("run %s: attempt %d of %s is %s", r.ID, a.Number, a.Stage, a.Status)
			}
		}
		events, err := b.Store().History(b.ctx, r.ID, "")
		b.do(err)
		for _, e := range events {
			if e.Type == trimtab.EventRunStatus && (bytes.Contains(e.Body, []byte(`"waiting"`)) ||
				bytes.Contains(e.Body, []byte(`"blocked"`))) {
				t.Errorf("run %s was interrupted: %s", r.ID, e.Body)
			}
		}
	}
}
