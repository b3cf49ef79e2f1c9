package main

import (
	"bytes"
	"context"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/trimtab/trimtab"
	"github.com/trimtab/trimtab/eval"
	"github.com/trimtab/trimtab/runs"
	"github.com/trimtab/trimtab/storage"
)

func at(status trimtab.RunStatus, stages ...runs.StageView) runs.View {
	return runs.View{ID: "abcdefghij", Name: "x", Status: status, Stages: stages, Next: "something to do"}
}

func TestPlainFollower(t *testing.T) {
	var out bytes.Buffer
	p := &progressLines{w: &out, seen: map[string]shownStage{}}
	queued := runs.StageView{Name: "ppo", Kind: "ppo", Status: trimtab.AttemptQueued}
	running := runs.StageView{Name: "ppo", Kind: "ppo", Status: trimtab.AttemptRunning, Attempt: 1, Seconds: 10,
		Progress: &storage.Progress{Step: 5, Steps: 20, Phase: "ppo", TokensPerSecond: 12345,
			Metrics: []trimtab.Metric{{Name: "objective/scores", Value: .5}, {Name: "objective/kl", Value: 1.25}}}}
	done := runs.StageView{Name: "ppo", Kind: "ppo", Status: trimtab.AttemptCompleted, Attempt: 1, Step: 20, Steps: 20,
		Seconds: 40, Metrics: map[string]float64{"objective/kl": 2}}
	for _, doc := range []runs.View{
		at(trimtab.RunQueued, queued), at(trimtab.RunRunning, running), at(trimtab.RunRunning, running),
		at(trimtab.RunWaiting, running), at(trimtab.RunRunning, running), at(trimtab.RunCompleted, done),
	} {
		p.update(doc)
	}
	want := `ppo        running   5/20  standardised score 0.5  KL 1.25  12.3 k tokens/s  30s left
run is waiting: something to do
run is running
ppo        completed 20/20  40s  KL 2
`
	if out.String() != want {
		t.Errorf("printed:\n%swant:\n%s", out.String(), want)
	}
}

// A warning is shown once for each attempt, while the stage continues.
func TestWarningsAreToldOnce(t *testing.T) {
	var out bytes.Buffer
	p := &progressLines{w: &out, seen: map[string]shownStage{}}
	st := runs.StageView{Name: "ppo", Kind: "ppo", Status: trimtab.AttemptRunning, Attempt: 1,
		Warnings: []string{"ppo: only 3 %"}}
	p.update(at(trimtab.RunRunning, st))
	st.Warnings = []string{"ppo: only 2 %"}
	p.update(at(trimtab.RunRunning, st))
	st.Attempt = 2
	p.update(at(trimtab.RunRunning, st))
	if got := out.String(); strings.Count(got, "warning: ppo: only 3 %\n") != 1 ||
		strings.Count(got, "warning: ppo: only 2 %\n") != 1 {
		t.Errorf("printed:\n%s", got)
	}
	doc := at(trimtab.RunRunning, st)
	if got := onTerminal(t, 0, func(a *app) error { return a.printRun(doc) }); !strings.Contains(got,
		"\nwarning  ppo: only 2 %\n") {
		t.Errorf("show prints:\n%s", got)
	}
}

// Data that is cut or left out is noted once for each attempt, and by show; data that is read whole is not.
func TestCutDataIsToldOnce(t *testing.T) {
	const demos, prompts = "data of sft: 2 of 11 demonstrations read; 9 left out (the prompt fills the context)", "data of ppo: 5 of 6 prompts read; 1 left out (too little room for an answer)"
	sft := runs.StageView{Name: "sft", Kind: "sft", Status: trimtab.AttemptRunning, Attempt: 1,
		Data: []trimtab.Fit{{Items: "demonstrations", Kept: 2, LeftOut: 9}, {Items: "text", Kept: 3, Cut: 3}}}
	ppo := runs.StageView{Name: "ppo", Kind: "ppo", Status: trimtab.AttemptQueued}
	var out bytes.Buffer
	p, noted := &progressLines{w: &out, seen: map[string]shownStage{}}, map[string]bool{}
	noteDataFits(p, at(trimtab.RunRunning, sft, ppo), noted)
	ppo.Data = []trimtab.Fit{{Items: "prompts", Kept: 5, LeftOut: 1}}
	noteDataFits(p, at(trimtab.RunRunning, sft, ppo), noted)
	noteDataFits(p, at(trimtab.RunRunning, sft, ppo), noted)
	if got := out.String(); got != demos+"\n"+prompts+"\n" {
		t.Errorf("noted:\n%s", got)
	}
	sft.Attempt = 2
	noteDataFits(p, at(trimtab.RunRunning, sft, ppo), noted)
	if got := out.String(); got != demos+"\n"+prompts+"\n"+demos+"\n" {
		t.Errorf("noted after another attempt:\n%s", got)
	}
	if got := onTerminal(t, 0,
		func(a *app) error { return a.printRun(at(trimtab.RunRunning, sft, ppo)) }); !strings.Contains(got, "\n\n"+
		demos+"\n"+prompts+"\n") || strings.Contains(got, "documents") {
		t.Errorf("show prints:\n%s", got)
	}
}

func TestTimeLeft(t *testing.T) {
	st := func(step, steps int, took float64) runs.StageView {
		return runs.StageView{Seconds: took, Progress: &storage.Progress{Step: step, Steps: steps}}
	}
	for _, c := range []struct {
		in   runs.StageView
		want string
	}{{st(0, 100, 1), ""}, {st(1, 100, 1), ""}, {st(50, 100, 60), "1m00s left"}, {st(100, 100, 60), ""}} {
		if got := timeLeft(c.in); got != c.want {
			t.Errorf("timeLeft(%d/%d) = %q, want %q", c.in.Progress.Step, c.in.Progress.Steps, got, c.want)
		}
	}
}

func TestDurations(t *testing.T) {
	for s, want := range map[float64]string{0.04: "0.0s", 3.21: "3.2s", 59.6: "60s", 65: "1m05s", 7380: "2h03m"} {
		if got := formatSeconds(s); got != want {
			t.Errorf("seconds(%g) = %q, want %q", s, got, want)
		}
	}
	if got := formatLongTime(1e10); got != "317 years" {
		t.Errorf("longTime = %q", got)
	}
	if got := formatAgo(time.Now().Add(-3 * time.Minute)); got != "3 min ago" {
		t.Errorf("ago = %q", got)
	}
	if got := formatBytes(1_234_567); got != "1.23 MB" {
		t.Errorf("bytesOf = %q", got)
	}
}

// A run that did not complete says why, each reason once, and exits with 1.
func TestTrouble(t *testing.T) {
	missed := trimtab.NewError(trimtab.Invalid, "gate_missed", "do better", "accuracy is 0.5")
	doc := at(trimtab.RunBlocked, runs.StageView{Name: "reward", Error: missed},
		runs.StageView{Name: "old", Status: trimtab.AttemptStale,
			Error: trimtab.NewError(trimtab.Invalid, "x", "", "stale trouble")})
	doc.Error = missed
	var out bytes.Buffer
	a := &app{out: &out, format: formatTable, settings: &settings{}}
	if err := a.printFinalRun(doc); err != nil {
		t.Fatal(err)
	}
	want := "\nrun abcdefghij (x) is blocked\n  why:  accuracy is 0.5\n  hint: do better\n  next: something to do\n"
	if out.String() != want {
		t.Errorf("printed:\n%swant:\n%s", out.String(), want)
	}
	if err := runStatus(doc); err != exitStatus(1) {
		t.Errorf("status %v", err)
	}
	if err := runStatus(at(trimtab.RunCompleted)); err != nil {
		t.Errorf("status of a completed run: %v", err)
	}
}

func TestOutcome(t *testing.T) {
	doc := at(trimtab.RunCompleted, runs.StageView{Name: "collect", Kind: "collect"},
		runs.StageView{Name: "ppo", Kind: "ppo", Outputs: map[string]trimtab.Digest{"model": trimtab.DigestOf(nil)}})
	report := `{
		"ppo": {"gold": 0.75, "length": 9.5, "kl": 1.5}, "base": {"gold": 0.125, "length": 20}, "sft": {"gold": 0.5, "length": 10},
		"zeta": {"length": 3}, "note": "a word", "judge": "gold", "prompts": 400, "overlap": 0,
		"reward_model": {"pairs": 812, "accuracy": 0.64, "low": 0.6, "high": 0.68, "longer_wins": 0.52, "labellers_agreement": 0.73, "oracle_accuracy": 0.8},
		"samples": [{"prompt": "Greet \u001b[2JAnn.", "answers": {"base": "", "sft": "Hi\nAnn", "ppo": "\u202eHello"}}]}`
	if err := json.Unmarshal([]byte(report), &doc.Evaluation); err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	a := &app{out: &out, format: formatTable, settings: &settings{values: map[string]string{"data": "/d"}}}
	if err := a.printOutcome(doc); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"on held-out prompts   base    sft    ppo  zeta\n",
		"gold score           0.125  0.500  0.750\n",
		"KL from SFT, nats                   1.50\n",
		"accuracy 0.640 (95 %: 0.600 … 0.680; 812 pairs)\n  baseline \"the longer response wins\": 0.520\n" +
			"  the labellers' mean preference without noise: 0.800 on all pairs, training pairs included; a reference, " +
			"not an upper bound\n  agreement between labellers: 0.730\n",
		"overlap: 0 of 400 held-out prompts",
		"simulated labellers",
		`  Greet \x1b[2JAnn.` + "\n", "    base   (nothing)\n", `    sft    Hi\nAnn` + "\n", `    ppo    \u202eHello` +
			"\n",
		"are in /d/store;",
		"  trimtab model export abcdefghij/ppo ",
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %q in:\n%s", want, out.String())
		}
	}
}

func TestSummarizeBody(t *testing.T) {
	d := string(trimtab.DigestOf([]byte("x")))
	body := `{"status": "failed", "empty": "", "zero": 0, "step": 8, "spec": "` + d + `", "error": {"message": "it broke", "type": "t"},
		"outputs": [{"name": "model", "digest": "` + d + `"}], "metrics": [{"name": "loss", "value": 1}], "plan": {"stages": []}}`
	short := trimtab.Digest(d).Short()
	want := "error it broke, outputs model " + short + ", spec " + short + ", status failed, step 8"
	if got := summarizeBody(json.RawMessage(body)); got != want {
		t.Errorf("summary = %q, want %q", got, want)
	}
}

// The intervals say how many groups they rest on, and the difference from the length baseline has its own.
func TestRewardAccuracy(t *testing.T) {
	number := func(v float64) *float64 { return &v }
	r := &runs.RewardModelView{
		RewardAccuracy: eval.RewardAccuracy{Pairs: 64, Accuracy: .688, Low: .6, High: .72, LongerWins: .52},
		OracleAccuracy: number(.621), OverLonger: number(.168), OverLongerLow: number(-.02),
		OverLongerHigh: number(.3), HeldOracle: number(.655), HeldOracleLow: number(.6), HeldOracleHigh: number(.7)}
	for _, c := range []struct {
		groups float64
		want   string
	}{
		{1, "accuracy 0.688 (no interval: there is only one group; 64 pairs)"},
		{4, "accuracy 0.688 (95 %, rough, by 4 groups: 0.600 … 0.720; 64 pairs)"},
		{40, "accuracy 0.688 (95 %, by 40 groups: 0.600 … 0.720; 64 pairs)"},
	} {
		r.Groups = &c.groups
		if got := strings.Join(rewardModelLines(r), "\n"); !strings.Contains(got, c.want) {
			t.Errorf("of %v groups it says\n%s", c.groups, got)
		}
	}
	got := strings.Join(rewardModelLines(r), "\n")
	for _, want := range []string{
		"baseline \"the longer response wins\": 0.520; the reward model is better by +0.168 (95 %, by 40 groups: -0.020 … 0.300)",
		"mean preference without noise: 0.655 on the same pairs (95 %, by 40 groups: 0.600 … 0.700); a reference, not " +
			"an upper bound",
	} {
		if !strings.Contains(got, want) || strings.Contains(got, ".621") {
			t.Errorf("no %q in\n%s", want, got)
		}
	}
	if lines := rewardModelLines(nil); lines != nil {
		t.Errorf("of no reward model it says %q", lines)
	}
}

// Following ends when its context does.
func TestSleep(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if sleep(ctx, time.Hour) {
		t.Error("slept on")
	}
	if !sleep(t.Context(), time.Millisecond) {
		t.Error("did not sleep")
	}
}
