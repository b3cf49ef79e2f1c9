package runs_test

import (
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/trimtab/trimtab"
	"github.com/trimtab/trimtab/runs"
	"github.com/trimtab/trimtab/workflows"
	"go.temporal.io/api/common/v1"
	"go.temporal.io/api/serviceerror"
	"go.temporal.io/api/workflowservice/v1"
)

// commands are what people can say about a run. They give the run that it is about from then on.
var commands = []struct {
	name string
	give func(b *bench, id, stage string) (string, error)
}{
	{"cancel", func(b *bench, id, _ string) (string, error) { return id, b.Cancel(b.ctx, id, "why", "tester") }},
	{"pause", func(b *bench, id, _ string) (string, error) { return id, b.Pause(b.ctx, id, "why", "tester") }},
	{"resume", func(b *bench, id, _ string) (string, error) { return id, b.Resume(b.ctx, id, "why", "tester") }},
	{"approve", func(b *bench, id, stage string) (string, error) {
		return id, b.Approve(b.ctx, id, stage, "why", "tester")
	}},
	{"skip", func(b *bench, id, stage string) (string, error) { return id, b.Skip(b.ctx, id, stage, "why", "tester") }},
	{"rerun", func(b *bench, id, stage string) (string, error) {
		res, err := b.Rerun(b.ctx, runs.RerunRequest{Run: id, Stage: stage, Actor: "tester", Reason: "why"})
		return res.Run, err
	}},
	{"rerun --set", func(b *bench, id, stage string) (string, error) {
		res, err := b.Rerun(b.ctx, runs.RerunRequest{Run: id, Stage: stage,
			Sets: []string{"reward.gates=[]", "evaluate.max_new_tokens=8"}, Actor: "tester", Reason: "why"})
		return res.Run, err
	}},
}

// Every command at every state: what comes of it, as the run's status, or the
// type of the refusal, which exits with 4.
func TestCommandsAtStates(t *testing.T) {
	b, n := newNoopBench(t, 100)
	wrong := trimtab.NewError(trimtab.Invalid, "not_a_number", "lower lr", "loss is NaN")
	away := trimtab.NewError(trimtab.Unavailable, "postgres_unavailable", "", "gone for a while")
	held := func() string {
		id := b.launchHeld(n, "reward")
		b.awaitStage(id, "reward", trimtab.AttemptRunning)
		return id
	}
	failing := func(stage string, errs ...*trimtab.Error) string {
		id := b.launchHeld(n, "sft")
		n.fail(b.seed(id), stage, errs...)
		n.release(b.seed(id), "sft")
		return id
	}
	blocked := func() string {
		id := b.launch(missing)
		b.await(id, trimtab.RunBlocked)
		return id
	}
	closed := []string{"run_closed", "run_closed", "run_closed", "run_closed", "run_closed"}
	for _, c := range []struct {
		state string
		stage string // that commands name
		reach func() string
		want  []string // beside commands
	}{
		{"running", "reward", held,
			[]string{"cancelled", "paused", "not_now", "not_now", "not_now", "not_now", "not_now"}},
		{"waiting", "reward", func() string {
			id := failing("reward", away, away, away, away, away)
			b.await(id, trimtab.RunWaiting)
			return id
		}, []string{"cancelled", "paused", "not_now", "not_now", "not_now", "not_now", "not_now"}},
		{"paused", "reward", func() string {
			id := held()
			b.do(b.Pause(b.ctx, id, "why", "tester"))
			return id
		}, []string{"cancelled", "not_now", "running", "not_now", "not_now", "not_now", "not_now"}},
		{"blocked at a gate", "reward", blocked,
			[]string{"cancelled", "blocked", "not_now", "completed", "not_now", "nothing_changed", "completed"}},
		{"blocked by an error", "reward", func() string {
			id := failing("reward", wrong)
			b.await(id, trimtab.RunBlocked)
			return id
		}, []string{"cancelled", "blocked", "not_now", "not_now", "not_now", "nothing_changed", "completed"}},
		{"blocked at a stage that none reads", "evaluate", func() string {
			id := failing("evaluate", wrong)
			b.await(id, trimtab.RunBlocked)
			return id
		}, []string{"cancelled", "blocked", "not_now", "not_now", "completed", "nothing_changed", "completed"}},
		{"blocked and paused", "reward", func() string {
			id := blocked()
			b.do(b.Pause(b.ctx, id, "why", "tester"))
			return id
		}, []string{"cancelled", "not_now", "blocked", "paused", "not_now", "nothing_changed", "paused"}},
		{"completed", "reward", func() string {
			id := b.launch()
			b.await(id, trimtab.RunCompleted)
			return id
		}, append(closed, "nothing_changed", "completed")},
		{"cancelled", "reward", func() string {
			id := held()
			b.do(b.Cancel(b.ctx, id, "why", "tester"))
			b.await(id, trimtab.RunCancelled)
			return id
		}, append(closed, "completed", "completed")},
		{"failed", "reward", func() string {
			id := blocked()
			b.do(b.temporal.TerminateWorkflow(b.ctx, workflows.RunID(id), "", "by hand"))
			b.do(b.Store().SetRunStatus(b.ctx, id, trimtab.RunFailed, "", wrong, "tester"))
			return id
		}, append(closed, "nothing_changed", "completed")},
		{"its workflow terminated", "reward", func() string {
			id := held()
			b.do(b.temporal.TerminateWorkflow(b.ctx, workflows.RunID(id), "", "by hand"))
			b.awaitStage(id, "reward", trimtab.AttemptCancelled)
			return id
		}, []string{"cancelled", "workflow_gone", "workflow_gone", "workflow_gone", "workflow_gone", "workflow_gone",
			"workflow_gone"}},
		{"its workflow terminated, then cancelled", "reward", func() string {
			id := held()
			b.do(b.temporal.TerminateWorkflow(b.ctx, workflows.RunID(id), "", "by hand"))
			b.do(b.Cancel(b.ctx, id, "why", "tester"))
			return id
		}, append(closed, "completed", "completed")},
		{"completed, its history deleted", "reward", func() string {
			id := b.launch()
			b.await(id, trimtab.RunCompleted)
			b.forget(id)
			return id
		}, append(closed, "nothing_changed", "completed")},
		{"blocked, its history deleted", "reward", func() string {
			id := blocked()
			b.forget(id)
			return id
		}, []string{"cancelled", "workflow_gone", "workflow_gone", "workflow_gone", "workflow_gone", "nothing_changed",
			"workflow_gone"}},
	} {
		t.Run(c.state, func(t *testing.T) {
			id := c.reach()
			for _, accepted := range []bool{false, true} { // what is refused changes nothing, so one run does for it
				for i, command := range commands {
					status := trimtab.RunStatus(c.want[i])
					if slices.Contains(statuses, status) != accepted {
						continue
					}
					if accepted && id == "" {
						id = c.reach()
					}
					now, err := command.give(b, id, c.stage)
					if !accepted {
						wantRefusal(t, command.name, err, c.want[i], 4)
						continue
					}
					if err != nil {
						t.Errorf("%s: %v, want a run that is %s", command.name, err, status)
						return
					}
					if status == trimtab.RunCompleted {
						n.release(b.seed(now), "reward")
					}
					b.await(now, status)
					id = ""
				}
			}
		})
	}
}

var statuses = []trimtab.RunStatus{trimtab.RunRunning, trimtab.RunPaused, trimtab.RunBlocked, trimtab.RunCancelled,
	trimtab.RunCompleted}

// do fails the test at once on an error.
func (b *bench) do(err error) {
	b.t.Helper()
	if err != nil {
		b.t.Fatal(err)
	}
}

// seed is the seed of a run, and of those that rerun it.
func (b *bench) seed(id string) uint64 {
	b.t.Helper()
	r, err := b.Store().Run(b.ctx, id)
	b.do(err)
	return r.Seed
}

// launchHeld launches a run of a seed of its own that stays at work at a stage.
func (b *bench) launchHeld(n *noop, stage string) string {
	b.t.Helper()
	return b.launch("seed=" + n.held(stage))
}

// awaitStage waits until the newest attempt of a stage is in a state.
func (b *bench) awaitStage(id, stage string, status trimtab.AttemptStatus) {
	b.t.Helper()
	for {
		d, err := b.Show(b.ctx, id)
		b.do(err)
		if stageOf(b.t, d, stage).Status == status {
			return
		}
		if b.ctx.Err() != nil {
			b.t.Fatalf("stage %s is %s, want %s", stage, stageOf(b.t, d, stage).Status, status)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// forget deletes a run's history from Temporal, as its retention does in time.
func (b *bench) forget(id string) {
	b.t.Helper()
	of := &common.WorkflowExecution{WorkflowId: workflows.RunID(id)}
	_, err := b.temporal.WorkflowService().DeleteWorkflowExecution(b.ctx,
		&workflowservice.DeleteWorkflowExecutionRequest{Namespace: b.namespace, WorkflowExecution: of})
	b.do(err)
	for {
		var gone *serviceerror.NotFound
		if _, err := b.temporal.DescribeWorkflowExecution(b.ctx, of.WorkflowId, ""); errors.As(err, &gone) {
			return
		}
		b.do(b.ctx.Err())
		time.Sleep(20 * time.Millisecond)
	}
}

// Without a worker a decision is not answered, and the caller is informed; it is
// taken when a worker comes.
func TestCommandsWhileQueued(t *testing.T) {
	b, _ := newNoopBench(t, 1)
	b.stop()
	b.SetPatience(time.Second)
	cancelled, paused := b.launch(), b.launch()
	give := func(id string, do func() error) chan error {
		err := do()
		if e := trimtab.AsError(err); err == nil || e.Type != "no_answer" || trimtab.ExitCode(err) != 6 ||
			e.Remedy == "" {
			t.Errorf("without a worker: %v", err)
		}
		b.SetPatience(time.Minute)
		c := make(chan error, 1)
		go func() { c <- do() }()
		time.Sleep(100 * time.Millisecond)
		return c
	}
	cancel := give(cancelled, func() error { return b.Cancel(b.ctx, cancelled, "why", "tester") })
	b.SetPatience(time.Second)
	pause := give(paused, func() error { return b.Pause(b.ctx, paused, "why", "tester") })
	b.start()
	for what, c := range map[string]chan error{"cancel": cancel, "pause": pause} {
		if err := <-c; err != nil && trimtab.ExitCode(err) != 4 { // the first of the two may have been taken
			t.Errorf("%s: %v", what, err)
		}
	}
	if d := b.await(cancelled, trimtab.RunCancelled); d.Stages[1].Attempt != 0 {
		t.Errorf("a run that was cancelled while it was queued made %+v", d.Stages)
	}
	b.await(paused, trimtab.RunPaused)
	b.do(b.Resume(b.ctx, paused, "why", "tester"))
	b.await(paused, trimtab.RunCompleted)
}
