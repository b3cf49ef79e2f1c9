package runs_test

import (
	"strings"
	"testing"

	"github.com/trimtab/trimtab"
	"github.com/trimtab/trimtab/recipes"
	"github.com/trimtab/trimtab/runs"
)

// Whichever face takes a request in, words that cannot be recorded are refused before anything is read or made.
func TestRequestTexts(t *testing.T) {
	s, ctx := runs.New(nil, nil, nil, nil), t.Context() // there is nothing to read
	const bad = "a\nb"
	rerun := func(r runs.RerunRequest) error { _, err := s.Rerun(ctx, r); return err }
	launch := func(r runs.LaunchRequest) error { _, err := s.Launch(ctx, r); return err }
	for what, err := range map[string]error{
		"name of a launch":   launch(runs.LaunchRequest{Name: bad}),
		"name of a spec":     launch(runs.LaunchRequest{Spec: recipes.Spec{Name: bad}}),
		"name of a stage":    launch(runs.LaunchRequest{Spec: recipes.Spec{Stages: []recipes.Stage{{Name: bad}}}}),
		"actor of a launch":  launch(runs.LaunchRequest{Actor: bad}),
		"reason of a rerun":  rerun(runs.RerunRequest{Reason: bad}),
		"setting of a rerun": rerun(runs.RerunRequest{Sets: []string{"x=1", bad}}),
		"actor of a rerun":   rerun(runs.RerunRequest{Actor: bad}),
		"reason of a cancel": s.Cancel(ctx, "x", bad, "ann"),
		"actor of a skip":    s.Skip(ctx, "x", "ppo", "why", bad),
		"reason of approval": s.Approve(ctx, "x", "ppo", strings.Repeat("x", trimtab.MostReason+1), "ann"),
	} {
		if trimtab.ExitCode(err) != 2 || !strings.Contains(err.Error(), "cannot be recorded") ||
			trimtab.AsError(err).Remedy == "" {
			t.Errorf("%s: %v", what, err)
		}
	}
}
