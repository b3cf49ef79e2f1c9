package runs_test

import (
	"strings"
	"sync"
	"testing"

	"github.com/trimtab/trimtab"
	"github.com/trimtab/trimtab/runs"
)

// missing is a gate that no stage without arithmetic passes.
const missing = "reward.gates=[{metric: held_out/accuracy, min: 0.99}]"

// plan asks for the plan of a rerun and gives the request that does it.
func (b *bench) plan(r runs.RerunRequest) runs.RerunRequest {
	b.t.Helper()
	r.DryRun = true
	res := b.rerun(r)
	if res.Plan == "" {
		b.t.Fatal("a dry run has no token")
	}
	r.DryRun, r.Plan, r.Actor, r.Reason = false, res.Plan, "tester", "as planned"
	return r
}

// wantStale checks that a rerun is refused because something moved, and that it says what.
func (b *bench) wantStale(what string, r runs.RerunRequest, says string) {
	b.t.Helper()
	_, err := b.Rerun(b.ctx, r)
	wantRefusal(b.t, what, err, "plan_stale", 4)
	if err != nil && !strings.Contains(err.Error(), says) {
		b.t.Errorf("%s: %v, want a word of %q", what, err, says)
	}
}

// A plan that was looked at is done as it was, or not at all.
func TestPlanToken(t *testing.T) {
	b, _ := newNoopBench(t, 1)
	id := b.launch(missing)
	b.await(id, trimtab.RunBlocked)
	better := runs.RerunRequest{Run: id, Stage: "reward", Sets: []string{"reward.num_train_epochs=2"}}
	seen := b.plan(better)
	if again := b.plan(better); again.Plan != seen.Plan {
		t.Errorf("nothing moved, and the token is %s, then %s", seen.Plan, again.Plan)
	}
	other := seen
	other.Sets = []string{"reward.num_train_epochs=3"}
	b.wantStale("another setting", other, "other flags")
	other = seen
	other.Stage = "collect"
	b.wantStale("another stage", other, "other flags")
	other = seen
	other.Plan = "no-token"
	_, err := b.Rerun(b.ctx, other)
	wantRefusal(t, "no token", err, "bad_plan", 2)

	res, err := b.Rerun(b.ctx, seen)
	if err != nil || res.Attempt != 2 || res.Plan != seen.Plan {
		t.Fatalf("the rerun as planned: %+v, %v", res, err)
	}
	// shown as running since the rerun was answered
	if d := b.await(id, trimtab.RunBlocked); stageOf(t, d, "reward").Attempt != 2 {
		t.Fatalf("attempt %d", stageOf(t, d, "reward").Attempt)
	}
	b.wantStale("the same plan again", seen, "reward 2 is completed")

	seen = b.plan(runs.RerunRequest{Run: id, Stage: "reward", Sets: []string{"reward.gates=[]"}})
	if err := b.Approve(b.ctx, id, "reward", "good", "tester"); err != nil {
		t.Fatal(err)
	}
	b.await(id, trimtab.RunCompleted)
	b.wantStale("a plan of the run while it was blocked", seen, "it is now completed")
}

// The datasets that names mean are part of the plan.
func TestPlanTokenOfData(t *testing.T) {
	b, _ := newNoopBench(t, 1)
	demo := func(text string) {
		t.Helper()
		items := []trimtab.Item{trimtab.Demonstration{Prompt: "p", Response: text, Split: trimtab.SplitTrain}}
		if _, err := b.Store().FreezeItems(b.ctx, "mine", trimtab.KindDemonstrations, items, "tester"); err != nil {
			t.Fatal(err)
		}
	}
	demo("one")
	id := b.launch()
	b.await(id, trimtab.RunCompleted)
	seen := b.plan(runs.RerunRequest{Run: id, Stage: "sft", Data: []string{"mine"}})
	demo("two")
	b.wantStale("a newer version of the data", seen, "newer version")
	seen = b.plan(runs.RerunRequest{Run: id, Stage: "sft", Data: []string{"mine"},
		Sets: []string{"sft.num_train_epochs=2"}})
	res, err := b.Rerun(b.ctx, seen)
	if err != nil || !res.NewRun {
		t.Fatalf("%+v, %v", res, err)
	}
	d := b.await(res.Run, trimtab.RunCompleted)
	v, err := b.Store().ResolveDataset(b.ctx, "mine")
	if err != nil {
		t.Fatal(err)
	}
	if stageOf(t, d, "sft").Inputs["demonstrations"] != v.Digest {
		t.Errorf("sft read %v", stageOf(t, d, "sft").Inputs)
	}
	want := []trimtab.Override{{Data: "mine", Kind: trimtab.KindDemonstrations, Digest: v.Digest},
		{Set: "sft.num_train_epochs=2"}}
	if len(d.Changes) != 1 || d.Changes[0].Stage != "sft" || d.Changes[0].Actor != "tester" ||
		d.Changes[0].Reason != "as planned" || !equal(d.Changes[0].Overrides, want) {
		t.Errorf("changes %+v", d.Changes)
	}
}

func equal(a, b []trimtab.Override) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if a[i] != b[i] {
			return false
		}
	}
	return true
}

// Overrides of reruns within a run are in its record.
func TestOverridesAreRecorded(t *testing.T) {
	b, _ := newNoopBench(t, 1)
	id := b.launch(missing)
	if d := b.await(id, trimtab.RunBlocked); d.Changes != nil {
		t.Errorf("a launched run has changes %+v", d.Changes)
	}
	b.rerun(runs.RerunRequest{Run: id, Stage: "collect",
		Sets: []string{"collect.temperature=0.5", "reward.num_train_epochs=2"}})
	b.await(id, trimtab.RunBlocked)
	b.rerun(runs.RerunRequest{Run: id, Stage: "reward", Sets: []string{"reward.gates=[]"}})
	d := b.await(id, trimtab.RunCompleted)
	if len(d.Changes) != 2 || d.Changes[0].Stage != "collect" || len(d.Changes[0].Overrides) != 2 ||
		d.Changes[0].Overrides[1].Set != "reward.num_train_epochs=2" ||
		d.Changes[1].Overrides[0].Set != "reward.gates=[]" || d.Changes[1].Actor != "tester" ||
		d.Changes[1].Reason != "to see" {
		t.Errorf("changes %+v", d.Changes)
	}
}

// What missed a gate and was made again counts no more, as what was made from it.
func TestMissedAttemptsBecomeStale(t *testing.T) {
	b, _ := newNoopBench(t, 1)
	id := b.launch(missing)
	b.await(id, trimtab.RunBlocked)
	b.rerun(runs.RerunRequest{Run: id, Stage: "collect", Sets: []string{"collect.temperature=0.5"}})
	b.await(id, trimtab.RunBlocked)
	b.rerun(runs.RerunRequest{Run: id, Stage: "reward", Sets: []string{"reward.gates=[]", "reward.num_train_epochs=2"}})
	b.await(id, trimtab.RunCompleted)
	attempts, err := b.Store().Attempts(b.ctx, id)
	b.do(err)
	newest := map[string]int{"pretrain": 1, "sft": 1, "collect": 2, "reward": 3, "ppo": 1, "evaluate": 1}
	for _, a := range attempts {
		want := trimtab.AttemptStale
		if a.Number == newest[a.Stage] {
			want = trimtab.AttemptCompleted
		}
		if a.Status != want {
			t.Errorf("attempt %d of %s is %s, want %s", a.Number, a.Stage, a.Status, want)
		}
	}
}

// Several people press rerun at once: one gets it, the others are rejected.
func TestRerunsAtOnce(t *testing.T) {
	b, _ := newNoopBench(t, 1)
	id := b.launch(missing)
	b.await(id, trimtab.RunBlocked)
	settings := []string{"reward.num_train_epochs=2", "reward.num_train_epochs=3", "collect.temperature=0.5",
		"reward.num_train_epochs=2"}
	press := func(requests []runs.RerunRequest) (won []runs.RerunResult) {
		t.Helper()
		var mu sync.Mutex
		var wg sync.WaitGroup
		for _, r := range requests {
			wg.Go(func() {
				res, err := b.Rerun(b.ctx, r)
				mu.Lock()
				defer mu.Unlock()
				switch {
				case err == nil:
					won = append(won, res)
				case trimtab.ExitCode(err) != 4:
					t.Errorf("%v: exit code %d", err, trimtab.ExitCode(err))
				case r.Plan != "" && trimtab.AsError(err).Type != "plan_stale":
					t.Errorf("with a token: type %s, %v", trimtab.AsError(err).Type, err)
				}
			})
		}
		wg.Wait()
		if len(won) != 1 {
			t.Fatalf("%d of %d reruns were made", len(won), len(requests))
		}
		return won
	}
	requests := func(run string, planned bool) (list []runs.RerunRequest) {
		for _, set := range settings {
			r := runs.RerunRequest{Run: run, Stage: strings.Split(set, ".")[0], Sets: []string{set}, Actor: "tester",
				Force: true}
			if planned {
				r = b.plan(r)
			}
			list = append(list, r)
		}
		return list
	}
	for _, planned := range []bool{true, false} {
		press(requests(id, planned))
		b.await(id, trimtab.RunBlocked)
	}
	if err := b.Cancel(b.ctx, id, "enough", "tester"); err != nil {
		t.Fatal(err)
	}
	b.await(id, trimtab.RunCancelled)
	planned := requests(id, true)
	won := press(planned)
	b.await(won[0].Run, trimtab.RunBlocked, trimtab.RunCompleted)
	for _, r := range planned {
		b.wantStale("a plan that somebody has done, or overtaken", r, won[0].Run)
	}
}
