package workflows

import (
	"errors"
	"testing"
	"time"

	"github.com/trimtab/trimtab"
	"github.com/trimtab/trimtab/activities"
	"go.temporal.io/sdk/converter"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/testsuite"
	"go.temporal.io/sdk/workflow"
)

// renewed runs until the workflow continues as new and gives the next input.
func (p *people) renewed(t *testing.T, in RunInput) RunInput {
	t.Helper()
	p.env.ExecuteWorkflow(Run, in)
	var again *workflow.ContinueAsNewError
	if err := p.env.GetWorkflowError(); !errors.As(err, &again) {
		t.Fatalf("the run ended with %v, shown as %v", err, p.shows())
	}
	var next RunInput
	if err := converter.GetDefaultDataConverter().FromPayloads(again.Input, &next); err != nil {
		t.Fatal(err)
	}
	return next
}

// twoPlan is a run of two stages.
var twoPlan = trimtab.Plan{Run: "r", Seed: 3, Stages: []trimtab.PlannedStage{
	{Name: "sft", Kind: "sft", SegmentSteps: 1},
	{Name: "ppo", Kind: "ppo", SegmentSteps: 1, Inputs: []trimtab.Input{{Name: "model", Stage: "sft",
		Output: "model"}}}}}

// A blocked run that was paused and resumed often continues in a new history,
// with all it has to remember, and takes the decision there.
func TestBlockedRunContinuesAsNew(t *testing.T) {
	p := newPeople()
	p.missed = missedOnce
	for i := range 3 {
		p.at(time.Duration(i+1)*time.Minute, []string{UpdatePause, UpdateResume}[i%2], Decision{Actor: "a", Request: 1})
	}
	in := p.renewed(t, RunInput{Plan: twoPlan, Actor: "launcher", Reuse: []string{"ppo"}, Renew: 3})
	wantShown(t, p, trimtab.RunRunning, trimtab.RunBlocked)
	c := in.Continued
	if in.Renew != 3 || in.Plan.Seed != 3 || in.Actor != "launcher" || c == nil || !c.Paused || c.Block == nil ||
		c.Block.Stage != "sft" || len(c.Block.Missed) != 1 {
		t.Fatalf("it continues with %+v", in)
	}
	if st := c.Stages; len(st) != 2 || st[0].Attempt != 1 || st[0].Done || len(st[0].Outputs) != 1 || !st[1].Reuse {
		t.Fatalf("it continues with %+v", c.Stages)
	}

	p = newPeople()
	stale := p.at(time.Minute, UpdateApprove, Decision{Stage: "sft", Attempt: 2, Actor: "a", Request: 1})
	p.at(2*time.Minute, UpdateApprove, Decision{Stage: "sft", Attempt: 1, Actor: "a", Request: 1})
	p.at(3*time.Minute, UpdateResume, Decision{Actor: "a", Request: 1})
	p.in = in
	p.run(t)
	if stale.refused == nil {
		t.Error("a decision about an attempt that there was not is accepted")
	}
	wantShown(t, p, trimtab.RunPaused, trimtab.RunRunning, trimtab.RunCompleted)
	if len(p.begun) != 1 || p.seen[0].Inputs[0].Digest != "d" {
		t.Errorf("attempts %v, ppo reads %v", p.begun, p.seen[0].Inputs)
	}
}

// No history ends while an attempt is at work in it, nor while a decision is being written down.
func TestRenewalWaits(t *testing.T) {
	p := newPeople()
	p.decide = func(in activities.DecisionInput) {
		if in.Decision == UpdatePause {
			time.Sleep(100 * time.Millisecond)
		}
	}
	var pause answer
	at := 0
	p.segments = []func(activities.SegmentInput) (activities.SegmentResult,
		error){func(in activities.SegmentInput) (activities.SegmentResult, error) {
		at++
		p.env.UpdateWorkflow(UpdatePause, "", &pause, Decision{Actor: "a", Request: 1})
		time.Sleep(50 * time.Millisecond)
		return done(in)
	}}
	in := p.renewed(t, RunInput{Plan: twoPlan, Renew: 1})
	if c := in.Continued; at != 1 || !pause.done || pause.failed != nil || !c.Paused || c.Block != nil ||
		!c.Stages[0].Done || c.Stages[1].Attempt != 0 {
		t.Errorf("%d segments, the pause is %+v, it continues with %+v", at, pause, in.Continued)
	}
}

// A run that was launched before there was renewal stays in its history.
func TestOldRunsAreNotRenewed(t *testing.T) {
	p := newPeople()
	p.env.SetContinueAsNewSuggested(true)
	p.run(t)
}

// Temporal may want a new history before there were many decisions.
func TestRenewalAsSuggested(t *testing.T) {
	p := newPeople()
	p.env.SetContinueAsNewSuggested(true)
	if in := p.renewed(t, RunInput{Plan: twoPlan, Renew: UpdatesPerHistory}); in.Continued.Stages[0].Attempt != 0 {
		t.Errorf("it continues with %+v", in.Continued)
	}
}

// A cancel from outside that comes in one task with the last decision's end is not lost in a new history.
func TestRenewalOfACancelledRun(t *testing.T) {
	cancelled := func(ctx workflow.Context) error {
		ctx, cancel := workflow.WithCancel(ctx)
		cancel()
		r := newRun(ctx, RunInput{Plan: onePlan, Renew: 1})
		r.updates = 1
		return r.await(ctx, func() bool { return false })
	}
	p := newPeople()
	p.env.ExecuteWorkflow(cancelled)
	if err := p.env.GetWorkflowError(); !temporal.IsCanceledError(err) {
		t.Errorf("it ends with %v", err)
	}
}

// Pausing and resuming a running stage a thousand times is refused at last; the run can still be cancelled.
func TestTooManyDecisions(t *testing.T) {
	var suite testsuite.WorkflowTestSuite
	p := &people{env: suite.NewTestWorkflowEnvironment()}
	p.env.SetTestTimeout(20 * time.Second)
	p.env.RegisterActivity(p)
	atWork := func(ctx workflow.Context, _ StageInput) (StageResult, error) {
		ctx.Done().Receive(ctx, nil)
		return StageResult{}, ctx.Err()
	}
	p.env.RegisterWorkflowWithOptions(atWork, workflow.RegisterOptions{Name: "Stage"})
	var all []*answer
	var next func()
	next = func() {
		if len(all) == maxPauseUpdates {
			return
		}
		all = append(all, p.at(time.Second, []string{UpdatePause, UpdateResume}[len(all)%2],
			Decision{Actor: "a", Request: 1}))
		p.env.RegisterDelayedCallback(next, time.Minute)
	}
	p.env.RegisterDelayedCallback(next, time.Minute)
	late := p.at(24*24*time.Hour, UpdatePause, Decision{Actor: "a", Request: 1})
	cancel := p.at(25*24*time.Hour, UpdateCancel, Decision{Actor: "a", Request: 1})
	p.in = RunInput{Plan: onePlan, Renew: 100}
	p.run(t)
	for i, a := range all {
		if a.refused != nil || a.failed != nil || !a.done {
			t.Fatalf("decision %d is %+v", i+1, a)
		}
	}
	if late.refused == nil {
		t.Fatal("one more is accepted")
	}
	if e := ErrorOf(late.refused); e.Type != "too_many_decisions" || e.Class != trimtab.Conflict || e.Remedy == "" {
		t.Errorf("one more: %v", late.refused)
	}
	if cancel.refused != nil || !cancel.done {
		t.Errorf("the cancel is %+v", cancel)
	}
}
