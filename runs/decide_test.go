package runs_test

import (
	"log/slog"
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/trimtab/trimtab"
	"github.com/trimtab/trimtab/checkpoint"
	"github.com/trimtab/trimtab/recipes"
	"github.com/trimtab/trimtab/runs"
	"github.com/trimtab/trimtab/storage"
	"github.com/trimtab/trimtab/storage/storagetest"
	"github.com/trimtab/trimtab/workflows"
	"go.temporal.io/sdk/client"
)

func stageOf(t *testing.T, d runs.View, name string) runs.StageView {
	t.Helper()
	for _, st := range d.Stages {
		if st.Name == name {
			return st
		}
	}
	t.Fatalf("the run has no stage %s", name)
	return runs.StageView{}
}

// wantRefusal checks the type of an error that a person would see.
func wantRefusal(t *testing.T, what string, err error, typ string, code int) {
	t.Helper()
	if err == nil {
		t.Errorf("%s was accepted", what)
		return
	}
	if e := trimtab.AsError(err); e.Type != typ || trimtab.ExitCode(err) != code || e.Remedy == "" {
		t.Errorf("%s: type %s, exit code %d, %v; want %s, %d and a remedy", what, e.Type, trimtab.ExitCode(err), err,
			typ, code)
	}
}

// A stage that misses its gate blocks; show says why; a person reruns it with
// another setting, and what comes after runs on the new output.
func TestGateBlocksUntilRerun(t *testing.T) {
	b := newBench(t, 0)
	id := b.launch("reward.gates=[{metric: held_out/accuracy, min: 0.99}]")
	d := b.await(id, trimtab.RunBlocked)
	if d.Error == nil || d.Error.Type != "gate_missed" ||
		!strings.Contains(d.Error.Message, "held_out/accuracy is 0.") ||
		!strings.Contains(d.Next, "rerun "+id+" reward") {
		t.Fatalf("blocked with %v; next %q", d.Error, d.Next)
	}
	rerun := func(r runs.RerunRequest) (runs.RerunResult, error) {
		r.Run, r.Actor, r.Reason = id, "tester", "to see"
		return b.Rerun(b.ctx, r)
	}
	_, err := rerun(runs.RerunRequest{Stage: "reward"})
	wantRefusal(t, "a rerun that changes nothing", err, "nothing_changed", 4)
	_, err = rerun(runs.RerunRequest{Stage: "ppo", Sets: []string{"ppo.kl_coef=0.2"}})
	wantRefusal(t, "a rerun after the blocked stage", err, "not_now", 4)
	_, err = rerun(runs.RerunRequest{Stage: "reward", Sets: []string{"sft.num_train_epochs=2"}})
	wantRefusal(t, "a change of an earlier stage", err, "earlier_stage_changed", 2)
	_, err = rerun(runs.RerunRequest{Stage: "ppo", Sets: []string{"reward.gates=[]"}})
	wantRefusal(t, "a change of an earlier stage's gate", err, "earlier_stage_changed", 2)
	_, err = rerun(runs.RerunRequest{Stage: "rewards"})
	wantRefusal(t, "an unknown stage", err, "stage_not_found", 3)
	_, err = rerun(runs.RerunRequest{Stage: "reward", Sets: []string{"reward.epoch=2"}})
	wantRefusal(t, "an unknown key", err, "invalid_spec", 2)
	wantRefusal(t, "approving another stage", b.Approve(b.ctx, id, "sft", "x", "tester"), "not_now", 4)
	wantRefusal(t, "skipping a stage that others read", b.Skip(b.ctx, id, "reward", "x", "tester"), "not_now", 4)
	wantRefusal(t, "resuming", b.Resume(b.ctx, id, "x", "tester"), "not_now", 4)

	plan, err := rerun(runs.RerunRequest{Stage: "reward",
		Sets: []string{"reward.num_train_epochs=2", "reward.gates=[{metric: held_out/accuracy, min: 0.1}]"}, DryRun: true})
	if err != nil || plan.NewRun || plan.Stages[0].Action != "keep" || plan.Stages[3].Action != "run" {
		t.Fatalf("dry run: %+v, %v", plan, err)
	}
	if d := b.await(id, trimtab.RunBlocked); stageOf(t, d, "reward").Attempt != 1 {
		t.Fatal("a dry run did something")
	}
	res, err := rerun(runs.RerunRequest{Stage: "reward",
		Sets: []string{"reward.num_train_epochs=2", "reward.gates=[{metric: held_out/accuracy, min: 0.1}]"}})
	if err != nil || res.Attempt != 2 || res.Run != id {
		t.Fatalf("rerun: %+v, %v", res, err)
	}
	done := b.await(id, trimtab.RunCompleted)
	if st := stageOf(t, done, "reward"); st.Attempt != 2 || st.Status != trimtab.AttemptCompleted ||
		st.Steps <= stageOf(t, d, "reward").Steps {
		t.Errorf("reward is %+v", st)
	}
	if st := stageOf(t, done, "collect"); st.Attempt != 1 {
		t.Errorf("collect ran again: attempt %d", st.Attempt)
	}
	events, err := b.History(b.ctx, id, "")
	if err != nil {
		t.Fatal(err)
	}
	planned := 0
	for _, e := range events {
		if e.Type == trimtab.EventRunPlanned {
			planned++
			if e.Actor != "tester" || !strings.Contains(string(e.Body), "to see") {
				t.Errorf("the decision is recorded as %+v", e)
			}
		}
	}
	if planned != 1 {
		t.Errorf("%d decisions in the history, want 1", planned)
	}
	record(t, b, "gate-rerun", id)
}

// Another gate is looked at with what the attempt measured, and nothing is
// trained again: in the blocked run, and in a new run of a closed one.
func TestAnotherGateIsJudgedAnew(t *testing.T) {
	b := newBench(t, 0)
	id := b.launch("reward.gates=[{metric: held_out/accuracy, min: 0.99}]")
	first := stageOf(t, b.await(id, trimtab.RunBlocked), "reward")
	judge := func(run, gates string) runs.RerunResult {
		res := b.rerun(runs.RerunRequest{Run: run, Stage: "reward", Sets: []string{"reward.gates=" + gates}})
		if st := res.Stages[3]; st.Name != "reward" || st.Action != "reuse" {
			t.Errorf("gates %s: the plan says %+v", gates, st)
		}
		return res
	}
	judge(id, "[{metric: held_out/accuracy, min: 0.98}]") // missed as well
	d := b.await(id, trimtab.RunBlocked)
	if st := stageOf(t, d, "reward"); st.Attempt != 2 || st.Status != trimtab.AttemptReused ||
		!strings.Contains(d.Error.Message, "the gate requires at least 0.98") {
		t.Fatalf("reward is %+v; the run: %v", st, d.Error)
	}
	judge(id, "[{metric: held_out/accuracy, min: 0.01}]")
	d = b.await(id, trimtab.RunCompleted)
	if st := stageOf(t, d, "reward"); st.Attempt != 3 || st.Status != trimtab.AttemptReused ||
		!maps.Equal(st.Outputs, first.Outputs) || !maps.Equal(st.Metrics, first.Metrics) {
		t.Errorf("reward is %+v\nwas %+v", st, first)
	}
	if got, want := models(d), golden(t, "v1", nil); got["ppo"] != want["ppo"] {
		t.Errorf("a gate changed a byte: ppo is %s, want %s", got["ppo"], want["ppo"])
	}
	again := judge(id, "[{metric: held_out/pairs, min: 1}]")
	if !again.NewRun {
		t.Errorf("%+v", again)
	}
	for _, st := range b.await(again.Run, trimtab.RunCompleted).Stages {
		if st.Status != trimtab.AttemptReused {
			t.Errorf("stage %s of the new run is %s", st.Name, st.Status)
		}
	}
	res := b.rerun(runs.RerunRequest{Run: id, Stage: "reward",
		Sets:   []string{"reward.gates=[]", "reward.num_train_epochs=2"},
		DryRun: true})
	if res.Stages[3].Action != "run" {
		t.Errorf("with other settings the stage's fate is %+v", res.Stages[3])
	}
	record(t, b, "judged", id)
}

// A gate on what a stage does not measure, and data that is sure to fail, are
// refused at launch, before anything is made; following the remedy gets further.
func TestLaunchRefusesWhatIsSureToFail(t *testing.T) {
	b := newBench(t, 0)
	launch := func(sets ...string) error {
		_, err := b.Launch(b.ctx, runs.LaunchRequest{Spec: b.spec(sets...), Actor: "tester", New: true})
		return err
	}
	long := strings.Repeat("very ", 200)
	put := func(name string, items ...trimtab.Item) {
		if _, err := b.Store().FreezeItems(b.ctx, name, items[0].Kind(), items, "tester"); err != nil {
			t.Fatal(err)
		}
	}
	put("no-tests", trimtab.Prompt{Text: "Who?"}, trimtab.Prompt{Text: "What?", Split: trimtab.SplitTrain})
	put("long-tests", trimtab.Prompt{Text: long, Split: trimtab.SplitTest})
	put("long-prompts", trimtab.Prompt{Text: long})
	put("only-tests", trimtab.Prompt{Text: "Who?", Split: trimtab.SplitTest})
	put("long-demos", trimtab.Demonstration{Prompt: long, Response: "Yes."},
		trimtab.Demonstration{Prompt: long + "so", Response: "No."})
	responses := []trimtab.Response{{Bytes: []byte("Yes.")}, {Bytes: []byte("No.")}}
	put("long-votes", trimtab.Ranking{Prompt: long, Responses: responses, Ranks: []int{1, 2}})
	put("votes", trimtab.Ranking{Prompt: "Who?", Responses: responses, Ranks: []int{1, 2}})
	for _, c := range []struct {
		set, typ     string
		code         int
		says, remedy string
	}{
		{"reward.gates=[{metric: held_out/acuracy, min: 0.5}]", "invalid_spec", 2,
			`stage reward: its gate is on "held_out/acuracy", which the stage does not measure`,
			`did you mean "held_out/accuracy"?`},
		{"ppo.gates=[{metric: loss, max: 2}]", "invalid_spec", 2, `stage ppo: its gate is on "loss"`,
			"loss/policy_avg"},
		{"evaluate.gates=[{metric: gold, min: 0}]", "invalid_spec", 2, `its gate is on "gold"`, "ppo/gold"},
		{"collect.held_out=0 & reward.gates=[{metric: held_out/accuracy, min: 0}]", "invalid_spec", 2,
			"is measured on held-out rankings, and there are none", `"split": "test"`},
		{"reward.inputs={rankings: votes} & reward.gates=[{metric: eval_loss, max: 9}]", "invalid_spec", 2,
			"is measured on held-out rankings, and there are none", `"split": "test"`},
		{"evaluate.inputs={prompts: no-tests}", "no_test_prompts", 1,
			"stage evaluate: none of the 2 prompts of no-tests is held out",
			"trimtab data import no-tests --kind prompts --freeze FILE"},
		{"evaluate.inputs={prompts: long-tests}", "context_exceeded", 1,
			"stage evaluate: all 1 tests of long-tests are too long for the model's context of 64 tokens",
			"model.max_position_embeddings, or lower evaluate.max_new_tokens"},
		{"ppo.inputs={model: sft, prompts: long-prompts}", "context_exceeded", 1,
			"stage ppo: all 1 prompts of long-prompts are too long", "lower ppo.max_new_tokens"},
		{"ppo.inputs={model: sft, prompts: only-tests}", "no_prompts", 1, "all 1 prompts of only-tests are held out",
			`without "split": "test"`},
		{"collect.inputs={prompts: no-tests}", "too_few_prompts", 1,
			"needs 24 prompts and 8 held-out ones, but no-tests has 2", "lower collect.prompts"},
		{"sft.inputs={demonstrations: long-demos}", "context_exceeded", 1,
			"stage sft: all 2 demonstrations of long-demos are too long for the model's context of 64 tokens",
			"widen the model with model.max_position_embeddings"},
		{"reward.inputs={rankings: long-votes}", "context_exceeded", 1,
			"stage reward: all 1 rankings of long-votes are too long",
			"widen the model with model.max_position_embeddings"},
		{"reward.inputs={rankings: no-tests}", "wrong_kind", 2,
			"stage reward reads rankings, but no-tests holds prompts", "name a dataset of that kind"},
	} {
		err := launch(strings.Split(c.set, " & ")...)
		wantRefusal(t, c.set, err, c.typ, c.code)
		if err != nil && (!strings.Contains(trimtab.AsError(err).Message, c.says) ||
			!strings.Contains(trimtab.AsError(err).Remedy, c.remedy)) {
			t.Errorf("%s: %s\n  hint: %s\nwants\n%s\n  hint: %s", c.set, trimtab.AsError(err).Message,
				trimtab.AsError(err).Remedy, c.says, c.remedy)
		}
	}
	if all, err := b.Store().Runs(b.ctx, 0); err != nil || len(all) != 0 {
		t.Errorf("%d runs were made, %v", len(all), err)
	}
	// as the remedy says
	put("no-tests", trimtab.Prompt{Text: "Who?"}, trimtab.Prompt{Text: "Where?", Split: trimtab.SplitTest})
	if err := launch("evaluate.inputs={prompts: no-tests}"); err != nil {
		t.Errorf("after the remedy: %v", err)
	}
}

func TestApproveLetsAMissedGatePass(t *testing.T) {
	b := newBench(t, 0)
	id := b.launch("reward.gates=[{metric: held_out/accuracy, min: 0.99}]")
	b.await(id, trimtab.RunBlocked)
	if err := b.Approve(b.ctx, id, "reward", "good enough", "tester"); err != nil {
		t.Fatal(err)
	}
	if got, want := models(b.await(id, trimtab.RunCompleted)), golden(t, "v1", nil); got["ppo"] != want["ppo"] {
		t.Errorf("an approved run ends in %v, want %v", got["ppo"], want["ppo"])
	}
	record(t, b, "approved", id)
}

// Wrong data blocks the run with its reason, and other data fixes it. A stage that nothing reads can be skipped.
func TestFailureBlocksUntilDataIsFixed(t *testing.T) {
	b := newBench(t, 0)
	bad := []trimtab.Item{trimtab.Prompt{Text: "What is this to the labellers?"}}
	for i := range 40 {
		bad = append(bad, trimtab.Prompt{Text: strings.Repeat("?", i+1)})
	}
	v, err := b.Store().FreezeItems(b.ctx, "strange", trimtab.KindPrompts, bad, "tester")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.Store().FreezeItems(b.ctx, "odd", trimtab.KindPrompts,
		[]trimtab.Item{trimtab.Prompt{Text: "What is this to the judge?", Split: trimtab.SplitTest}},
		"tester"); err != nil {
		t.Fatal(err)
	}
	id := b.launch("collect.inputs={prompts: strange}", "evaluate.inputs={prompts: odd}")
	d := b.await(id, trimtab.RunBlocked)
	if d.Error == nil || d.Error.Type != "prompt_unknown" || stageOf(t, d, "collect").Status != trimtab.AttemptFailed {
		t.Fatalf("blocked with %v", d.Error)
	}
	_ = v
	if _, err := b.Rerun(b.ctx, runs.RerunRequest{Run: id, Stage: "collect", Sets: []string{"collect.inputs={}"},
		Actor: "tester", Reason: "the world's own prompts"}); err != nil {
		t.Fatal(err)
	}
	d = b.await(id, trimtab.RunBlocked)
	if d.Error == nil || d.Error.Type != "prompt_unknown" || stageOf(t, d, "evaluate").Status != trimtab.AttemptFailed {
		t.Fatalf("blocked with %v", d.Error)
	}
	wantRefusal(t, "approving what has no output", b.Approve(b.ctx, id, "evaluate", "x", "tester"), "not_now", 4)
	if err := b.Skip(b.ctx, id, "evaluate", "not needed", "tester"); err != nil {
		t.Fatal(err)
	}
	if st := stageOf(t, b.await(id, trimtab.RunCompleted), "evaluate"); st.Status != trimtab.AttemptSkipped {
		t.Errorf("evaluate is %s", st.Status)
	}
	record(t, b, "skipped", id)
}

// long makes pretraining take some seconds, so that there is a middle of it.
var long = []string{"pretrain.tokens=262144", "pretrain.checkpoint_steps=16", "pretrain.segment_steps=64"}

// awaitStep waits until a stage of the run has done some steps.
func (b *bench) awaitStep(id, stage string, step int) {
	b.t.Helper()
	for {
		d, err := b.Show(b.ctx, id)
		if err != nil {
			b.t.Fatal(err)
		}
		if st := stageOf(b.t, d, stage); st.Step >= step {
			return
		}
		if b.ctx.Err() != nil {
			b.t.Fatal(b.ctx.Err())
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// Pausing, and a worker that goes and comes back, change no byte; a cancelled
// run is rerun as a new one that reuses what was finished.
func TestPauseStopAndCancel(t *testing.T) {
	b := newBench(t, 0)
	want := models(b.await(b.launch(long...), trimtab.RunCompleted))

	id := b.launch(append(long, "name=paused")...)
	b.awaitStep(id, "pretrain", 20)
	if err := b.Pause(b.ctx, id, "a look", "tester"); err != nil {
		t.Fatal(err)
	}
	wantRefusal(t, "pausing twice", b.Pause(b.ctx, id, "x", "tester"), "not_now", 4)
	b.await(id, trimtab.RunPaused)
	time.Sleep(time.Second)
	if st := stageOf(t, b.await(id, trimtab.RunPaused), "pretrain"); st.Status == trimtab.AttemptCompleted {
		t.Fatal("pretrain ended before the pause: make it longer")
	}
	if err := b.Resume(b.ctx, id, "go on", "tester"); err != nil {
		t.Fatal(err)
	}
	b.awaitStep(id, "pretrain", 200)
	b.stop() // the worker goes, with a checkpoint
	time.Sleep(500 * time.Millisecond)
	b.start()
	if got := models(b.await(id, trimtab.RunCompleted)); !maps.Equal(got, want) {
		t.Errorf("a paused and interrupted run gives\n%v\nwant\n%v", got, want)
	}
	record(t, b, "paused", id)

	id = b.launch("ppo.total_episodes=1600", "seed=5")
	b.awaitStep(id, "ppo", 3)
	if err := b.Cancel(b.ctx, id, "enough", "tester"); err != nil {
		t.Fatal(err)
	}
	d := b.await(id, trimtab.RunCancelled)
	if st := stageOf(t, d, "ppo"); st.Status != trimtab.AttemptCancelled || st.Checkpoint == "" {
		t.Errorf("ppo is %s with checkpoint %q", st.Status, st.Checkpoint)
	}
	wantRefusal(t, "pausing a closed run", b.Pause(b.ctx, id, "x", "tester"), "run_closed", 4)
	record(t, b, "cancelled", id)

	res, err := b.Rerun(b.ctx, runs.RerunRequest{Run: id, Stage: "ppo", Sets: []string{"ppo.total_episodes=32"},
		Actor: "tester", Reason: "shorter"})
	if err != nil || !res.NewRun || res.Run == id || res.Stages[0].Action != "reuse" || res.Stages[4].Action != "run" {
		t.Fatalf("rerun of a closed run: %+v, %v", res, err)
	}
	again := b.await(res.Run, trimtab.RunCompleted)
	if again.Origin == nil || *again.Origin != id {
		t.Errorf("origin is %v", again.Origin)
	}
	for i, st := range again.Stages {
		if reused := st.Status == trimtab.AttemptReused; reused != (i < 4) {
			t.Errorf("stage %s is %s", st.Name, st.Status)
		}
	}
}

// A launch that was killed after it wrote the run down and before it started
// the workflow leaves a queued run: a person can cancel it, and the same
// launch takes it up.
func TestLaunchCutShort(t *testing.T) {
	b := newBench(t, 0)
	launched, err := b.Store().Run(b.ctx, b.launch())
	if err != nil {
		t.Fatal(err)
	}
	b.await(launched.ID, trimtab.RunCompleted)
	for _, id := range []string{"cut-short-1", "cut-short-2"} {
		cut := launched
		cut.ID, cut.Plan.Run, cut.Status, cut.StartedAt, cut.EndedAt = id, id, trimtab.RunQueued, nil, nil
		if err := b.Store().CreateRun(b.ctx, cut); err != nil {
			t.Fatal(err)
		}
	}
	if err := b.Cancel(b.ctx, "cut-short-1", "not wanted", "tester"); err != nil {
		t.Fatal(err)
	}
	b.await("cut-short-1", trimtab.RunCancelled)
	spec, err := recipes.Load("instructgpt", "smallest", nil)
	if err != nil {
		t.Fatal(err)
	}
	again, err := b.Launch(b.ctx, runs.LaunchRequest{Spec: spec, Actor: "tester"})
	if err != nil || !again.Attached || again.Run.ID != "cut-short-2" {
		t.Fatalf("the same launch led to run %s, %v", again.Run.ID, err)
	}
	b.await("cut-short-2", trimtab.RunCompleted)
}

// Whoever reaches Temporal can send an Update in any name. It counts if the
// record has a request that says the same, and then the request's role is in the record.
func TestForgedDecisions(t *testing.T) {
	b := newBench(t, 0)
	id := b.launch("reward.gates=[{metric: held_out/accuracy, min: 0.99}]")
	b.await(id, trimtab.RunBlocked)
	send := func(d workflows.Decision) error {
		h, err := b.temporal.UpdateWorkflow(b.ctx,
			client.UpdateWorkflowOptions{WorkflowID: workflows.RunID(id), UpdateName: workflows.UpdateApprove,
				WaitForStage: client.WorkflowUpdateStageCompleted, Args: []any{d}})
		if err == nil {
			err = h.Get(b.ctx, nil)
		}
		if err == nil {
			return nil
		}
		return workflows.ErrorOf(err)
	}
	approve := workflows.Decision{Stage: "reward", Attempt: 1, Reason: "let it pass", Actor: "root"}
	wantRefusal(t, "an approval that nobody asked for", send(approve), "decision_unrequested", 4)
	for sequence := range int64(200) { // every event of the run, and more
		if sequence == 0 || sequence > 60 && sequence < 199 {
			continue
		}
		approve.Request = sequence
		wantRefusal(t, "an approval that names another event", send(approve), "decision_unrequested", 4)
	}
	address, role := storagetest.PersonRole(t, b.urls)
	files, err := checkpoint.Open(b.dir)
	if err != nil {
		t.Fatal(err)
	}
	ana := runs.New(slog.New(slog.DiscardHandler), storagetest.Open(t, address), files, b.temporal)
	wantRefusal(t, "skipping what others read", ana.Skip(b.ctx, id, "reward", "x", "ana"), "not_now", 4)
	refused := b.last(id, trimtab.EventDecisionRequested)
	wantRefusal(t, "taking what was refused", send(workflows.Decision{Stage: "reward", Attempt: 1, Reason: "x",
		Actor: "ana", Request: refused.Sequence}), "decision_unrequested", 4)

	if err := ana.Approve(b.ctx, id, "reward", "good enough", "root"); err != nil { // whatever she calls herself
		t.Fatal(err)
	}
	asked, taken := b.last(id, trimtab.EventDecisionRequested), b.last(id, trimtab.EventDecision)
	if asked.Actor != role || taken.Actor != "root" || !strings.Contains(string(taken.Body), `"role":"`+role+`"`) {
		t.Errorf("asked as %+v, taken as %+v %s; want role %s", asked, taken, taken.Body, role)
	}
	again := workflows.Decision{Stage: "reward", Attempt: 1, Reason: "good enough", Actor: "root",
		Request: asked.Sequence}
	if err := send(again); err == nil {
		t.Error("one request was taken twice")
	}
	b.await(id, trimtab.RunCompleted)
}

// last is the newest event of a type in a run's stream.
func (b *bench) last(id string, typ trimtab.EventType) (last storage.Event) {
	b.t.Helper()
	events, err := b.History(b.ctx, id, "")
	if err != nil {
		b.t.Fatal(err)
	}
	for _, e := range events {
		if e.Type == typ {
			last = e
		}
	}
	return last
}
