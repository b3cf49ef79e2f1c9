package runs

import (
	"context"
	"fmt"
	"slices"
	"strings"

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
}

// RerunResult says what will happen, or would.
type RerunResult struct {
	Run     string       `json:"run"` // a new one when the run was closed
	NewRun  bool         `json:"new_run"`
	Attempt int          `json:"attempt"`
	Stages  []RerunStage `json:"stages"`
}

// RerunStage is the fate of one stage.
type RerunStage struct {
	Name   string `json:"name"`
	Action string `json:"action"` // keep (it stands as it is), reuse (another attempt's output), run
	Reason string `json:"reason"`
}

// Rerun makes attempt n+1 of a stage of a blocked run, or a new run of a
// closed one in which whatever is unchanged is reused.
func (s *Service) Rerun(ctx context.Context, r RerunRequest) (RerunResult, error) {
	run, err := s.store.Run(ctx, r.Run)
	if err != nil {
		return RerunResult{}, err
	}
	i := stageIndex(run.Plan, r.Stage)
	if i < 0 {
		return RerunResult{}, stageNotFound(run, r.Stage)
	}
	spec, err := s.changedSpec(ctx, run, r)
	if err != nil {
		return RerunResult{}, err
	}
	next, docs, err := s.plan(ctx, spec, run.ID)
	if err != nil {
		return RerunResult{}, err
	}
	if err := onlyFrom(run.Plan, next.Plan, i); err != nil {
		return RerunResult{}, err
	}
	if err := s.worthwhile(ctx, run, next.Plan, i, r); err != nil {
		return RerunResult{}, err
	}
	res := RerunResult{Run: run.ID, NewRun: !run.Status.Open()}
	if res.Stages, err = s.fates(ctx, run, next.Plan, i); err != nil || r.DryRun {
		return res, err
	}
	if res.NewRun {
		return s.again(ctx, run, spec, i, r, res)
	}
	return s.nextAttempt(ctx, run, next.Plan, docs, r, res)
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

func (s *Service) changedSpec(ctx context.Context, run storage.Run, r RerunRequest) (recipes.Spec, error) {
	spec, err := s.currentSpec(ctx, run)
	if err != nil {
		return spec, err
	}
	for _, ref := range r.Data {
		kind, name, ok := strings.Cut(ref, "=")
		if !ok {
			name = ref
		}
		v, err := s.store.ResolveDataset(ctx, name)
		if err != nil {
			return spec, err
		}
		if ok && trimtab.Kind(kind) != v.Kind {
			return spec, trimtab.NewError(trimtab.Usage, "wrong_kind", "name a dataset of that kind", "--data %s: %s holds %s", ref, name, v.Kind)
		}
		if v.Kind == trimtab.KindRankings { // instead of what a collect stage makes, if there is one
			replaceRankings(&spec, string(v.Digest))
		}
		*spec.Data.Ref(v.Kind) = string(v.Digest)
	}
	return recipes.Override(spec, r.Sets)
}

// replaceRankings makes the stages read a dataset where they read a collect stage's output.
func replaceRankings(spec *recipes.Spec, ref string) {
	for i, st := range spec.Stages {
		if st.Kind == recipes.KindReward || st.Kind == recipes.KindEvaluate {
			inputs := map[string]string{}
			for k, v := range st.Inputs {
				inputs[k] = v
			}
			inputs["rankings"] = ref
			spec.Stages[i].Inputs = inputs
		}
	}
}

// onlyFrom refuses a change of a stage before i: its output is what stage i is rerun from.
func onlyFrom(old, new trimtab.Plan, i int) error {
	if len(old.Stages) != len(new.Stages) || old.Seed != new.Seed || old.Numerics != new.Numerics {
		return trimtab.NewError(trimtab.Usage, "plan_differs", "launch a new run with `trimtab align`", "the change is of the whole run, not of one stage")
	}
	for j := range i {
		if old.Stages[j].Config != new.Stages[j].Config || !slices.Equal(old.Stages[j].Inputs, new.Stages[j].Inputs) {
			return trimtab.NewError(trimtab.Usage, "earlier_stage_changed", fmt.Sprintf("rerun %s instead", old.Stages[j].Name),
				"the change concerns stage %s, which comes before %s", old.Stages[j].Name, old.Stages[i].Name)
		}
	}
	return nil
}

// worthwhile refuses a rerun that would end in the same bytes or the same error.
func (s *Service) worthwhile(ctx context.Context, run storage.Run, next trimtab.Plan, i int, r RerunRequest) error {
	if r.Force || r.FromCheckpoint != "" || !slices.EqualFunc(run.Plan.Stages[i:], next.Stages[i:], func(a, b trimtab.PlannedStage) bool {
		return a.Config == b.Config && a.Version == b.Version && slices.Equal(a.Inputs, b.Inputs) && slices.EqualFunc(a.Gates, b.Gates, sameGate)
	}) {
		return nil
	}
	a, ok, err := s.newest(ctx, run, r.Stage)
	if err != nil || !ok || !conclusive(a) {
		return err
	}
	return trimtab.NewError(trimtab.Conflict, "nothing_changed", "change something with --set or --data, or insist with --force",
		"runs are deterministic: stage %s would end as attempt %d did", r.Stage, a.Number)
}

// conclusive reports whether an attempt ended as its config, data and seed make it end every time.
func conclusive(a storage.Attempt) bool {
	switch a.Status {
	case trimtab.AttemptCompleted, trimtab.AttemptReused, trimtab.AttemptSkipped:
		return true
	case trimtab.AttemptFailed:
		return a.Error == nil || a.Error.Type != "stage_interrupted" && (a.Error.Class == trimtab.Invalid || a.Error.Class == trimtab.Internal)
	}
	return false
}

func sameGate(a, b trimtab.Gate) bool {
	same := func(x, y *float64) bool { return x == y || x != nil && y != nil && *x == *y }
	return a.Metric == b.Metric && same(a.Min, b.Min) && same(a.Max, b.Max)
}

// fates says for each stage what the rerun does to it, and why.
func (s *Service) fates(ctx context.Context, run storage.Run, next trimtab.Plan, i int) ([]RerunStage, error) {
	attempts, err := s.store.Attempts(ctx, run.ID)
	if err != nil {
		return nil, err
	}
	var fates []RerunStage
	for j, st := range next.Stages {
		a := newestOf(attempts, st.Name)
		switch {
		case j < i && !run.Status.Open():
			fates = append(fates, s.reuseOf(ctx, st, a))
		case j < i:
			fates = append(fates, RerunStage{st.Name, "keep", "comes before it and is unchanged"})
		case j == i:
			fates = append(fates, RerunStage{st.Name, "run", "it is what is rerun"})
		default:
			fates = append(fates, RerunStage{st.Name, "run", "reads what was rerun; reused if its inputs come out the same"})
		}
	}
	return fates, nil
}

func (s *Service) reuseOf(ctx context.Context, st trimtab.PlannedStage, a *storage.Attempt) RerunStage {
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
		return RerunStage{st.Name, "reuse", fmt.Sprintf("config, inputs, seed and code version are those of attempt %d", a.ID)}
	}
	return RerunStage{st.Name, "run", fmt.Sprintf("its last attempt is %s", a.Status)}
}

// again starts a new run of a closed one.
func (s *Service) again(ctx context.Context, run storage.Run, spec recipes.Spec, i int, r RerunRequest, res RerunResult) (RerunResult, error) {
	if r.FromCheckpoint != "" {
		return res, trimtab.NewError(trimtab.Usage, "run_closed", "leave out --from-checkpoint", "run %s is %s: a new run starts its stages from the beginning", run.ID, run.Status)
	}
	var reuse []string
	for j, st := range run.Plan.Stages {
		if j != i {
			reuse = append(reuse, st.Name)
		}
	}
	launched, err := s.Launch(ctx, LaunchRequest{Spec: spec, Name: run.Name, Actor: r.Actor, origin: run.ID, reason: r.Reason, reuse: reuse})
	res.Run, res.Attempt = launched.Run.ID, 1
	return res, err
}

// nextAttempt asks the blocked run for attempt n+1.
func (s *Service) nextAttempt(ctx context.Context, run storage.Run, next trimtab.Plan, docs []recipes.Document, r RerunRequest, res RerunResult) (RerunResult, error) {
	a, _, err := s.newest(ctx, run, r.Stage)
	if err != nil {
		return res, err
	}
	d := workflows.RerunDecision{Decision: workflows.Decision{Stage: r.Stage, Attempt: a.Number, Reason: r.Reason, Actor: r.Actor}, Plan: next}
	if r.FromCheckpoint != "" {
		prefix := strings.TrimPrefix(r.FromCheckpoint, "latest")
		if prefix != "" && !strings.HasPrefix(prefix, "sha256:") {
			prefix = "sha256:" + prefix
		}
		c, err := s.store.FindCheckpoint(ctx, run.ID, r.Stage, prefix)
		if err != nil {
			return res, err
		}
		d.From = c.Digest
	}
	if err := s.putDocuments(ctx, docs); err != nil {
		return res, err
	}
	out, err := s.update(ctx, run, workflows.UpdateRerun, d)
	res.Attempt = out.Attempt
	return res, err
}
