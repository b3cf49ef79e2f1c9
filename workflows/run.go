package workflows

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/trimtab/trimtab"
	"github.com/trimtab/trimtab/activities"
	enums "go.temporal.io/api/enums/v1"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"
)

// RunInput starts a run. Its fields are part of stored histories.
type RunInput struct {
	Plan  trimtab.Plan
	Actor string // who launched it; the record has it too
	// Reuse names the stages that may take over the output of an earlier attempt with the same cache key.
	Reuse []string
	// Renew is how many Updates the workflow takes before it continues as new, as
	// soon as no attempt is running, or earlier where Temporal suggests it. A run
	// whose input says 0 stays in one history.
	Renew int
	// Continued is set when the workflow continues as new.
	Continued *RunProgress
}

// UpdatesPerHistory is how many Updates of a run go into one history: the Renew of new runs.
const UpdatesPerHistory = 500

// maxPauseUpdates is how many Updates a history takes before it refuses to pause
// or resume. Temporal allows 2,000 Updates in a history; the rest is for rerun,
// approve, skip and cancel.
const maxPauseUpdates = 1900

// RunProgress is all the state of a Run beside its plan.
type RunProgress struct {
	Stages []StageState // parallel to the plan's stages
	Paused bool
	Block  *Block
}

// StageState is the state of one stage of the chain.
type StageState struct {
	Attempt int // number of the newest attempt; 0 before the first
	Done    bool
	Skipped bool
	Reuse   bool // the output of an earlier attempt with the same cache key will do
	Outputs []trimtab.Named

	// The next attempt's checkpoint to start from, and the decision behind it.

	From   trimtab.Digest
	Reason string
	Actor  string
}

// Block is why a run waits for a person's decision.
type Block struct {
	Stage  string
	Missed []string // gates, as sentences; none if the attempt failed
}

// run is the state of one Run workflow. The SDK runs one coroutine of a workflow
// at a time (the chain, or a handler of an Update), and changes coroutines only
// where one waits, so the fields need no lock. mu is for more than a field.
type run struct {
	in     RunInput
	plan   trimtab.Plan
	stages []StageState // parallel to plan.Stages

	paused    bool
	cancelled bool
	closed    bool // the run has ended: no decision is accepted any more
	unblocked bool // the run is not blocked, or has been decided since
	block     *Block
	actor     string // who cancelled it; SystemActor where no person did
	updates   int    // in this history

	child     workflow.ChildWorkflowFuture // the running attempt; nil between attempts
	stopChild workflow.CancelFunc

	// mu is held while an activity writes the run's status, so that the status
	// written last is the one that was decided last.
	mu workflow.Mutex
}

// Run takes a plan through its stages. It ends when the chain is done or when a
// person cancels it; a failed stage or a missed gate blocks it, until a person
// decides by an Update.
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
	// A cancellation makes the chain return early, with or without an error.
	switch {
	case workflow.IsContinueAsNewError(err):
		return err
	case err != nil && !r.cancelled:
		return r.fail(ctx, err)
	}
	status, next := trimtab.RunCompleted, ""
	if r.cancelled {
		status = trimtab.RunCancelled
		next = fmt.Sprintf("`trimtab rerun %s STAGE` starts a new run that reuses what was finished", r.plan.Run)
	}
	// From here on every Update is refused; those that were accepted are answered
	// first, because Temporal drops the handlers of a workflow that has returned.
	r.closed = true
	clean, _ := workflow.NewDisconnectedContext(ctx)
	if err := workflow.Await(clean, func() bool { return workflow.AllHandlersFinished(clean) }); err != nil {
		return err
	}
	return r.setStatus(clean, status, next, nil, r.actor)
}

// SystemActor is the actor of what the program does by itself. A person is the
// actor only of what they have asked for.
const SystemActor = "trimtab"

// newRun returns the state of a run that starts, or of one that continues as new.
func newRun(ctx workflow.Context, in RunInput) *run {
	r := &run{
		in:        in,
		plan:      in.Plan,
		stages:    make([]StageState, len(in.Plan.Stages)),
		actor:     SystemActor,
		unblocked: true,
		mu:        workflow.NewMutex(ctx),
	}
	for i, st := range in.Plan.Stages {
		r.stages[i].Reuse = slices.Contains(in.Reuse, st.Name)
	}
	if c := in.Continued; c != nil {
		r.stages = c.Stages
		r.paused = c.Paused
		r.block = c.Block
		r.unblocked = c.Block == nil
	}
	return r
}

// chain runs the first stage that is not done, again and again, until all are
// done or the run is cancelled.
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

// await waits until the run is ready to continue, or cancelled. No attempt is
// running here, so this is where a run with a long history continues as new:
// ready or not, but not before the handlers of all Updates have returned.
func (r *run) await(ctx workflow.Context, ready func() bool) error {
	renew := func() bool { return r.historyLong(ctx) && workflow.AllHandlersFinished(ctx) }
	proceed := func() bool { return r.cancelled || ready() && !r.historyLong(ctx) }
	if err := workflow.Await(ctx, func() bool { return proceed() || renew() }); err != nil || proceed() {
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

// runStage runs one attempt of stage i and records in r how it ended. A failure
// or a missed gate blocks the run and is no error.
func (r *run) runStage(ctx workflow.Context, i int) error {
	// The pointer stays valid while this waits: Updates change elements of r.stages,
	// never the slice, and those of a running stage are refused.
	st := &r.stages[i]
	st.Attempt++
	res, err := r.runAttempt(ctx, i)
	switch {
	case err == nil && len(res.Missed) == 0:
		st.Done, st.Outputs = true, res.Outputs
		return nil
	case err == nil: // the outputs are kept for a person to approve
		st.Outputs = res.Outputs
		return r.blocked(ctx, &Block{Stage: r.plan.Stages[i].Name, Missed: res.Missed}, nil)
	case r.cancelled:
		return nil
	case temporal.IsCanceledError(err): // from outside, by an operator of Temporal
		r.cancelled = true
		return nil
	case isNotCreated(err): // people decide about the attempts that they can see
		st.Attempt--
	}
	return r.blocked(ctx, &Block{Stage: r.plan.Stages[i].Name}, activities.Unwrap(err))
}

// runAttempt runs the child workflow of stage i's newest attempt.
func (r *run) runAttempt(ctx workflow.Context, i int) (StageResult, error) {
	planned, st := r.plan.Stages[i], &r.stages[i]
	inputs, err := r.inputs(planned)
	if err != nil {
		return StageResult{}, err
	}
	// From, Reason and Actor are those of the rerun that asked for this attempt; the
	// first attempt of a stage has none of them.
	begin := activities.BeginInput{
		Run:      r.plan.Run,
		Stage:    planned,
		Number:   st.Attempt,
		Seed:     r.plan.Seed,
		Numerics: r.plan.Numerics,
		Inputs:   inputs,
		Reuse:    st.Reuse,
		From:     st.From,
		Reason:   st.Reason,
		Actor:    cmp.Or(st.Actor, SystemActor),
	}
	childCtx, stop := workflow.WithCancel(ctx)
	r.stopChild = stop
	childCtx = workflow.WithChildOptions(childCtx, workflow.ChildWorkflowOptions{
		WorkflowID:          StageID(r.plan.Run, planned.Name, st.Attempt),
		WaitForCancellation: true,
		ParentClosePolicy:   enums.PARENT_CLOSE_POLICY_REQUEST_CANCEL,
		StaticSummary:       planned.Kind,
	})
	r.child = workflow.ExecuteChildWorkflow(childCtx, Stage, StageInput{Begin: begin, Paused: r.paused})
	var res StageResult
	// On ctx and not on childCtx: the child's result is wanted after stopChild too.
	err = r.child.Get(ctx, &res)
	r.child, r.stopChild = nil, nil
	return res, err
}

// inputs resolves a stage's inputs to digests: an input that is the output of an
// earlier stage is what that stage's newest attempt made.
func (r *run) inputs(st trimtab.PlannedStage) ([]trimtab.Named, error) {
	var named []trimtab.Named
	for _, in := range st.Inputs {
		n := trimtab.Named{Name: in.Name, Digest: cmp.Or(in.Dataset, in.Model)}
		if in.Stage != "" {
			out := r.stages[r.index(in.Stage)].Outputs
			j := slices.IndexFunc(out, func(o trimtab.Named) bool { return o.Name == in.Output })
			if j < 0 {
				return nil, notCreated(trimtab.NewError(trimtab.Invalid, "input_missing", "rerun that stage",
					"stage %s has no output %s", in.Stage, in.Output))
			}
			n.Digest = out[j].Digest
		}
		named = append(named, n)
	}
	return named, nil
}

// blocked parks the run until a person decides. The attempt failed with e, or,
// if e is nil, missed gates.
func (r *run) blocked(ctx workflow.Context, b *Block, e *trimtab.Error) error {
	r.block, r.unblocked = b, false
	next := fmt.Sprintf("fix the cause, then `trimtab rerun %s %s` (with --set key=value or --data NAME where that "+
		"fixes it), or `trimtab cancel %s --reason …`", r.plan.Run, b.Stage, r.plan.Run)
	if e == nil {
		e = trimtab.NewError(trimtab.Invalid, "gate_missed", "", "stage %s: %s", b.Stage, strings.Join(b.Missed, "; "))
		next = fmt.Sprintf("`trimtab rerun %s %s --set … --reason …` for a better one, or `trimtab approve %s %s "+
			"--reason …` to continue with it", r.plan.Run, b.Stage, r.plan.Run, b.Stage)
	}
	return r.setStatus(ctx, trimtab.RunBlocked, next, e, SystemActor)
}

// fail closes a run whose own workflow cannot continue, or one that an operator
// of Temporal has cancelled.
func (r *run) fail(ctx workflow.Context, err error) error {
	r.closed = true
	clean, _ := workflow.NewDisconnectedContext(ctx)
	if ctx.Err() != nil { // cancelled from outside, by an operator of Temporal
		return r.setStatus(clean, trimtab.RunCancelled, "", nil, r.actor)
	}
	e := activities.Unwrap(err)
	if err := r.setStatus(clean, trimtab.RunFailed, "see `trimtab logs`", e, SystemActor); err != nil {
		return err
	}
	return applicationError(e)
}

// setStatus writes the run's status and what happens next, or what a person has
// to do, with the error behind it (nil if none) and who decided it.
func (r *run) setStatus(
	ctx workflow.Context, status trimtab.RunStatus, next string, e *trimtab.Error, actor string,
) error {
	if err := r.mu.Lock(ctx); err != nil {
		return err
	}
	defer r.mu.Unlock()
	return r.setStatusLocked(ctx, status, next, e, actor)
}

// setStatusLocked is setStatus for a caller that holds mu.
func (r *run) setStatusLocked(
	ctx workflow.Context, status trimtab.RunStatus, next string, e *trimtab.Error, actor string,
) error {
	in := activities.RunStatusInput{
		Run:    r.plan.Run,
		Status: status,
		Next:   next,
		Error:  e,
		Class:  activities.ClassOf(e),
		Actor:  actor,
	}
	return workflow.ExecuteActivity(smallOptions(ctx), a.SetRunStatus, in).Get(ctx, nil)
}

// showStart shows the new run as running, or as paused: a pause that was sent
// while no worker was there may be handled before this.
func (r *run) showStart(ctx workflow.Context) error {
	if err := r.mu.Lock(ctx); err != nil {
		return err
	}
	defer r.mu.Unlock()
	status, next := r.openStatus() // with the lock held: a pause may have come while waiting for it
	return r.setStatusLocked(ctx, status, next, nil, SystemActor)
}

// openStatus returns the status of a run that is neither blocked nor at its end.
func (r *run) openStatus() (status trimtab.RunStatus, next string) {
	if r.paused {
		return trimtab.RunPaused, fmt.Sprintf("`trimtab resume %s` to continue", r.plan.Run)
	}
	return trimtab.RunRunning, ""
}

// index returns the position of a stage in the plan, or -1.
func (r *run) index(stage string) int {
	return slices.IndexFunc(r.plan.Stages, func(s trimtab.PlannedStage) bool { return s.Name == stage })
}
