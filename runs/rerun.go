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

// RerunRequest asks for a stage to be run again.
type RerunRequest struct {
	Run, Stage     string
	FromCheckpoint string   // "", latest, or the beginning of a digest
	Sets           []string // path=value, for the stage and those after it
	Data           []string // NAME, or kind=NAME
	Reason, Actor  string
	DryRun, Force  bool
	// Plan is the token of a dry run: do exactly what that one said, or nothing.
	Plan string
}

// RerunResult says what will happen, or would.
type RerunResult struct {
	Run     string       `json:"run"` // a new one when the run was closed
	NewRun  bool         `json:"new_run"`
	Attempt int          `json:"attempt"`
	Plan    string       `json:"plan"` // its token
	Stages  []RerunStage `json:"stages"`
}

// RerunStage is the fate of one stage.
type RerunStage struct {
	Name   string `json:"name"`
	Action string `json:"action"` // keep (it stands as it is), reuse (another attempt's output), run
	Reason string `json:"reason"`
}

// Rerun makes attempt n+1 of a stage of a blocked run, or a new run of a
// closed one in which whatever is unchanged is reused. With the token of a dry
// run it is Conflict "plan_stale" when anything has moved since.
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
			"run %s is %s: a new run starts its stages from the beginning", p.run.ID, p.run.Status)
	}
	if err := p.checkChanged(r); err != nil {
		return RerunResult{}, err
	}
	res := RerunResult{Run: p.run.ID, NewRun: !p.run.Status.Open(), Plan: p.token.String(), Stages: p.actions}
	switch {
	case r.DryRun:
		return res, nil
	case res.NewRun:
		return s.launchRerun(ctx, p, r, res)
	}
	return s.nextAttempt(ctx, p, r, res)
}

// rerunPlan is what a rerun would do, and what it stands on.
type rerunPlan struct {
	run           storage.Run
	stage         int
	attempts      []storage.Attempt // of the run
	reruns        []string          // of the run, so far
	spec          recipes.Spec      // with the overrides
	overrides     []trimtab.Override
	next          trimtab.Plan
	docs          []recipes.Document
	checkpointRef string             // the checkpoint to go on from, as it was named
	checkpoint    storage.Checkpoint // that checkpoint
	gatesOnly     bool               // only gates change: what the stage's attempt measured is looked at again
	actions       []RerunStage
	token         token
}

// planRerun finds out what a rerun would do; it changes nothing.
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
	look, err := s.survey(ctx, p.spec, p.next, nil)
	if err == nil {
		err = look.preflight(p.stage)
	}
	if err != nil {
		return p, err
	}
	p.actions = s.stageActions(ctx, p)
	p.token, err = p.computeToken()
	return p, err
}

// detectGatesOnly finds out whether only gates of the stage change, and its attempt ended
// with outputs: then they stand, and nothing is trained again.
func (p *rerunPlan) detectGatesOnly(r RerunRequest) {
	a := newestAttemptOf(p.attempts, r.Stage)
	was, next := p.run.Plan.Stages[p.stage], p.next.Stages[p.stage]
	p.gatesOnly = a != nil && len(a.Outputs) > 0 && !r.Force && r.FromCheckpoint == "" && sameWork(was, next) &&
		!slices.EqualFunc(was.Gates, next.Gates, sameGate)
	if p.gatesOnly && p.run.Status.Open() {
		p.checkpoint.Digest = a.FromCheckpoint // it is part of what the outputs follow from
	}
}

// sameWork reports whether two plans of a stage come to the same bytes.
func sameWork(a, b trimtab.PlannedStage) bool {
	return a.Config == b.Config && a.Version == b.Version && slices.Equal(a.Inputs, b.Inputs)
}

// findCheckpoint is where the next attempt goes on from.
func (s *Service) findCheckpoint(ctx context.Context, run storage.Run, r RerunRequest) (storage.Checkpoint, error) {
	prefix := strings.TrimPrefix(r.FromCheckpoint, "latest")
	if prefix != "" && !strings.HasPrefix(prefix, "sha256:") {
		prefix = "sha256:" + prefix
	}
	return s.store.FindCheckpoint(ctx, run.ID, r.Stage, prefix)
}

// checkContinuation refuses a checkpoint under which a step meant something else than it
// will: the attempt that made it had another config in what decides that, read
// other inputs, or was of another version of the code.
func (s *Service) checkContinuation(ctx context.Context, p rerunPlan) error {
	st := p.next.Stages[p.stage]
	maker, err := s.store.Attempt(ctx, p.checkpoint.Attempt)
	if err != nil {
		return err
	}
	was, err := s.config(ctx, maker.Config, nil)
	if err != nil {
		return err
	}
	is, err := s.config(ctx, st.Config, p.docs)
	if err != nil {
		return err
	}
	if err := recipes.CanContinue(st.Kind, st.Name, was, is, maker.Steps > 0 &&
		p.checkpoint.Step >= maker.Steps); err != nil {
		return err
	}
	if err := p.checkSameInputs(st, maker); err != nil {
		return err
	}
	return p.checkSameCode(st, maker)
}

// config reads a stage's config from its document, which may be one of a plan that is not stored yet.
func (s *Service) config(ctx context.Context, d trimtab.Digest, planned []recipes.Document) (recipes.Config, error) {
	if i := slices.IndexFunc(planned, func(doc recipes.Document) bool { return doc.Digest == d }); i >= 0 {
		return recipes.ParseDocument(planned[i].Body)
	}
	body, err := s.store.Document(ctx, d)
	if err != nil {
		return nil, err
	}
	return recipes.ParseDocument(body)
}

// checkSameInputs refuses other inputs than those of the attempt that made the checkpoint.
func (p rerunPlan) checkSameInputs(st trimtab.PlannedStage, maker storage.Attempt) error {
	var differ []string
	for _, in := range st.Inputs {
		is := in.Dataset + in.Model
		if in.Stage != "" {
			is = outputOf(newestAttemptOf(p.attempts, in.Stage), in.Output)
		}
		i := slices.IndexFunc(maker.Inputs, func(n trimtab.Named) bool { return n.Name == in.Name })
		switch {
		case i < 0:
			differ = append(differ, fmt.Sprintf("%s was not read when the checkpoint was made", in.Name))
		case maker.Inputs[i].Digest != is:
			differ = append(differ, fmt.Sprintf("%s was %s when the checkpoint was made and is %s", in.Name,
				maker.Inputs[i].Digest.Short(), is.Short()))
		}
	}
	if len(differ) == 0 && len(maker.Inputs) != len(st.Inputs) {
		differ = append(differ, "fewer inputs are read than when the checkpoint was made")
	}
	if len(differ) == 0 {
		return nil
	}
	return trimtab.NewError(trimtab.Usage, "checkpoint_differs",
		"leave --from-checkpoint out to run the stage from the beginning, or let it read what it read",
		"stage %s cannot go on from the checkpoint: %s", st.Name, strings.Join(differ, "; "))
}

// outputOf is what an attempt made under a name, or nothing.
func outputOf(a *storage.Attempt, name string) trimtab.Digest {
	if a == nil {
		return ""
	}
	i := slices.IndexFunc(a.Outputs, func(n trimtab.Named) bool { return n.Name == name })
	if i < 0 {
		return ""
	}
	return a.Outputs[i].Digest
}

// checkSameCode refuses a checkpoint of another version of the stage's code, which
// shows in the key of the attempt that made it: all else that is in it is known.
func (p rerunPlan) checkSameCode(st trimtab.PlannedStage, maker storage.Attempt) error {
	st.Config = maker.Config
	key, err := recipes.CacheKey(st, maker.Inputs, p.next.Seed, p.next.Numerics)
	if err != nil || maker.CacheKey == "" || maker.CacheKey == key {
		return err
	}
	if maker.FromCheckpoint != "" {
		if key, err = recipes.ContinuedKey(key, maker.FromCheckpoint); err != nil || maker.CacheKey == key {
			return err
		}
	}
	return trimtab.NewError(trimtab.Usage, "checkpoint_differs",
		"leave --from-checkpoint out to run the stage from the beginning",
		"stage %s cannot go on from the checkpoint: it was made by another version of the stage's code than this "+
			"program's, %d", st.Name, st.Version)
}

func stageIndex(p trimtab.Plan, name string) int {
	return slices.IndexFunc(p.Stages, func(st trimtab.PlannedStage) bool { return st.Name == name })
}

// currentSpec is the spec that the run's newest plan was made from.
func (s *Service) currentSpec(ctx context.Context, run storage.Run) (recipes.Spec, error) {
	body, err := s.store.Document(ctx, run.Plan.Spec)
	if err != nil {
		return recipes.Spec{}, err
	}
	return recipes.Parse(body)
}

// changedSpec is the run's spec with the request's overrides, and what they mean.
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
				"--data %s: %s holds %s", ref, name, v.Kind)
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

// dataNotReadError is about data that no stage from the one that is rerun on reads.
func dataNotReadError(ref string, k trimtab.Kind, stage, first string) error {
	remedy := "leave it out"
	if first != "" {
		remedy = fmt.Sprintf("rerun %s instead", first)
	}
	return trimtab.NewError(trimtab.Usage, "earlier_stage_changed", remedy,
		"--data %s: neither %s nor a stage after it reads %s", ref, stage, k)
}

// specStageIndex is the number of a stage.
func specStageIndex(spec recipes.Spec, name string) int {
	return max(0, slices.Index(spec.StageNames(), name))
}

// checkEarlierStages refuses a change of a stage before i: its output is what stage i is rerun from.
func checkEarlierStages(old, new trimtab.Plan, i int) error {
	if len(old.Stages) == len(new.Stages) && old.Seed == new.Seed && old.Numerics != new.Numerics {
		return trimtab.NewError(trimtab.Usage, "plan_differs",
			fmt.Sprintf("launch a new run with `trimtab align --set numerics=%s`", new.Numerics),
			"the change is of the numerics of the whole run, not of one stage")
	}
	if len(old.Stages) != len(new.Stages) || old.Seed != new.Seed || old.Numerics != new.Numerics {
		return trimtab.NewError(trimtab.Usage, "plan_differs", "launch a new run with `trimtab align`",
			"the change is of the whole run, not of one stage")
	}
	for j := range i {
		a, b := old.Stages[j], new.Stages[j]
		if a.Config != b.Config || !slices.Equal(a.Inputs, b.Inputs) || !slices.EqualFunc(a.Gates, b.Gates, sameGate) {
			return trimtab.NewError(trimtab.Usage, "earlier_stage_changed",
				fmt.Sprintf("rerun %s instead", old.Stages[j].Name),
				"the change concerns stage %s, which comes before %s", old.Stages[j].Name, old.Stages[i].Name)
		}
	}
	return nil
}

// checkChanged refuses a rerun that would end in the same bytes or the same error.
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
		"change something with --set or --data, or insist with --force",
		"runs are deterministic: stage %s would end as attempt %d did", r.Stage, a.Number)
}

// conclusive reports whether an attempt ended as its config, data and seed make it end every time.
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

func sameGate(a, b trimtab.Gate) bool {
	same := func(x, y *float64) bool { return x == y || x != nil && y != nil && *x == *y }
	return a.Metric == b.Metric && same(a.Min, b.Min) && same(a.Max, b.Max)
}

// actions says for each stage what the rerun does to it, and why.
func (s *Service) stageActions(ctx context.Context, p rerunPlan) []RerunStage {
	var fates []RerunStage
	for j, st := range p.next.Stages {
		switch {
		case j < p.stage && !p.run.Status.Open():
			fates = append(fates, s.reuseAction(ctx, st, newestAttemptOf(p.attempts, st.Name)))
		case j < p.stage:
			fates = append(fates, RerunStage{st.Name, "keep", "comes before it and is unchanged"})
		case j == p.stage && p.gatesOnly:
			fates = append(fates, RerunStage{st.Name, "reuse",
				"only its gates change: what it made stands, and is measured against them"})
		case j == p.stage && p.checkpoint.Digest != "":
			fates = append(fates, RerunStage{st.Name, "run",
				fmt.Sprintf("it is what is rerun, from checkpoint %s before step %d", p.checkpoint.Digest.Short(),
					p.checkpoint.Step)})
		case j == p.stage:
			fates = append(fates, RerunStage{st.Name, "run", "it is what is rerun"})
		default:
			fates = append(fates, RerunStage{st.Name, "run",
				"reads what was rerun; reused if its inputs come out the same"})
		}
	}
	return fates
}

func (s *Service) reuseAction(ctx context.Context, st trimtab.PlannedStage, a *storage.Attempt) RerunStage {
	if a == nil {
		return RerunStage{st.Name, "run", "it has not been run"}
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

// reproduceAttempt starts a new run of a closed one.
func (s *Service) launchRerun(ctx context.Context, p rerunPlan, r RerunRequest, res RerunResult) (RerunResult, error) {
	var reuse []string
	for j, st := range p.run.Plan.Stages {
		if j != p.stage || p.gatesOnly {
			reuse = append(reuse, st.Name)
		}
	}
	launched, err := s.Launch(ctx, LaunchRequest{Spec: p.spec, Name: p.run.Name, Actor: r.Actor, reuse: reuse,
		rerun: &rerunLaunch{rerunPlan: p, reason: r.Reason, pinned: r.Plan != ""}})
	res.Run, res.Attempt = launched.Run.ID, 1
	return res, err
}

// rerunLaunch says that a launch is the rerun of a closed run.
type rerunLaunch struct {
	rerunPlan
	reason string
	pinned bool // as planned, or not at all
}

// create makes the new run's row, unless the same rerun is open already.
func (o *rerunLaunch) create(ctx context.Context, s *Service, run storage.Run) (storage.Run, error) {
	create := func() (storage.Run, bool, error) { return s.store.CreateRunOnce(ctx, run, storage.AnyName) }
	if o.pinned {
		if run.Plan.SpecDigest != o.next.SpecDigest {
			return run, planStaleError(o.run, "what was asked for comes to another plan by now")
		}
		create = func() (storage.Run, bool, error) { return s.store.CreateRerun(ctx, run, o.reruns) }
	}
	open, is, err := create()
	if is {
		remedy := fmt.Sprintf("see `trimtab show %s`, or cancel it first: trimtab cancel %s --reason …", open.ID,
			open.ID)
		err = trimtab.NewError(trimtab.Conflict, "rerun_open", remedy,
			"run %s reruns %s with the same spec and has not ended", open.ID, o.run.ID)
	}
	return run, err
}

// nextAttempt asks the blocked run for attempt n+1.
func (s *Service) nextAttempt(ctx context.Context, p rerunPlan, r RerunRequest, res RerunResult) (RerunResult, error) {
	d := workflows.RerunDecision{Decision: workflows.Decision{Stage: r.Stage, Reason: r.Reason, Actor: r.Actor},
		Plan: p.next, Overrides: p.overrides, From: p.checkpoint.Digest, Reuse: p.gatesOnly}
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
	q := storage.Request{Run: p.run.ID, Stage: d.Stage, Attempt: d.Attempt, Decision: workflows.UpdateRerun,
		Reason: d.Reason, Actor: d.Actor, Overrides: d.Overrides, From: d.From}
	if q.Plan, err = d.Plan.Digest(); err != nil {
		return res, err
	}
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

// explainConflict says what moved between the look at a plan and its rerun, which
// was refused. A decision that came first may not be in the record yet.
func (s *Service) explainConflict(ctx context.Context, p rerunPlan, r RerunRequest, refusal error) error {
	if p.run.Status != trimtab.RunBlocked {
		return refusal
	}
	for range 10 {
		now, err := s.planRerun(ctx, r)
		if err == nil {
			err = now.checkToken(r.Plan)
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
	return refusal
}
