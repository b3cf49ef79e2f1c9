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
	"github.com/trimtab/trimtab/recipes"
	"github.com/trimtab/trimtab/runs"
)

func (a *app) compareCmd() *cobra.Command {
	var samples int
	cmd := &cobra.Command{
		Use: "compare RUN RUN…", Short: "runs side by side: specs, data, metrics, scores, answers",
		Args: argCount(2, noLimit),
		Long: `Put two or more runs side by side: where their specs and the versions of their data
differ, how far each stage is equal to the bit, the final metrics that differ with
the difference from the first run, the scores of their models, and answers to the
same prompts. Runs of one spec and seed are equal to the bit in all stages.`,
		Example: "  trimtab compare my-assistant 0199f3c2\n  trimtab compare seed-1 seed-2 seed-3 --samples 0\n  " +
			"trimtab compare before after -o json",
		RunE: func(cmd *cobra.Command, args []string) error {
			if samples < 0 {
				return usagef("give 0 or more", "--samples is %d", samples)
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

// printComparison writes the document, or tables: a part after another, those that have nothing to say left out.
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

// maxLabelWidth is how wide the label of a run may be.
const maxLabelWidth = 20

// runLabels are the names of runs, or the beginnings of their ids if names do not tell them apart.
func runLabels(list []runs.ComparedRun) []string {
	var names, ids []string
	for _, r := range list {
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

// comparisonGrid is a grid of rows that begin with columns of these names and go on with a value for each run.
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

// comparisonRow is a row: its name, then something of each run.
func comparisonRow[T any](list []T, of func(T) string, names ...string) []string {
	row := slices.Clone(names)
	for _, one := range list {
		row = append(row, of(one))
	}
	return row
}

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

func formatBuilds(builds []string) string {
	var parts []string
	for _, b := range builds {
		parts = append(parts, shortBuild(b))
	}
	return strings.Join(parts, ", ")
}

// specRows are the settings that differ, then the data, whose names in the spec are left out then.
func specRows(c runs.Comparison) [][]string {
	var rows [][]string
	for _, d := range c.Spec {
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

func formatSource(s *runs.InputSource) string {
	switch {
	case s == nil:
		return ""
	case s.Stage != "":
		return "what " + s.Stage + " makes"
	}
	return strings.TrimSpace(s.Name + " " + s.Digest.Short())
}

// stageGrid says how far each stage came in each run, and how far that is equal.
func stageGrid(labels []string, stages []runs.ComparedStage) grid {
	var rows [][]string
	for _, st := range stages {
		rows = append(rows, append(comparisonRow(st.Attempts, formatAttempt, st.Name), st.Verdict))
	}
	g := comparisonGrid(labels, rows, "stage")
	g.head, g.right = append(g.head, "compared"), append(g.right, false)
	return g
}

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

// metricRows are, for each stage, the first values of its series that differ,
// and the final metrics that do. Those of evaluate are among the scores.
func metricRows(stages []runs.ComparedStage) [][]string {
	var rows [][]string
	for _, st := range stages {
		if slices.ContainsFunc(st.Attempts, func(at *runs.ComparedAttempt) bool {
			return at != nil &&
				at.Kind == recipes.KindEvaluate
		}) {
			continue
		}
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

func exactNumber(n *runs.Number) string {
	if n == nil {
		return ""
	}
	return formatExact(float64(*n))
}

// formatDifferences are numbers, with their intervals or else their differences behind them.
func formatDifferences(values, differences, low, high []*runs.Number) []string {
	var cells []string
	for i, v := range values {
		switch {
		case v == nil:
			cells = append(cells, "")
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

func scoreRows(scores []runs.ComparedScore) [][]string {
	var rows [][]string
	for _, s := range scores {
		rows = append(rows, append([]string{s.Model, measureLabel(s.Measure)},
			formatDifferences(s.Values, s.Differences, s.Low, s.High)...))
	}
	return rows
}

// measureLabel is a measure of an evaluation as the tables call it.
func measureLabel(measure string) string {
	if measure == "reward" { // a mean of what the reward model said, not the standardised score of ppo
		return "raw score"
	}
	return strings.ReplaceAll(measure, "_", " ")
}

// printAnswers shows what the models of each run answer to the same prompts.
func (a *app) printAnswers(labels []string, c runs.Comparison) {
	for _, s := range c.Samples {
		fmt.Fprintln(a.out)
		a.printText("  "+escapeLine(s.Prompt), "  ")
		for _, line := range answerLines(labels, s) {
			a.printText("    "+line, strings.Repeat(" ", 12))
		}
	}
}

// answerLines has each model's answer of each run, and one line where they are the same in all.
func answerLines(labels []string, s runs.ComparedSample) []string {
	models, wide := map[string]bool{}, len("all")
	for i, answers := range s.Answers {
		for name := range answers {
			models[name] = true
		}
		wide = max(wide, text.StringWidth(labels[i]))
	}
	var lines []string
	add := func(model, label, answer string) {
		if answer = escapeLine(strings.TrimSpace(answer)); answer == "" {
			answer = "(nothing)"
		}
		lines = append(lines, fmt.Sprintf("%-6s %s  %s", escapeLine(model), text.Pad(label, wide, ' '), answer))
	}
	for _, model := range slices.SortedFunc(maps.Keys(models), compareModels) {
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
	part, stage, name string
	values            []string
}

// comparedCSV is the comparison as one table with a column for each run.
func comparedCSV(c runs.Comparison) list[comparedRow] {
	l := list[comparedRow]{columns: []column[comparedRow]{
		{name: "part", full: func(r comparedRow) string { return r.part }},
		{name: "stage", full: func(r comparedRow) string { return r.stage }},
		{name: "name", full: func(r comparedRow) string { return r.name }},
	}}
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
