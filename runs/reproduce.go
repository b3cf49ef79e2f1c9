package runs

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/trimtab/trimtab"
	"github.com/trimtab/trimtab/activities"
	"github.com/trimtab/trimtab/storage"
)

// ReproduceRequest asks for stages to be run again from the record alone.
type ReproduceRequest struct {
	Run     string
	Stage   string // empty is all stages, in order
	Attempt int    // of Stage; 0 is the newest
	// Chain lets a stage read what the stages before it made here, in place of
	// what they had made; with Stage those run too.
	Chain bool
	// KeepGoing goes on after a difference.
	KeepGoing bool
	// Inputs are read by Stage in place of the recorded ones of these names.
	Inputs []trimtab.Named
	// ReusedFrom computes. Build and Kernels are of this program, for the report.
	Reproducer     *activities.Reproducer
	Build, Kernels string
	Actor          string
	// NoEvent tells the record nothing, so that it may be read by who may not write.
	NoEvent bool
	// Progress is told after each step, and Done after each stage; they may be nil.
	Progress  func(stage string, step, steps int)
	StageDone func(ReproducedStage) error
}

// Results of a stage that was run again.
const (
	Identical = "identical"
	Differs   = "differs"
	Failed    = "failed"   // it could not be run, for example since an input is damaged
	LeftOut   = "left_out" // nothing of it is recorded, or it is still at work
)

// ReproductionReport is what came of a reproduction, as one JSON document.
type ReproductionReport struct {
	Schema    string            `json:"schema"` // trimtab.reproduction/v1
	Run       string            `json:"run"`
	Name      string            `json:"name"`
	Identical bool              `json:"identical"`
	Chain     bool              `json:"chain"`
	Build     string            `json:"build_id"`
	Kernels   string            `json:"kernels"`
	Threads   int               `json:"threads"`
	Numerics  string            `json:"numerics"`
	Seconds   float64           `json:"seconds"`
	Recorded  bool              `json:"told"` // the record has the event
	Stages    []ReproducedStage `json:"stages"`
	Error     *trimtab.Error    `json:"error"` // why it is not identical, or the record could not be told
}

// ReproducedStage is one stage that was run again.
type ReproducedStage struct {
	Stage      string                `json:"stage"`
	Kind       string                `json:"kind"`
	Attempt    int                   `json:"attempt"` // number
	Status     trimtab.AttemptStatus `json:"status"`
	ReusedFrom *AttemptRef           `json:"reused_from"` // the attempt that took the steps, where it is another one
	Result     string                `json:"result"`
	Reason     string                `json:"why,omitempty"` // it was left out
	Build      string                `json:"recorded_build_id"`
	// of the worker that last started it; empty where the record does not say
	Kernels string            `json:"recorded_kernels"`
	Inputs  []ReproducedInput `json:"inputs"`
	Seconds float64           `json:"seconds"`
	activities.StageReproduction
	Error *trimtab.Error `json:"error"`
}

// AttemptRef is an attempt whose outputs another one took over.
type AttemptRef struct {
	Run     string `json:"run"`
	Stage   string `json:"stage"`
	Attempt int    `json:"attempt"` // number within the stage
}

func refTo(a storage.Attempt) AttemptRef { return AttemptRef{a.Run, a.Stage, a.Number} }

// Within names the attempt as a reader of one run knows it; the run is named where it is another one.
func (m AttemptRef) Within(run string) string {
	if m.Run == run {
		return fmt.Sprintf("attempt %d", m.Attempt)
	}
	return fmt.Sprintf("attempt %d of run %s", m.Attempt, m.Run)
}

// ReproducedInput is an input as it was recorded and as it was read.
type ReproducedInput struct {
	Name     string         `json:"name"`
	Recorded trimtab.Digest `json:"recorded"`
	Actual   trimtab.Digest `json:"here"`
}

// Reproduce runs a stage of a run, or all of them, again from the record alone
// and compares bit for bit. It changes nothing but for one event of type
// "reproduced". Differences are in the result, with an error of type
// "reproduction_differs" in it; the error that is returned is of the looking.
func (s *Service) Reproduce(ctx context.Context, r ReproduceRequest) (ReproductionReport, error) {
	run, err := s.store.Run(ctx, r.Run)
	if err != nil {
		return ReproductionReport{}, err
	}
	p := &runReproducer{Service: s, req: r, run: run, reproduced: map[trimtab.Digest]trimtab.Digest{},
		report: ReproductionReport{Schema: "trimtab.reproduction/v1",
			Run: run.ID, Name: run.Name, Chain: r.Chain, Build: r.Build, Kernels: r.Kernels,
			Threads: r.Reproducer.Workers(), Numerics: run.Plan.Numerics, Stages: []ReproducedStage{}}}
	if p.attempts, err = s.store.Attempts(ctx, run.ID); err != nil {
		return p.report, err
	}
	stages, err := p.selectStages()
	if err != nil {
		return p.report, err
	}
	began := time.Now()
	for _, st := range stages {
		more, err := p.reproduceStage(ctx, st)
		if err != nil {
			return p.report, err
		}
		if !more {
			break
		}
	}
	p.report.Seconds = time.Since(began).Seconds()
	if !p.summarize() || r.NoEvent {
		return p.report, nil
	}
	err = p.recordEvent(ctx)
	// what was found is told all the same, to who asked
	if p.report.Recorded = err == nil; !p.report.Recorded && p.report.Error == nil {
		e := *trimtab.AsError(err)
		e.Remedy = "with --no-event nothing is written"
		p.report.Error = &e
	}
	return p.report, nil
}

// runReproducer is one at work.
type runReproducer struct {
	*Service
	req        ReproduceRequest
	run        storage.Run
	attempts   []storage.Attempt
	reproduced map[trimtab.Digest]trimtab.Digest // in a chain: what came here of a recorded output
	report     ReproductionReport
}

// selectStages are the plan's stages to run.
func (p *runReproducer) selectStages() ([]trimtab.PlannedStage, error) {
	all := p.run.Plan.Stages
	if p.req.Stage == "" {
		return all, nil
	}
	i := stageIndex(p.run.Plan, p.req.Stage)
	if i < 0 {
		return nil, stageNotFound(p.run, p.req.Stage)
	}
	a := p.attemptOf(p.req.Stage)
	if a == nil {
		return nil, trimtab.NewError(trimtab.NotFound, "attempt_not_found", "see `trimtab show`",
			"stage %s of run %s has no such attempt yet", p.req.Stage, p.run.ID)
	}
	if why := whyNotReproducible(a); why != "" {
		return nil, trimtab.NewError(trimtab.Conflict, "attempt_open", "wait for its end, or choose another attempt",
			"attempt %d of %s: %s", a.Number, a.Stage, why)
	}
	if err := p.checkInputs(*a); err != nil {
		return nil, err
	}
	if p.req.Chain {
		return all[:i+1], nil
	}
	return all[i : i+1], nil
}

// checkInputs refuses replacements of what the stage does not read.
func (p *runReproducer) checkInputs(a storage.Attempt) error {
	for _, in := range p.req.Inputs {
		if !slices.ContainsFunc(a.Inputs, func(n trimtab.Named) bool { return n.Name == in.Name }) {
			var names []string
			for _, n := range a.Inputs {
				names = append(names, n.Name)
			}
			return trimtab.NewError(trimtab.Usage, "input_missing", "it reads "+strings.Join(names, ", "),
				"stage %s has no input %q", a.Stage, in.Name)
		}
	}
	return nil
}

// attemptOf is the attempt of a stage to run again; nil if there is none.
func (p *runReproducer) attemptOf(stage string) *storage.Attempt {
	if p.req.Attempt == 0 || stage != p.req.Stage {
		return newestAttemptOf(p.attempts, stage)
	}
	for i, a := range p.attempts {
		if a.Stage == stage && a.Number == p.req.Attempt {
			return &p.attempts[i]
		}
	}
	return nil
}

// whyNotReproducible says why an attempt cannot be run again: its record is not there, or not whole yet.
func whyNotReproducible(a *storage.Attempt) string {
	switch {
	case a == nil:
		return "it has not been run"
	case a.Status == trimtab.AttemptQueued, a.Status == trimtab.AttemptRunning, a.Status == trimtab.AttemptRetrying:
		return "it is still at work"
	case a.ReusedFrom == 0 && len(a.Outputs) == 0 && a.Step == 0:
		return "it has no step in the record"
	}
	return ""
}

// reproduceStage runs one stage again; more is false when the work ends with it.
func (p *runReproducer) reproduceStage(ctx context.Context, st trimtab.PlannedStage) (more bool, err error) {
	out := ReproducedStage{Stage: st.Name, Kind: st.Kind, Inputs: []ReproducedInput{},
		StageReproduction: activities.StageReproduction{Differences: []activities.Difference{},
			Outputs: []activities.ReproducedOutput{}}}
	a := p.attemptOf(st.Name)
	if a != nil {
		out.Attempt, out.Status = a.Number, a.Status
	}
	if out.Reason = whyNotReproducible(a); out.Reason != "" {
		out.Result = LeftOut
		return true, p.finishStage(out)
	}
	began := time.Now()
	err = p.reproduceAttempt(ctx, *a, &out)
	out.Seconds = time.Since(began).Seconds()
	switch {
	case err != nil && !isStageFailure(ctx, err):
		return false, err
	case err != nil:
		out.Result, out.Error = Failed, trimtab.AsError(err)
	case out.StageReproduction.Identical():
		out.Result = Identical
	default:
		out.Result = Differs
	}
	return out.Result == Identical || p.req.KeepGoing, p.finishStage(out)
}

// isStageFailure reports whether an error is of what was run, and not of a
// service that is away or a person who interrupts.
func isStageFailure(ctx context.Context, err error) bool {
	return ctx.Err() == nil && trimtab.AsError(err).Class != trimtab.Unavailable
}

func (p *runReproducer) finishStage(out ReproducedStage) error {
	p.report.Stages = append(p.report.Stages, out)
	if p.req.StageDone == nil {
		return nil
	}
	return p.req.StageDone(out)
}

// reproduceAttempt runs an attempt again, or the one whose outputs it took over.
func (p *runReproducer) reproduceAttempt(ctx context.Context, a storage.Attempt, out *ReproducedStage) error {
	maker, run := a, p.run
	for maker.ReusedFrom != 0 {
		var err error
		if maker, err = p.store.Attempt(ctx, maker.ReusedFrom); err != nil {
			return err
		}
		if run, err = p.store.Run(ctx, maker.Run); err != nil {
			return err
		}
		by := refTo(maker)
		out.ReusedFrom = &by
	}
	out.Build = maker.BuildID
	var err error
	if out.Kernels, err = p.store.Kernels(ctx, maker); err != nil {
		return err
	}
	replace := func(n trimtab.Named) trimtab.Digest { return p.inputFor(a.Stage, n) }
	for _, n := range maker.Inputs {
		out.Inputs = append(out.Inputs, ReproducedInput{n.Name, n.Digest, replace(n)})
	}
	var progress func(step, steps int)
	if p.req.Progress != nil {
		progress = func(step, steps int) { p.req.Progress(a.Stage, step, steps) }
	}
	out.StageReproduction, err = p.req.Reproducer.Reproduce(ctx,
		activities.ReproduceInput{Attempt: maker, Seed: run.Seed, Numerics: run.Plan.Numerics,
			Replace: replace, All: p.req.KeepGoing, Progress: progress})
	for _, o := range out.Outputs {
		p.reproduced[o.Recorded] = o.Here
	}
	return err
}

// inputFor is what a stage reads in place of a recorded input.
func (p *runReproducer) inputFor(stage string, n trimtab.Named) trimtab.Digest {
	if stage == p.req.Stage {
		for _, in := range p.req.Inputs {
			if in.Name == n.Name {
				return in.Digest
			}
		}
	}
	if here, ok := p.reproduced[n.Digest]; ok && p.req.Chain && here != "" {
		return here
	}
	return n.Digest
}

// summarize says in one error what is not identical; ran is whether any stage was run.
func (p *runReproducer) summarize() (ran bool) {
	for _, st := range p.report.Stages {
		switch {
		case st.Result == LeftOut:
			continue
		case st.Result == Failed && p.report.Error == nil:
			e := *st.Error
			e.Message = "stage " + st.Stage + ": " + e.Message
			p.report.Error = &e
		case st.Result == Differs && p.report.Error == nil:
			p.report.Error = differenceError(st)
		}
		ran = true
	}
	if !ran {
		p.report.Error = trimtab.NewError(trimtab.Conflict, "nothing_recorded", "see `trimtab show`",
			"run %s has no stage that can be run again yet", p.run.ID)
	}
	p.report.Identical = p.report.Error == nil
	return ran
}

// differenceError is the error of a stage that came out otherwise.
func differenceError(st ReproducedStage) *trimtab.Error {
	remedy := "the record, a file of the store or the program is not what it was: look at `trimtab doctor --run` and " +
		"compare the builds"
	switch {
	case slices.ContainsFunc(st.Inputs, func(in ReproducedInput) bool { return in.Actual != in.Recorded }):
		remedy = "it read other inputs than the recorded ones"
	case st.Version != st.VersionHere:
		remedy = fmt.Sprintf("it was recorded by version %d of the stage's code, this program has version %d: use "+
			"the program that made it (build %.12s)", st.Version, st.VersionHere, st.Build)
	}
	return trimtab.NewError(trimtab.Verification, "reproduction_differs", remedy, "stage %s differs: %s", st.Stage,
		st.Differences[0])
}

// recordEvent leaves one event: what was run again, on what, and what came of it.
func (p *runReproducer) recordEvent(ctx context.Context) error {
	var stages []map[string]any
	number := 0
	for _, st := range p.report.Stages {
		if st.Result == LeftOut {
			continue
		}
		m := map[string]any{"stage": st.Stage, "attempt": st.Attempt, "result": st.Result, "compared": st.Compared,
			"whole": st.Whole, "from": st.From}
		if len(st.Differences) > 0 {
			m["first"] = st.Differences[0].String()
		}
		if st.Error != nil {
			m["error"] = st.Error
		}
		if st.Stage == p.req.Stage {
			number = st.Attempt
		}
		stages = append(stages, m)
	}
	body := map[string]any{"identical": p.report.Identical, "chain": p.report.Chain, "build": p.report.Build,
		"kernels": p.report.Kernels, "threads": p.report.Threads, "stages": stages}
	if len(p.req.Inputs) > 0 {
		body["inputs"] = p.req.Inputs
	}
	return p.store.RecordReproduction(ctx, p.run.ID, p.req.Stage, number, body, p.req.Actor)
}
