package main

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/trimtab/trimtab"
)

// headlineMetrics are the metrics of one-line summaries, with the names that
// people see there, in order of importance: on a narrow terminal the end of
// the line is cut off, and formatMetrics takes only the first few that are
// there.
//
// One list serves all kinds of stages: each shows those of these metrics that
// it records. docs/metrics.md defines every metric.
var headlineMetrics = [][2]string{
	{"held_out/accuracy", "held-out accuracy"}, {"held_out/longer_wins", "longer wins"}, {"eval_loss", "held-out loss"},
	{"loss", "loss"}, {"accuracy", "training accuracy"},
	{"agreement", "labellers agree"}, {"rankings", "rankings"},
	{"objective/scores", "standardised score"}, {"objective/kl", "KL"}, {"missing_eos_rate", "without end"},
	{"base/gold", "gold: base"}, {"sft/gold", "SFT"}, {"ppo/gold", "PPO"},
}

// formatMetrics formats metrics as "name value" pairs: the first few headline
// metrics that are there, or with most = 0 all of them, by name and exact.
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

// metricsCmd is "trimtab metrics": the values of a stage's metrics at every
// step, as recorded. Names are as in docs/metrics.md; without any, all
// metrics are printed. CSV has exact values, so that plots and comparisons
// lose nothing.
func (a *app) metricsCmd() *cobra.Command {
	var attempt int
	cmd := &cobra.Command{
		Use: "metrics RUN STAGE [NAME…]", Short: "print a stage's metrics, step by step", Args: argCount(2, noLimit),
		Example: "  trimtab metrics my-assistant ppo objective/kl\n  trimtab metrics my-assistant sft -o csv > sft.csv",
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.withStore(cmd, func(ctx context.Context, s *session) error {
				// A nil slice means every metric.
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
	cmd.Flags().IntVar(&attempt, "attempt", 0, "number of the attempt; 0 means the newest")
	return cmd
}

// metricRow is the value of a metric at a step.
type metricRow struct {
	// Step counts the optimizer steps of a stage, or the iterations of ppo,
	// from 0.
	Step  int     `json:"step"`
	Name  string  `json:"name"`
	Value float64 `json:"value"`
}

// metricColumns are the columns of metrics: one value on each line ("long" or
// "tidy" form), since different metrics may exist at different steps.
var metricColumns = []column[metricRow]{
	{name: "step", full: func(m metricRow) string { return strconv.Itoa(m.Step) }, right: true},
	{name: "name", full: func(m metricRow) string { return m.Name }},
	{name: "value", full: func(m metricRow) string { return formatExact(m.Value) },
		short: func(m metricRow) string { return formatMetric(m.Value) }, right: true},
}

// metricsByName converts a list of metrics to a map.
func metricsByName(ms []trimtab.Metric) map[string]float64 {
	out := make(map[string]float64, len(ms))
	for _, m := range ms {
		out[m.Name] = m.Value
	}
	return out
}
