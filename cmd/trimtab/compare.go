package main

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"

	"github.com/jedib0t/go-pretty/v6/text"
	"github.com/spf13/cobra"

	"github.com/trimtab/trimtab"
	"github.com/trimtab/trimtab/eval"
	"github.com/trimtab/trimtab/recipes"
	"github.com/trimtab/trimtab/runs"
)

// compareCmd is "trimtab compare". The first run is the baseline: differences
// are relative to it. Two runs of one spec and seed should be equal to the
// bit in all stages; where they are not, the first step that differs is
// named.
func (a *app) compareCmd() *cobra.Command {
	var samples int
	cmd := &cobra.Command{
		Use: "compare RUN RUN…", Short: "compare runs: specs, data, metrics, scores, answers",
		Args: argCount(2, noLimit),
		Long: `Put two or more runs side by side: where their specs and the versions of their data
differ, how far each stage is bit-identical, the final metrics that differ with
the difference from the first run, the scores of their models, and answers to the
same prompts. Runs of one spec and seed are bit-identical in all stages.`,
		Example: "  trimtab compare my-assistant 0199f3c2\n  trimtab compare seed-1 seed-2 seed-3 --samples 0\n  " +
			"trimtab compare before after -o json",
		RunE: func(cmd *cobra.Command, args []string) error {
			if samples < 0 {
				return usagef("use 0 or more", "--samples is %d", samples)
			}
			return a.withStore(cmd, func(ctx context.Context, s *session) error {
				c, err := s.runs.Compare(ctx, args, samples)
				if err != nil {
					return err
				}
				return a.printComparison(c)
			})
		},
	}
	cmd.Flags().IntVar(&samples, "samples", 3, "how many prompts to show with the answers of each run")
	return cmd
}

// printComparison writes the document, or for people a sequence of tables.
// Parts in which the runs do not differ are left out: what is printed is what
// to look at.
func (a *app) printComparison(c runs.Comparison) error {
	if a.wantsJSON() {
		return a.printDocument(c)
	}
	labels := runLabels(c.Runs)
	if a.format == formatCSV {
		return printCSV(a.out, comparedCSV(c))
	}
	if err := a.printTable(comparisonGrid(labels, runRows(c.Runs), "")); err != nil {
		return err
	}
	fmt.Fprintln(a.out)
	a.printText(escapeLine(c.Verdict), "  ")
	// From cause to effect: what was asked for, how far the stages agree,
	// which numbers differ, and what the models score.
	for _, part := range []grid{
		comparisonGrid(labels, specRows(c), "spec and data"),
		stageGrid(labels, c.Stages),
		comparisonGrid(labels, metricRows(c.Stages), "stage", "metrics that differ"),
		comparisonGrid(labels, scoreRows(c.Scores), "model", "score"),
	} {
		if len(part.rows) == 0 {
			continue
		}
		fmt.Fprintln(a.out)
		if err := a.printTable(part); err != nil {
			return err
		}
	}
	a.printAnswers(labels, c)
	return nil
}

// maxLabelWidth is the width of a run's column heading at most, in cells.
const maxLabelWidth = 20

// runLabels returns the headings of the runs' columns: their names, or the
// beginnings of their ids where the names are not all different. Names are
// typed by people, and are truncated to keep the table narrow.
func runLabels(list []runs.ComparedRun) []string {
	var names, ids []string
	for _, r := range list {
		// A name that becomes equal to another by truncation does not
		// distinguish them.
		if name := truncate(escapeLine(r.Name), maxLabelWidth); name != "" && !slices.Contains(names, name) {
			names = append(names, name)
		}
		ids = append(ids, shortID(r.ID))
	}
	if len(names) == len(ids) {
		return names
	}
	return ids
}

// comparisonGrid builds a grid whose first columns have the given names, and
// whose other columns are the runs'.
func comparisonGrid(labels []string, rows [][]string, names ...string) grid {
	g := grid{head: slices.Concat(names, labels), right: make([]bool, len(names)+len(labels))}
	for _, row := range rows {
		cells := make([]string, len(row))
		for i, cell := range row {
			cells[i] = escapeLine(cell)
		}
		g.rows = append(g.rows, cells)
	}
	return g
}

// comparisonRow is a row: its names, then of(x) for each run's x.
func comparisonRow[T any](list []T, of func(T) string, names ...string) []string {
	row := slices.Clone(names)
	for _, one := range list {
		row = append(row, of(one))
	}
	return row
}

// runRows are the rows about the runs themselves. "build" has every build
// whose workers took part, since a run may outlive several releases; "reruns"
// is the run that a rerun started from, and is left out if none is a rerun.
func runRows(list []runs.ComparedRun) [][]string {
	type run = runs.ComparedRun
	rows := [][]string{
		comparisonRow(list, func(r run) string { return shortID(r.ID) }, "run"),
		comparisonRow(list, func(r run) string { return string(r.Status) }, "status"),
		comparisonRow(list, func(r run) string { return fmt.Sprint(r.Seed) }, "seed"),
		comparisonRow(list, func(r run) string { return r.Numerics }, "numerics"),
		comparisonRow(list, func(r run) string { return r.SpecDigest.Short() }, "spec"),
		comparisonRow(list, func(r run) string { return formatBuilds(r.Builds) }, "build"),
		comparisonRow(list, func(r run) string { return formatSeconds(r.Seconds) }, "took"),
	}
	if slices.ContainsFunc(list, func(r run) bool { return r.Origin != nil }) {
		rows = append(rows, comparisonRow(list, func(r run) string {
			if r.Origin == nil {
				return ""
			}
			return shortID(*r.Origin)
		}, "reruns"))
	}
	return rows
}

// formatBuilds lists the builds whose workers took part in a run.
func formatBuilds(builds []string) string {
	var parts []string
	for _, b := range builds {
		parts = append(parts, shortBuild(b))
	}
	return strings.Join(parts, ", ")
}

// specRows are the settings that differ, and then the data that does. A data
// setting is left out where its dataset is listed, which says more: the
// version that the name meant, and which stages read it. Two specs can be
// equal and their data still differ, if a dataset was frozen again in
// between.
func specRows(c runs.Comparison) [][]string {
	var rows [][]string
	for _, d := range c.Spec {
		// The spec names datasets; the rows below have the versions that were
		// read.
		if len(c.Data) == 0 || !strings.HasPrefix(d.Path, "data.") {
			rows = append(rows, comparisonRow(d.Values, formatValue, d.Path))
		}
	}
	for _, d := range c.Data {
		rows = append(rows, comparisonRow(d.Values, formatSource,
			fmt.Sprintf("%s, read by %s", d.Input, strings.Join(d.Stages, ", "))))
	}
	return rows
}

// formatSource says where an input came from: a stage of the same run, or a
// dataset version.
func formatSource(s *runs.InputSource) string {
	switch {
	case s == nil:
		return ""
	case s.Stage != "":
		return "what " + s.Stage + " makes"
	}
	return strings.TrimSpace(s.Name + " " + s.Digest.Short())
}

// stageGrid shows how far each stage got in each run, and up to where the
// attempts are equal to the bit: the comparison is of recorded metrics, step
// by step, and of the digests of checkpoints and outputs.
func stageGrid(labels []string, stages []runs.ComparedStage) grid {
	var rows [][]string
	for _, st := range stages {
		rows = append(rows, append(comparisonRow(st.Attempts, formatAttempt, st.Name), st.Verdict))
	}
	g := comparisonGrid(labels, rows, "stage")
	g.head, g.right = append(g.head, "compared"), append(g.right, false)
	return g
}

// formatAttempt is an attempt's status, with its number from the second on,
// and its step while it runs.
func formatAttempt(at *runs.ComparedAttempt) string {
	if at == nil {
		return ""
	}
	said := string(at.Status)
	if at.Attempt > 1 {
		said += fmt.Sprintf(", attempt %d", at.Attempt)
	}
	if at.Status == trimtab.AttemptRunning {
		said += fmt.Sprintf(", step %d", at.Steps)
	}
	return said
}

// metricRows are the metrics that differ: of each stage the first recorded
// value that differs in any of its series, and then the final values. The
// metrics of evaluate are left out here, since they are among the scores.
func metricRows(stages []runs.ComparedStage) [][]string {
	var rows [][]string
	for _, st := range stages {
		// Metrics of evaluate are scores of models, which have a table of
		// their own.
		if slices.ContainsFunc(st.Attempts, func(at *runs.ComparedAttempt) bool {
			return at != nil &&
				at.Kind == recipes.KindEvaluate
		}) {
			continue
		}
		// The step at which two series part is where to look for the cause:
		// what follows differs because of it.
		if st.Series != nil && st.Series.First != nil {
			rows = append(rows, comparisonRow(st.Series.First.Values, exactNumber, st.Name,
				fmt.Sprintf("%s at step %d", st.Series.First.Metric, st.Series.First.Step)))
		}
		for _, m := range st.Metrics {
			if !m.Equal {
				rows = append(rows, append([]string{st.Name, m.Name},
					formatDifferences(m.Values, m.Differences, nil, nil)...))
			}
		}
	}
	return rows
}

// exactNumber formats a value so that any difference shows, with as many
// digits as identify a float64; nil, a run without the value, is empty.
func exactNumber(n *runs.Number) string {
	if n == nil {
		return ""
	}
	return formatExact(float64(*n))
}

// formatDifferences formats one value for each run, followed by its 95 %
// confidence interval where there is one, or else by its difference from the
// first run where that is not zero. Four significant digits are enough to
// look at; CSV has all of them.
func formatDifferences(values, differences, low, high []*runs.Number) []string {
	var cells []string
	for i, v := range values {
		switch {
		case v == nil:
			cells = append(cells, "")
		// A confidence interval says more about a difference than the
		// difference does.
		case len(low) > 0 && low[i] != nil && high[i] != nil:
			cells = append(cells, fmt.Sprintf("%.4g (%.3f … %.3f)", float64(*v), float64(*low[i]), float64(*high[i])))
		case differences[i] == nil || *differences[i] == 0 || math.IsNaN(float64(*differences[i])):
			cells = append(cells, fmt.Sprintf("%.4g", float64(*v)))
		default:
			cells = append(cells, fmt.Sprintf("%.4g (%+.2g)", float64(*v), float64(*differences[i])))
		}
	}
	return cells
}

// scoreRows are the models' scores on held-out prompts.
func scoreRows(scores []runs.ComparedScore) [][]string {
	var rows [][]string
	for _, s := range scores {
		rows = append(rows, append([]string{s.Model, measureLabel(s.Measure)},
			formatDifferences(s.Values, s.Differences, s.Low, s.High)...))
	}
	return rows
}

// measureLabel is the caption of an evaluation's measure.
func measureLabel(measure string) string {
	if measure == "reward" { // the reward model's mean output, not the standardised score of ppo
		return "raw score"
	}
	return strings.ReplaceAll(measure, "_", " ")
}

// printAnswers prints, for each prompt, what the models of each run answer.
func (a *app) printAnswers(labels []string, c runs.Comparison) {
	for _, s := range c.Samples {
		fmt.Fprintln(a.out)
		a.printText("  "+escapeLine(s.Prompt), "  ")
		for _, line := range answerLines(labels, s) {
			a.printText("    "+line, strings.Repeat(" ", 12))
		}
	}
}

// answerLines are the answers to one prompt, by model and then by run; an
// answer that is the same in all runs is one line labelled "all". Labels are
// padded by their width on the screen, which for East Asian text is not that
// of their characters.
func answerLines(labels []string, s runs.ComparedSample) []string {
	models, wide := map[string]bool{}, len("all")
	for i, answers := range s.Answers {
		for name := range answers {
			models[name] = true
		}
		wide = max(wide, text.StringWidth(labels[i]))
	}
	var lines []string
	// An empty answer is shown as such, not as a line that ends too early.
	add := func(model, label, answer string) {
		if answer = escapeLine(strings.TrimSpace(answer)); answer == "" {
			answer = "(nothing)"
		}
		lines = append(lines, fmt.Sprintf("%-6s %s  %s", escapeLine(model), text.Pad(label, wide, ' '), answer))
	}
	for _, model := range slices.SortedFunc(maps.Keys(models), eval.CompareModels) {
		// An answer that all runs give is printed once: what differs stands
		// out.
		same := !slices.ContainsFunc(s.Answers, func(answers map[string]string) bool {
			answer, ok := answers[model]
			return !ok || answer != s.Answers[0][model]
		})
		if same {
			add(model, "all", s.Answers[0][model])
			continue
		}
		for i, answers := range s.Answers {
			if answer, ok := answers[model]; ok {
				add(model, labels[i], answer)
			}
		}
	}
	return lines
}

// comparedRow is a line of the comparison as CSV.
type comparedRow struct {
	// part is the section that the line belongs to, such as spec or metric.
	part, stage, name string
	// values has one cell for each run.
	values []string
}

// comparedCSV is the comparison as one CSV table with a column for each run,
// headed by its id. Unlike the tables for people it holds everything,
// differing or not, and in exact form.
func comparedCSV(c runs.Comparison) list[comparedRow] {
	l := list[comparedRow]{columns: []column[comparedRow]{
		{name: "part", full: func(r comparedRow) string { return r.part }},
		{name: "stage", full: func(r comparedRow) string { return r.stage }},
		{name: "name", full: func(r comparedRow) string { return r.name }},
	}}
	// Run ids, not names, head the columns: ids are unique.
	for i, r := range c.Runs {
		l.columns = append(l.columns, column[comparedRow]{name: r.ID,
			full: func(row comparedRow) string { return row.values[i] }})
	}
	add := func(part, stage, name string, values []string) {
		l.items = append(l.items, comparedRow{part, stage, name, values})
	}
	add("run", "", "name", comparisonRow(c.Runs, func(r runs.ComparedRun) string { return r.Name }))
	add("run", "", "status", comparisonRow(c.Runs, func(r runs.ComparedRun) string { return string(r.Status) }))
	for _, d := range c.Spec {
		add("spec", "", d.Path, comparisonRow(d.Values, func(v json.RawMessage) string { return string(v) }))
	}
	for _, d := range c.Data {
		for _, stage := range d.Stages {
			add("data", stage, d.Input, comparisonRow(d.Values, func(s *runs.InputSource) string {
				if s == nil {
					return ""
				}
				return string(s.Digest)
			}))
		}
	}
	for _, st := range c.Stages {
		add("stage", st.Name, "status", comparisonRow(st.Attempts, formatAttempt))
		for _, o := range st.Outputs {
			add("output", st.Name, o.Name, comparisonRow(o.Digests, func(d *trimtab.Digest) string {
				if d == nil {
					return ""
				}
				return string(*d)
			}))
		}
		if st.Series != nil && st.Series.First != nil {
			add("first_difference", st.Name, fmt.Sprintf("%s at step %d", st.Series.First.Metric, st.Series.First.Step),
				comparisonRow(st.Series.First.Values, exactNumber))
		}
		for _, m := range st.Metrics {
			add("metric", st.Name, m.Name, comparisonRow(m.Values, exactNumber))
		}
	}
	for _, s := range c.Scores {
		add("score", "", s.Model+" "+s.Measure, comparisonRow(s.Values, exactNumber))
	}
	return l
}
