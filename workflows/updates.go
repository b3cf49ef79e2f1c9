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

// Decision is what a person decided about a stage, or about the run when Stage
// is empty. It is the argument of every Update but rerun.
type Decision struct {
	Stage string
	// Attempt is the one that the person saw; the decision is refused when there is a newer one.
	Attempt int
	Reason  string
	Actor   string
	// Request is the event by which the person asked for the decision in the
	// record, under their own database role. Anyone who reaches Temporal can send
	// an Update and claim to be anyone: without a request that says the same, the
	// Update is refused. Histories of older builds have decisions without one.
	Request int64 `json:",omitempty"`
}

// request returns the request that must be in the record for the decision to be
// accepted. what is the name of the Update.
func (d Decision) request(run, what string) activities.Request {
	return activities.Request{
		Sequence: d.Request,
		Run:      run,
		Stage:    d.Stage,
		Attempt:  d.Attempt,
		Decision: what,
		Reason:   d.Reason,
		Actor:    d.Actor,
	}
}

// RerunDecision asks for the next attempt of a stage, by a plan that may differ
// in that stage and after it.
type RerunDecision struct {
	Decision
	Plan      trimtab.Plan
	Overrides []trimtab.Override // from which Plan was made, for the record
	From      trimtab.Digest     // checkpoint to continue from; empty is from the beginning
	// Reuse takes over the outputs of the stage's attempt, where the plan changes
	// nothing of it but its gates: the gates are checked again.
	Reuse bool `json:",omitempty"`
	// Seen are the newest attempts of all stages, and Was is the digest of the
	// plan, as the person saw them; the decision is refused when they have changed.
	Seen []int
	Was  trimtab.Digest
}

// request returns the request that must be in the record for the rerun to be accepted.
func (d RerunDecision) request(run string) (activities.Request, error) {
	q := d.Decision.request(run, UpdateRerun)
	q.Overrides, q.From = d.Overrides, d.From
	var err error
	q.Plan, err = d.Plan.Digest()
	return q, err
}

// Outcome answers an Update.
type Outcome struct {
	Attempt int // of the stage that was decided about; 0 for decisions about the run
}

// handlers registers the Updates. The validator of each refuses at once what is
// impossible; Temporal does not call it on a replay.
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
		options := workflow.UpdateHandlerOptions{Validator: h.validate}
		if err := workflow.SetUpdateHandlerWithOptions(ctx, h.name, h.handle, options); err != nil {
			return err
		}
	}
	return nil
}

// conflict is the refusal of a decision that the state of the run does not allow.
func conflict(remedy, format string, args ...any) error {
	return applicationError(trimtab.NewError(trimtab.Conflict, "not_now", remedy, format, args...))
}

// requireRequest refuses an Update that names no request. It is part of the
// validators alone, so that a replay accepts what an older build accepted.
func requireRequest(d Decision) error {
	if d.Request == 0 {
		return applicationError(trimtab.NewError(trimtab.Conflict, "decision_unrequested",
			"decide with a command of this version of trimtab, which records the request first",
			"the decision names no request in the record"))
	}
	return nil
}

// claimRequest waits until the record confirms that the Update was requested,
// and then validates it again: the run may have changed meanwhile. The result is
// nil for an Update that an older build sent without a request.
func (r *run) claimRequest(
	ctx workflow.Context, q activities.Request, valid func() error,
) (*activities.TakenRequest, error) {
	if q.Sequence == 0 {
		return nil, nil
	}
	in := &activities.TakenRequest{Request: q, Update: workflow.GetCurrentUpdateInfo(ctx).ID}
	if err := workflow.ExecuteActivity(smallOptions(ctx), a.Requested, *in).Get(ctx, nil); err != nil {
		return nil, applicationError(activities.Unwrap(err))
	}
	return in, valid()
}

// requireOpen refuses every decision once the run is being cancelled or has ended.
func (r *run) requireOpen() error {
	if r.cancelled {
		return conflict("start it again with `trimtab rerun`", "the run is being cancelled")
	}
	if r.closed {
		return conflict("see `trimtab show`", "the run has just ended")
	}
	return nil
}

// requireOpenRequest is requireRequest and requireOpen.
func (r *run) requireOpenRequest(d Decision) error {
	if err := requireRequest(d); err != nil {
		return err
	}
	return r.requireOpen()
}

// requireBlockedAt refuses a decision unless the run is blocked at its stage.
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

// requireSameAttempt refuses a decision about an attempt that is not the newest.
func (r *run) requireSameAttempt(d Decision) error {
	if i := r.index(d.Stage); i >= 0 && d.Attempt != 0 && d.Attempt != r.stages[i].Attempt {
		return conflict("look at it with `trimtab show` and decide again", "stage %s is at attempt %d by now, not %d",
			d.Stage, r.stages[i].Attempt, d.Attempt)
	}
	return nil
}

// validRerun refuses a rerun unless the run is blocked at that stage or a later
// one, and the plan has the same chain of stages.
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
		return conflict("rerun that one or an earlier one", "the run is blocked at stage %s, before %s",
			r.block.Stage, d.Stage)
	case len(d.Plan.Stages) != len(r.plan.Stages):
		return conflict("start a new run", "the new plan has %d stages, the run has %d",
			len(d.Plan.Stages), len(r.plan.Stages))
	}
	for j, st := range d.Plan.Stages {
		if old := r.plan.Stages[j]; st.Name != old.Name || st.Kind != old.Kind {
			return conflict("start a new run", "stage %d of the new plan is %s (%s), the run's is %s (%s)",
				j+1, st.Name, st.Kind, old.Name, old.Kind)
		}
	}
	if err := r.requireSameAttempt(d.Decision); err != nil {
		return err
	}
	return r.requireSamePlan(d)
}

// requireSamePlan refuses a rerun if the run's attempts or its plan have changed
// since the person looked at them.
func (r *run) requireSamePlan(d RerunDecision) error {
	stale := func(format string, args ...any) error {
		return applicationError(trimtab.NewError(trimtab.Conflict, "plan_stale",
			"look at it with `trimtab show` and decide again", format, args...))
	}
	for i, seen := range d.Seen[:min(len(d.Seen), len(r.stages))] {
		if now := r.stages[i].Attempt; now != seen {
			return stale("stage %s is at attempt %d by now, not %d", r.plan.Stages[i].Name, now, seen)
		}
	}
	if d.Was == "" {
		return nil
	}
	if now, err := r.plan.Digest(); err != nil || now != d.Was {
		return stale("the plan of the run has changed meanwhile")
	}
	return nil
}

// onRerun puts the new plan in place, resets the stage and those after it, and
// lets the chain continue from there.
func (r *run) onRerun(ctx workflow.Context, d RerunDecision) (Outcome, error) {
	r.updates++
	q, err := d.request(r.plan.Run)
	if err != nil {
		return Outcome{}, applicationError(trimtab.AsError(err))
	}
	taken, err := r.claimRequest(ctx, q, func() error { return r.validRerun(d) })
	if err != nil {
		return Outcome{}, err
	}
	i := r.index(d.Stage)
	block := r.block
	r.block = nil // a second decision is refused from here on, while this one waits
	var stale []string
	for _, st := range r.plan.Stages[i:] {
		stale = append(stale, st.Name)
	}
	if err := r.replan(ctx, d, stale, taken); err != nil {
		r.block = block // what was not recorded was not decided
		return Outcome{}, applicationError(activities.Unwrap(err))
	}
	// Later stages may reuse what they made: if their inputs have not changed, they
	// have the same cache key.
	for j := i; j < len(r.stages); j++ {
		r.stages[j] = StageState{Attempt: r.stages[j].Attempt, Reuse: j > i || d.Reuse}
	}
	// The decision is the next attempt's reason; later stages run again without one.
	st := &r.stages[i]
	st.From, st.Reason, st.Actor = d.From, d.Reason, d.Actor
	r.plan = d.Plan
	r.unblocked = true
	return Outcome{Attempt: st.Attempt + 1}, nil
}

// replan records the new plan and the stages whose attempts it makes stale.
func (r *run) replan(ctx workflow.Context, d RerunDecision, stale []string, taken *activities.TakenRequest) error {
	if err := r.mu.Lock(ctx); err != nil {
		return err
	}
	defer r.mu.Unlock()
	status, next := r.openStatus()
	in := activities.ReplanInput{
		Plan:      d.Plan,
		Stage:     d.Stage,
		Overrides: d.Overrides,
		Stale:     stale,
		Reason:    d.Reason,
		Actor:     d.Actor,
		Status:    status,
		Next:      next,
		Taking:    taken,
	}
	return workflow.ExecuteActivity(smallOptions(ctx), a.Replan, in).Get(ctx, nil)
}

// validApprove refuses to approve a stage that has no outputs.
func (r *run) validApprove(d Decision) error {
	if err := r.requireBlockedAt(d); err != nil {
		return err
	}
	if len(r.block.Missed) == 0 {
		return conflict("rerun it", "stage %s failed: there is no output to approve", d.Stage)
	}
	return nil
}

// onApprove accepts the outputs of a stage although they missed a gate.
func (r *run) onApprove(ctx workflow.Context, d Decision) (Outcome, error) {
	return r.decide(ctx, d, UpdateApprove, r.validApprove, func(st *StageState) { st.Done = true })
}

// validSkip refuses to skip a stage whose output another stage needs.
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

// onSkip continues with the next stage, without outputs of this one.
func (r *run) onSkip(ctx workflow.Context, d Decision) (Outcome, error) {
	return r.decide(ctx, d, UpdateSkip, r.validSkip, func(st *StageState) { st.Done, st.Skipped = true, true })
}

// decide records a decision about the blocked stage, applies it by change, and
// lets the chain continue.
func (r *run) decide(
	ctx workflow.Context, d Decision, what string, valid func(Decision) error, change func(*StageState),
) (Outcome, error) {
	r.updates++
	taken, err := r.claimRequest(ctx, d.request(r.plan.Run, what), func() error { return valid(d) })
	if err != nil {
		return Outcome{}, err
	}
	st := &r.stages[r.index(d.Stage)]
	block := r.block
	r.block = nil // a second decision is refused from here on
	in := activities.DecisionInput{
		Run:      r.plan.Run,
		Stage:    d.Stage,
		Number:   st.Attempt,
		Decision: what,
		Reason:   d.Reason,
		Actor:    d.Actor,
		Taking:   taken,
	}
	if err := r.recordDecision(ctx, in); err != nil {
		r.block = block // what was not recorded was not decided
		return Outcome{}, applicationError(activities.Unwrap(err))
	}
	change(st)
	r.unblocked = true
	return Outcome{Attempt: st.Attempt}, nil
}

// onCancel stops the running stage at its next step, with a checkpoint, and ends the run.
func (r *run) onCancel(ctx workflow.Context, d Decision) (Outcome, error) {
	r.updates++
	valid := func() error { return r.requireOpenRequest(d) }
	taken, err := r.claimRequest(ctx, d.request(r.plan.Run, UpdateCancel), valid)
	if err != nil {
		return Outcome{}, err
	}
	// The run is cancelled even if recording the decision fails below: the request
	// for it is in the record already.
	r.cancelled, r.actor = true, d.Actor
	if r.stopChild != nil {
		r.stopChild()
	}
	return Outcome{}, r.recordDecision(ctx, activities.DecisionInput{
		Run:      r.plan.Run,
		Decision: UpdateCancel,
		Reason:   d.Reason,
		Actor:    d.Actor,
		Taking:   taken,
	})
}

// recordDecision records a decision with the status that the run has after it. A
// run that is blocked, cancelled or at its end keeps the status that it shows.
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

// requirePausable refuses to pause a paused run, and to resume one that is not paused.
func (r *run) requirePausable(d Decision, pause bool) error {
	if err := r.requireOpenRequest(d); err != nil {
		return err
	}
	if r.paused == pause {
		state := map[bool]string{true: "paused", false: "at work"}[pause]
		return conflict("see `trimtab show`", "the run is %s already", state)
	}
	return nil
}

// validPause is requirePausable, within the Updates that a history can take.
func (r *run) validPause(d Decision, pause bool) error {
	if err := r.requirePausable(d, pause); err != nil {
		return err
	}
	if r.updates >= maxPauseUpdates {
		return applicationError(trimtab.NewError(trimtab.Conflict, "too_many_decisions",
			"wait until the running attempt has ended, or cancel the run",
			"the run has taken %d decisions in this history and accepts no more pauses and resumes", r.updates))
	}
	return nil
}

// onPause pauses the run.
func (r *run) onPause(ctx workflow.Context, d Decision) (Outcome, error) {
	return Outcome{}, r.setPause(ctx, d, UpdatePause)
}

// onResume lets a paused run continue.
func (r *run) onResume(ctx workflow.Context, d Decision) (Outcome, error) {
	return Outcome{}, r.setPause(ctx, d, UpdateResume)
}

// setPause pauses or resumes the run and its running attempt. A blocked run
// stays blocked; the pause holds once it has been decided.
func (r *run) setPause(ctx workflow.Context, d Decision, what string) error {
	r.updates++
	pause := what == UpdatePause
	valid := func() error { return r.requirePausable(d, pause) }
	taken, err := r.claimRequest(ctx, d.request(r.plan.Run, what), valid)
	if err != nil {
		return err
	}
	// The flag comes before the record, so that no attempt starts in between.
	r.paused = pause
	in := activities.DecisionInput{
		Run:      r.plan.Run,
		Decision: what,
		Reason:   d.Reason,
		Actor:    d.Actor,
		Taking:   taken,
	}
	if err := r.recordDecision(ctx, in); err != nil {
		if r.paused == pause { // what was not recorded was not decided, unless another Update has decided since
			r.paused = !pause
		}
		return applicationError(activities.Unwrap(err))
	}
	if r.child != nil {
		// The signal fails if the attempt has just ended or was not created: the
		// next attempt starts with the pause in its input.
		_ = r.child.SignalChildWorkflow(ctx, PauseSignal, r.paused).Get(ctx, nil)
	}
	return nil
}
