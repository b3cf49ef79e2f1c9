package workflows

import (
	"fmt"
	"slices"
	"strings"

	"github.com/trimtab/trimtab"
	"github.com/trimtab/trimtab/activities"
	enums "go.temporal.io/api/enums/v1"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"
)

// RunInput starts a run.
type RunInput struct {
	Plan  trimtab.Plan
	Actor string
	// Reuse names the stages that may take an earlier attempt's output with the same cache key.
	Reuse []string
}

// stageState is where one stage of the chain stands.
type stageState struct {
	attempt int // number of the newest attempt; 0 before the first
	done    bool
	skipped bool
	reuse   bool // an earlier attempt with the same cache key will do
	outputs []trimtab.Named

	from   trimtab.Digest // for the next attempt
	reason string
	actor  string
}

// block is why a run waits for a person.
type block struct {
	stage  string
	missed []string
	err    *trimtab.Error
}

type run struct {
	plan   trimtab.Plan
	stages []stageState // beside plan.Stages

	paused    bool
	cancelled bool
	closed    bool // nothing can be decided any more
	decided   bool // a decision has come since the run was blocked
	block     *block
	actor     string // of the newest decision about the whole run

	child workflow.ChildWorkflowFuture // the attempt at work
	stop  workflow.CancelFunc

	// pen is held while a fact about the run is written: what it shows at last
	// is then what came about last.
	pen workflow.Mutex
}

// Run takes a plan through its stages. It ends when the chain is done or a
// person cancels it; a failed stage does not end it.
func Run(ctx workflow.Context, in RunInput) error {
	r := &run{plan: in.Plan, stages: make([]stageState, len(in.Plan.Stages)), actor: in.Actor, pen: workflow.NewMutex(ctx)}
	for i, st := range in.Plan.Stages {
		r.stages[i].reuse = slices.Contains(in.Reuse, st.Name)
	}
	if err := r.handlers(ctx); err != nil {
		return err
	}
	if err := r.show(ctx, trimtab.RunRunning, "", nil, in.Actor); err != nil {
		return err
	}
	if err := r.chain(ctx); err != nil && !r.cancelled {
		return r.fail(ctx, err)
	}
	status, next := trimtab.RunCompleted, ""
	if r.cancelled {
		status, next = trimtab.RunCancelled, fmt.Sprintf("`trimtab rerun %s STAGE` starts a new run that reuses what was finished", r.plan.Run)
	}
	r.closed = true
	clean, _ := workflow.NewDisconnectedContext(ctx)
	if err := workflow.Await(clean, func() bool { return workflow.AllHandlersFinished(clean) }); err != nil {
		return err
	}
	return r.show(clean, status, next, nil, r.actor)
}

// chain runs the first stage that is not done until all are.
func (r *run) chain(ctx workflow.Context) error {
	for {
		i := slices.IndexFunc(r.stages, func(s stageState) bool { return !s.done })
		if i < 0 {
			return nil
		}
		if err := workflow.Await(ctx, func() bool { return !r.paused || r.cancelled }); err != nil {
			return err
		}
		if r.cancelled {
			return nil
		}
		if err := r.attempt(ctx, i); err != nil {
			return err
		}
	}
}

// attempt runs stage i once and takes note of how it ended.
func (r *run) attempt(ctx workflow.Context, i int) error {
	st := &r.stages[i]
	st.attempt++
	res, err := r.execute(ctx, i)
	switch {
	case err == nil && len(res.Missed) == 0:
		st.done, st.outputs = true, res.Outputs
		return nil
	case err == nil:
		st.outputs = res.Outputs
		return r.blocked(ctx, &block{stage: r.plan.Stages[i].Name, missed: res.Missed})
	case r.cancelled:
		return nil
	case temporal.IsCanceledError(err): // from outside, by an operator
		r.cancelled = true
		return nil
	case isUnborn(err): // a person decides about the attempts he can see
		st.attempt--
	}
	return r.blocked(ctx, &block{stage: r.plan.Stages[i].Name, err: activities.Unwrap(err)})
}

// execute runs the child workflow of an attempt.
func (r *run) execute(ctx workflow.Context, i int) (StageResult, error) {
	planned, st := r.plan.Stages[i], &r.stages[i]
	inputs, err := r.inputs(planned)
	if err != nil {
		return StageResult{}, err
	}
	begin := activities.BeginInput{Run: r.plan.Run, Stage: planned, Number: st.attempt, Seed: r.plan.Seed, Numerics: r.plan.Numerics,
		Inputs: inputs, Reuse: st.reuse, From: st.from, Reason: st.reason, Actor: first(st.actor, r.actor)}
	cctx, stop := workflow.WithCancel(ctx)
	r.stop = stop
	r.child = workflow.ExecuteChildWorkflow(workflow.WithChildOptions(cctx, workflow.ChildWorkflowOptions{
		WorkflowID: StageID(r.plan.Run, planned.Name, st.attempt), WaitForCancellation: true,
		ParentClosePolicy: enums.PARENT_CLOSE_POLICY_REQUEST_CANCEL, StaticSummary: planned.Kind,
	}), Stage, StageInput{Begin: begin, Paused: r.paused})
	var res StageResult
	err = r.child.Get(ctx, &res)
	r.child, r.stop = nil, nil
	return res, err
}

// inputs replaces each input that is a stage's output by its digest.
func (r *run) inputs(st trimtab.PlannedStage) ([]trimtab.Named, error) {
	var named []trimtab.Named
	for _, in := range st.Inputs {
		n := trimtab.Named{Name: in.Name, Digest: trimtab.Digest(first(string(in.Dataset), string(in.Model)))}
		if in.Stage != "" {
			out := r.stages[r.index(in.Stage)].outputs
			j := slices.IndexFunc(out, func(o trimtab.Named) bool { return o.Name == in.Output })
			if j < 0 {
				return nil, unborn(trimtab.NewError(trimtab.Invalid, "input_missing", "rerun that stage", "stage %s made no %s", in.Stage, in.Output))
			}
			n.Digest = out[j].Digest
		}
		named = append(named, n)
	}
	return named, nil
}

// blocked parks the run until a person has decided.
func (r *run) blocked(ctx workflow.Context, b *block) error {
	r.block, r.decided = b, false
	e, next := b.explain(r.plan.Run)
	if err := r.show(ctx, trimtab.RunBlocked, next, e, "trimtab"); err != nil {
		return err
	}
	return workflow.Await(ctx, func() bool { return r.decided || r.cancelled })
}

// explain says why the run is blocked and what a person has to do.
func (b *block) explain(run string) (*trimtab.Error, string) {
	if b.err != nil {
		return b.err, fmt.Sprintf("mend the cause, then `trimtab rerun %s %s` (with --set key=value or --data NAME where that is the cure), or `trimtab cancel %s`", run, b.stage, run)
	}
	e := trimtab.NewError(trimtab.Invalid, "gate_missed", "", "stage %s: %s", b.stage, strings.Join(b.missed, "; "))
	return e, fmt.Sprintf("`trimtab rerun %s %s --set …` for a better one, or `trimtab approve %s %s --reason …` to go on with it", run, b.stage, run, b.stage)
}

// fail closes a run whose own workflow cannot go on.
func (r *run) fail(ctx workflow.Context, err error) error {
	r.closed = true
	clean, _ := workflow.NewDisconnectedContext(ctx)
	if ctx.Err() != nil { // cancelled from outside
		return r.show(clean, trimtab.RunCancelled, "", nil, r.actor)
	}
	e := activities.Unwrap(err)
	if err := r.show(clean, trimtab.RunFailed, "see `trimtab logs`", e, "trimtab"); err != nil {
		return err
	}
	return failure(e)
}

func (r *run) show(ctx workflow.Context, status trimtab.RunStatus, next string, e *trimtab.Error, actor string) error {
	if err := r.pen.Lock(ctx); err != nil {
		return err
	}
	defer r.pen.Unlock()
	return workflow.ExecuteActivity(small(ctx), a.SetRunStatus, activities.RunStatusInput{
		Run: r.plan.Run, Status: status, Next: next, Error: e, Class: activities.Class(e), Actor: actor}).Get(ctx, nil)
}

// shown is what a run that is neither blocked nor at its end shows.
func (r *run) shown() (status trimtab.RunStatus, next string) {
	if r.paused {
		return trimtab.RunPaused, fmt.Sprintf("`trimtab resume %s` to go on", r.plan.Run)
	}
	return trimtab.RunRunning, ""
}

func (r *run) index(stage string) int {
	return slices.IndexFunc(r.plan.Stages, func(s trimtab.PlannedStage) bool { return s.Name == stage })
}

func first(s ...string) string {
	for _, v := range s {
		if v != "" {
			return v
		}
	}
	return ""
}
