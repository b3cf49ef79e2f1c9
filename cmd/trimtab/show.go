package main

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/trimtab/trimtab"
	"github.com/trimtab/trimtab/runs"
)

// showCmd is "trimtab show": one run, as the document trimtab.run/v1 or as a
// page of text. Its JSON is what align and watch print at their end as well.
func (a *app) showCmd() *cobra.Command {
	return &cobra.Command{
		Use: "show RUN", Short: "show a run: its stages, attempts, models, and what happens next", Args: argCount(1, 1),
		Example: "  trimtab show my-assistant\n  trimtab show 0199f3c2 -o json",
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.withStore(cmd, func(ctx context.Context, s *session) error {
				doc, err := s.runs.Show(ctx, args[0])
				if err != nil {
					return err
				}
				return a.printRun(doc)
			})
		},
	}
}

// printRun prints a run: the document, as CSV its stages, or for people a
// head, the table of stages, what was truncated, and the evaluation.
func (a *app) printRun(doc runs.View) error {
	if a.wantsJSON() {
		return a.printDocument(doc)
	}
	stages := list[runs.StageView]{items: doc.Stages, columns: stageColumns, empty: "no stages"}
	if a.format == formatCSV {
		return printCSV(a.out, stages)
	}
	// The last progress of a paused stage is out of date: it would promise a
	// time left that does not pass.
	if doc.Status == trimtab.RunPaused {
		for i := range doc.Stages {
			doc.Stages[i].Progress = nil // a paused stage has no meaningful time left
		}
	}
	// The head has what a person looks for first: status, errors, what comes
	// next.
	a.printHead(doc)
	if err := printList(a, stages); err != nil {
		return err
	}
	a.printFits(doc)
	return a.printOutcome(doc)
}

// printFits prints which of the stages' data was truncated or left out.
func (a *app) printFits(doc runs.View) {
	first := true
	for _, st := range doc.Stages {
		for _, line := range fitLines(st) {
			if first {
				fmt.Fprintln(a.out)
			}
			first = false
			fmt.Fprintln(a.out, escapeLine(line))
		}
	}
}

// fitLines says which of a stage's data was truncated or left out, a line
// each. Documents of text are not mentioned: one that is longer than a row
// continues in the next and loses nothing.
func fitLines(st runs.StageView) []string {
	var lines []string
	for _, f := range st.Data {
		if !f.Whole() && f.Items != "text" {
			lines = append(lines, fmt.Sprintf("data of %s: %s", st.Name, f))
		}
	}
	return lines
}

// printHead prints a run's head, as labels and values.
func (a *app) printHead(doc runs.View) {
	// Every line is "label    text", wrapped under the text.
	say := func(label, format string, args ...any) {
		a.printText(fmt.Sprintf("%-9s%s", label, escapeLine(fmt.Sprintf(format, args...))), strings.Repeat(" ", 9))
	}
	say("run", "%s  %s", doc.ID, doc.Name)
	say("status", "%s after %s, started %s", doc.Status, formatSeconds(doc.Seconds), formatAgo(doc.CreatedAt))
	say("seed", "%d, numerics %s, spec %s", doc.Seed, doc.Numerics, doc.SpecDigest.Short())
	if doc.Origin != nil && *doc.Origin != "" {
		say("origin", "a rerun of %s", *doc.Origin)
	}
	if doc.Reason != "" {
		say("reason", "%s", doc.Reason)
	}
	for _, c := range doc.Changes {
		say("changed", "for %s by %s: %s", c.Stage, c.Actor, formatOverrides(c.Overrides))
	}
	// Errors of earlier attempts are no news once a run has completed.
	if doc.Status != trimtab.RunCompleted {
		for _, e := range runErrors(doc) {
			say("why", "%s", e.Message)
		}
	}
	for _, w := range warningsOf(doc) {
		say("warning", "%s", w)
	}
	if doc.Next != "" {
		say("next", "%s", doc.Next)
	}
	fmt.Fprintln(a.out)
}

// warningsOf are the warnings of all current attempts.
func warningsOf(doc runs.View) (all []string) {
	for _, st := range doc.Stages {
		// A stale attempt was replaced by a rerun: its warnings are about
		// data or settings that no longer count.
		if st.Status != trimtab.AttemptStale {
			all = append(all, st.Warnings...)
		}
	}
	return all
}

// formatOverrides formats the changes of a rerun as they were typed. A
// dataset was typed as a name, which may mean another version today, so it is
// followed by the digest that it meant then.
func formatOverrides(list []trimtab.Override) string {
	var parts []string
	for _, o := range list {
		switch {
		case o.Set != "":
			parts = append(parts, o.Set)
		default:
			parts = append(parts, fmt.Sprintf("%s=%s (%s)", o.Kind, o.Data, o.Digest.Short()))
		}
	}
	return strings.Join(parts, ", ")
}

// stageColumns are the columns of a run's stages. CSV has all metrics of a
// stage, people see the most important ones, and while it runs the time left.
var stageColumns = []column[runs.StageView]{
	{name: "stage", full: func(s runs.StageView) string { return s.Name }},
	{name: "kind", full: func(s runs.StageView) string { return s.Kind }, only: formatCSV},
	{name: "attempt", full: func(s runs.StageView) string { return strconv.Itoa(s.Attempt) }, right: true},
	{name: "status", full: func(s runs.StageView) string { return string(s.Status) }},
	{name: "step", full: func(s runs.StageView) string { return strconv.Itoa(s.Step) }, short: stepOf, right: true},
	{name: "steps", full: func(s runs.StageView) string { return strconv.Itoa(s.Steps) }, only: formatCSV},
	{name: "seconds", full: func(s runs.StageView) string { return formatExact(s.Seconds) },
		short: func(s runs.StageView) string { return formatSeconds(s.Seconds) }, right: true},
	{name: "output", full: func(s runs.StageView) string { return formatOutputs(s, false) },
		short: func(s runs.StageView) string { return formatOutputs(s, true) }},
	{name: "metrics", full: func(s runs.StageView) string { return formatMetrics(s.Metrics, 0) }, short: stageNow},
}

// stepOf is the step of a stage, as in 12/64. It is empty for a stage without
// steps, and for a reused one, which took none.
func stepOf(s runs.StageView) string {
	if s.Steps == 0 || s.ReusedFrom != nil {
		return ""
	}
	return fmt.Sprintf("%d/%d", s.Step, s.Steps)
}

// formatOutputs lists the outputs of a stage, by name and digest; twelve
// digits are enough to name a model in other commands.
func formatOutputs(s runs.StageView, short bool) string {
	var parts []string
	for _, name := range sortedKeys(s.Outputs) {
		d := string(s.Outputs[name])
		if short {
			d = s.Outputs[name].Short()
		}
		parts = append(parts, name+" "+d)
	}
	return strings.Join(parts, ", ")
}

// stageNow is the last column for people: of a running stage its metrics and
// the time left, and otherwise its outcome.
func stageNow(s runs.StageView) string {
	if s.Progress != nil && s.Status == trimtab.AttemptRunning {
		return strings.TrimSpace(formatMetrics(metricsByName(s.Progress.Metrics), 3) + "  " + timeLeft(s))
	}
	return stageNote(s)
}

// stageNote is the outcome of a stage: the error, the attempt that was
// reused, or the main metrics.
func stageNote(s runs.StageView) string {
	switch {
	case s.Error != nil:
		return s.Error.Error()
	// A reused attempt has no metrics of its own; the attempt that did the
	// work has.
	case s.ReusedFrom != nil:
		return "unchanged: the output of " + s.ReusedFrom.Within("")
	}
	return formatMetrics(s.Metrics, 4)
}
