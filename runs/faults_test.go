package runs_test

import (
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/trimtab/trimtab"
	"github.com/trimtab/trimtab/checkpoint"
	"github.com/trimtab/trimtab/recipes"
	"github.com/trimtab/trimtab/runs"
	"github.com/trimtab/trimtab/storage"
	"github.com/trimtab/trimtab/workflows"
)

func (b *bench) spec(sets ...string) recipes.Spec {
	b.t.Helper()
	spec, err := recipes.Load("instructgpt", "smallest", sets)
	if err != nil {
		b.t.Fatal(err)
	}
	return spec
}

func (b *bench) rerun(r runs.RerunRequest) runs.RerunResult {
	b.t.Helper()
	r.Actor, r.Reason = "tester", "to see"
	res, err := b.Rerun(b.ctx, r)
	if err != nil {
		b.t.Fatal(err)
	}
	return res
}

// Several people, or one who is impatient, launch the same spec at one moment: one run comes of it.
func TestLaunchesAtOnce(t *testing.T) {
	b := newBench(t, 0)
	var ids [4]string
	var wg sync.WaitGroup
	for i := range ids {
		wg.Go(func() {
			l, err := b.Launch(b.ctx, runs.LaunchRequest{Spec: b.spec("seed=6"), Actor: "tester"})
			if err != nil {
				t.Error(err)
			}
			ids[i] = l.Run.ID
		})
	}
	wg.Wait()
	for _, id := range ids {
		if id != ids[0] {
			t.Fatalf("the launches led to the runs %v", ids)
		}
	}
	if err := b.Cancel(b.ctx, ids[0], "enough", "tester"); err != nil {
		t.Fatal(err)
	}
	b.await(ids[0], trimtab.RunCancelled)
	first := b.rerun(runs.RerunRequest{Run: ids[0], Stage: "pretrain", Force: true})
	_, err := b.Rerun(b.ctx, runs.RerunRequest{Run: ids[0], Stage: "pretrain", Actor: "tester", Reason: "me too",
		Force: true})
	wantRefusal(t, "the same rerun of a closed run again", err, "rerun_open", 4)
	b.await(first.Run, trimtab.RunCompleted)
}

// What continues from a checkpoint of another configuration makes other bytes
// than its own configuration does from the start: it is never taken for that.
func TestContinuedAttemptIsNotReused(t *testing.T) {
	b := newBench(t, 0)
	id := b.launch("ppo.gates=[{metric: objective/kl, min: 1000}]")
	b.await(id, trimtab.RunBlocked)
	slower := []string{"ppo.policy.learning_rate=1e-6", "ppo.gates=[]"}
	b.rerun(runs.RerunRequest{Run: id, Stage: "ppo", Sets: slower, FromCheckpoint: "latest"})
	mixed := b.await(id, trimtab.RunCompleted)
	l, err := b.Launch(b.ctx, runs.LaunchRequest{Spec: b.spec(slower...), Actor: "tester", New: true, Reuse: true})
	if err != nil {
		t.Fatal(err)
	}
	plain := b.await(l.Run.ID, trimtab.RunCompleted)
	if st := stageOf(t, plain, "reward"); st.Status != trimtab.AttemptReused {
		t.Errorf("reward is %s", st.Status)
	}
	if st := stageOf(t, plain, "ppo"); st.Status != trimtab.AttemptCompleted ||
		models(plain)["ppo"] == models(mixed)["ppo"] {
		t.Errorf("ppo is %s, %s", st.Status, st.Outputs["model"].Short())
	}
}

// constant lets a stage go on for longer: no learning rate depends on how long it is.
var constant = []string{"ppo.policy.lr_scheduler_type=constant", "ppo.value.lr_scheduler_type=constant"}

// A stage that continues for longer under a constant rate ends in the bytes of
// one that was as long from the start. What changes the meaning of a step, a
// dry run refuses as well, by name; so it does another input or version.
func TestContinueIsTheWhole(t *testing.T) {
	b := newBench(t, 0)
	long := append(constant, "ppo.total_episodes=128")
	want := b.await(b.launch(long...), trimtab.RunCompleted)
	id := b.launch(append(constant, "ppo.gates=[{metric: objective/kl, min: 1000}]")...)
	blocked := b.await(id, trimtab.RunBlocked)
	for name, c := range map[string]struct {
		stage string
		sets  []string
		says  string
	}{
		"batch": {"ppo", []string{"ppo.batch_size=8"},
			"ppo.batch_size was 16 when the checkpoint was made and is 8: it decides which items a step reads"},
		"kl_coef": {"ppo", []string{"ppo.kl_coef=0.5"},
			"ppo.kl_coef was 0.12 when the checkpoint was made and is 0.5: the checkpoint already holds what it sets"},
		"epochs": {"reward", []string{"reward.num_train_epochs=2"},
			"reward.num_train_epochs was 1 when the checkpoint was made and is 2"},
		"demonstration": {"reward", []string{"reward.inputs={model: pretrain}"}, "model was " +
			models(blocked)["sft"].Short() + " when the checkpoint was made and is " + models(blocked)["base"].Short()},
	} {
		for _, dry := range []bool{true, false} {
			_, err := b.Rerun(b.ctx, runs.RerunRequest{Run: id, Stage: c.stage, Sets: append(c.sets, "ppo.gates=[]"),
				FromCheckpoint: "latest", DryRun: dry, Force: true, Actor: "tester"})
			wantRefusal(t, name, err, "checkpoint_differs", 2)
			if err != nil && !strings.Contains(err.Error(), c.says) {
				t.Errorf("%s: %v, want %q", name, err, c.says)
			}
		}
	}
	b.rerun(runs.RerunRequest{Run: id, Stage: "ppo", Sets: []string{"ppo.total_episodes=128", "ppo.gates=[]"},
		FromCheckpoint: "latest"})
	got := b.await(id, trimtab.RunCompleted)
	if !maps.Equal(models(got), models(want)) || stageOf(t, got, "ppo").Steps != 8 {
		t.Errorf("in two parts\n%v\nas one\n%v", models(got), models(want))
	}
}

// A checkpoint of an attempt that read what was made anew since is another stage's.
func TestContinuedAfterAnEarlierRerun(t *testing.T) {
	b := newBench(t, 0)
	id := b.launch("reward.gates=[{metric: held_out/accuracy, min: 0.99}]")
	b.await(id, trimtab.RunBlocked)
	b.rerun(runs.RerunRequest{Run: id, Stage: "sft", Sets: []string{"sft.learning_rate=1e-5"}})
	for d := b.await(id, trimtab.RunBlocked); stageOf(t, d, "reward").Attempt < 2 ||
		d.Status != trimtab.RunBlocked; d = b.await(id, trimtab.RunBlocked, trimtab.RunRunning) {
		time.Sleep(20 * time.Millisecond)
	}
	attempts, err := b.Store().Attempts(b.ctx, id)
	if err != nil {
		t.Fatal(err)
	}
	first := attempts[slices.IndexFunc(attempts, func(a storage.Attempt) bool { return a.Stage == "reward" })]
	c, _, err := b.Store().LatestCheckpoint(b.ctx, first.ID)
	if err != nil {
		t.Fatal(err)
	}
	_, err = b.Rerun(b.ctx, runs.RerunRequest{Run: id, Stage: "reward", Sets: []string{"reward.gates=[]"},
		FromCheckpoint: string(c.Digest), DryRun: true, Actor: "tester"})
	wantRefusal(t, "a checkpoint of before", err, "checkpoint_differs", 2)
	if err != nil && (!strings.Contains(err.Error(), "model was ") || !strings.Contains(err.Error(), "rankings was ")) {
		t.Errorf("it says %v", err)
	}
	b.rerun(runs.RerunRequest{Run: id, Stage: "reward", Sets: []string{"reward.gates=[]"}, FromCheckpoint: "latest"})
	b.await(id, trimtab.RunCompleted)
}

// An attempt that continues from the end of an earlier one has its last step's metrics, for its gates.
func TestContinuedFromTheEnd(t *testing.T) {
	b := newBench(t, 0)
	id := b.launch("reward.gates=[{metric: held_out/accuracy, min: 0.99}]")
	first := stageOf(t, b.await(id, trimtab.RunBlocked), "reward")
	b.rerun(runs.RerunRequest{Run: id, Stage: "reward", Sets: []string{"reward.gates=[]"}, FromCheckpoint: "latest"})
	second := stageOf(t, b.await(id, trimtab.RunCompleted), "reward")
	if second.Attempt != 2 || !maps.Equal(first.Metrics, second.Metrics) || !maps.Equal(first.Outputs, second.Outputs) {
		t.Errorf("the first attempt has\n%v\nthe second, from its end,\n%v", first.Metrics, second.Metrics)
	}
}

// A checkpoint of more steps than the stage has now is refused, not taken for a finished stage.
func TestContinuedBeyondTheEnd(t *testing.T) {
	b := newBench(t, 0)
	id := b.launch(append(constant, "ppo.gates=[{metric: objective/kl, min: 1000}]")...)
	b.await(id, trimtab.RunBlocked)
	b.rerun(runs.RerunRequest{Run: id, Stage: "ppo", Sets: []string{"ppo.total_episodes=32"}, FromCheckpoint: "latest"})
	// the answer to a rerun comes after the run shows as running
	if d := b.await(id, trimtab.RunBlocked); d.Error.Type != "step_out_of_range" {
		t.Errorf("blocked with %v", d.Error)
	}
}

// A model that is gone from the folder is made again where it would have been
// reused; a stage that could not read it is rerun when the file is back.
func TestModelsGoneFromTheFolder(t *testing.T) {
	b := newBench(t, 0)
	d := b.await(b.launch(), trimtab.RunCompleted)
	sft := filepath.Join(b.dir, "artifacts", models(d)["sft"].Hex())
	if err := os.Remove(sft); err != nil {
		t.Fatal(err)
	}
	res := b.rerun(runs.RerunRequest{Run: d.ID, Stage: "ppo", Force: true})
	if res.Stages[0].Action != "reuse" || res.Stages[1].Action != "run" {
		t.Errorf("the plan is %+v", res.Stages)
	}
	again := b.await(res.Run, trimtab.RunCompleted)
	if st := stageOf(t, again, "sft"); st.Status != trimtab.AttemptCompleted || !maps.Equal(models(d), models(again)) {
		t.Errorf("sft is %s; models %v, want %v", st.Status, models(again), models(d))
	}

	id := b.launch("reward.gates=[{metric: held_out/accuracy, min: 0.99}]", "reward.num_train_epochs=2")
	b.await(id, trimtab.RunBlocked)
	away := filepath.Join(b.dir, "away")
	if err := os.Rename(sft, away); err != nil {
		t.Fatal(err)
	}
	// not the gate alone: that trains nothing
	b.rerun(runs.RerunRequest{Run: id, Stage: "reward", Sets: []string{"reward.gates=[]", "reward.num_train_epochs=3"}})
	if d = b.await(id, trimtab.RunBlocked); d.Error.Type != "artifact_missing" {
		t.Fatalf("blocked with %v", d.Error)
	}
	if e := stageOf(t, d, "reward").Error; e == nil || e.Class != trimtab.NotFound ||
		d.Error.Class != trimtab.NotFound {
		t.Errorf("the class of what is stored is lost: %+v, %+v", e, d.Error)
	}
	if err := os.Rename(away, sft); err != nil {
		t.Fatal(err)
	}
	b.rerun(runs.RerunRequest{Run: id, Stage: "reward"})
	b.await(id, trimtab.RunCompleted)
}

// A run reads the data that its names meant when it was launched, also when it is rerun later.
func TestNamesArePinned(t *testing.T) {
	b := newBench(t, 0)
	d := b.await(b.launch("seed=8"), trimtab.RunCompleted)
	text, err := b.Store().Items(b.ctx, stageOf(t, d, "pretrain").Inputs["text"])
	if err != nil {
		t.Fatal(err)
	}
	freeze := func(items []trimtab.Item) {
		t.Helper()
		if _, err := b.Store().FreezeItems(b.ctx, "mine", trimtab.KindText, items, "tester"); err != nil {
			t.Fatal(err)
		}
	}
	freeze(text)
	id := b.launch("seed=8", "pretrain.inputs={text: mine}", "reward.gates=[{metric: held_out/accuracy, min: 0.99}]")
	b.await(id, trimtab.RunBlocked)
	freeze(text[1:])
	b.rerun(runs.RerunRequest{Run: id, Stage: "reward", Sets: []string{"reward.gates=[]"}})
	if again := b.await(id, trimtab.RunCompleted); !maps.Equal(models(again), models(d)) {
		t.Errorf("the rerun ends in %v, want %v", models(again), models(d))
	}
}

// A run may begin from a folder as Hugging Face programs write it.
func TestBaseFromAFolder(t *testing.T) {
	b := newBench(t, 0)
	d := b.await(b.launch(), trimtab.RunCompleted)
	files, err := checkpoint.Open(b.dir)
	if err != nil {
		t.Fatal(err)
	}
	folder := filepath.Join(t.TempDir(), "my-base")
	if err := checkpoint.Export(files, models(d)["base"], folder); err != nil {
		t.Fatal(err)
	}
	spec := b.spec()
	spec.Model, spec.Stages = recipes.Model{Base: folder}, spec.Stages[1:]
	l, err := b.Launch(b.ctx, runs.LaunchRequest{Spec: spec, Actor: "tester", New: true})
	if err != nil {
		t.Fatal(err)
	}
	if got, want := models(b.await(l.Run.ID, trimtab.RunCompleted))["ppo"], models(d)["ppo"]; got != want {
		t.Errorf("from the exported base ppo is %s, want %s", got, want)
	}
}

// A run whose workflow is gone, by an operator's hand or with Temporal's
// database, says so, can be cancelled, and is rerun as a new one.
func TestWorkflowGone(t *testing.T) {
	b := newBench(t, 0)
	id := b.launch(long...)
	b.awaitStep(id, "pretrain", 20)
	if err := b.temporal.TerminateWorkflow(b.ctx, workflows.RunID(id), "", "by hand"); err != nil {
		t.Fatal(err)
	}
	wantRefusal(t, "pausing a run without a workflow", b.Pause(b.ctx, id, "x", "tester"), "workflow_gone", 4)
	if err := b.Cancel(b.ctx, id, "it is gone", "tester"); err != nil {
		t.Fatal(err)
	}
	d := b.await(id, trimtab.RunCancelled)
	if st := stageOf(t, d, "pretrain"); st.Status != trimtab.AttemptCancelled {
		t.Errorf("pretrain is %s", st.Status)
	}
	wantRefusal(t, "cancelling it again", b.Cancel(b.ctx, id, "x", "tester"), "run_closed", 4)
	b.await(b.rerun(runs.RerunRequest{Run: id, Stage: "pretrain"}).Run, trimtab.RunCompleted)
}

// What lies in the folder of an attempt and is in no row may be what another
// worker is just about to commit: it is left alone.
func TestStatesWithoutARowStay(t *testing.T) {
	b := newBench(t, 0)
	id := b.launch(long...)
	b.awaitStep(id, "pretrain", 64)
	if err := b.Pause(b.ctx, id, "a look", "tester"); err != nil {
		t.Fatal(err)
	}
	folders, err := filepath.Glob(filepath.Join(b.dir, "states", "*"))
	if err != nil || len(folders) != 1 {
		t.Fatalf("folders %v, %v", folders, err)
	}
	other := filepath.Join(folders[0], trimtab.DigestOf([]byte("of a successor")).Hex())
	if err := os.WriteFile(other, []byte("state"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := b.Resume(b.ctx, id, "go on", "tester"); err != nil {
		t.Fatal(err)
	}
	b.await(id, trimtab.RunCompleted)
	left, err := filepath.Glob(filepath.Join(folders[0], "*"))
	if err != nil || len(left) != 3 {
		t.Errorf("%d files are left, want the last two states and the other: %v", len(left), err)
	}
	if _, err := os.Stat(other); err != nil {
		t.Error(err)
	}
}
