package storage_test

import (
	"math"
	"reflect"
	"testing"

	"github.com/trimtab/trimtab"
	"github.com/trimtab/trimtab/storage"
	"github.com/trimtab/trimtab/storage/storagetest"
)

// leasedAttempt makes an attempt whose fence is held by token 1.
func leasedAttempt(t testing.TB, s *storage.Store) int64 {
	t.Helper()
	id := newAttempt(t, s, "run-1").ID
	must(t, s.Lease(id, 1).Acquire(t.Context()))
	return id
}

func TestCommitComesBackAsItWas(t *testing.T) {
	t.Parallel()
	url := storagetest.URLs(t).App
	s, ctx := storagetest.Open(t, url), t.Context()
	id := leasedAttempt(t, s)
	reports := []storage.StepReport{report(0, 3, 0, 0), report(1, 3, 5, 28)}
	odd := []float64{math.NaN(), math.Inf(-1), math.Copysign(0, -1), math.SmallestNonzeroFloat64, math.MaxFloat64,
		math.Float64frombits(0x7ff8000000000123)}
	for i, v := range odd {
		reports[0].Report.Metrics = append(reports[0].Report.Metrics,
			trimtab.Metric{Name: "odd/" + string(rune('a'+i)), Value: v})
	}
	rollouts := reports[1].Report.Rollouts
	rollouts[0].KL = []float32{float32(math.NaN()), float32(math.Copysign(0, -1)), math.SmallestNonzeroFloat32}
	rollouts[1] = trimtab.Rollout{Index: 1, Tokens: []int32{}, Values: []float32{}} // nil and empty are not the same
	must(t, s.Lease(id, 1).Commit(ctx, reports, &storage.Checkpoint{Step: 2, Digest: digest("two")}))

	rows, err := s.Metrics(ctx, id)
	must(t, err)
	if len(rows) != 6+len(odd) {
		t.Fatalf("%d metrics", len(rows))
	}
	for i, v := range odd { // "metric/…" < "odd/…"
		if r := rows[3+i]; r.Step != 0 || math.Float64bits(r.Value) != math.Float64bits(v) {
			t.Errorf("%+v, want %v", r, v)
		}
	}
	some, err := s.Metrics(ctx, id, "metric/02", "metric/00")
	must(t, err)
	if want := []storage.MetricRow{{0, "metric/00", 0}, {0, "metric/02", 2. / 64}, {1, "metric/00", 1},
		{1, "metric/02", 1 + 2./64}}; !reflect.DeepEqual(some, want) {
		t.Errorf("got %v, want %v", some, want)
	}
	got, err := s.Rollouts(ctx, id, 1)
	must(t, err)
	if len(got) != len(rollouts) || !sameFloats(got[0].KL, rollouts[0].KL) {
		t.Fatalf("rollouts %v", got)
	}
	got[0].KL, rollouts[0].KL = nil, nil
	if !reflect.DeepEqual(got, rollouts) {
		t.Errorf("got  %#v\nwant %#v", got, rollouts)
	}
	timings := storagetest.Timings(t, url, id)
	want := []storagetest.Timing{{Name: "step", Seconds: .25}, {Step: 1, Name: "step", Seconds: .25}}
	if !reflect.DeepEqual(timings, want) {
		t.Errorf("timings %v", timings)
	}
}

func sameFloats(a, b []float32) bool {
	for i := range a {
		if math.Float32bits(a[i]) != math.Float32bits(b[i]) {
			return false
		}
	}
	return len(a) == len(b)
}

func TestCheckpoints(t *testing.T) {
	t.Parallel()
	s, ctx := storagetest.New(t), t.Context()
	id := leasedAttempt(t, s)
	if _, ok, err := s.LatestCheckpoint(ctx, id); ok || err != nil {
		t.Errorf("a checkpoint before any (%v)", err)
	}
	for _, step := range []int{10, 20} {
		must(t, s.Lease(id, 1).Commit(ctx, nil, &storage.Checkpoint{Step: step, Digest: digest("state")}))
	}
	last, ok, err := s.LatestCheckpoint(ctx, id)
	must(t, err)
	all, err := s.Checkpoints(ctx, id)
	must(t, err)
	if !ok || last.Step != 20 || last.Attempt != id || len(all) != 2 || all[0].Step != 10 || all[1] != last {
		t.Errorf("last %+v of %+v", last, all)
	}
	must(t, s.Lease(id, 1).Commit(ctx, nil, &storage.Checkpoint{Step: 10, Digest: digest("state")}))
	wantError(t, s.Lease(id, 1).Commit(ctx, nil, &storage.Checkpoint{Step: 10, Digest: digest("other")}),
		trimtab.Verification, "replay_diverged")
	for _, prefix := range []string{"", "sha256:", digest("state").Short(), string(digest("state"))} {
		if c, err := s.FindCheckpoint(ctx, "run-1", "sft", prefix); err != nil || c != last {
			t.Errorf("found %+v (%v) by %q", c, err, prefix)
		}
	}
	_, err = s.FindCheckpoint(ctx, "run-1", "sft", "000000")
	wantError(t, err, trimtab.NotFound, "checkpoint_not_found")
	a, err := s.Attempt(ctx, id)
	must(t, err)
	if a.Step != 20 {
		t.Errorf("step %d", a.Step)
	}
}

// Whatever a repeat changes, but for the time it took, is a divergence; and then nothing of it is kept.
func TestReplays(t *testing.T) {
	t.Parallel()
	s, ctx := storagetest.New(t), t.Context()
	id := leasedAttempt(t, s)
	whole := func() []storage.StepReport {
		r := []storage.StepReport{report(0, 3, 2, 4), report(1, 3, 2, 4)}
		r[1].Report.Metrics[1].Value = math.NaN()
		r[1].Report.Rollouts[1].Returns[2] = float32(math.NaN())
		return r
	}
	must(t, s.Lease(id, 1).Commit(ctx, whole(), nil))
	changes := map[string]func(r *trimtab.Report){
		"last bit of a metric": func(r *trimtab.Report) {
			r.Metrics[0].Value = math.Nextafter(r.Metrics[0].Value,
				9)
		},
		"bits of a NaN":           func(r *trimtab.Report) { r.Metrics[1].Value = math.Float64frombits(0x7ff8000000000123) },
		"a metric less":           func(r *trimtab.Report) { r.Metrics = r.Metrics[1:] },
		"a metric more":           func(r *trimtab.Report) { r.Metrics = append(r.Metrics, trimtab.Metric{Name: "x"}) },
		"name of a metric":        func(r *trimtab.Report) { r.Metrics[2].Name = "x" },
		"a rollout less":          func(r *trimtab.Report) { r.Rollouts = r.Rollouts[:1] },
		"index of a rollout":      func(r *trimtab.Report) { r.Rollouts[1].Index = 7 },
		"a token":                 func(r *trimtab.Report) { r.Rollouts[1].Tokens[3]++ },
		"a byte":                  func(r *trimtab.Report) { r.Rollouts[1].Bytes = []byte("four\x00\xfe") },
		"sign of zero in a value": func(r *trimtab.Report) { r.Rollouts[0].Values[0] = float32(math.Copysign(0, -1)) },
		"last bit of a KL": func(r *trimtab.Report) {
			r.Rollouts[1].KL[3] = math.Nextafter32(r.Rollouts[1].KL[3],
				9)
		},
		"no rewards":    func(r *trimtab.Report) { r.Rollouts[1].Rewards = nil },
		"the score":     func(r *trimtab.Report) { r.Rollouts[1].Score = 0.25 },
		"ended":         func(r *trimtab.Report) { r.Rollouts[1].Ended = true },
		"prompt tokens": func(r *trimtab.Report) { r.Rollouts[1].PromptIDs = []int32{1, 2} },
	}
	for name, change := range changes {
		r := append(whole(), report(2, 1, 0, 0))
		change(&r[1].Report)
		t.Log(name)
		wantError(t, s.Lease(id, 1).Commit(ctx, r, &storage.Checkpoint{Step: 3, Digest: digest("x")}),
			trimtab.Verification,
			"replay_diverged")
	}
	events, err := s.History(ctx, "run-1", "sft")
	must(t, err)
	same := whole()
	same[0].Seconds = 99
	must(t, s.Lease(id, 1).Commit(ctx, same, nil))
	must(t, s.Lease(id, 1).Commit(ctx, same[1:], nil))
	after, err := s.History(ctx, "run-1", "sft")
	must(t, err)
	rows, err := s.Metrics(ctx, id)
	must(t, err)
	_, ok, err := s.LatestCheckpoint(ctx, id)
	must(t, err)
	if len(after) != len(events) || len(rows) != 6 || ok {
		t.Errorf("repeats left %d events, %d metrics, checkpoint %v", len(after)-len(events), len(rows), ok)
	}
	// the steps before a checkpoint again, and new ones after them
	must(t, s.Lease(id, 1).Commit(ctx, append(whole(), report(2, 1, 1, 1)),
		&storage.Checkpoint{Step: 3, Digest: digest("x")}))
}

func TestReportsThatAreRefused(t *testing.T) {
	t.Parallel()
	s, ctx := storagetest.New(t), t.Context()
	id := leasedAttempt(t, s)
	twice := report(0, 1, 1, 1)
	twice.Report.Metrics = append(twice.Report.Metrics, twice.Report.Metrics[0])
	wantError(t, s.Lease(id, 1).Commit(ctx, []storage.StepReport{twice}, nil), trimtab.Invalid, "invalid_report")
	twice = report(0, 1, 1, 1)
	twice.Report.Rollouts = append(twice.Report.Rollouts, twice.Report.Rollouts[0])
	wantError(t, s.Lease(id, 1).Commit(ctx, []storage.StepReport{twice}, nil), trimtab.Invalid, "invalid_report")
	wantError(t, s.Lease(id, 1).Commit(ctx, []storage.StepReport{report(0, 1, 0, 0), report(0, 1, 0, 0)}, nil),
		trimtab.Invalid, "invalid_report")
	wantError(t, s.Lease(id, 1).Commit(ctx, []storage.StepReport{report(-1, 1, 0, 0)}, nil), trimtab.Invalid,
		"invalid_record")
	wantError(t, s.Lease(id, 1).Commit(ctx, nil, &storage.Checkpoint{Step: 1, Digest: "sha256:x"}), trimtab.Invalid,
		"invalid_record")
}
