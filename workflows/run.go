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
	Actor string // who launched it; the record has it too
	// Reuse names the stages that may take an earlier attempt's output with the same cache key.
	Reuse []string
	// UpdatesPerHistory is how many Updates the workflow takes before it continues as new,
	// at the next moment when no attempt is at work, or earlier where Temporal
	// suggests it. A run whose input says 0 stays in one history.
	Renew int
	// Continued is set when the workflow continues as new.
	Continued *RunProgress
}

// UpdatesPerHistory is how many Updates of a run go into one history.
const UpdatesPerHistory = 500

// maxPauseUpdates is when a history takes no more pauses and resumes: Temporal
// ends a workflow's Updates at 2,000, and the rest is for rerun, approve, skip and cancel.
const maxPauseUpdates = 1900

// RunProgress is all that a Run has to remember beside its plan.
type RunProgress struct {
	Stages []StageState // beside the plan's
	Paused bool
	Block  *Block
}

// StageState is where one stage of the chain stands.
type StageState struct {
	Attempt int // number of the newest attempt; 0 before the first
	Done    bool
	Skipped bool
	Reuse   bool // an earlier attempt with the same cache key will do
	Outputs []trimtab.Named

	From   trimtab.Digest // for the next attempt
	Reason string
	Actor  string
}

// Block is why a run waits for a person.
type Block struct {
	Stage  string
	Missed []string // gates, in words; none if the attempt failed
}

type run struct {
	in     RunInput
	plan   trimtab.Plan
	stages []StageState // beside plan.Stages

	paused    bool
	cancelled bool
	closed    bool // nothing can be decided any more
	unblocked bool // the run is not blocked, or a decision has come since it was
	block     *Block
	actor     string // who cancelled it; program where no person did
	updates   int    // in this history

	child     workflow.ChildWorkflowFuture // the attempt at work
	stopChild workflow.CancelFunc

	// mu is held while a fact about the run is written: what it shows at last
	// is then what came about last.
	mu workflow.Mutex
}

// Run takes a plan through its stages. It ends when the chain is done or a
// person cancels it; a failed stage does not end it.
func Run(ctx workflow.Context, in RunInput) error {
	r := newRun(ctx, in)
	if err := r.handlers(ctx); err != nil {
		return err
	}
	if in.Continued == nil {
		if err := r.showStart(ctx); err != nil {
			return err
		}
	}
	err := r.chain(ctx)
	switch {
	case workflow.IsContinueAsNewError(err):
		return err
	case err != nil && !r.cancelled:
		return r.fail(ctx, err)
	}
	status, next := trimtab.RunCompleted, ""
	if r.cancelled {
		status, next = trimtab.RunCancelled, fmt.Sprintf("`trimtab rerun %s STAGE` starts a new run that reuses what "+
			"was finished", r.plan.Run)
	}
	r.closed = true
	clean, _ := workflow.NewDisconnectedContext(ctx)
	if err := workflow.Await(clean, func() bool { return workflow.AllHandlersFinished(clean) }); err != nil {
		return err
	}
	return r.setStatus(clean, status, next, nil, r.actor)
}

// systemActor is the actor of what trimtab does by itself. A person is the actor of what he has asked for, and of
// nothing else.
const systemActor = "trimtab"

func newRun(ctx workflow.Context, in RunInput) *run {
	r := &run{in: in, plan: in.Plan, stages: make([]StageState, len(in.Plan.Stages)), actor: systemActor,
		unblocked: true, mu: workflow.NewMutex(ctx)}
	for i, st := range in.Plan.Stages {
		r.stages[i].Reuse = slices.Contains(in.Reuse, st.Name)
	}
	if c := in.Continued; c != nil {
		r.stages, r.paused, r.block, r.unblocked = c.Stages, c.Paused, c.Block, c.Block == nil
	}
	return r
}

// chain runs the first stage that is not done until all are.
func (r *run) chain(ctx workflow.Context) error {
	for {
		if err := r.await(ctx, func() bool { return r.unblocked }); err != nil {
			return err
		}
		i := slices.IndexFunc(r.stages, func(s StageState) bool { return !s.Done })
		if i < 0 {
			return nil
		}
		if err := r.await(ctx, func() bool { return !r.paused }); err != nil {
			return err
		}
		if r.cancelled {
			return nil
		}
		if err := r.runStage(ctx, i); err != nil {
			return err
		}
	}
}

// await waits for a person to let the run go on, or to cancel it. No attempt is
// at work here: if the history is long, the run continues as new.
func (r *run) await(ctx workflow.Context, ready func() bool) error {
	renew := func() bool { return r.historyLong(ctx) && workflow.AllHandlersFinished(ctx) }
	goes := func() bool { return r.cancelled || ready() && !r.historyLong(ctx) }
	if err := workflow.Await(ctx, func() bool { return goes() || renew() }); err != nil || goes() {
		return err
	}
	if ctx.Err() != nil { // a new history would not know that it was cancelled from outside
		return ctx.Err()
	}
	r.in.Plan = r.plan
	r.in.Continued = &RunProgress{Stages: r.stages, Paused: r.paused, Block: r.block}
	return workflow.NewContinueAsNewError(ctx, Run, r.in)
}

// historyLong reports whether the history should end soon.
func (r *run) historyLong(ctx workflow.Context) bool {
	return r.in.Renew > 0 && (r.updates >= r.in.Renew || workflow.GetInfo(ctx).GetContinueAsNewSuggested())
}

// runStage runs stage i once and takes note of how it ended.
func (r *run) runStage(ctx workflow.Context, i int) error {
	st := &r.stages[i]
	st.Attempt++
	res, err := r.runAttempt(ctx, i)
	switch {
	case err == nil && len(res.Missed) == 0:
		st.Done, st.Outputs = true, res.Outputs
		return nil
	case err == nil:
		st.Outputs = res.Outputs
		return r.blocked(ctx, &Block{Stage: r.plan.Stages[i].Name, Missed: res.Missed}, nil)
	case r.cancelled:
		return nil
	case temporal.IsCanceledError(err): // from outside, by an operator
		r.cancelled = true
		return nil
	case isUnborn(err): // a person decides about the attempts he can see
		st.Attempt--
	}
	return r.blocked(ctx, &Block{Stage: r.plan.Stages[i].Name}, activities.Unwrap(err))
}

// runAttempt runs the child workflow of an attempt.
func (r *run) runAttempt(ctx workflow.Context, i int) (StageResult, error) {
	planned, st := r.plan.Stages[i], &r.stages[i]
	inputs, err := r.inputs(planned)
	if err != nil {
		return StageResult{}, err
	}
	begin := activities.BeginInput{Run: r.plan.Run, Stage: planned, Number: st.Attempt, Seed: r.plan.Seed,
		Numerics: r.plan.Numerics,
		Inputs:   inputs, Reuse: st.Reuse, From: st.From, Reason: st.Reason,
		Actor: firstNonEmpty(st.Actor, systemActor)}
	cctx, stop := workflow.WithCancel(ctx)
	r.stopChild = stop
	r.child = workflow.ExecuteChildWorkflow(workflow.WithChildOptions(cctx, workflow.ChildWorkflowOptions{
		WorkflowID: StageID(r.plan.Run, planned.Name, st.Attempt), WaitForCancellation: true,
		ParentClosePolicy: enums.PARENT_CLOSE_POLICY_REQUEST_CANCEL, StaticSummary: planned.Kind,
	}), Stage, StageInput{Begin: begin, Paused: r.paused})
	var res StageResult
	err = r.child.Get(ctx, &res)
	r.child, r.stopChild = nil, nil
	return res, err
}

// inputs replaces each input that is a stage's output by its digest.
func (r *run) inputs(st trimtab.PlannedStage) ([]trimtab.Named, error) {
	var named []trimtab.Named
	for _, in := range st.Inputs {
		n := trimtab.Named{Name: in.Name, Digest: trimtab.Digest(firstNonEmpty(string(in.Dataset), string(in.Model)))}
		if in.Stage != "" {
			out := r.stages[r.index(in.Stage)].Outputs
			j := slices.IndexFunc(out, func(o trimtab.Named) bool { return o.Name == in.Output })
			if j < 0 {
				return nil, unborn(trimtab.NewError(trimtab.Invalid, "input_missing", "rerun that stage",
					"stage %s made no %s", in.Stage, in.Output))
			}
			n.Digest = out[j].Digest
		}
		named = append(named, n)
	}
	return named, nil
}

// blocked parks the run until a person has decided. The attempt failed with e, or else missed gates.
func (r *run) blocked(ctx workflow.Context, b *Block, e *trimtab.Error) error {
	r.block, r.unblocked = b, false
	next := fmt.Sprintf("mend the cause, then `trimtab rerun %s %s` (with --set key=value or --data NAME where that "+
		"is the cure), or `trimtab cancel %s --reason …`", r.plan.Run, b.Stage, r.plan.Run)
	if e == nil {
		e = trimtab.NewError(trimtab.Invalid, "gate_missed", "", "stage %s: %s", b.Stage, strings.Join(b.Missed, "; "))
		next = fmt.Sprintf("`trimtab rerun %s %s --set … --reason …` for a better one, or `trimtab approve %s %s "+
			"--reason …` to go on with it", r.plan.Run, b.Stage, r.plan.Run, b.Stage)
	}
	return r.setStatus(ctx, trimtab.RunBlocked, next, e, systemActor)
}

// fail closes a run whose own workflow cannot go on.
func (r *run) fail(ctx workflow.Context, err error) error {
	r.closed = true
	clean, _ := workflow.NewDisconnectedContext(ctx)
	if ctx.Err() != nil { // cancelled from outside
		return r.setStatus(clean, trimtab.RunCancelled, "", nil, r.actor)
	}
	e := activities.Unwrap(err)
	if err := r.setStatus(clean, trimtab.RunFailed, "see `trimtab logs`", e, systemActor); err != nil {
		return err
	}
	return applicationError(e)
}

func (r *run) setStatus(ctx workflow.Context, status trimtab.RunStatus, next string, e *trimtab.Error,
	actor string) error {
	if err := r.mu.Lock(ctx); err != nil {
		return err
	}
	defer r.mu.Unlock()
	return r.setStatusLocked(ctx, status, next, e, actor)
}

// setStatusLocked does what show does, for who holds the pen.
func (r *run) setStatusLocked(ctx workflow.Context, status trimtab.RunStatus, next string, e *trimtab.Error,
	actor string) error {
	return workflow.ExecuteActivity(smallOptions(ctx), a.SetRunStatus, activities.RunStatusInput{
		Run: r.plan.Run, Status: status, Next: next, Error: e, Class: activities.ClassOf(e), Actor: actor}).Get(ctx,
		nil)
}

// showStart shows that the run is at work, or paused: who paused it while no worker was there may have written first.
func (r *run) showStart(ctx workflow.Context) error {
	if err := r.mu.Lock(ctx); err != nil {
		return err
	}
	defer r.mu.Unlock()
	status, next := r.openStatus()
	return r.setStatusLocked(ctx, status, next, nil, systemActor)
}

// openStatus is what a run that is neither blocked nor at its end shows.
func (r *run) openStatus() (status trimtab.RunStatus, next string) {
	if r.paused {
		return trimtab.RunPaused, fmt.Sprintf("`trimtab resume %s` to go on", r.plan.Run)
	}
	return trimtab.RunRunning, ""
}

func (r *run) index(stage string) int {
	return slices.IndexFunc(r.plan.Stages, func(s trimtab.PlannedStage) bool { return s.Name == stage })
}

func firstNonEmpty(s ...string) string {
	for _, v := range s {
		if v != "" {
			return v
		}
	}
	return ""
}
