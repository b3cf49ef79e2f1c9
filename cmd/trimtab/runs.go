package main

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/trimtab/trimtab"
	"github.com/trimtab/trimtab/runs"
)

func (a *app) runsCmd() *cobra.Command {
	var limit int
	cmd := &cobra.Command{
		Use: "runs", Short: "list runs, newest first", Args: argCount(0, 0),
		Example: "  trimtab runs\n  trimtab runs -o json --limit 5",
		RunE: func(cmd *cobra.Command, _ []string) error {
			if limit < 1 {
				return usagef("give at least 1", "--limit is %d", limit)
			}
			return a.withStore(cmd, func(ctx context.Context, s *session) error {
				items, err := s.runs.List(ctx, limit)
				if err != nil {
					return err
				}
				return printList(a, list[runs.RunSummary]{
					schema: "trimtab.runs/v1", key: "runs", items: items, columns: runColumns,
					empty: "no runs yet: trimtab align starts one",
				})
			})
		},
	}
	cmd.Flags().IntVar(&limit, "limit", 50, "how many at the most")
	return cmd
}

var runColumns = []column[runs.RunSummary]{
	{name: "id", full: func(r runs.RunSummary) string { return r.ID },
		short: func(r runs.RunSummary) string { return shortID(r.ID) }},
	{name: "name", full: func(r runs.RunSummary) string { return r.Name }},
	{name: "status", full: func(r runs.RunSummary) string { return string(r.Status) }},
	{name: "stage", full: func(r runs.RunSummary) string { return r.Stage }},
	{name: "seed", full: func(r runs.RunSummary) string { return strconv.FormatUint(r.Seed, 10) }, right: true},
	{name: "created_at", full: func(r runs.RunSummary) string { return r.CreatedAt.UTC().Format(time.RFC3339) },
		short: func(r runs.RunSummary) string { return formatAgo(r.CreatedAt) }},
	{name: "seconds", full: func(r runs.RunSummary) string { return formatExact(r.Seconds) },
		short: func(r runs.RunSummary) string { return formatSeconds(r.Seconds) }, right: true},
	{name: "next", full: func(r runs.RunSummary) string { return r.Next }},
}

// shortID is as much of a run's id as people need to type.
func shortID(id string) string { return id[:min(10, len(id))] }

func (a *app) showCmd() *cobra.Command {
	return &cobra.Command{
		Use: "show RUN", Short: "one run: its stages, attempts, models, and what happens next", Args: argCount(1, 1),
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

// printRun writes the run document, or what people read of it.
func (a *app) printRun(doc runs.View) error {
	if a.wantsJSON() {
		return a.printDocument(doc)
	}
	stages := list[runs.StageView]{items: doc.Stages, columns: stageColumns, empty: "no stages"}
	if a.format == formatCSV {
		return printCSV(a.out, stages)
	}
	if doc.Status == trimtab.RunPaused {
		for i := range doc.Stages {
			doc.Stages[i].Progress = nil // it stands: there is no time left to tell
		}
	}
	a.printHead(doc)
	if err := printList(a, stages); err != nil {
		return err
	}
	a.printFits(doc)
	return a.printOutcome(doc)
}

// printFits says what of the stages' data is cut or left out.
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

// fitLines says what of a stage's data is cut or left out, a line each.
func fitLines(st runs.StageView) []string {
	var lines []string
	for _, f := range st.Data {
		if !f.Whole() && f.Items != "text" { // documents that go over several rows lose nothing
			lines = append(lines, fmt.Sprintf("data of %s: %s", st.Name, f))
		}
	}
	return lines
}

func (a *app) printHead(doc runs.View) {
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

// warningsOf are those of all stages.
func warningsOf(doc runs.View) (all []string) {
	for _, st := range doc.Stages {
		if st.Status != trimtab.AttemptStale {
			all = append(all, st.Warnings...)
		}
	}
	return all
}

// formatOverrides writes what was changed as it was typed, with the version that a dataset's name meant.
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

func stepOf(s runs.StageView) string {
	if s.Steps == 0 || s.ReusedFrom != nil {
		return ""
	}
	return fmt.Sprintf("%d/%d", s.Step, s.Steps)
}

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

// stageNow is how a running stage goes on, or what came of it.
func stageNow(s runs.StageView) string {
	if s.Progress != nil && s.Status == trimtab.AttemptRunning {
		return strings.TrimSpace(formatMetrics(metricsByName(s.Progress.Metrics), 3) + "  " + timeLeft(s))
	}
	return stageNote(s)
}

// stageNote is the last column for people: the error, the reuse, or the metrics that matter.
func stageNote(s runs.StageView) string {
	switch {
	case s.Error != nil:
		return s.Error.Error()
	case s.ReusedFrom != nil:
		return "unchanged: the output of " + s.ReusedFrom.Within("")
	}
	return formatMetrics(s.Metrics, 4)
}

// headlineMetrics are the metrics of short lines with the names that people read
// there, the one that matters most first: that is what a narrow terminal shows
// of a line that goes on. docs/metrics.md has what each is.
var headlineMetrics = [][2]string{
	{"held_out/accuracy", "held-out accuracy"}, {"held_out/longer_wins", "longer wins"}, {"eval_loss", "held-out loss"},
	{"loss", "loss"}, {"accuracy", "training accuracy"},
	{"agreement", "labellers agree"}, {"rankings", "rankings"},
	{"objective/scores", "standardised score"}, {"objective/kl", "KL"}, {"missing_eos_rate", "without end"},
	{"base/gold", "gold: base"}, {"sft/gold", "SFT"}, {"ppo/gold", "PPO"},
}

// formatMetrics prints metrics as name value pairs: all of them by name, or the
// first most of the headline ones.
func formatMetrics(m map[string]float64, most int) string {
	var parts []string
	if most == 0 {
		for _, name := range sortedKeys(m) {
			parts = append(parts, name+" "+formatExact(m[name]))
		}
		return strings.Join(parts, "  ")
	}
	for _, h := range headlineMetrics {
		if v, ok := m[h[0]]; ok && len(parts) < most {
			parts = append(parts, fmt.Sprintf("%s %.4g", h[1], v))
		}
	}
	return strings.Join(parts, "  ")
}

func (a *app) watchCmd() *cobra.Command {
	return &cobra.Command{
		Use: "watch RUN", Short: "follow a run to its end and exit with its status", Args: argCount(1, 1),
		Example: "  trimtab watch my-assistant",
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.withStore(cmd, func(ctx context.Context, s *session) error {
				return a.follow(ctx, s, args[0])
			})
		},
	}
}

func positive(n int) string {
	if n <= 0 {
		return ""
	}
	return strconv.Itoa(n)
}

func (a *app) logsCmd() *cobra.Command {
	var followLogs bool
	cmd := &cobra.Command{
		Use: "logs RUN", Short: "what the stages of a run logged", Args: argCount(1, 1),
		Example: "  trimtab logs my-assistant\n  trimtab logs my-assistant --follow",
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.withStore(cmd, func(ctx context.Context, s *session) error {
				return a.printLogs(ctx, s, args[0], followLogs)
			})
		},
	}
	cmd.Flags().BoolVarP(&followLogs, "follow", "f", false, "wait for more until the run ends")
	return cmd
}

// logLine is a stored log line as this program shows it.
type logLine struct {
	At      time.Time `json:"at"`
	Level   string    `json:"level"`
	Stage   string    `json:"stage,omitempty"`
	Attempt int       `json:"attempt,omitempty"`
	Message string    `json:"message"`
}

var logColumns = []column[logLine]{
	{name: "at", full: func(l logLine) string { return l.At.Format(time.RFC3339Nano) },
		short: func(l logLine) string { return l.At.Local().Format("15:04:05") }},
	{name: "level", full: func(l logLine) string { return l.Level }},
	{name: "stage", full: func(l logLine) string { return l.Stage }},
	{name: "attempt", full: func(l logLine) string { return positive(l.Attempt) }, right: true},
	{name: "message", full: func(l logLine) string { return l.Message }},
}

func (a *app) printLogs(ctx context.Context, s *session, ref string, follow bool) error {
	var all []logLine
	for after := int64(0); ; {
		lines, next, err := s.runs.Logs(ctx, ref, after, 1000)
		if err != nil {
			return err
		}
		after = next
		for _, l := range lines {
			line := logLine{l.At.UTC(), l.Level, l.Stage, l.Attempt, l.Message}
			if !follow {
				all = append(all, line)
			} else if err := a.printLogLine(line); err != nil {
				return err
			}
		}
		if len(lines) > 0 {
			continue
		}
		if !follow {
			return printList(a, list[logLine]{schema: "trimtab.logs/v1", key: "lines", items: all, columns: logColumns,
				empty: "nothing was logged"})
		}
		doc, err := s.runs.Show(ctx, ref)
		if err != nil || !doc.Status.Open() {
			return err
		}
		s.keepAlive()
		if !sleep(ctx, time.Second) {
			return nil
		}
	}
}

// printLogLine writes one line of a log that is being followed.
func (a *app) printLogLine(l logLine) error {
	if a.format != formatTable {
		return a.printJSONLine(l)
	}
	stage := l.Stage
	if stage == "" {
		stage = "run"
	}
	_, err := fmt.Fprintf(a.out, "%s %-5s %-8s %s\n", l.At.Local().Format("15:04:05"), escapeLine(l.Level),
		escapeLine(stage), escapeLine(l.Message))
	return err
}

// sleep waits, and reports false when ctx ended first.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}

func (a *app) metricsCmd() *cobra.Command {
	var attempt int
	cmd := &cobra.Command{
		Use: "metrics RUN STAGE [NAME…]", Short: "the series of a stage's metrics", Args: argCount(2, noLimit),
		Example: "  trimtab metrics my-assistant ppo objective/kl\n  trimtab metrics my-assistant sft -o csv > sft.csv",
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.withStore(cmd, func(ctx context.Context, s *session) error {
				var names []string // nil is every metric
				names = append(names, args[2:]...)
				rows, at, err := s.runs.Metrics(ctx, args[0], args[1], attempt, names...)
				if err != nil {
					return err
				}
				items := make([]metricRow, len(rows))
				for i, r := range rows {
					items[i] = metricRow{r.Step, r.Name, r.Value}
				}
				return printList(a, list[metricRow]{
					schema: "trimtab.metrics/v1", key: "metrics", items: items, columns: metricColumns,
					empty: "no metrics yet",
					extra: map[string]any{"run": at.Run, "stage": at.Stage, "attempt": at.Number},
				})
			})
		},
	}
	cmd.Flags().IntVar(&attempt, "attempt", 0, "which attempt of the stage; 0 is the newest")
	return cmd
}

type metricRow struct {
	Step  int     `json:"step"`
	Name  string  `json:"name"`
	Value float64 `json:"value"`
}

var metricColumns = []column[metricRow]{
	{name: "step", full: func(m metricRow) string { return strconv.Itoa(m.Step) }, right: true},
	{name: "name", full: func(m metricRow) string { return m.Name }},
	{name: "value", full: func(m metricRow) string { return formatExact(m.Value) },
		short: func(m metricRow) string { return formatMetric(m.Value) }, right: true},
}
