package runs

import (
	"context"
	"fmt"
	"math"
	"slices"

	"github.com/trimtab/trimtab"
	"github.com/trimtab/trimtab/recipes"
	"github.com/trimtab/trimtab/storage"
)

// side is one run of a comparison with what is read of it once.
type side struct {
	run storage.Run
	// Also has the evaluation.
	view View
	// Nil if this program cannot read the spec.
	spec     *recipes.Spec
	attempts []storage.Attempt
}

// Compare compares two or more runs: their specs, input data, stages and
// evaluations, with at most so many samples. It compares recorded digests and
// metrics and computes nothing again, so it is quick and needs no model files.
// Naming one run twice is Usage "same_run".
func (s *Service) Compare(ctx context.Context, refs []string, samples int) (Comparison, error) {
	c := Comparison{Schema: "trimtab.comparison/v1", Spec: []SpecDifference{}, Data: []DataDifference{},
		Scores: []ComparedScore{}, Samples: []ComparedSample{}}
	sides, err := s.sides(ctx, refs)
	if err != nil {
		return c, err
	}
	// With one spec unreadable its values would be missing, not different.
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
	// The builds of a run come from its compared stages, so runs follow stages.
	for i, side := range sides {
		c.Runs = append(c.Runs, comparedRun(side, c.Stages, i))
	}
	c.Scores, c.Samples = compareScores(sides), sharedSamples(sides, samples)
	c.setVerdict()
	return c, nil
}

// sides reads the runs of a comparison.
func (s *Service) sides(ctx context.Context, refs []string) ([]side, error) {
	var sides []side
	for _, ref := range refs {
		run, err := s.store.Run(ctx, ref)
		if err != nil {
			return nil, err
		}
		// Two references, such as a name and an ID, may mean one run.
		if slices.ContainsFunc(sides, func(o side) bool { return o.run.ID == run.ID }) {
			return nil, trimtab.NewError(trimtab.Usage, "same_run", "name different runs",
				"%s is run %s, which was named already", ref, run.ID)
		}
		side := side{run: run}
		if side.view, err = s.Show(ctx, run.ID); err != nil {
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

// specsOf returns the specs that this program can read. Specs are compared only
// if it can read all of them.
func specsOf(sides []side) []recipes.Spec {
	var specs []recipes.Spec
	for _, side := range sides {
		if side.spec != nil {
			specs = append(specs, *side.spec)
		}
	}
	return specs
}

// stageNames returns the names of the stages of all runs: those of the first
// run in order, then those that only later runs have.
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

// comparedRun describes run i of a comparison.
func comparedRun(side side, stages []ComparedStage, i int) ComparedRun {
	v := side.view
	r := ComparedRun{
		ID:         v.ID,
		Name:       v.Name,
		Status:     v.Status,
		Seed:       v.Seed,
		Numerics:   v.Numerics,
		SpecDigest: v.SpecDigest,
		Origin:     v.Origin,
		CreatedAt:  v.CreatedAt,
		Seconds:    v.Seconds,
		Builds:     []string{},
	}
	// A reused stage counts with the build that did the work. An attempt that no
	// worker has started has no build.
	for _, st := range stages {
		if a := st.Attempts[i]; a != nil && a.Build != "" && !slices.Contains(r.Builds, a.Build) {
			r.Builds = append(r.Builds, a.Build)
		}
	}
	return r
}

// dataDifferences returns the external inputs for which stages of one name read
// different data. Stages that differ in the same input in the same way share an
// entry.
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
			// One dataset that several stages read is reported once.
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

// inputsOf returns the names of a stage's inputs in any of the runs, each once.
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

// source returns where a stage's input comes from; nil if the run has no such
// stage or the stage no such input.
func (s *Service) source(ctx context.Context, side side, stage, input string) (*InputSource, error) {
	for _, st := range side.run.Plan.Stages {
		for _, in := range st.Inputs {
			if st.Name != stage || in.Name != input {
				continue
			}
			if in.Stage != "" { // the output does not exist when the run is planned
				return &InputSource{Stage: in.Stage}, nil
			}
			name, err := s.nameOf(ctx, in)
			// A planned input has at most one of the two digests.
			return &InputSource{Name: name, Digest: in.Dataset + in.Model}, err
		}
	}
	return nil, nil
}

// nameOf returns the name of a dataset or model that a plan reads from outside
// the run. It is empty for one that is no longer in the record: a report can do
// without the name, since it has the digest.
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

// differs reports whether the runs that read the input read different data.
// Inputs that come from stages in all runs do not count: those are compared as
// the outputs of their stages.
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

// sameSource reports whether two inputs come from the same place. Names do not
// count: a dataset version may have several, and they may move. Two nils, runs
// without the input, are the same.
func sameSource(a, b *InputSource) bool {
	return a == b || a != nil && b != nil && a.Digest == b.Digest && a.Stage == b.Stage
}

// compareStage compares the newest attempts of the stages of one name.
func (s *Service) compareStage(ctx context.Context, name string, sides []side) (ComparedStage, error) {
	st := ComparedStage{
		Name:     name,
		Attempts: make([]*ComparedAttempt, len(sides)),
		Outputs:  []ComparedOutput{},
		Metrics:  []ComparedMetric{},
	}
	producers := make([]*storage.Attempt, len(sides)) // nil for a stage that has not started
	for i, side := range sides {
		j := stageIndex(side.run.Plan, name)
		if j < 0 {
			continue
		}
		// The stage is in the plan, so it is shown even before its first attempt.
		st.Attempts[i] = &ComparedAttempt{Kind: side.run.Plan.Stages[j].Kind, Status: trimtab.AttemptQueued}
		if a := newestAttemptOf(side.attempts, name); a != nil {
			producer, err := s.producer(ctx, *a)
			if err != nil {
				return st, err
			}
			producers[i] = &producer
			st.Attempts[i] = &ComparedAttempt{
				Kind:    a.Kind,
				Attempt: a.Number,
				Status:  a.Status,
				Reused:  a.ReusedFrom != 0,
				Build:   producer.BuildID,
				Steps:   producer.Step,
				Seconds: producer.Seconds,
			}
		}
	}
	st.Outputs, st.Metrics = comparedOutputs(producers), comparedMetrics(producers)
	var err error
	if st.Series, err = s.compareSeries(ctx, producers); err != nil {
		return st, err
	}
	st.setVerdict()
	return st, nil
}

// producer returns the attempt that did the work of a: a itself, or the attempt
// whose outputs it reuses.
func (s *Service) producer(ctx context.Context, a storage.Attempt) (storage.Attempt, error) {
	if a.ReusedFrom == 0 {
		return a, nil
	}
	return s.store.Attempt(ctx, a.ReusedFrom)
}

// comparedOutputs compares the outputs of a stage's attempts by name; nil entries
// have none.
func comparedOutputs(rows []*storage.Attempt) []ComparedOutput {
	all := []ComparedOutput{}
	for i, row := range rows {
		if row == nil {
			continue
		}
		for _, n := range row.Outputs {
			k := slices.IndexFunc(all, func(o ComparedOutput) bool { return o.Name == n.Name })
			if k < 0 {
				k = len(all)
				all = append(all, ComparedOutput{Name: n.Name, Digests: make([]*trimtab.Digest, len(rows))})
			}
			all[k].Digests[i] = &n.Digest
		}
	}
	for k := range all {
		all[k].Equal = allSame(all[k].Digests, func(a, b trimtab.Digest) bool { return a == b })
	}
	return all
}

// comparedMetrics compares the final metrics of a stage's attempts by name; nil
// entries have none.
func comparedMetrics(rows []*storage.Attempt) []ComparedMetric {
	all := []ComparedMetric{}
	for i, row := range rows {
		if row == nil {
			continue
		}
		for _, m := range row.Metrics {
			k := slices.IndexFunc(all, func(o ComparedMetric) bool { return o.Name == m.Name })
			if k < 0 {
				k = len(all)
				all = append(all, ComparedMetric{Name: m.Name, Values: make([]*Number, len(rows))})
			}
			v := Number(m.Value)
			all[k].Values[i] = &v
		}
	}
	for k, m := range all {
		// The bits are compared because NaN is not equal to itself, and 0 is to -0.
		all[k].Equal = allSame(m.Values, func(a, b Number) bool {
			return math.Float64bits(float64(a)) == math.Float64bits(float64(b))
		})
		all[k].Differences = differencesFromFirst(m.Values)
	}
	return all
}

// allSame reports whether all values that are not nil are the same. Without any
// it is true.
func allSame[T any](values []*T, same func(a, b T) bool) bool {
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

// differencesFromFirst subtracts the first value that is not nil from each
// later one. The first has no difference, and nor has a nil.
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

// compareSeries compares the metrics of the steps that all of these attempts
// have done. It returns nil unless at least two of them have done a step. rows
// has an entry for each run, nil where the stage has not started.
func (s *Service) compareSeries(ctx context.Context, rows []*storage.Attempt) (*ComparedSeries, error) {
	var series [][]storage.SeriesSegment
	var rowOf []int // the index in rows of each series
	common := math.MaxInt
	for i, row := range rows {
		if row == nil || row.Step == 0 {
			continue
		}
		segments, err := s.metricSegments(ctx, *row)
		if err != nil {
			return nil, err
		}
		series = append(series, segments)
		rowOf = append(rowOf, i)
		common = min(common, row.Step)
	}
	if len(series) < 2 {
		return nil, nil
	}
	// A run that is further ahead is compared only as far as the slowest one.
	for i := range series {
		series[i] = firstSteps(series[i], common)
	}
	c := &ComparedSeries{Steps: common, Equal: true}
	if !slices.ContainsFunc(series, func(p []storage.SeriesSegment) bool { return !slices.Equal(p, series[0]) }) {
		return c, nil // all runs show the same attempt, so its rows need not be read
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
		c.First.Values[rowOf[k]] = (*Number)(v)
	}
	return c, nil
}

// metricSegments returns where the metrics of all steps of an attempt are
// stored, in the order of the steps. An attempt that resumed from another one's
// checkpoint has rows only from there on; the earlier steps are that other
// attempt's, which may itself have resumed.
func (s *Service) metricSegments(ctx context.Context, a storage.Attempt) ([]storage.SeriesSegment, error) {
	var segments []storage.SeriesSegment
	for until := a.Step; ; {
		segment := storage.SeriesSegment{Attempt: a.ID, Until: until}
		if a.FromCheckpoint != "" {
			// The checkpoint was written before step c.Step, so the rows of that step
			// and of later ones are this attempt's.
			c, err := s.store.FindCheckpoint(ctx, a.Run, a.Stage, string(a.FromCheckpoint))
			if err != nil {
				return nil, err
			}
			segment.From = min(c.Step, until)
			if a, err = s.store.Attempt(ctx, c.Attempt); err != nil {
				return nil, err
			}
		}
		segments = append(segments, segment)
		// From 0 on the series is complete. A checkpoint at the end adds no steps, and
		// the metrics before it are not looked for.
		if segment.From == 0 || segment.From == until {
			slices.Reverse(segments) // they were found last to first
			return segments, nil
		}
		until = segment.From
	}
}

// firstSteps returns a series cut off before step until.
func firstSteps(segments []storage.SeriesSegment, until int) []storage.SeriesSegment {
	var kept []storage.SeriesSegment
	for _, segment := range segments {
		if segment.From < until {
			segment.Until = min(segment.Until, until)
			kept = append(kept, segment)
		}
	}
	return kept
}

// setVerdict sets Equal, Differs and Verdict from the compared parts. The first
// case that holds decides, so the cases go from the clearest difference to
// the least; the steps of unfinished stages are compared only if nothing else
// differs.
func (st *ComparedStage) setVerdict() {
	st.Equal, st.Differs, st.Verdict = true, false, "bit-identical"
	differs := func(format string, args ...any) {
		st.Equal, st.Differs, st.Verdict = false, true, fmt.Sprintf(format, args...)
	}
	undecided := func(format string, args ...any) { st.Equal, st.Verdict = false, fmt.Sprintf(format, args...) }
	// have are the attempts of the runs that have the stage.
	have := slices.DeleteFunc(slices.Clone(st.Attempts), func(a *ComparedAttempt) bool { return a == nil })
	all := func(holds func(a *ComparedAttempt) bool) bool {
		return !slices.ContainsFunc(have, func(a *ComparedAttempt) bool { return !holds(a) })
	}
	switch {
	case len(have) < 2:
		differs("only one run has this stage")
	case !all(func(a *ComparedAttempt) bool { return a.Kind == have[0].Kind }):
		differs("the stages are of different kinds")
	case st.Series != nil && st.Series.First != nil:
		differs("differs from step %d on, first in %s", st.Series.First.Step, st.Series.First.Metric)
	case slices.ContainsFunc(st.Metrics, func(m ComparedMetric) bool { return !m.Equal }):
		differs("final metrics differ")
	case slices.ContainsFunc(st.Outputs, func(o ComparedOutput) bool { return !o.Equal }):
		differs("outputs differ")
	case len(have) < len(st.Attempts): // no difference among those that have it
		differs("bit-identical in the runs that have it")
	case all(func(a *ComparedAttempt) bool { return a.Status == trimtab.AttemptSkipped }):
		st.Verdict = "skipped in all runs"
	case !all(func(a *ComparedAttempt) bool { return finished(a.Status) }) && st.Series == nil:
		undecided("nothing to compare yet")
	case !all(func(a *ComparedAttempt) bool { return finished(a.Status) }):
		undecided("bit-identical in the first %d steps", st.Series.Steps)
	case !all(func(a *ComparedAttempt) bool { return a.Steps == have[0].Steps }):
		differs("identical except for the number of steps")
	}
}

// finished reports whether an attempt of this status has its outputs, or will
// never have any.
func finished(s trimtab.AttemptStatus) bool {
	return s == trimtab.AttemptCompleted || s == trimtab.AttemptReused || s == trimtab.AttemptStale ||
		s == trimtab.AttemptSkipped
}

// setVerdict sets Equal, and Verdict to the comparison in one sentence, which
// names the first stage that differs.
func (c *Comparison) setVerdict() {
	// A difference outweighs an unfinished stage, which can no longer change it.
	i := slices.IndexFunc(c.Stages, func(st ComparedStage) bool { return st.Differs })
	unfinished := slices.ContainsFunc(c.Stages, func(st ComparedStage) bool { return !st.Equal })
	switch {
	case i >= 0:
		c.Verdict = fmt.Sprintf("different: stage %s: %s", c.Stages[i].Name, c.Stages[i].Verdict)
	case unfinished:
		c.Verdict = "bit-identical as far as all runs have come"
	default:
		c.Equal, c.Verdict = true, "bit-identical in all stages"
	}
}
