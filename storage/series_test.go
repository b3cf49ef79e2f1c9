package storage_test

import (
	"math"
	"testing"

	"github.com/trimtab/trimtab"
	"github.com/trimtab/trimtab/storage"
	"github.com/trimtab/trimtab/storage/storagetest"
)

func TestFirstDivergence(t *testing.T) {
	t.Parallel()
	s, ctx := storagetest.New(t), t.Context()
	step := func(n int, metrics ...trimtab.Metric) storage.StepReport {
		return storage.StepReport{Step: n, Report: trimtab.Report{Metrics: metrics}}
	}
	loss := func(v float64) trimtab.Metric { return trimtab.Metric{Name: "loss", Value: v} }
	commit := func(run string, reports ...storage.StepReport) int64 {
		a := newAttempt(t, s, run)
		must(t, s.Lease(a.ID, 1).Acquire(ctx))
		must(t, s.Lease(a.ID, 1).Commit(ctx, reports, nil))
		return a.ID
	}
	nan := math.Float64frombits(0x7ff8000000000001)
	a := commit("run-a", step(0, loss(1)), step(1, loss(nan), trimtab.Metric{Name: "kl", Value: 0}), step(2, loss(3)))
	b := commit("run-b", step(0, loss(1)), step(1, loss(nan), trimtab.Metric{Name: "kl", Value: math.Copysign(0, -1)}),
		step(2, loss(3)))
	c := commit("run-c", step(0, loss(1)), step(1, loss(nan)), step(2, loss(4)), step(3, loss(5)))
	part := func(attempt int64, from, until int) storage.SeriesSegment {
		return storage.SeriesSegment{Attempt: attempt, From: from, Until: until}
	}

	for name, series := range map[string][][]storage.SeriesSegment{
		"a with itself":       {{part(a, 0, 3)}, {part(a, 0, 3)}},
		"a and b but step 1":  {{part(a, 0, 1), part(a, 2, 3)}, {part(b, 0, 1), part(b, 2, 3)}},
		"one series in parts": {{part(a, 0, 1), part(b, 1, 3)}, {part(b, 1, 3), part(c, 0, 1)}},
	} {
		if d, err := s.FirstDivergence(ctx, series...); d != nil || err != nil {
			t.Errorf("%s: %+v, %v", name, d, err)
		}
	}
	// zero is not minus zero
	d, err := s.FirstDivergence(ctx, []storage.SeriesSegment{part(a, 0, 3)}, []storage.SeriesSegment{part(b, 0, 3)})
	if err != nil || d == nil || d.Step != 1 || d.Name != "kl" || *d.Values[0] != 0 || !math.Signbit(*d.Values[1]) {
		t.Errorf("a and b: %+v, %v", d, err)
	}
	d, err = s.FirstDivergence(ctx, []storage.SeriesSegment{part(c, 0, 3)}, []storage.SeriesSegment{part(a, 0, 3)},
		[]storage.SeriesSegment{part(b, 0, 3)})
	if err != nil || d == nil || d.Step != 1 || d.Name != "kl" || d.Values[0] != nil || d.Values[1] == nil ||
		d.Values[2] == nil {
		t.Errorf("c, a and b: %+v, %v", d, err)
	}
	d, err = s.FirstDivergence(ctx, []storage.SeriesSegment{part(c, 2, 3)}, []storage.SeriesSegment{part(a, 2, 3)})
	if err != nil || d == nil || d.Step != 2 || *d.Values[0] != 4 || *d.Values[1] != 3 {
		t.Errorf("c and a from step 2: %+v, %v", d, err)
	}
}
