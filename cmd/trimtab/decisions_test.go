package main

import (
	"testing"

	"github.com/trimtab/trimtab"
	"github.com/trimtab/trimtab/runs"
)

// The result of a decision says what has happened, and not what will.
func TestDecisionSaid(t *testing.T) {
	at := func(status trimtab.RunStatus, stage trimtab.AttemptStatus) runs.View {
		return runs.View{Name: "r", Status: status, Stages: []runs.StageView{{Name: "sft", Status: stage}}}
	}
	for _, c := range []struct {
		done string
		doc  runs.View
		want string
	}{
		{"cancelled", at(trimtab.RunRunning, trimtab.AttemptRunning),
			"cancelling: r stops within seconds"},
		{"cancelled", at(trimtab.RunCancelled, trimtab.AttemptCancelled), "cancelled: r is cancelled"},
		{"paused", at(trimtab.RunPaused, trimtab.AttemptRunning),
			"paused: r is paused; its stage stops within seconds"},
		{"paused", at(trimtab.RunPaused, trimtab.AttemptCompleted), "paused: r is paused"},
		{"approved", at(trimtab.RunRunning, trimtab.AttemptRunning), "approved: r is running"},
	} {
		if got := (decision{pastTense: c.done}).result(c.doc); got != c.want {
			t.Errorf("%s of %s: %q, want %q", c.done, c.doc.Status, got, c.want)
		}
	}
}

func TestFLOPs(t *testing.T) {
	for n, want := range map[float64]string{0: "0 FLOPs", 900: "900 FLOPs", 2e9: "2 GFLOPs"} {
		if got := formatFLOPs(n); got != want {
			t.Errorf("flops(%g) = %q, want %q", n, got, want)
		}
	}
}
