package runs_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/trimtab/trimtab"
	"github.com/trimtab/trimtab/recipes"
	"github.com/trimtab/trimtab/runs"
)

func (b *bench) compare(samples int, ids ...string) runs.Comparison {
	b.t.Helper()
	c, err := b.Compare(b.ctx, ids, samples)
	if err != nil {
		b.t.Fatal(err)
	}
	if _, err := json.Marshal(c); err != nil {
		b.t.Fatal(err)
	}
	return c
}

func comparedStage(t *testing.T, c runs.Comparison, name string) runs.ComparedStage {
	t.Helper()
	for _, st := range c.Stages {
		if st.Name == name {
			return st
		}
	}
	t.Fatalf("the comparison has no stage %s", name)
	return runs.ComparedStage{}
}

// paths are a comparison's differences of the spec in one line.
func paths(c runs.Comparison) string {
	var parts []string
	for _, d := range c.Spec {
		parts = append(parts, fmt.Sprintf("%s %s", d.Path, d.Values))
	}
	return strings.Join(parts, ", ")
}

func TestCompareRuns(t *testing.T) {
	b := newBench(t, 0)
	one := b.launch("name=one")
	d := b.await(one, trimtab.RunCompleted)
	two := b.launch("name=two")
	b.await(two, trimtab.RunCompleted)

	c := b.compare(2, one, two)
	if !c.Equal || c.Verdict != "bit-identical in all stages" || paths(c) != `name ["one" "two"]` ||
		len(c.Data) != 0 {
		t.Errorf("two runs of one spec: %q, spec %s, data %+v", c.Verdict, paths(c), c.Data)
	}
	for _, st := range c.Stages {
		if !st.Equal || st.Series == nil || st.Series.Steps == 0 || st.Attempts[0].Steps != st.Series.Steps ||
			st.Attempts[1].Build != "test" {
			t.Errorf("stage %s: %s, %+v", st.Name, st.Verdict, st.Series)
		}
	}
	if len(c.Samples) != 2 || len(c.Samples[0].Answers) != 2 ||
		c.Samples[1].Answers[0]["ppo"] != c.Samples[1].Answers[1]["ppo"] {
		t.Errorf("samples %+v", c.Samples)
	}
	if s := c.Scores[0]; s.Model != "base" || s.Measure != "gold" || *s.Values[0] != *s.Values[1] ||
		*s.Differences[1] != 0 || s.Differences[0] != nil {
		t.Errorf("the first score is %+v", s)
	}

	// other data, and a stage that its gate stops
	items, err := b.Store().Items(b.ctx, stageOf(t, d, "pretrain").Inputs["text"])
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.Store().FreezeItems(b.ctx, "scraps", trimtab.KindText, items[1:], "tester"); err != nil {
		t.Fatal(err)
	}
	three := b.launch("name=one", "ppo.kl_coef=0.5", "data.text=scraps", "pretrain.gates=[{metric: loss, max: 0.001}]")
	b.await(three, trimtab.RunBlocked)
	if err := b.Cancel(b.ctx, three, "it was wrong", "tester"); err != nil {
		t.Fatal(err)
	}
	b.await(three, trimtab.RunCancelled)
	c = b.compare(0, one, three)
	if got := paths(c); !strings.HasPrefix(got, `data.text ["sha256:`) ||
		!strings.Contains(got, `"], pretrain.gates [`) || !strings.HasSuffix(got, `], ppo.kl_coef [0.12 0.5]`) {
		t.Errorf("spec %s", got)
	}
	if c.Equal || len(c.Data) != 1 || c.Data[0].Input != "text" || c.Data[0].Values[1].Name != "scraps" ||
		len(c.Data[0].Stages) < 2 {
		t.Errorf("data %+v", c.Data)
	}
	if st := comparedStage(t, c, "sft"); st.Equal || st.Differs || st.Verdict != "nothing to compare yet" ||
		len(c.Samples) != 0 {
		t.Errorf("a stage that did not begin: %+v", st)
	}

	// a rerun reuses what comes before, and differs from there on
	res, err := b.Rerun(b.ctx, runs.RerunRequest{Run: two, Stage: "ppo", Sets: []string{"ppo.kl_coef=0.5"},
		Actor: "tester", Reason: "closer"})
	if err != nil {
		t.Fatal(err)
	}
	b.await(res.Run, trimtab.RunCompleted)
	c = b.compare(1, one, two, res.Run)
	if c.Equal || !strings.HasPrefix(c.Verdict, "different: stage ppo: differs from step ") ||
		paths(c) != `name ["one" "two" "two"], ppo.kl_coef [0.12 0.12 0.5]` {
		t.Errorf("%q, spec %s", c.Verdict, paths(c))
	}
	if st := comparedStage(t, c, "sft"); !st.Equal || !st.Attempts[2].Reused ||
		st.Attempts[2].Steps != st.Series.Steps {
		t.Errorf("a reused stage: %+v", st)
	}
	st := comparedStage(t, c, "ppo")
	if d := st.Series.First; d == nil || *d.Values[0] != *d.Values[1] || *d.Values[0] == *d.Values[2] || !st.Differs ||
		st.Outputs[0].Equal {
		t.Errorf("ppo: %+v", st)
	}
	events, err := b.History(b.ctx, res.Run, "")
	if err != nil {
		t.Fatal(err)
	}
	notes, err := b.EventNotes(b.ctx, events)
	plans := 0
	for _, n := range notes {
		if n.ReusedFrom == nil { // else of an output that is reused: who made it
			plans++
		}
	}
	if err != nil || plans != 1 || notes[1].Recipe != "two" || len(notes[1].Changes) != 1 ||
		string(notes[1].Changes[0].Values[1]) != "0.5" {
		t.Errorf("the plan's note is %+v, %v", notes, err)
	}

	_, err = b.Compare(b.ctx, []string{one, one}, 1)
	wantRefusal(t, "comparing a run with itself", err, "same_run", 2)
	_, err = b.Compare(b.ctx, []string{one, "nobody"}, 1)
	wantRefusal(t, "comparing with nothing", err, "run_not_found", 3)
}

// A stage that went on from a checkpoint is compared from its first step, and
// runs of other chains where they meet.
func TestCompareContinuedAndOtherChains(t *testing.T) {
	b := newBench(t, 0)
	whole := b.launch("name=whole")
	gated := b.launch("name=gated", "pretrain.gates=[{metric: loss, max: 0.1}]")
	b.await(whole, trimtab.RunCompleted)
	d := b.await(gated, trimtab.RunBlocked)
	first := stageOf(t, d, "pretrain")
	attempts, err := b.Store().Attempts(b.ctx, gated)
	if err != nil {
		t.Fatal(err)
	}
	early, err := b.Store().Checkpoints(b.ctx, attempts[0].ID)
	if err != nil || len(early) < 2 || first.Attempt != 1 {
		t.Fatalf("checkpoints %+v, %v", early, err)
	}
	from := early[len(early)-2]
	if _, err := b.Rerun(b.ctx, runs.RerunRequest{Run: gated, Stage: "pretrain", FromCheckpoint: from.Digest.Short(),
		Actor: "tester"}); err != nil {
		t.Fatal(err)
	}
	for ; ; time.Sleep(20 * time.Millisecond) {
		if st := stageOf(t, b.await(gated, trimtab.RunBlocked, trimtab.RunRunning), "pretrain"); st.Attempt == 2 &&
			st.Status == trimtab.AttemptCompleted {
			break
		}
	}
	c := b.compare(0, whole, gated)
	st := comparedStage(t, c, "pretrain")
	if !st.Equal || st.Attempts[1].Attempt != 2 || st.Series.Steps != first.Steps {
		t.Errorf("went on from step %d: %s, %+v", from.Step, st.Verdict, st.Series)
	}
	if c.Equal || c.Verdict != "bit-identical as far as all runs have come" {
		t.Errorf("%q", c.Verdict)
	}
	b.await(gated, trimtab.RunBlocked)
	if err := b.Approve(b.ctx, gated, "pretrain", "fine", "tester"); err != nil {
		t.Fatal(err)
	}
	b.await(gated, trimtab.RunCompleted)

	spec, err := recipes.Load("instructgpt", "smallest", nil)
	if err != nil {
		t.Fatal(err)
	}
	spec.Stages = spec.Stages[:1]
	l, err := b.Launch(b.ctx, runs.LaunchRequest{Spec: spec, Actor: "tester", New: true})
	if err != nil {
		t.Fatal(err)
	}
	b.await(l.Run.ID, trimtab.RunCompleted)
	c = b.compare(1, l.Run.ID, whole)
	if st := comparedStage(t, c, "pretrain"); !st.Equal {
		t.Errorf("pretrain: %s", st.Verdict)
	}
	if st := comparedStage(t, c, "ppo"); !st.Differs || st.Attempts[0] != nil ||
		st.Verdict != "only one run has this stage" {
		t.Errorf("ppo: %+v", st)
	}
	if c.Equal || len(c.Samples) != 0 || c.Stages[0].Name != "pretrain" ||
		c.Stages[len(c.Stages)-1].Name != "evaluate" {
		t.Errorf("%q", c.Verdict)
	}
}
