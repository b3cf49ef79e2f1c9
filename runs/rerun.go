package runs

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/trimtab/trimtab"
	"github.com/trimtab/trimtab/recipes"
	"github.com/trimtab/trimtab/storage"
	"github.com/trimtab/trimtab/workflows"
)

// RerunRequest describes the rerun of a stage.
type RerunRequest struct {
	Run, Stage string
	// FromCheckpoint is "" to start the stage from the beginning, "latest", or the
	// beginning of a checkpoint's digest.
	FromCheckpoint string
	// Sets are overrides of the form PATH=VALUE, for this stage and later ones.
	Sets []string
	// Data are dataset references, each NAME or KIND=NAME, that replace what the stage
	// or a later one reads.
	Data          []string
	Reason, Actor string
	// DryRun only plans. Force reruns a stage although nothing changed.
	DryRun, Force bool
	// Plan is the token of a dry run: do exactly what that one planned, or nothing.
	Plan string
}

// RerunResult says what a rerun did or, for a dry run, what it would do.
type RerunResult struct {
	// The rerun's run: a new one if the original run is closed.
	Run    string `json:"run"`
	NewRun bool   `json:"new_run"`
	// Number of the attempt of the rerun stage; 0 for a dry run.
	Attempt int `json:"attempt"`
	// Token for a later request's Plan.
	Plan   string       `json:"plan"`
	Stages []RerunStage `json:"stages"`
}

// RerunStage is what a rerun does to one stage.
type RerunStage struct {
	Name string `json:"name"`
	// Action is keep (its attempt stands), reuse (outputs of an earlier attempt) or run.
	Action string `json:"action"`
	Reason string `json:"reason"`
}

// Rerun runs a stage again. If the run is open the stage gets another attempt
// there, which needs the run to be blocked; if it is closed, a new run is
// launched in which unchanged stages are reused.
//
// Runs are deterministic, so a rerun that changes nothing and is not forced is
// Conflict "nothing_changed". With the token of a dry run the rerun is Conflict
// "plan_stale" if anything that the plan depends on has changed since.
func (s *Service) Rerun(ctx context.Context, r RerunRequest) (RerunResult, error) {
	if err := (requestTexts{reason: r.Reason, actor: r.Actor, sets: r.Sets}).check(); err != nil {
		return RerunResult{}, err
	}
	p, err := s.planRerun(ctx, r)
	if err != nil {
		return RerunResult{}, err
	}
	if err := p.checkToken(r.Plan); err != nil {
		return RerunResult{}, err
	}
	if p.checkpointRef != "" && !p.run.Status.Open() {
		return RerunResult{}, trimtab.NewError(trimtab.Usage, "run_closed", "leave out --from-checkpoint",
			"run %s is %s, and the new run cannot start from its checkpoints", p.run.ID, p.run.Status)
	}
	if err := p.checkChanged(r); err != nil {
		return RerunResult{}, err
	}
	res := RerunResult{
		Run:    p.run.ID,
		NewRun: !p.run.Status.Open(),
		Plan:   p.token.String(),
		Stages: p.actions,
	}
	switch {
	case r.DryRun:
		return res, nil
	case res.NewRun:
		return s.launchRerun(ctx, p, r, res)
	}
	return s.nextAttempt(ctx, p, r, res)
}

// rerunPlan is what a rerun would do, and what that depends on.
type rerunPlan struct {
	run storage.Run
	// Index of the stage to rerun.
	stage int
	// All attempts of the run.
	attempts []storage.Attempt
	// IDs of the runs that rerun this one so far
	reruns []string
	// The run's newest spec with the overrides applied.
	spec      recipes.Spec
	overrides []trimtab.Override
	// The plan of that spec.
	next trimtab.Plan
	// Config documents of the new plan, stored only when it is carried out.
	docs []recipes.Document
	// The checkpoint to start from, as the request refers to it.
	checkpointRef string
	// That checkpoint.
	checkpoint storage.Checkpoint
	// Only gates change: the outputs are kept and checked against the new gates.
	gatesOnly bool
	// One for each stage, in the plan's order.
	actions []RerunStage
	token   token
}

// planRerun works out what a rerun would do, and rejects one that is not
// possible. It changes nothing.
func (s *Service) planRerun(ctx context.Context, r RerunRequest) (p rerunPlan, err error) {
	if p.run, err = s.store.Run(ctx, r.Run); err != nil {
		return p, err
	}
	if p.stage = stageIndex(p.run.Plan, r.Stage); p.stage < 0 {
		return p, stageNotFound(p.run, r.Stage)
	}
	if p.attempts, err = s.store.Attempts(ctx, p.run.ID); err != nil {
		return p, err
	}
	if p.reruns, err = s.store.Reruns(ctx, p.run.ID); err != nil {
		return p, err
	}
	if p.checkpointRef = r.FromCheckpoint; p.checkpointRef != "" && p.run.Status.Open() {
		if p.checkpoint, err = s.findCheckpoint(ctx, p.run, r); err != nil {
			return p, err
		}
	}
	if p.spec, p.overrides, err = s.changedSpec(ctx, p.run, r); err != nil {
		return p, err
	}
	next, docs, err := s.plan(ctx, p.spec, p.run.ID)
	if err != nil {
		return p, err
	}
	p.next, p.docs = next.Plan, docs
	if err := checkEarlierStages(p.run.Plan, p.next, p.stage); err != nil {
		return p, err
	}
	if p.checkpoint.Digest != "" {
		if err := s.checkContinuation(ctx, p); err != nil {
			return p, err
		}
	}
	p.detectGatesOnly(r)
	survey, err := s.survey(ctx, p.spec, p.next, nil)
	if err == nil {
		err = survey.preflight(p.stage)
	}
	if err != nil {
		return p, err
	}
	p.actions = s.stageActions(ctx, p)
	p.token, err = p.computeToken()
	return p, err
}

// detectGatesOnly sets p.gatesOnly if nothing but gates of the stage changes
// and its newest attempt has outputs. Those outputs then stay valid, and
// nothing is trained again.
func (p *rerunPlan) detectGatesOnly(r RerunRequest) {
	a := newestAttemptOf(p.attempts, r.Stage)
	old, next := p.run.Plan.Stages[p.stage], p.next.Stages[p.stage]
	p.gatesOnly = a != nil && len(a.Outputs) > 0 && !r.Force && r.FromCheckpoint == "" && sameWork(old, next) &&
		!slices.EqualFunc(old.Gates, next.Gates, sameGate)
	if p.gatesOnly && p.run.Status.Open() {
		// The checkpoint that the attempt resumed from is part of its cache key.
		p.checkpoint.Digest = a.FromCheckpoint
	}
}

// sameWork reports whether two plans of a stage lead to the same bytes. Gates
// do not matter for that.
func sameWork(a, b trimtab.PlannedStage) bool {
	return a.Config == b.Config && a.Version == b.Version && slices.Equal(a.Inputs, b.Inputs)
}

// stageIndex returns the index of a stage in a plan, or -1.
func stageIndex(p trimtab.Plan, name string) int {
	return slices.IndexFunc(p.Stages, func(st trimtab.PlannedStage) bool { return st.Name == name })
}

// currentSpec returns the spec that the run's newest plan was made from, which
// includes the overrides of earlier reruns.
func (s *Service) currentSpec(ctx context.Context, run storage.Run) (recipes.Spec, error) {
	body, err := s.store.Document(ctx, run.Plan.Spec)
	if err != nil {
		return recipes.Spec{}, err
	}
	return recipes.Parse(body)
}

// changedSpec returns the run's current spec with the overrides of a request
// applied, and the overrides in the form in which they are recorded: a dataset
// with the digest that its name has now.
func (s *Service) changedSpec(ctx context.Context, run storage.Run,
	r RerunRequest) (spec recipes.Spec, overrides []trimtab.Override, err error) {
	if spec, err = s.currentSpec(ctx, run); err != nil {
		return spec, nil, err
	}
	for _, ref := range r.Data {
		kind, name, ok := strings.Cut(ref, "=")
		if !ok {
			name = ref
		}
		v, err := s.store.ResolveDataset(ctx, name)
		if err != nil {
			return spec, nil, err
		}
		if ok && trimtab.Kind(kind) != v.Kind {
			return spec, nil, trimtab.NewError(trimtab.Usage, "wrong_kind", "name a dataset of that kind",
				"--data %s: %s is a dataset of kind %s", ref, name, v.Kind)
		}
		if read, first := spec.Give(specStageIndex(spec, r.Stage), v.Kind, string(v.Digest)); !read {
			return spec, nil, dataNotReadError(ref, v.Kind, r.Stage, first)
		}
		overrides = append(overrides, trimtab.Override{Data: name, Kind: v.Kind, Digest: v.Digest})
	}
	for _, set := range r.Sets {
		overrides = append(overrides, trimtab.Override{Set: set})
	}
	spec, err = recipes.Override(spec, r.Sets)
	return spec, overrides, err
}

// dataNotReadError returns Usage "earlier_stage_changed" for a dataset that
// neither the rerun stage nor a later one reads. first is the first stage that
// reads data of that kind, or empty.
func dataNotReadError(ref string, k trimtab.Kind, stage, first string) error {
	remedy := "leave it out"
	if first != "" {
		remedy = fmt.Sprintf("rerun %s instead", first)
	}
	return trimtab.NewError(trimtab.Usage, "earlier_stage_changed", remedy,
		"--data %s: neither %s nor a later stage reads %s", ref, stage, k)
}

// specStageIndex returns the index of a stage in a spec, which has the stages
// of the plan in the same order.
func specStageIndex(spec recipes.Spec, name string) int {
	return max(0, slices.Index(spec.StageNames(), name))
}

// checkEarlierStages rejects a change of the whole run or of a stage before
// stage i, because stage i is rerun from the outputs of those stages.
func checkEarlierStages(old, new trimtab.Plan, i int) error {
	if len(old.Stages) == len(new.Stages) && old.Seed == new.Seed && old.Numerics != new.Numerics {
		return trimtab.NewError(trimtab.Usage, "plan_differs",
			fmt.Sprintf("launch a new run with `trimtab align --set numerics=%s`", new.Numerics),
			"the change is to the numerics of the whole run, not to one stage")
	}
	if len(old.Stages) != len(new.Stages) || old.Seed != new.Seed || old.Numerics != new.Numerics {
		return trimtab.NewError(trimtab.Usage, "plan_differs", "launch a new run with `trimtab align`",
			"the change is to the whole run, not to one stage")
	}
	// The versions of the stages' code are not compared: a new build may rerun a
	// stage from what an older one made.
	for j := range i {
		a, b := old.Stages[j], new.Stages[j]
		if a.Config != b.Config || !slices.Equal(a.Inputs, b.Inputs) || !slices.EqualFunc(a.Gates, b.Gates, sameGate) {
			return trimtab.NewError(trimtab.Usage, "earlier_stage_changed",
				fmt.Sprintf("rerun %s instead", old.Stages[j].Name),
				"the change affects stage %s, which comes before %s", old.Stages[j].Name, old.Stages[i].Name)
		}
	}
	return nil
}

// checkChanged rejects a rerun that would end in the same bytes or in the same
// error, unless it is forced or starts from a checkpoint.
func (p rerunPlan) checkChanged(r RerunRequest) error {
	if r.Force || r.FromCheckpoint != "" || !slices.EqualFunc(p.run.Plan.Stages[p.stage:], p.next.Stages[p.stage:],
		func(a, b trimtab.PlannedStage) bool {
			return sameWork(a, b) && slices.EqualFunc(a.Gates, b.Gates, sameGate)
		}) {
		return nil
	}
	a := newestAttemptOf(p.attempts, r.Stage)
	if a == nil || !conclusive(*a) {
		return nil
	}
	return trimtab.NewError(trimtab.Conflict, "nothing_changed",
		"change something with --set or --data, or add --force to rerun the stage as it is",
		"nothing has changed, and runs are deterministic: stage %s would end as attempt %d did", r.Stage, a.Number)
}

// conclusive reports whether an attempt would end the same way again, because
// its end followed from its config, data and seed. An interruption or an
// unavailable service does not count as an end of that kind.
func conclusive(a storage.Attempt) bool {
	switch a.Status {
	case trimtab.AttemptCompleted, trimtab.AttemptReused, trimtab.AttemptSkipped:
		return true
	case trimtab.AttemptFailed:
		return a.Error == nil || a.Error.Type != "stage_interrupted" &&
			(a.Error.Class == trimtab.Invalid || a.Error.Class == trimtab.Internal)
	}
	return false
}

// sameGate reports whether two gates have the same metric and bounds.
func sameGate(a, b trimtab.Gate) bool {
	same := func(x, y *float64) bool { return x == y || x != nil && y != nil && *x == *y }
	return a.Metric == b.Metric && same(a.Min, b.Min) && same(a.Max, b.Max)
}

// stageActions says for each stage what the rerun does to it, and why. For
// later stages this is a forecast: whether they are reused is decided when they
// start.
func (s *Service) stageActions(ctx context.Context, p rerunPlan) []RerunStage {
	var actions []RerunStage
	for j, st := range p.next.Stages {
		switch {
		case j < p.stage && !p.run.Status.Open():
			actions = append(actions, s.reuseAction(ctx, st, newestAttemptOf(p.attempts, st.Name)))
		case j < p.stage:
			actions = append(actions, RerunStage{st.Name, "keep", "comes before the rerun stage and is unchanged"})
		case j == p.stage && p.gatesOnly:
			actions = append(actions, RerunStage{st.Name, "reuse",
				"only its gates change, so its outputs are kept and checked against the new ones"})
		case j == p.stage && p.checkpoint.Digest != "":
			actions = append(actions, RerunStage{st.Name, "run",
				fmt.Sprintf("this stage is rerun, from checkpoint %s before step %d", p.checkpoint.Digest.Short(),
					p.checkpoint.Step)})
		case j == p.stage:
			actions = append(actions, RerunStage{st.Name, "run", "this stage is rerun"})
		default:
			actions = append(actions, RerunStage{st.Name, "run",
				"comes after the rerun stage; reused if its inputs come out the same"})
		}
	}
	return actions
}

// reuseAction says whether an earlier stage of a closed run can be reused in the
// new one. a is its newest attempt, or nil. If a reused model is missing from the
// store or damaged, the stage is run again instead.
func (s *Service) reuseAction(ctx context.Context, st trimtab.PlannedStage, a *storage.Attempt) RerunStage {
	if a == nil {
		return RerunStage{st.Name, "run", "it has not run yet"}
	}
	if old, ok, err := s.store.Reusable(ctx, a.CacheKey); err == nil && ok {
		for _, out := range old.Outputs {
			if out.Name != "model" {
				continue
			}
			if _, err := s.files.Files(out.Digest); err != nil {
				return RerunStage{st.Name, "run", fmt.Sprintf("its model cannot be read: %v", err)}
			}
		}
		return RerunStage{st.Name, "reuse", "config, inputs, seed and code version are those of " +
			refTo(old).Within(a.Run)}
	}
	return RerunStage{st.Name, "run", fmt.Sprintf("its last attempt is %s", a.Status)}
}

// launchRerun reruns a stage of a closed run as a new run. Every other stage
// may be reused, and so may the rerun stage if only its gates change.
func (s *Service) launchRerun(ctx context.Context, p rerunPlan, r RerunRequest, res RerunResult) (RerunResult, error) {
	var reuse []string
	for j, st := range p.run.Plan.Stages {
		if j != p.stage || p.gatesOnly {
			reuse = append(reuse, st.Name)
		}
	}
	launched, err := s.Launch(ctx, LaunchRequest{
		Spec:  p.spec,
		Name:  p.run.Name,
		Actor: r.Actor,
		rerun: &rerunLaunch{rerunPlan: p, reason: r.Reason, pinned: r.Plan != ""},
		reuse: reuse,
	})
	res.Run, res.Attempt = launched.Run.ID, 1
	return res, err
}

// rerunLaunch marks a launch as the rerun of a closed run.
type rerunLaunch struct {
	rerunPlan
	reason string
	// pinned means that the request had a token: do as planned, or nothing.
	pinned bool
}

// create records the new run. If the same rerun is open already it is Conflict
// "rerun_open", and if the plan is pinned and no longer holds, "plan_stale".
// Both checks and the insertion are one transaction.
func (o *rerunLaunch) create(ctx context.Context, s *Service, run storage.Run) (storage.Run, error) {
	create := func() (storage.Run, bool, error) { return s.store.CreateRunOnce(ctx, run, storage.AnyName) }
	if o.pinned {
		if run.Plan.SpecDigest != o.next.SpecDigest {
			return run, planStaleError(o.run, "the request now leads to a different plan")
		}
		create = func() (storage.Run, bool, error) { return s.store.CreateRerun(ctx, run, o.reruns) }
	}
	open, found, err := create()
	if found {
		remedy := fmt.Sprintf("look at it with `trimtab show %s`, or cancel it first with `trimtab cancel %s "+
			"--reason …`",
			open.ID, open.ID)
		err = trimtab.NewError(trimtab.Conflict, "rerun_open", remedy,
			"run %s is a rerun of %s with the same spec and is still open", open.ID, o.run.ID)
	}
	return run, err
}

// nextAttempt asks the workflow of an open run for another attempt of the
// stage. The new documents are stored first, because the workflow's activities
// read them.
func (s *Service) nextAttempt(ctx context.Context, p rerunPlan, r RerunRequest, res RerunResult) (RerunResult, error) {
	d := workflows.RerunDecision{
		Decision:  workflows.Decision{Stage: r.Stage, Reason: r.Reason, Actor: r.Actor},
		Plan:      p.next,
		Overrides: p.overrides,
		From:      p.checkpoint.Digest,
		Reuse:     p.gatesOnly,
	}
	// The workflow rejects the decision if any stage has got another attempt since.
	for _, st := range p.run.Plan.Stages {
		number := 0
		if a := newestAttemptOf(p.attempts, st.Name); a != nil {
			number = a.Number
		}
		d.Seen = append(d.Seen, number)
	}
	d.Attempt = d.Seen[p.stage]
	var err error
	if d.Was, err = p.run.Plan.Digest(); err != nil {
		return res, err
	}
	if err := s.putDocuments(ctx, p.docs); err != nil {
		return res, err
	}
	q := storage.Request{
		Run:       p.run.ID,
		Stage:     d.Stage,
		Attempt:   d.Attempt,
		Decision:  workflows.UpdateRerun,
		Reason:    d.Reason,
		Actor:     d.Actor,
		Overrides: d.Overrides,
		From:      d.From,
	}
	if q.Plan, err = d.Plan.Digest(); err != nil {
		return res, err
	}
	// From here on the request is in the record, accepted or rejected.
	err = s.requestDecision(ctx, p.run, q, func(request int64) error {
		d.Request = request
		out, err := s.update(ctx, p.run, workflows.UpdateRerun, d)
		res.Attempt = out.Attempt
		return err
	})
	if e, ok := errors.AsType[*trimtab.Error](err); ok && e.Class == trimtab.Conflict && r.Plan != "" {
		return res, s.explainConflict(ctx, p, r, e)
	}
	return res, err
}

// explainConflict turns the workflow's rejection of a planned rerun into
// "plan_stale" with what changed between the dry run and now. The decision that
// came in between may not be in the record yet, so the record is read again for
// up to a second.
func (s *Service) explainConflict(ctx context.Context, p rerunPlan, r RerunRequest, rejection error) error {
	if p.run.Status != trimtab.RunBlocked {
		return rejection
	}
	for range 10 {
		current, err := s.planRerun(ctx, r)
		if err == nil {
			err = current.checkToken(r.Plan)
		}
		if err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(100 * time.Millisecond):
		}
	}
	return rejection
}
