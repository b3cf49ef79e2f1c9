package runs

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/trimtab/trimtab"
	"github.com/trimtab/trimtab/recipes"
	"github.com/trimtab/trimtab/storage"
)

// Comparison is runs side by side. Every list of values has one for each run,
// in the order of Runs; it is null where a run has none.
type Comparison struct {
	Schema  string           `json:"schema"` // trimtab.comparison/v1
	Equal   bool             `json:"equal"`  // to the bit in all stages
	Verdict string           `json:"verdict"`
	Runs    []ComparedRun    `json:"runs"`
	Spec    []SpecDifference `json:"spec"` // where the specs differ
	Data    []DataDifference `json:"data"` // where stages read other versions
	Stages  []ComparedStage  `json:"stages"`
	Scores  []ComparedScore  `json:"scores"` // of the evaluations
	Samples []ComparedSample `json:"samples"`
}

// ComparedRun is what a run is as a whole.
type ComparedRun struct {
	ID         string            `json:"id"`
	Name       string            `json:"name"`
	Status     trimtab.RunStatus `json:"status"`
	Seed       uint64            `json:"seed"`
	Numerics   string            `json:"numerics"`
	SpecDigest trimtab.Digest    `json:"spec_digest"`
	Origin     *string           `json:"origin"`
	CreatedAt  time.Time         `json:"created_at"`
	Seconds    float64           `json:"seconds"`
	Builds     []string          `json:"builds"` // that its newest attempts ran on, each once
}

// DataDifference is an input for which runs read other datasets or base models.
type DataDifference struct {
	Input  string         `json:"input"`
	Stages []string       `json:"stages"` // that read it so
	Values []*InputSource `json:"values"`
}

// InputSource is what a stage reads: a version of a dataset, a stored model, or what another stage of the run makes.
type InputSource struct {
	Name   string         `json:"name,omitempty"`
	Digest trimtab.Digest `json:"digest,omitempty"`
	Stage  string         `json:"stage,omitempty"`
}

// ComparedStage is a stage of that name in each run that has one.
type ComparedStage struct {
	Name  string `json:"name"`
	Equal bool   `json:"equal"` // to the bit, and finished in all runs
	// something is known not to be equal; without both, the stage is not finished in all runs
	Differs  bool               `json:"differs"`
	Verdict  string             `json:"verdict"`
	Attempts []*ComparedAttempt `json:"attempts"` // the newest; null in a run without the stage
	Outputs  []ComparedOutput   `json:"outputs"`
	Metrics  []ComparedMetric   `json:"metrics"` // final ones
	Series   *ComparedSeries    `json:"series"`  // null where only one run has taken steps
}

// ComparedAttempt is how far a run came with a stage.
type ComparedAttempt struct {
	Kind    string                `json:"kind"`
	Attempt int                   `json:"attempt"` // 0 before the first
	Status  trimtab.AttemptStatus `json:"status"`
	Reused  bool                  `json:"reused"` // from an earlier attempt; the rest is that one's
	Build   string                `json:"build"`
	Steps   int                   `json:"steps"` // taken
	Seconds float64               `json:"seconds"`
}

// ComparedOutput is something that the stage makes.
type ComparedOutput struct {
	Name    string            `json:"name"`
	Equal   bool              `json:"equal"`
	Digests []*trimtab.Digest `json:"digests"`
}

// ComparedMetric is a metric at the stage's end.
type ComparedMetric struct {
	Name        string    `json:"name"`
	Equal       bool      `json:"equal"` // to the bit
	Values      []*Number `json:"values"`
	Differences []*Number `json:"differences"` // from the first run that has it
}

// ComparedSeries compares the metrics of every step.
type ComparedSeries struct {
	Steps int  `json:"steps"` // that all runs with the stage have taken
	Equal bool `json:"equal"` // to the bit, in these steps
	First *struct {
		Step   int       `json:"step"`
		Metric string    `json:"metric"`
		Values []*Number `json:"values"`
	} `json:"first_difference"`
}

// ComparedScore is a measure of a model in the evaluation, with its 95 % interval where the report has one.
type ComparedScore struct {
	Model       string    `json:"model"`
	Measure     string    `json:"measure"`
	Values      []*Number `json:"values"`
	Low         []*Number `json:"low,omitempty"`
	High        []*Number `json:"high,omitempty"`
	Differences []*Number `json:"differences"`
}

// ComparedSample is a prompt that all evaluations show, with the answers of each run's models.
type ComparedSample struct {
	Prompt  string              `json:"prompt"`
	Answers []map[string]string `json:"answers"`
}

// Number is a measured number; JSON has those that are none as text.
type Number float64

// MarshalJSON writes NaN and the infinities as strings.
func (n Number) MarshalJSON() ([]byte, error) {
	if v := float64(n); math.IsNaN(v) || math.IsInf(v, 0) {
		return json.Marshal(fmt.Sprint(v))
	}
	return json.Marshal(float64(n))
}

// side is one run of a comparison.
type side struct {
	run      storage.Run
	doc      View
	spec     *recipes.Spec // nil if this program cannot read it
	attempts []storage.Attempt
}

// Compare puts two or more runs side by side, with at most so many samples.
func (s *Service) Compare(ctx context.Context, refs []string, samples int) (Comparison, error) {
	c := Comparison{Schema: "trimtab.comparison/v1", Spec: []SpecDifference{}, Data: []DataDifference{},
		Scores: []ComparedScore{}, Samples: []ComparedSample{}}
	sides, err := s.sides(ctx, refs)
	if err != nil {
		return c, err
	}
	if specs := specsOf(sides); len(specs) == len(sides) {
		if c.Spec, err = specDifferences(specs...); err != nil {
			return c, err
		}
	}
	if c.Data, err = s.dataDifferences(ctx, sides); err != nil {
		return c, err
	}
	for _, name := range stageNames(sides) {
		st, err := s.compareStage(ctx, name, sides)
		if err != nil {
			return c, err
		}
		c.Stages = append(c.Stages, st)
	}
	for i, side := range sides {
		c.Runs = append(c.Runs, comparedRun(side, c.Stages, i))
	}
	c.Scores, c.Samples = compareScores(sides), sharedSamples(sides, samples)
	c.setVerdict()
	return c, nil
}

// sides reads the runs.
func (s *Service) sides(ctx context.Context, refs []string) ([]side, error) {
	var sides []side
	for _, ref := range refs {
		run, err := s.store.Run(ctx, ref)
		if err != nil {
			return nil, err
		}
		if slices.ContainsFunc(sides, func(o side) bool { return o.run.ID == run.ID }) {
			return nil, trimtab.NewError(trimtab.Usage, "same_run", "name different runs",
				"%s is a run that was named before: %s", ref, run.ID)
		}
		side := side{run: run}
		if side.doc, err = s.Show(ctx, run.ID); err != nil {
			return nil, err
		}
		if side.attempts, err = s.store.Attempts(ctx, run.ID); err != nil {
			return nil, err
		}
		if spec, known, err := s.specOfPlan(ctx, run.Plan); err != nil {
			return nil, err
		} else if known {
			side.spec = &spec
		}
		sides = append(sides, side)
	}
	return sides, nil
}

func specsOf(sides []side) []recipes.Spec {
	var specs []recipes.Spec
	for _, side := range sides {
		if side.spec != nil {
			specs = append(specs, *side.spec)
		}
	}
	return specs
}

// stageNames are the stages of all runs: the first run's in order, then what the others have beside them.
func stageNames(sides []side) []string {
	var names []string
	for _, side := range sides {
		for _, st := range side.run.Plan.Stages {
			if !slices.Contains(names, st.Name) {
				names = append(names, st.Name)
			}
		}
	}
	return names
}

func comparedRun(side side, stages []ComparedStage, i int) ComparedRun {
	d := side.doc
	r := ComparedRun{ID: d.ID, Name: d.Name, Status: d.Status, Seed: d.Seed, Numerics: d.Numerics,
		SpecDigest: d.SpecDigest,
		Origin:     d.Origin, CreatedAt: d.CreatedAt, Seconds: d.Seconds, Builds: []string{}}
	for _, st := range stages {
		if a := st.Attempts[i]; a != nil && a.Build != "" && !slices.Contains(r.Builds, a.Build) {
			r.Builds = append(r.Builds, a.Build)
		}
	}
	return r
}

// dataDifferences are the inputs from outside that stages of one name do not
// read alike. Stages that read the same under the same name are one.
func (s *Service) dataDifferences(ctx context.Context, sides []side) ([]DataDifference, error) {
	all := []DataDifference{}
	for _, name := range stageNames(sides) {
		for _, input := range inputsOf(sides, name) {
			d := DataDifference{Input: input, Stages: []string{name}, Values: make([]*InputSource, len(sides))}
			for i, side := range sides {
				var err error
				if d.Values[i], err = s.source(ctx, side, name, input); err != nil {
					return nil, err
				}
			}
			if !d.differs() {
				continue
			}
			k := slices.IndexFunc(all, func(o DataDifference) bool {
				return o.Input == d.Input && slices.EqualFunc(o.Values, d.Values, sameSource)
			})
			if k < 0 {
				all = append(all, d)
			} else {
				all[k].Stages = append(all[k].Stages, name)
			}
		}
	}
	return all, nil
}

// checkInputs are the inputs of a stage in any of the runs.
func inputsOf(sides []side, stage string) []string {
	var names []string
	for _, side := range sides {
		for _, st := range side.run.Plan.Stages {
			for _, in := range st.Inputs {
				if st.Name == stage && !slices.Contains(names, in.Name) {
					names = append(names, in.Name)
				}
			}
		}
	}
	return names
}

// source is what a run's stage reads as an input; nil if it does not.
func (s *Service) source(ctx context.Context, side side, stage, input string) (*InputSource, error) {
	for _, st := range side.run.Plan.Stages {
		for _, in := range st.Inputs {
			if st.Name != stage || in.Name != input {
				continue
			}
			if in.Stage != "" {
				return &InputSource{Stage: in.Stage}, nil
			}
			name, err := s.nameOf(ctx, in)
			return &InputSource{Name: name, Digest: in.Dataset + in.Model}, err
		}
	}
	return nil, nil
}

// nameOf is the name under which people know an input from outside, or nothing.
func (s *Service) nameOf(ctx context.Context, in trimtab.Input) (string, error) {
	var name string
	var err error
	if in.Dataset != "" {
		var v storage.DatasetVersion
		v, err = s.store.ResolveDataset(ctx, string(in.Dataset))
		name = v.Dataset
	} else {
		var a storage.Artifact
		a, err = s.store.ResolveArtifact(ctx, string(in.Model))
		name = a.Name
	}
	if err != nil && trimtab.AsError(err).Class == trimtab.NotFound {
		err = nil
	}
	return name, err
}

// differenceError reports whether the runs that read the input read other bytes. What only stages make is compared with
// them.
func (d DataDifference) differs() bool {
	var first *InputSource
	for _, v := range d.Values {
		switch {
		case v == nil:
		case first == nil:
			first = v
		case !sameSource(first, v) && first.Digest+v.Digest != "":
			return true
		}
	}
	return false
}

func sameSource(a, b *InputSource) bool {
	return a == b || a != nil && b != nil && a.Digest == b.Digest && a.Stage == b.Stage
}

// compareStage compares the newest attempts of a stage.
func (s *Service) compareStage(ctx context.Context, name string, sides []side) (ComparedStage, error) {
	st := ComparedStage{Name: name, Attempts: make([]*ComparedAttempt, len(sides)), Outputs: []ComparedOutput{},
		Metrics: []ComparedMetric{}}
	rows := make([]*storage.Attempt, len(sides)) // those that have begun
	for i, side := range sides {
		j := stageIndex(side.run.Plan, name)
		if j < 0 {
			continue
		}
		st.Attempts[i] = &ComparedAttempt{Kind: side.run.Plan.Stages[j].Kind, Status: trimtab.AttemptQueued}
		if a := newestAttemptOf(side.attempts, name); a != nil {
			made, err := s.producer(ctx, *a)
			if err != nil {
				return st, err
			}
			rows[i] = &made
			st.Attempts[i] = &ComparedAttempt{Kind: a.Kind, Attempt: a.Number, Status: a.Status,
				Reused: a.ReusedFrom != 0,
				Build:  made.BuildID, Steps: made.Step, Seconds: made.Seconds}
		}
	}
	st.Outputs, st.Metrics = comparedOutputs(rows), comparedMetrics(rows)
	var err error
	if st.Series, err = s.compareSeries(ctx, rows); err != nil {
		return st, err
	}
	st.setVerdict()
	return st, nil
}

// producer is the attempt that made what an attempt shows: itself, or the one that it reuses.
func (s *Service) producer(ctx context.Context, a storage.Attempt) (storage.Attempt, error) {
	if a.ReusedFrom == 0 {
		return a, nil
	}
	return s.store.Attempt(ctx, a.ReusedFrom)
}

func comparedOutputs(rows []*storage.Attempt) []ComparedOutput {
	all := []ComparedOutput{}
	for i, row := range rows {
		if row == nil {
			continue
		}
		for _, n := range row.Outputs {
			k := slices.IndexFunc(all, func(o ComparedOutput) bool { return o.Name == n.Name })
			if k < 0 {
				k, all = len(all), append(all, ComparedOutput{Name: n.Name,
					Digests: make([]*trimtab.Digest, len(rows))})
			}
			all[k].Digests[i] = &n.Digest
		}
	}
	for k := range all {
		all[k].Equal = alike(all[k].Digests, func(a, b trimtab.Digest) bool { return a == b })
	}
	return all
}

func comparedMetrics(rows []*storage.Attempt) []ComparedMetric {
	all := []ComparedMetric{}
	for i, row := range rows {
		if row == nil {
			continue
		}
		for _, m := range row.Metrics {
			k := slices.IndexFunc(all, func(o ComparedMetric) bool { return o.Name == m.Name })
			if k < 0 {
				k, all = len(all), append(all, ComparedMetric{Name: m.Name, Values: make([]*Number, len(rows))})
			}
			v := Number(m.Value)
			all[k].Values[i] = &v
		}
	}
	for k, m := range all {
		all[k].Equal = alike(m.Values,
			func(a, b Number) bool { return math.Float64bits(float64(a)) == math.Float64bits(float64(b)) })
		all[k].Differences = differencesFromFirst(m.Values)
	}
	return all
}

// alike reports whether the values that are there are the same.
func alike[T any](values []*T, same func(a, b T) bool) bool {
	var first *T
	for _, v := range values {
		if first == nil {
			first = v
		} else if v != nil && !same(*first, *v) {
			return false
		}
	}
	return true
}

// differencesFromFirst is each value less the first one that is there, which has no difference itself.
func differencesFromFirst(values []*Number) []*Number {
	out := make([]*Number, len(values))
	var first *Number
	for i, v := range values {
		switch {
		case v == nil:
		case first == nil:
			first = v
		default:
			d := *v - *first
			out[i] = &d
		}
	}
	return out
}

// compareSeries compares the steps that all of these attempts have taken; nil if there are not two of them.
func (s *Service) compareSeries(ctx context.Context, rows []*storage.Attempt) (*ComparedSeries, error) {
	var series [][]storage.SeriesSegment
	var of []int // of rows
	common := math.MaxInt
	for i, row := range rows {
		if row == nil || row.Step == 0 {
			continue
		}
		pieces, err := s.metricSegments(ctx, *row)
		if err != nil {
			return nil, err
		}
		series, of, common = append(series, pieces), append(of, i), min(common, row.Step)
	}
	if len(series) < 2 {
		return nil, nil
	}
	for i := range series {
		series[i] = firstSteps(series[i], common)
	}
	c := &ComparedSeries{Steps: common, Equal: true}
	if !slices.ContainsFunc(series, func(p []storage.SeriesSegment) bool { return !slices.Equal(p, series[0]) }) {
		return c, nil // one attempt's, for all
	}
	d, err := s.store.FirstDivergence(ctx, series...)
	if err != nil || d == nil {
		return c, err
	}
	c.Equal = false
	c.First = &struct {
		Step   int       `json:"step"`
		Metric string    `json:"metric"`
		Values []*Number `json:"values"`
	}{d.Step, d.Name, make([]*Number, len(rows))}
	for k, v := range d.Values {
		c.First.Values[of[k]] = (*Number)(v)
	}
	return c, nil
}

// metricSegments are where the metrics of all steps up to an attempt's last are kept:
// one that went on from a checkpoint has the earlier ones of whoever made that.
func (s *Service) metricSegments(ctx context.Context, a storage.Attempt) ([]storage.SeriesSegment, error) {
	var pieces []storage.SeriesSegment
	for until := a.Step; ; {
		p := storage.SeriesSegment{Attempt: a.ID, Until: until}
		if a.FromCheckpoint != "" {
			c, err := s.store.FindCheckpoint(ctx, a.Run, a.Stage, string(a.FromCheckpoint))
			if err != nil {
				return nil, err
			}
			p.From = min(c.Step, until)
			if a, err = s.store.Attempt(ctx, c.Attempt); err != nil {
				return nil, err
			}
		}
		pieces = append(pieces, p)
		if p.From == 0 || p.From == until {
			slices.Reverse(pieces)
			return pieces, nil
		}
		until = p.From
	}
}

// firstSteps is a series up to a step.
func firstSteps(pieces []storage.SeriesSegment, until int) []storage.SeriesSegment {
	var kept []storage.SeriesSegment
	for _, p := range pieces {
		if p.From < until {
			p.Until = min(p.Until, until)
			kept = append(kept, p)
		}
	}
	return kept
}

// setVerdict says in how far the attempts of a stage are the same.
func (st *ComparedStage) setVerdict() {
	st.Equal, st.Differs, st.Verdict = true, false, "equal to the bit"
	differs := func(format string, args ...any) {
		st.Equal, st.Differs, st.Verdict = false, true, fmt.Sprintf(format, args...)
	}
	open := func(format string, args ...any) { st.Equal, st.Verdict = false, fmt.Sprintf(format, args...) }
	have := slices.DeleteFunc(slices.Clone(st.Attempts), func(a *ComparedAttempt) bool { return a == nil })
	all := func(is func(a *ComparedAttempt) bool) bool {
		return !slices.ContainsFunc(have, func(a *ComparedAttempt) bool { return !is(a) })
	}
	switch {
	case len(have) < 2:
		differs("only one run has it")
	case !all(func(a *ComparedAttempt) bool { return a.Kind == have[0].Kind }):
		differs("not of one kind")
	case st.Series != nil && st.Series.First != nil:
		differs("differ from step %d on, first in %s", st.Series.First.Step, st.Series.First.Metric)
	case slices.ContainsFunc(st.Metrics, func(m ComparedMetric) bool { return !m.Equal }):
		differs("final metrics differ")
	case slices.ContainsFunc(st.Outputs, func(o ComparedOutput) bool { return !o.Equal }):
		differs("outputs differ")
	case len(have) < len(st.Attempts):
		differs("equal to the bit in the runs that have it")
	case all(func(a *ComparedAttempt) bool { return a.Status == trimtab.AttemptSkipped }):
		st.Verdict = "skipped in all runs"
	case !all(func(a *ComparedAttempt) bool { return finished(a.Status) }) && st.Series == nil:
		open("nothing to compare yet")
	case !all(func(a *ComparedAttempt) bool { return finished(a.Status) }):
		open("equal to the bit in the first %d steps", st.Series.Steps)
	case !all(func(a *ComparedAttempt) bool { return a.Steps == have[0].Steps }):
		differs("the same, but for how many steps were taken")
	}
}

// finished reports whether an attempt's outputs are there.
func finished(s trimtab.AttemptStatus) bool {
	return s == trimtab.AttemptCompleted || s == trimtab.AttemptReused || s == trimtab.AttemptStale ||
		s == trimtab.AttemptSkipped
}

// setVerdict is the comparison in one sentence.
func (c *Comparison) setVerdict() {
	i := slices.IndexFunc(c.Stages, func(st ComparedStage) bool { return st.Differs })
	unfinished := slices.ContainsFunc(c.Stages, func(st ComparedStage) bool { return !st.Equal })
	switch {
	case i >= 0:
		c.Verdict = fmt.Sprintf("not the same: stage %s: %s", c.Stages[i].Name, c.Stages[i].Verdict)
	case unfinished:
		c.Verdict = "equal to the bit as far as all runs came"
	default:
		c.Equal, c.Verdict = true, "equal to the bit in all stages"
	}
}
