package workflows

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/trimtab/trimtab"
	"github.com/trimtab/trimtab/activities"
	"go.temporal.io/sdk/testsuite"
)

// people is a run under a script: what its activities answer, and what persons
// send when. Whole runs on real servers are tested by package runs; here are
// the moments that are too short to hit there.
type people struct {
	script
	env *testsuite.TestWorkflowEnvironment
	in  RunInput

	begin  func(in activities.BeginInput) error
	missed map[int][]string // gates, by number of the attempt
	decide func(in activities.DecisionInput)
	asked  func(in activities.TakenRequest) error
	ending func()

	mu     sync.Mutex
	status []trimtab.RunStatus // what the run showed, in the order in which it was written
	begun  []int
}

func (p *people) Begin(_ context.Context, in activities.BeginInput) (activities.BeginResult, error) {
	p.mu.Lock()
	p.begun = append(p.begun, in.Number)
	p.mu.Unlock()
	if p.begin != nil {
		if err := p.begin(in); err != nil {
			return activities.BeginResult{}, err
		}
	}
	return activities.BeginResult{Attempt: int64(in.Number)}, nil
}

func (p *people) Complete(_ context.Context, in activities.CompleteInput) (activities.CompleteResult, error) {
	return activities.CompleteResult{Missed: p.missed[int(in.Attempt)]}, nil
}

func (p *people) SetRunStatus(_ context.Context, in activities.RunStatusInput) error {
	if in.Status == trimtab.RunCompleted && p.ending != nil {
		p.ending()
	}
	p.show(in.Status)
	return nil
}

func (p *people) Replan(_ context.Context, in activities.ReplanInput) error {
	p.show(in.Status)
	return nil
}

func (p *people) Requested(_ context.Context, in activities.TakenRequest) error {
	if p.asked == nil {
		return nil
	}
	return activities.Wrap(p.asked(in))
}

func (p *people) Decide(_ context.Context, in activities.DecisionInput) error {
	if p.decide != nil {
		p.decide(in)
	}
	if in.Status != "" {
		p.show(in.Status)
	}
	return nil
}

func (p *people) show(s trimtab.RunStatus) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.status = append(p.status, s)
}

func (p *people) shows() []trimtab.RunStatus {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.status)
}

// onePlan is a run of a single stage.
var onePlan = trimtab.Plan{Run: "r", Stages: []trimtab.PlannedStage{{Name: "sft", Kind: "sft", SegmentSteps: 1}}}

func newPeople() *people {
	var suite testsuite.WorkflowTestSuite
	p := &people{env: suite.NewTestWorkflowEnvironment(), in: RunInput{Plan: onePlan, Actor: "launcher"}}
	p.segments = []func(activities.SegmentInput) (activities.SegmentResult, error){done}
	p.env.SetTestTimeout(20 * time.Second)
	p.env.RegisterWorkflow(Stage)
	p.env.RegisterActivity(p)
	return p
}

// progress sends an Update when so much time has passed and notes what became of it.
func (p *people) at(after time.Duration, name string, arg any) *answer {
	a := &answer{}
	p.env.RegisterDelayedCallback(func() { p.env.UpdateWorkflow(name, "", a, arg) }, after)
	return a
}

// answer is what became of an Update.
type answer struct {
	refused, failed error
	outcome         any
	done            bool
}

func (a *answer) Accept()          {}
func (a *answer) Reject(err error) { a.refused = err }
func (a *answer) Complete(v any, err error) {
	a.outcome, a.failed, a.done = v, err, true
}

func (p *people) run(t *testing.T) {
	t.Helper()
	p.env.ExecuteWorkflow(Run, p.in)
	if err := p.env.GetWorkflowError(); !p.env.IsWorkflowCompleted() || err != nil {
		t.Fatalf("the run did not end: %v, shown as %v", err, p.shows())
	}
}

func wantShown(t *testing.T, p *people, want ...trimtab.RunStatus) {
	t.Helper()
	if got := p.shows(); !slices.Equal(got, want) {
		t.Errorf("the run was shown as %v, want %v", got, want)
	}
}

var missedOnce = map[int][]string{1: {"accuracy is .1"}}

// A decision about a blocked run that is paused too shows what is true after it: paused.
func TestDecisionWhilePaused(t *testing.T) {
	p := newPeople()
	p.missed = missedOnce
	pause := p.at(time.Minute, UpdatePause, Decision{Actor: "a", Request: 1})
	decision := p.at(2*time.Minute, UpdateRerun, RerunDecision{Decision: Decision{Stage: "sft", Attempt: 1, Request: 1},
		Plan: onePlan})
	var before int
	p.env.RegisterDelayedCallback(func() { before = len(p.shows()) }, time.Hour)
	p.at(2*time.Hour, UpdateResume, Decision{Actor: "a", Request: 1})
	p.run(t)
	if pause.failed != nil || decision.refused != nil || decision.failed != nil {
		t.Errorf("pause %+v, decision %+v", pause, decision)
	}
	if before != 3 {
		t.Errorf("the run went on while it was paused: %v", p.shows())
	}
	wantShown(t, p, trimtab.RunRunning, trimtab.RunBlocked, trimtab.RunPaused, trimtab.RunRunning, trimtab.RunCompleted)
}

// What a run shows is written in the order in which it came about: a pause
// whose record takes long does not hide that the run was blocked meanwhile.
func TestPauseWhileTheStageEnds(t *testing.T) {
	p := newPeople()
	p.missed = missedOnce
	p.decide = func(in activities.DecisionInput) {
		if in.Decision == UpdatePause {
			time.Sleep(300 * time.Millisecond)
		}
	}
	var pause answer
	p.segments = []func(activities.SegmentInput) (activities.SegmentResult,
		error){func(in activities.SegmentInput) (activities.SegmentResult, error) {
		p.env.UpdateWorkflow(UpdatePause, "", &pause, Decision{Actor: "a", Request: 1})
		time.Sleep(50 * time.Millisecond)
		return done(in)
	}}
	p.at(time.Hour, UpdateCancel, Decision{Actor: "a", Request: 1})
	p.run(t)
	if !pause.done || pause.failed != nil {
		t.Errorf("the pause is %+v", pause)
	}
	wantShown(t, p, trimtab.RunRunning, trimtab.RunPaused, trimtab.RunBlocked, trimtab.RunCancelled)
}

// An attempt whose row could not be made has been seen by nobody: who looked at the one before it may decide.
func TestAttemptWithoutARow(t *testing.T) {
	p := newPeople()
	p.missed = missedOnce
	refusals := 1
	p.begin = func(in activities.BeginInput) error {
		if in.Number == 2 && refusals > 0 {
			refusals--
			return activities.Wrap(trimtab.NewError(trimtab.Verification, "replay_diverged", "", "no"))
		}
		return nil
	}
	rerun := RerunDecision{Decision: Decision{Stage: "sft", Attempt: 1, Request: 1}, Plan: onePlan}
	first := p.at(time.Minute, UpdateRerun, rerun)
	second := p.at(2*time.Minute, UpdateRerun, rerun)
	p.at(time.Hour, UpdateCancel, Decision{Actor: "a", Request: 1})
	p.run(t)
	if first.refused != nil || second.refused != nil || !slices.Equal(p.begun, []int{1, 2, 2}) {
		t.Errorf("attempts %v; %v, %v", p.begun, first.refused, second.refused)
	}
}

// Two persons press rerun at once: one attempt comes of it.
func TestTwoReruns(t *testing.T) {
	p := newPeople()
	p.missed = missedOnce
	rerun := RerunDecision{Decision: Decision{Stage: "sft", Attempt: 1, Request: 1}, Plan: onePlan}
	first, second := p.at(time.Minute, UpdateRerun, rerun), p.at(time.Minute, UpdateRerun, rerun)
	p.run(t)
	refused := slices.DeleteFunc([]error{first.refused, first.failed, second.refused, second.failed},
		func(err error) bool { return err == nil })
	if len(refused) != 1 || ErrorOf(refused[0]).Class != trimtab.Conflict || len(p.begun) != 2 {
		t.Errorf("attempts %v; %+v, %+v", p.begun, first, second)
	}
}

// A rerun stands on all that was seen of the run: its plan, and the newest attempt of every stage.
func TestRerunOfAStalePlan(t *testing.T) {
	was, err := onePlan.Digest()
	if err != nil {
		t.Fatal(err)
	}
	other := onePlan
	other.Seed = 9
	p := newPeople()
	p.missed = map[int][]string{1: {"accuracy is .1"}, 2: {"accuracy is .2"}}
	rerun := func(seen []int, was trimtab.Digest) RerunDecision {
		return RerunDecision{Decision: Decision{Stage: "sft", Request: 1}, Plan: other, Seen: seen, Was: was}
	}
	early := p.at(time.Minute, UpdateRerun, rerun([]int{2}, was))
	first := p.at(2*time.Minute, UpdateRerun, rerun([]int{1}, was))
	again := p.at(3*time.Minute, UpdateRerun, rerun([]int{1}, was))
	changed := p.at(4*time.Minute, UpdateRerun, rerun([]int{2}, was))
	p.at(5*time.Minute, UpdateRerun, rerun([]int{2}, ""))
	p.run(t)
	if first.refused != nil || first.failed != nil {
		t.Errorf("the rerun is %+v", first)
	}
	for _, a := range []*answer{early, again, changed} {
		if a.refused == nil || ErrorOf(a.refused).Type != "plan_stale" {
			t.Errorf("a rerun of what is no more is %+v", a)
		}
	}
}

// Nothing is decided about a run that is writing down its end.
func TestPauseAtTheEnd(t *testing.T) {
	p := newPeople()
	var late answer
	p.segments = []func(activities.SegmentInput) (activities.SegmentResult, error){done}
	p.ending = func() {
		p.env.UpdateWorkflow(UpdatePause, "", &late, Decision{Actor: "a", Request: 1})
		time.Sleep(50 * time.Millisecond)
	}
	p.run(t)
	if late.refused == nil {
		t.Errorf("the pause is %+v", late)
	}
	wantShown(t, p, trimtab.RunRunning, trimtab.RunCompleted)
}

// What ppo begins with is named by digest when its attempt begins: the policy,
// the reward model as its last attempt made it, and the reference of the KL,
// which is the policy's own digest unless the plan names another one.
func TestModelsArePinned(t *testing.T) {
	from := func(name, stage string) trimtab.Input {
		return trimtab.Input{Name: name, Stage: stage, Output: "model"}
	}
	for name, c := range map[string]struct {
		extra []trimtab.Input
		want  []trimtab.Named
	}{
		"the policy is the reference": {nil, nil},
		"a stage's model is": {[]trimtab.Input{from("reference", "pretrain")},
			[]trimtab.Named{{Name: "reference", Digest: "pretrain-1"}}},
		"a model from elsewhere is it": {[]trimtab.Input{{Name: "reference", Model: "given"}},
			[]trimtab.Named{{Name: "reference", Digest: "given"}}},
	} {
		t.Run(name, func(t *testing.T) {
			plan := trimtab.Plan{Run: "r", Stages: []trimtab.PlannedStage{
				{Name: "pretrain", Kind: "pretrain"},
				{Name: "sft", Kind: "sft", Inputs: []trimtab.Input{from("model", "pretrain")}},
				{Name: "reward", Kind: "reward", Inputs: []trimtab.Input{from("model", "sft")}},
				{Name: "ppo", Kind: "ppo", Inputs: append([]trimtab.Input{from("model", "sft"),
					from("reward", "reward")}, c.extra...)},
			}}
			p := newPeople()
			p.segments[0] = func(in activities.SegmentInput) (activities.SegmentResult, error) {
				if in.Stage.Name == "reward" && in.Attempt == 1 {
					return fails(trimtab.Invalid, "trouble")(in)
				}
				res, err := done(in)
				res.Outputs[0].Digest = trimtab.Digest(fmt.Sprint(in.Stage.Name, "-", in.Attempt))
				return res, err
			}
			var got activities.BeginInput
			p.begin = func(in activities.BeginInput) error {
				if in.Stage.Name == "ppo" {
					got = in
				}
				return nil
			}
			rerun := p.at(time.Minute, UpdateRerun,
				RerunDecision{Decision: Decision{Stage: "reward", Attempt: 1, Request: 1}, Plan: plan})
			p.env.ExecuteWorkflow(Run, RunInput{Plan: plan, Actor: "launcher"})
			if err := p.env.GetWorkflowError(); err != nil || rerun.refused != nil {
				t.Fatalf("the run ended with %v, the rerun with %v", err, rerun.refused)
			}
			want := append([]trimtab.Named{{Name: "model", Digest: "sft-1"}, {Name: "reward", Digest: "reward-2"}},
				c.want...)
			if !slices.Equal(got.Inputs, want) {
				t.Errorf("ppo begins with %v, want %v", got.Inputs, want)
			}
			if seen := p.seen[len(p.seen)-1]; seen.Stage.Name != "ppo" || !slices.Equal(seen.Inputs, want) {
				t.Errorf("the segment of %s has %v, want %v", seen.Stage.Name, seen.Inputs, want)
			}
		})
	}
}

// Whoever reaches Temporal can send an Update. One that names no request, or
// one that the record does not have, changes nothing.
func TestUnrequestedDecisions(t *testing.T) {
	unrequested := trimtab.NewError(trimtab.Conflict, "decision_unrequested", "ask", "nobody has asked for it")
	p := newPeople()
	p.missed = missedOnce
	p.asked = func(in activities.TakenRequest) error {
		if in.Request.Actor == "forger" {
			return unrequested
		}
		return nil
	}
	var all []*answer
	for i, name := range []string{UpdateApprove, UpdateSkip, UpdateCancel, UpdatePause, UpdateRerun} {
		for j, d := range []Decision{{Actor: "root"}, {Actor: "forger", Request: 7}} {
			var arg any = d
			if name == UpdateApprove || name == UpdateSkip || name == UpdateRerun {
				d.Stage, d.Attempt = "sft", 1
				arg = d
			}
			if name == UpdateRerun {
				arg = RerunDecision{Decision: d, Plan: onePlan}
			}
			all = append(all, p.at(time.Duration(2*i+j+1)*time.Minute, name, arg))
		}
	}
	last := p.at(time.Hour, UpdateApprove, Decision{Stage: "sft", Attempt: 1, Actor: "ana", Request: 9})
	p.run(t)
	for i, a := range all {
		err := a.refused // by the validator, without a request
		if i%2 == 1 {
			err = a.failed
		}
		if err == nil || ErrorOf(err).Type != "decision_unrequested" || ErrorOf(err).Remedy == "" {
			t.Errorf("forged decision %d: %+v", i, a)
		}
	}
	if last.refused != nil || last.failed != nil || len(p.begun) != 1 {
		t.Errorf("the one that was asked for: %+v; attempts %v", last, p.begun)
	}
	wantShown(t, p, trimtab.RunRunning, trimtab.RunBlocked, trimtab.RunRunning, trimtab.RunCompleted)
}

// While the record is asked about one decision another may come: what can be
// decided is looked at again.
func TestDecisionsWhileTheRecordIsAsked(t *testing.T) {
	p := newPeople()
	p.missed = missedOnce
	p.asked = func(in activities.TakenRequest) error {
		if in.Request.Actor == "slow" {
			time.Sleep(300 * time.Millisecond)
		}
		return nil
	}
	slow := p.at(time.Minute, UpdateApprove, Decision{Stage: "sft", Attempt: 1, Actor: "slow", Request: 1})
	fast := p.at(time.Minute, UpdateApprove, Decision{Stage: "sft", Attempt: 1, Actor: "fast", Request: 2})
	p.run(t)
	if fast.refused != nil || fast.failed != nil {
		t.Errorf("the first decision: %+v", fast)
	}
	if slow.failed == nil || ErrorOf(slow.failed).Type != "not_now" {
		t.Errorf("the second: %+v", slow)
	}
}
