package workflows

import (
	"slices"

	"github.com/trimtab/trimtab"
	"github.com/trimtab/trimtab/activities"
	"go.temporal.io/sdk/workflow"
)

// Names of the Updates of Run.
const (
	UpdateRerun   = "rerun"
	UpdateApprove = "approve"
	UpdateSkip    = "skip"
	UpdateCancel  = "cancel"
	UpdatePause   = "pause"
	UpdateResume  = "resume"
)

// Decision is what a person decided about a stage, or about the run when Stage is empty.
type Decision struct {
	Stage string
	// Attempt is the one that the person saw; the decision is refused when another has come since.
	Attempt int
	Reason  string
	Actor   string
	// Request is the event by which the person asked for it in the record, under
	// his own database role. Whoever reaches Temporal can send an Update, and say
	// that he is anybody: without a request that says the same it is refused.
	// Histories of older builds have decisions without one.
	Request int64 `json:",omitempty"`
}

// request is what must be in the record for the decision to be taken.
func (d Decision) request(run, what string) activities.Request {
	return activities.Request{
		Sequence: d.Request, Run: run, Stage: d.Stage, Attempt: d.Attempt, Decision: what, Reason: d.Reason,
		Actor: d.Actor,
	}
}

// RerunDecision asks for attempt n+1 of a stage, by a plan that may differ in
// that stage and after it.
type RerunDecision struct {
	Decision
	Plan      trimtab.Plan
	Overrides []trimtab.Override // that made Plan, for the record
	From      trimtab.Digest     // checkpoint to go on from; empty is from the beginning
	// Reuse takes over what the stage's attempt made, where the plan changes no
	// more of it than its gates: they are looked at again.
	Reuse bool `json:",omitempty"`
	// Seen are the newest attempts of all stages, and Was is the digest of the
	// plan, that the decision stands on; it is refused when they are others by now.
	Seen []int
	Was  trimtab.Digest
}

func (d RerunDecision) request(run string) (activities.Request, error) {
	q := d.Decision.request(run, UpdateRerun)
	q.Overrides, q.From = d.Overrides, d.From
	var err error
	q.Plan, err = d.Plan.Digest()
	return q, err
}

// Outcome answers an Update.
type Outcome struct {
	Attempt int
}

// handlers registers the Updates; each has a validator that refuses at once what cannot be.
func (r *run) handlers(ctx workflow.Context) error {
	type handler struct {
		name     string
		handle   any
		validate any
	}
	for _, h := range []handler{
		{UpdateRerun, r.onRerun, r.validRerun},
		{UpdateApprove, r.onApprove, r.validApprove},
		{UpdateSkip, r.onSkip, r.validSkip},
		{UpdateCancel, r.onCancel, r.requireOpenRequest},
		{UpdatePause, r.onPause, func(d Decision) error { return r.validPause(d, true) }},
		{UpdateResume, r.onResume, func(d Decision) error { return r.validPause(d, false) }},
	} {
		if err := workflow.SetUpdateHandlerWithOptions(ctx, h.name, h.handle,
			workflow.UpdateHandlerOptions{Validator: h.validate}); err != nil {
			return err
		}
	}
	return nil
}

func conflict(remedy, format string, args ...any) error {
	return applicationError(trimtab.NewError(trimtab.Conflict, "not_now", remedy, format, args...))
}

// requireRequest refuses an Update that names no request. A replay, which asks no
// validator, lets those pass that an older build took.
func requireRequest(d Decision) error {
	if d.Request == 0 {
		return applicationError(trimtab.NewError(trimtab.Conflict, "decision_unrequested",
			"decide with a command of this trimtab, which asks for it in the record first",
			"the decision names nothing that was asked for in the record"))
	}
	return nil
}

// claimRequest waits until it is known that what an Update wants was asked for in the
// record, and then looks again whether it can be. It is nil for an older build's Update.
func (r *run) claimRequest(ctx workflow.Context, q activities.Request,
	valid func() error) (*activities.TakenRequest, error) {
	if q.Sequence == 0 {
		return nil, nil
	}
	in := &activities.TakenRequest{Request: q, Update: workflow.GetCurrentUpdateInfo(ctx).ID}
	if err := workflow.ExecuteActivity(smallOptions(ctx), a.Requested, *in).Get(ctx, nil); err != nil {
		return nil, applicationError(activities.Unwrap(err))
	}
	return in, valid()
}

func (r *run) requireOpen() error {
	if r.cancelled {
		return conflict("start it again with `trimtab rerun`", "the run is being cancelled")
	}
	if r.closed {
		return conflict("see `trimtab show`", "the run has just ended")
	}
	return nil
}

// requireOpenRequest refuses what was not asked for, and everything when the run is at its end.
func (r *run) requireOpenRequest(d Decision) error {
	if err := requireRequest(d); err != nil {
		return err
	}
	return r.requireOpen()
}

// requireBlockedAt refuses a decision about a stage that is not what the run waits for.
func (r *run) requireBlockedAt(d Decision) error {
	if err := r.requireOpenRequest(d); err != nil {
		return err
	}
	if r.block == nil {
		return conflict("see `trimtab show`", "the run is not blocked: there is nothing to decide")
	}
	if d.Stage != r.block.Stage {
		return conflict("name that one", "the run is blocked at stage %s, not %s", r.block.Stage, d.Stage)
	}
	return r.requireSameAttempt(d)
}

func (r *run) requireSameAttempt(d Decision) error {
	if i := r.index(d.Stage); i >= 0 && d.Attempt != 0 && d.Attempt != r.stages[i].Attempt {
		return conflict("look at it with `trimtab show` and decide again", "stage %s is at attempt %d by now, not %d",
			d.Stage, r.stages[i].Attempt, d.Attempt)
	}
	return nil
}

func (r *run) validRerun(d RerunDecision) error {
	if err := r.requireOpenRequest(d.Decision); err != nil {
		return err
	}
	i := r.index(d.Stage)
	switch {
	case i < 0:
		return conflict("see `trimtab show` for its stages", "the run has no stage %q", d.Stage)
	case r.block == nil:
		return conflict("wait until it has ended, or cancel it first", "the run is at work")
	case i > r.index(r.block.Stage):
		return conflict("rerun that one or an earlier one", "the run is blocked at stage %s, before %s", r.block.Stage,
			d.Stage)
	case len(d.Plan.Stages) != len(r.plan.Stages):
		return conflict("start a new run", "the new plan has %d stages, the run has %d", len(d.Plan.Stages),
			len(r.plan.Stages))
	}
	for j, st := range d.Plan.Stages {
		if st.Name != r.plan.Stages[j].Name || st.Kind != r.plan.Stages[j].Kind {
			return conflict("start a new run", "stage %d of the new plan is %s (%s), the run's is %s (%s)", j+1,
				st.Name, st.Kind, r.plan.Stages[j].Name, r.plan.Stages[j].Kind)
		}
	}
	if err := r.requireSameAttempt(d.Decision); err != nil {
		return err
	}
	return r.requireSamePlan(d)
}

// requireSamePlan refuses a rerun that was decided about a run as it is no more.
func (r *run) requireSamePlan(d RerunDecision) error {
	moved := func(format string, args ...any) error {
		return applicationError(trimtab.NewError(trimtab.Conflict, "plan_stale",
			"look at it with `trimtab show` and decide again", format, args...))
	}
	for i, seen := range d.Seen[:min(len(d.Seen), len(r.stages))] {
		if now := r.stages[i].Attempt; now != seen {
			return moved("stage %s is at attempt %d by now, not %d", r.plan.Stages[i].Name, now, seen)
		}
	}
	if d.Was == "" {
		return nil
	}
	if now, err := r.plan.Digest(); err != nil || now != d.Was {
		return moved("the run has another plan by now")
	}
	return nil
}

// onRerun puts the new plan in place and marks what it makes stale.
func (r *run) onRerun(ctx workflow.Context, d RerunDecision) (Outcome, error) {
	r.updates++
	q, err := d.request(r.plan.Run)
	if err != nil {
		return Outcome{}, applicationError(trimtab.AsError(err))
	}
	taking, err := r.claimRequest(ctx, q, func() error { return r.validRerun(d) })
	if err != nil {
		return Outcome{}, err
	}
	i := r.index(d.Stage)
	block := r.block
	r.block = nil      // a second decision is refused from here on
	var stale []string // what they made, if they made anything
	for _, st := range r.plan.Stages[i:] {
		stale = append(stale, st.Name)
	}
	if err := r.replan(ctx, d, stale, taking); err != nil {
		r.block = block
		return Outcome{}, applicationError(activities.Unwrap(err))
	}
	for j := i; j < len(r.stages); j++ {
		r.stages[j] = StageState{Attempt: r.stages[j].Attempt, Reuse: j > i || d.Reuse}
	}
	r.stages[i].From, r.stages[i].Reason, r.stages[i].Actor = d.From, d.Reason, d.Actor
	r.plan = d.Plan
	r.unblocked = true
	return Outcome{Attempt: r.stages[i].Attempt + 1}, nil
}

// replan writes the new plan down.
func (r *run) replan(ctx workflow.Context, d RerunDecision, stale []string, taking *activities.TakenRequest) error {
	if err := r.mu.Lock(ctx); err != nil {
		return err
	}
	defer r.mu.Unlock()
	status, next := r.openStatus()
	return workflow.ExecuteActivity(smallOptions(ctx), a.Replan,
		activities.ReplanInput{Plan: d.Plan, Stage: d.Stage, Overrides: d.Overrides, Stale: stale,
			Status: status, Next: next, Reason: d.Reason, Actor: d.Actor, Taking: taking}).Get(ctx, nil)
}

func (r *run) validApprove(d Decision) error {
	if err := r.requireBlockedAt(d); err != nil {
		return err
	}
	if len(r.block.Missed) == 0 {
		return conflict("rerun it", "stage %s failed: there is no output to approve", d.Stage)
	}
	return nil
}

// onApprove lets the outputs count although they missed a gate.
func (r *run) onApprove(ctx workflow.Context, d Decision) (Outcome, error) {
	return r.decide(ctx, d, UpdateApprove, r.validApprove, func(st *StageState) { st.Done = true })
}

func (r *run) validSkip(d Decision) error {
	if err := r.requireBlockedAt(d); err != nil {
		return err
	}
	for _, st := range r.plan.Stages {
		if slices.ContainsFunc(st.Inputs, func(in trimtab.Input) bool { return in.Stage == d.Stage }) {
			return conflict("rerun it instead", "stage %s reads what %s makes: it cannot be skipped", st.Name, d.Stage)
		}
	}
	return nil
}

func (r *run) onSkip(ctx workflow.Context, d Decision) (Outcome, error) {
	return r.decide(ctx, d, UpdateSkip, r.validSkip, func(st *StageState) { st.Done, st.Skipped = true, true })
}

// decide records a decision about the blocked stage, then lets the run go on.
func (r *run) decide(
	ctx workflow.Context, d Decision, what string, valid func(Decision) error, change func(*StageState),
) (Outcome, error) {
	r.updates++
	taking, err := r.claimRequest(ctx, d.request(r.plan.Run, what), func() error { return valid(d) })
	if err != nil {
		return Outcome{}, err
	}
	i := r.index(d.Stage)
	block := r.block
	r.block = nil
	in := activities.DecisionInput{Run: r.plan.Run, Stage: d.Stage, Number: r.stages[i].Attempt, Decision: what,
		Reason: d.Reason, Actor: d.Actor, Taking: taking}
	if err := r.recordDecision(ctx, in); err != nil {
		r.block = block
		return Outcome{}, applicationError(activities.Unwrap(err))
	}
	change(&r.stages[i])
	r.unblocked = true
	return Outcome{Attempt: r.stages[i].Attempt}, nil
}

// onCancel stops the running stage at its next step, with a checkpoint.
func (r *run) onCancel(ctx workflow.Context, d Decision) (Outcome, error) {
	r.updates++
	taking, err := r.claimRequest(ctx, d.request(r.plan.Run, UpdateCancel),
		func() error { return r.requireOpenRequest(d) })
	if err != nil {
		return Outcome{}, err
	}
	r.cancelled, r.actor = true, d.Actor
	if r.stopChild != nil {
		r.stopChild()
	}
	return Outcome{}, r.recordDecision(ctx, activities.DecisionInput{Run: r.plan.Run, Decision: UpdateCancel,
		Reason: d.Reason, Actor: d.Actor, Taking: taking})
}

// recordDecision records a decision, and what the run shows after it; one that is blocked or at its end goes on showing
// that.
func (r *run) recordDecision(ctx workflow.Context, in activities.DecisionInput) error {
	if err := r.mu.Lock(ctx); err != nil {
		return err
	}
	defer r.mu.Unlock()
	if r.block == nil && !r.cancelled && !r.closed {
		in.Status, in.Next = r.openStatus()
	}
	return workflow.ExecuteActivity(smallOptions(ctx), a.Decide, in).Get(ctx, nil)
}

// requirePausable refuses to pause a paused run, and to let one go on that does.
func (r *run) requirePausable(d Decision, pause bool) error {
	if err := r.requireOpenRequest(d); err != nil {
		return err
	}
	if r.paused == pause {
		return conflict("see `trimtab show`", "the run is %s already",
			map[bool]string{true: "paused", false: "at work"}[pause])
	}
	return nil
}

func (r *run) validPause(d Decision, pause bool) error {
	if err := r.requirePausable(d, pause); err != nil {
		return err
	}
	if r.updates >= maxPauseUpdates {
		return applicationError(trimtab.NewError(trimtab.Conflict, "too_many_decisions",
			"wait until the attempt at work has ended, or cancel the run",
			"the run has taken %d decisions in this history: it keeps the rest for others than pause and resume",
			r.updates))
	}
	return nil
}

func (r *run) onPause(ctx workflow.Context, d Decision) (Outcome, error) {
	return Outcome{}, r.setPause(ctx, d, UpdatePause)
}

func (r *run) onResume(ctx workflow.Context, d Decision) (Outcome, error) {
	return Outcome{}, r.setPause(ctx, d, UpdateResume)
}

// setPause holds the run, or lets it go on. A blocked run stays blocked, and pauses after that.
func (r *run) setPause(ctx workflow.Context, d Decision, what string) error {
	r.updates++
	pause := what == UpdatePause
	taking, err := r.claimRequest(ctx, d.request(r.plan.Run, what), func() error { return r.requirePausable(d, pause) })
	if err != nil {
		return err
	}
	r.paused = pause
	in := activities.DecisionInput{Run: r.plan.Run, Decision: what, Reason: d.Reason, Actor: d.Actor, Taking: taking}
	if err := r.recordDecision(ctx, in); err != nil {
		if r.paused == pause { // it was not recorded, so it was not decided
			r.paused = !pause
		}
		return applicationError(activities.Unwrap(err))
	}
	if r.child != nil {
		// An attempt that cannot be told has just ended, or could not begin: the next one waits for the run itself.
		_ = r.child.SignalChildWorkflow(ctx, PauseSignal, r.paused).Get(ctx, nil)
	}
	return nil
}
