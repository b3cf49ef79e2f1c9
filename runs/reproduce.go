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

// ReproduceRequest asks for stages to be run again from the record, to verify
// that they give the same bytes.
type ReproduceRequest struct {
	Run string
	// Stage is the stage to run; if it is empty, all stages run in order.
	Stage string
	// Attempt is the number of Stage's attempt; 0 means the newest.
	Attempt int
	// Chain makes each stage read what the earlier stages produced in this
	// reproduction, in place of what is recorded. With Stage, the earlier stages are
	// run as well.
	Chain bool
	// KeepGoing continues after a difference, which otherwise ends the reproduction.
	KeepGoing bool
	// Inputs replace the recorded inputs of the same names of Stage.
	Inputs []trimtab.Named
	// Reproducer does the computing. Build and Kernels are those of this program, for
	// the report.
	Reproducer     *activities.Reproducer
	Build, Kernels string
	Actor          string
	// NoEvent leaves the record unchanged, for users who may only read it.
	NoEvent bool
	// Progress is called after each step and StageDone after each stage; both may be
	// nil. An error from StageDone ends the reproduction.
	Progress  func(stage string, step, steps int)
	StageDone func(ReproducedStage) error
}

// The possible results of reproducing a stage.
const (
	// Identical means that everything that was compared is bit-identical.
	Identical = "identical"
	// Differs means that at least one metric, state or output differs.
	Differs = "differs"
	// Failed means that the stage could not be run, for example because an input is
	// damaged.
	Failed = "failed"
	// LeftOut means that the stage was not run, because it has not started, is
	// still running or has no steps in the record.
	LeftOut = "left_out"
)

// ReproductionReport is the result of a reproduction as one JSON document.
type ReproductionReport struct {
	// Always "trimtab.reproduction/v1".
	Schema string `json:"schema"`
	Run    string `json:"run"`
	Name   string `json:"name"`
	// At least one stage was run, and all that were run are identical.
	Identical bool `json:"identical"`
	Chain     bool `json:"chain"`
	// Of this program, as the next three.
	Build    string  `json:"build_id"`
	Kernels  string  `json:"kernels"`
	Threads  int     `json:"threads"`
	Numerics string  `json:"numerics"`
	Seconds  float64 `json:"seconds"`
	// The result is in the record, as an event.
	Recorded bool              `json:"recorded"`
	Stages   []ReproducedStage `json:"stages"`
	// Why the result is not identical, or why it could not be recorded.
	Error *trimtab.Error `json:"error"`
}

// ReproducedStage is the result for one stage.
type ReproducedStage struct {
	Stage string `json:"stage"`
	Kind  string `json:"kind"`
	// Number within the stage.
	Attempt int                   `json:"attempt"`
	Status  trimtab.AttemptStatus `json:"status"`
	// The attempt that did the work, if it is another one.
	ReusedFrom *AttemptRef `json:"reused_from"`
	// One of the constants above.
	Result string `json:"result"`
	// Why the stage was left out.
	Reason string `json:"why,omitempty"`
	// Of the worker that ran the recorded attempt.
	Build string `json:"recorded_build_id"`
	// Of the worker that last started the attempt; empty if not recorded.
	Kernels string            `json:"recorded_kernels"`
	Inputs  []ReproducedInput `json:"inputs"`
	Seconds float64           `json:"seconds"`
	activities.StageReproduction
	Error *trimtab.Error `json:"error"`
}

// AttemptRef refers to an attempt whose outputs another one took over.
type AttemptRef struct {
	Run   string `json:"run"`
	Stage string `json:"stage"`
	// Number within the stage.
	Attempt int `json:"attempt"`
}

// refTo returns the reference to an attempt.
func refTo(a storage.Attempt) AttemptRef { return AttemptRef{a.Run, a.Stage, a.Number} }

// Within describes the attempt to a reader of the given run: the run is named
// only if it is another one.
func (r AttemptRef) Within(run string) string {
	if r.Run == run {
		return fmt.Sprintf("attempt %d", r.Attempt)
	}
	return fmt.Sprintf("attempt %d of run %s", r.Attempt, r.Run)
}

// ReproducedInput is an input of a stage, as it was recorded and as the
// reproduction read it.
type ReproducedInput struct {
	Name     string         `json:"name"`
	Recorded trimtab.Digest `json:"recorded"`
	// Differs from Recorded in a chain, or if the request replaced the input.
	Actual trimtab.Digest `json:"here"`
}

// Reproduce runs one or all stages of a run again from the record alone and
// compares metrics, states and outputs bit for bit. It needs neither Temporal
// nor a worker. The run itself is not changed; the result is recorded as one
// event of type "reproduced", unless r.NoEvent is set.
//
// A difference is no error of Reproduce: it is in the report, as
// "reproduction_differs". The error is about being unable to run a stage at
// all, as when the database is unavailable or ctx is cancelled.
func (s *Service) Reproduce(ctx context.Context, r ReproduceRequest) (ReproductionReport, error) {
	run, err := s.store.Run(ctx, r.Run)
	if err != nil {
		return ReproductionReport{}, err
	}
	p := &runReproducer{
		Service:    s,
		req:        r,
		run:        run,
		reproduced: map[trimtab.Digest]trimtab.Digest{},
		report: ReproductionReport{
			Schema:   "trimtab.reproduction/v1",
			Run:      run.ID,
			Name:     run.Name,
			Chain:    r.Chain,
			Build:    r.Build,
			Kernels:  r.Kernels,
			Threads:  r.Reproducer.Workers(),
			Numerics: run.Plan.Numerics,
			Stages:   []ReproducedStage{},
		},
	}
	if p.attempts, err = s.store.Attempts(ctx, run.ID); err != nil {
		return p.report, err
	}
	stages, err := p.selectStages()
	if err != nil {
		return p.report, err
	}
	start := time.Now()
	for _, st := range stages {
		more, err := p.reproduceStage(ctx, st)
		if err != nil {
			return p.report, err
		}
		if !more {
			break
		}
	}
	p.report.Seconds = time.Since(start).Seconds()
	if !p.summarize() || r.NoEvent {
		return p.report, nil
	}
	err = p.recordEvent(ctx)
	// A result that could not be recorded is still reported to the caller.
	if p.report.Recorded = err == nil; !p.report.Recorded && p.report.Error == nil {
		e := *trimtab.AsError(err)
		e.Remedy = "use --no-event to leave the record unchanged"
		p.report.Error = &e
	}
	return p.report, nil
}

// runReproducer is one call of Reproduce at work.
type runReproducer struct {
	*Service
	req ReproduceRequest
	run storage.Run
	// All attempts of the run.
	attempts []storage.Attempt
	// What this reproduction produced, by the digest of the recorded output.
	reproduced map[trimtab.Digest]trimtab.Digest
	report     ReproductionReport
}

// selectStages returns the stages of the plan to run, in order. If the request
// names a stage that cannot be reproduced, it is an error; where all stages
// were asked for, such a stage is left out later.
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
			"stage %s of run %s does not have that attempt", p.req.Stage, p.run.ID)
	}
	if reason := whyNotReproducible(a); reason != "" {
		return nil, trimtab.NewError(trimtab.Conflict, "attempt_open",
			"wait until it has ended, or choose another attempt",
			"attempt %d of %s cannot be reproduced: %s", a.Number, a.Stage, reason)
	}
	if err := p.checkInputs(*a); err != nil {
		return nil, err
	}
	if p.req.Chain {
		return all[:i+1], nil
	}
	return all[i : i+1], nil
}

// checkInputs rejects replacement inputs that the stage does not read, as Usage
// "input_missing".
func (p *runReproducer) checkInputs(a storage.Attempt) error {
	for _, in := range p.req.Inputs {
		if !slices.ContainsFunc(a.Inputs, func(n trimtab.Named) bool { return n.Name == in.Name }) {
			var names []string
			for _, n := range a.Inputs {
				names = append(names, n.Name)
			}
			return trimtab.NewError(trimtab.Usage, "input_missing", "its inputs are "+strings.Join(names, ", "),
				"stage %s has no input %q", a.Stage, in.Name)
		}
	}
	return nil
}

// attemptOf returns the attempt of a stage to run again; nil if there is none.
// The number in the request counts for the requested stage only.
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

// whyNotReproducible says why an attempt cannot be run again: it has nothing in
// the record to compare with, or not everything yet. It is empty for one that
// can.
func whyNotReproducible(a *storage.Attempt) string {
	switch {
	case a == nil:
		return "it has not run yet"
	case a.Status == trimtab.AttemptQueued, a.Status == trimtab.AttemptRunning, a.Status == trimtab.AttemptRetrying:
		return "it is still running"
	case a.ReusedFrom == 0 && len(a.Outputs) == 0 && a.Step == 0:
		return "it has no steps in the record"
	}
	return ""
}

// reproduceStage runs one stage again and adds it to the report. more is false
// if the reproduction ends with this stage.
func (p *runReproducer) reproduceStage(ctx context.Context, st trimtab.PlannedStage) (more bool, err error) {
	out := ReproducedStage{
		Stage:  st.Name,
		Kind:   st.Kind,
		Inputs: []ReproducedInput{},
		StageReproduction: activities.StageReproduction{
			Differences: []activities.Difference{},
			Outputs:     []activities.ReproducedOutput{},
		},
	}
	a := p.attemptOf(st.Name)
	if a != nil {
		out.Attempt, out.Status = a.Number, a.Status
	}
	if out.Reason = whyNotReproducible(a); out.Reason != "" {
		out.Result = LeftOut
		return true, p.finishStage(out)
	}
	start := time.Now()
	err = p.reproduceAttempt(ctx, *a, &out)
	out.Seconds = time.Since(start).Seconds()
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

// isStageFailure reports whether an error is a result about the stage, to be
// reported, rather than an unavailable service or an interruption, which ends
// the reproduction.
func isStageFailure(ctx context.Context, err error) bool {
	return ctx.Err() == nil && trimtab.AsError(err).Class != trimtab.Unavailable
}

// finishStage adds a stage to the report and hands it to the caller.
func (p *runReproducer) finishStage(out ReproducedStage) error {
	p.report.Stages = append(p.report.Stages, out)
	if p.req.StageDone == nil {
		return nil
	}
	return p.req.StageDone(out)
}

// reproduceAttempt runs an attempt again, or the attempt whose outputs it took
// over, and fills in the result.
func (p *runReproducer) reproduceAttempt(ctx context.Context, a storage.Attempt, out *ReproducedStage) error {
	producer, run := a, p.run
	for producer.ReusedFrom != 0 {
		var err error
		if producer, err = p.store.Attempt(ctx, producer.ReusedFrom); err != nil {
			return err
		}
		// The seed and the numerics are those of the run in which the work was done.
		if run, err = p.store.Run(ctx, producer.Run); err != nil {
			return err
		}
		ref := refTo(producer)
		out.ReusedFrom = &ref
	}
	out.Build = producer.BuildID
	var err error
	if out.Kernels, err = p.store.Kernels(ctx, producer); err != nil {
		return err
	}
	replace := func(n trimtab.Named) trimtab.Digest { return p.inputFor(a.Stage, n) }
	for _, n := range producer.Inputs {
		out.Inputs = append(out.Inputs, ReproducedInput{n.Name, n.Digest, replace(n)})
	}
	var progress func(step, steps int)
	if p.req.Progress != nil {
		progress = func(step, steps int) { p.req.Progress(a.Stage, step, steps) }
	}
	out.StageReproduction, err = p.req.Reproducer.Reproduce(ctx, activities.ReproduceInput{
		Attempt:  producer,
		Seed:     run.Seed,
		Numerics: run.Plan.Numerics,
		Replace:  replace,
		All:      p.req.KeepGoing,
		Progress: progress,
	})
	// Kept even after a difference or an error, for the later stages of a chain.
	for _, o := range out.Outputs {
		p.reproduced[o.Recorded] = o.Here
	}
	return err
}

// inputFor returns what a stage reads in place of a recorded input: a
// replacement from the request, in a chain the reproduced output, or else the
// recorded input.
func (p *runReproducer) inputFor(stage string, n trimtab.Named) trimtab.Digest {
	if stage == p.req.Stage {
		for _, in := range p.req.Inputs {
			if in.Name == n.Name {
				return in.Digest
			}
		}
	}
	if reproduced, ok := p.reproduced[n.Digest]; ok && p.req.Chain && reproduced != "" {
		return reproduced
	}
	return n.Digest
}

// summarize sets Identical, and Error to that of the first stage that is not
// identical. It reports whether any stage was run.
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
			"run %s has no stage that can be reproduced yet", p.run.ID)
	}
	p.report.Identical = p.report.Error == nil
	return ran
}

// differenceError returns the error of a stage that was reproduced differently.
// The remedy names the most likely cause.
func differenceError(st ReproducedStage) *trimtab.Error {
	remedy := "the record, a file in the store or the program has changed: check the run with `trimtab doctor --run` " +
		"and compare the builds"
	switch {
	case slices.ContainsFunc(st.Inputs, func(in ReproducedInput) bool { return in.Actual != in.Recorded }):
		remedy = "it read different inputs from the recorded ones, so a difference is expected"
	case st.Version != st.VersionHere:
		remedy = fmt.Sprintf("the recorded attempt ran version %d of the stage's code, and this program has version "+
			"%d: reproduce it with the program that ran it, build %.12s", st.Version, st.VersionHere, st.Build)
	}
	return trimtab.NewError(trimtab.Verification, "reproduction_differs", remedy, "stage %s differs: %s", st.Stage,
		st.Differences[0])
}

// recordEvent appends the result to the run's events: what was run again, on
// which build, and what came out. The keys of the body are part of the event's
// format.
func (p *runReproducer) recordEvent(ctx context.Context) error {
	var stages []map[string]any
	number := 0
	for _, st := range p.report.Stages {
		if st.Result == LeftOut {
			continue
		}
		result := map[string]any{
			"stage":    st.Stage,
			"attempt":  st.Attempt,
			"result":   st.Result,
			"compared": st.Compared,
			"whole":    st.Whole,
			"from":     st.From,
		}
		if len(st.Differences) > 0 {
			result["first"] = st.Differences[0].String()
		}
		if st.Error != nil {
			result["error"] = st.Error
		}
		if st.Stage == p.req.Stage {
			number = st.Attempt
		}
		stages = append(stages, result)
	}
	body := map[string]any{
		"identical": p.report.Identical,
		"chain":     p.report.Chain,
		"build":     p.report.Build,
		"kernels":   p.report.Kernels,
		"threads":   p.report.Threads,
		"stages":    stages,
	}
	if len(p.req.Inputs) > 0 {
		body["inputs"] = p.req.Inputs
	}
	return p.store.RecordReproduction(ctx, p.run.ID, p.req.Stage, number, body, p.req.Actor)
}
