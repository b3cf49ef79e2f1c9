package storage_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"testing"

	"github.com/trimtab/trimtab"
	"github.com/trimtab/trimtab/devstack/devstacktest"
	"github.com/trimtab/trimtab/storage"
)

func TestMain(m *testing.M) { devstacktest.Main(m) }

// requirement fails the test at once on an error.
func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// wantError checks class and type of an error.
func wantError(t testing.TB, err error, class trimtab.Class, typ string) {
	t.Helper()
	e, ok := errors.AsType[*trimtab.Error](err)
	if !ok || e.Class != class || e.Type != typ {
		t.Fatalf("got error %#v, want class %d, type %s", err, class, typ)
	}
}

func digest(s string) trimtab.Digest { return trimtab.DigestOf([]byte(s)) }

// newRun makes a run.
func newRun(t testing.TB, s *storage.Store, id string) storage.Run {
	t.Helper()
	r := storage.Run{ID: id, Name: "name-of-" + id, Seed: 1<<64 - 1, Spec: json.RawMessage(`{"b": 1,  "a": "\u0000<"}`),
		SpecDigest: digest("spec"), Actor: "ann", Reason: "first",
		Plan: trimtab.Plan{Run: id, Seed: 1<<64 - 1, Stages: []trimtab.PlannedStage{{Name: "sft", Kind: "sft"}}}}
	must(t, s.CreateRun(t.Context(), r))
	return r
}

// newAttempt makes a run with one attempt of its stage sft.
func newAttempt(t testing.TB, s *storage.Store, run string) storage.Attempt {
	t.Helper()
	newRun(t, s, run)
	a, err := s.CreateAttempt(t.Context(), storage.Attempt{Run: run, Stage: "sft", Kind: "sft", Number: 1,
		Config: digest("config"), CacheKey: digest("key"),
		Inputs: []trimtab.Named{{Name: "model", Digest: digest("base")}}})
	must(t, err)
	return a
}

// report is a step of metrics and rollouts of n tokens each.
func report(step, metrics, rollouts, n int) storage.StepReport {
	r := storage.StepReport{Step: step, Seconds: 0.25}
	for i := range metrics {
		r.Report.Metrics = append(r.Report.Metrics,
			trimtab.Metric{Name: fmt.Sprintf("metric/%02d", i), Value: float64(step) + float64(i)/64})
	}
	for i := range rollouts {
		r.Report.Rollouts = append(r.Report.Rollouts, rollout(i, n))
	}
	return r
}

func rollout(index, n int) trimtab.Rollout {
	floats := func(scale float32) []float32 {
		x := make([]float32, n)
		for i := range x {
			x[i] = scale * float32(index+i) / 3
		}
		return x
	}
	r := trimtab.Rollout{Index: index, Prompt: "what is two and two?", PromptIDs: []int32{1, 2, 3},
		Tokens: make([]int32, n),
		Bytes:  []byte("four\x00\xff"), Score: 0.5, RawScore: -0.25, Ended: index%2 == 0, LogProbs: floats(-1),
		RefLogProb: floats(-2),
		KL:         floats(1), Values: floats(.5), Rewards: floats(.25), Advantages: floats(2), Returns: floats(3)}
	for i := range r.Tokens {
		r.Tokens[i] = int32(index * i)
	}
	return r
}
