package storage_test

import (
	"testing"

	"github.com/trimtab/trimtab"
	"github.com/trimtab/trimtab/storage"
	"github.com/trimtab/trimtab/storage/storagetest"
)

// The promises, on an idle machine: 128 rollouts of 28 tokens in less than 15 ms, 2,000 metric rows in less than 50 ms.
// Measured on two cores of a shared Xeon without fsync: 5.5 and 10.9 ms; with it 7.8 and 21 ms at best.

func BenchmarkCommitRollouts(b *testing.B) {
	s := storagetest.New(b)
	a := newAttempt(b, s, "run-bench")
	must(b, s.Lease(a.ID, 1).Acquire(b.Context()))
	step := 0
	for b.Loop() {
		must(b, s.Lease(a.ID, 1).Commit(b.Context(), []storage.StepReport{report(step, 40, 128, 28)},
			&storage.Checkpoint{Step: step + 1, Digest: digest("state")}))
		step++
	}
}

func BenchmarkCommitMetrics(b *testing.B) {
	s := storagetest.New(b)
	a := newAttempt(b, s, "run-bench")
	must(b, s.Lease(a.ID, 1).Acquire(b.Context()))
	step := 0
	for b.Loop() {
		reports := make([]storage.StepReport, 100)
		for i := range reports {
			reports[i] = report(step+i, 20, 0, 0)
		}
		step += len(reports)
		must(b, s.Lease(a.ID, 1).Commit(b.Context(), reports, &storage.Checkpoint{Step: step, Digest: digest("state")}))
	}
}

func BenchmarkSetProgress(b *testing.B) {
	s := storagetest.New(b)
	a := newAttempt(b, s, "run-bench")
	must(b, s.Lease(a.ID, 1).Acquire(b.Context()))
	for b.Loop() {
		must(b, s.Lease(a.ID, 1).SetProgress(b.Context(), storage.Progress{Step: 1, Steps: 2,
			Metrics: []trimtab.Metric{{Name: "loss", Value: 1}}}))
	}
}

func BenchmarkAddTexts(b *testing.B) {
	s := storagetest.New(b)
	items := make([]trimtab.Item, 10000)
	n := 0
	for b.Loop() {
		for i := range items {
			n++
			items[i] = trimtab.Text{Body: "document " + digest(string(rune(n))).Hex() + string(digest(string(rune(i))))}
		}
		_, err := s.AddItems(b.Context(), "texts", trimtab.KindText, items, nil, "ann")
		must(b, err)
	}
}
