package main

import (
	"fmt"
	"slices"
	"strings"

	"github.com/trimtab/trimtab"
	"github.com/trimtab/trimtab/eval"
	"github.com/trimtab/trimtab/recipes"
	"github.com/trimtab/trimtab/runs"
)

// printOutcome is the end of a run for people: the models side by side,
// answers to the same prompts, where everything is stored, and what to type
// next. Before the evaluation has been made it prints nothing.
func (a *app) printOutcome(doc runs.View) error {
	o := doc.Evaluation
	if len(o.Models) > 0 {
		fmt.Fprintln(a.out)
		if err := a.printModels(o); err != nil {
			return err
		}
		a.printCaveats(doc, o)
		a.printSamples(o)
	}
	if doc.Status == trimtab.RunCompleted {
		a.printNext(doc)
	}
	return nil
}

// printModels prints the models side by side: a row for each measure, a
// column for each model. A measure that no model has is left out. All are
// means over the same held-out prompts:
//
//   - gold score, from 0 to 1: the starter world's own judgement; the
//     indented rows are its parts
//   - raw score: the reward model's output, in units that differ between
//     reward models
//   - KL from SFT: summed over the tokens of a response, in nats
//   - length: tokens of a response
//   - came to an end: share of the responses that the model ended by
//     itself
func (a *app) printModels(o runs.EvaluationView) error {
	names := o.ModelNames()
	g := grid{head: append([]string{"on held-out prompts"}, names...), right: make([]bool, len(names)+1)}
	for i := range names {
		g.right[i+1] = true
	}
	for _, row := range []struct {
		name, format string
		of           func(eval.Scores) *float64
	}{
		{"gold score", "%.3f", func(s eval.Scores) *float64 { return s.Gold }},
		{"  followed the instruction", "%.3f", func(s eval.Scores) *float64 { return s.Followed }},
		{"  true", "%.3f", func(s eval.Scores) *float64 { return s.True }},
		{"  polite", "%.3f", func(s eval.Scores) *float64 { return s.Polite }},
		{"  concise", "%.3f", func(s eval.Scores) *float64 { return s.Concise }},
		{"raw score", "%.2f", func(s eval.Scores) *float64 { return s.Reward }},
		{"KL from SFT, nats", "%.2f", func(s eval.Scores) *float64 { return s.KL }},
		{"length, tokens", "%.1f", func(s eval.Scores) *float64 { return s.Length }},
		{"came to an end", "%.3f", func(s eval.Scores) *float64 { return s.Ended }},
	} {
		cells, some := []string{row.name}, false
		for _, name := range names {
			v := row.of(o.Models[name])
			cell := ""
			if v != nil {
				cell, some = fmt.Sprintf(row.format, *v), true
			}
			cells = append(cells, cell)
		}
		if some {
			g.rows = append(g.rows, cells)
		}
	}
	return a.printTable(g)
}

// printCaveats prints what the numbers rest on: who labelled, what a reward
// model has to beat, how rough the intervals are, and whether the test
// prompts occur in the training text. These lines are part of the result, not
// a help text: a table without them invites wrong conclusions.
func (a *app) printCaveats(doc runs.View, o runs.EvaluationView) {
	say := func(format string, args ...any) { a.printText(fmt.Sprintf(format, args...), "    ") }
	fmt.Fprintln(a.out)
	if w := o.Wins; w != nil {
		say("the gold judge prefers PPO's answer to SFT's on %.1f %% of the prompts (95 %%: %.1f … %.1f)", 100*w.Value,
			100*w.Low, 100*w.High)
	}
	// Accuracy alone says little: the lines put a baseline and a reference
	// next to it.
	for _, line := range rewardModelLines(o.RewardModel) {
		say("%s", line)
	}
	say("overlap: %d of %d held-out prompts occur in a training text", o.Overlap, o.Prompts)
	// Simulated labellers rank by a formula. Numbers based on them are about
	// this program, not about what people want.
	if hasSimulatedLabels(doc) {
		say("the rankings were made by simulated labellers, and the gold score is the starter world's own; no person " +
			"judged these texts")
	}
}

// roughGroups is the number of groups below which an interval is called
// rough: a bootstrap over so few groups is too narrow.
const roughGroups = 10

// formatInterval formats a 95 % interval that was resampled over groups;
// there is none over a single group. 0 groups means that pairs were
// resampled, as older reports did.
func formatInterval(low, high float64, groups int) string {
	switch {
	case groups == 1:
		return "no interval: there is only one group"
	case groups > 1 && groups < roughGroups:
		return fmt.Sprintf("95 %%, rough, by %d groups: %.3f … %.3f", groups, low, high)
	case groups > 1:
		return fmt.Sprintf("95 %%, by %d groups: %.3f … %.3f", groups, low, high)
	}
	return fmt.Sprintf("95 %%: %.3f … %.3f", low, high)
}

// rewardModelLines says how accurate the reward model is on held-out
// rankings, and what that can be compared with: the rule that the longer
// response wins, which a model has to beat; the labellers' mean preference,
// which a perfect model of the labellers would have, though one that predicts
// their noise could score higher; and the labellers' agreement with one
// another. There are no lines without a reward model.
func rewardModelLines(r *runs.RewardModelView) (lines []string) {
	if r == nil {
		return nil
	}
	interval := func(low, high *float64) string {
		return formatInterval(valueOrZero(low), valueOrZero(high), int(valueOrZero(r.Groups)))
	}
	say := func(format string, args ...any) { lines = append(lines, fmt.Sprintf(format, args...)) }
	say("reward model on held-out rankings: accuracy %.3f (%s; %d pairs)", r.Accuracy,
		interval(&r.Low, &r.High), r.Pairs)
	if r.OverLonger != nil {
		say("  baseline \"the longer response wins\": %.3f; the reward model is better by %+.3f (%s)", r.LongerWins,
			*r.OverLonger, interval(r.OverLongerLow, r.OverLongerHigh))
	} else {
		say("  baseline \"the longer response wins\": %.3f", r.LongerWins)
	}
	switch {
	case r.HeldOracle != nil:
		say("  the labellers' mean preference without noise: %.3f on the same pairs (%s); a reference, not an upper "+
			"bound", *r.HeldOracle, interval(r.HeldOracleLow, r.HeldOracleHigh))
	case valueOrZero(r.OracleAccuracy) != 0:
		say("  the labellers' mean preference without noise: %.3f on all pairs, training pairs included; a reference, "+
			"not an upper bound", *r.OracleAccuracy)
	}
	if valueOrZero(r.LabellersAgreement) != 0 {
		say("  agreement between labellers: %.3f", *r.LabellersAgreement)
	}
	if r.MatchedPairs > 0 {
		say("  on the %d pairs of about equal length: accuracy %.3f, baseline %.3f", r.MatchedPairs,
			r.MatchedAccuracy, r.MatchedLongerWins)
	}
	return lines
}

// valueOrZero returns a number of a report, 0 where it was not measured.
func valueOrZero(v *float64) float64 {
	if v == nil {
		return 0
	}
	return *v
}

// hasSimulatedLabels reports whether a stage of the run collected labels:
// only simulated labellers can provide those.
func hasSimulatedLabels(doc runs.View) bool {
	return slices.ContainsFunc(doc.Stages, func(st runs.StageView) bool { return st.Kind == recipes.KindCollect })
}

// printSamples prints what each model answers to the same prompts.
func (a *app) printSamples(o runs.EvaluationView) {
	names := o.ModelNames()
	for _, s := range o.Samples {
		fmt.Fprintln(a.out)
		a.printText("  "+escapeLine(s.Prompt), "  ")
		for _, name := range names {
			text := escapeLine(strings.TrimSpace(s.Answers[name]))
			if text == "" {
				text = "(nothing)"
			}
			head := fmt.Sprintf("    %-6s ", escapeLine(name))
			a.printText(head+text, strings.Repeat(" ", len(head)))
		}
	}
}

// printNext prints where everything is stored, and commands to try next.
func (a *app) printNext(doc runs.View) {
	id := shortID(doc.ID)
	fmt.Fprintf(a.out, "\nrun %s (%s) completed in %s\n", id, escapeLine(doc.Name), formatSeconds(doc.Seconds))
	for _, m := range doc.Models {
		fmt.Fprintf(a.out, "  %-8s %s\n", escapeLine(m.Name), m.Digest)
	}
	a.printText(fmt.Sprintf("models and checkpoints are in %s; every ranking, rollout, metric and decision is in "+
		"Postgres", escapeLine(a.storeFolder())), "  ")
	// A prompt of the evaluation makes the suggested command worth trying.
	// One with quotes in it would have to be quoted for the shell.
	prompt := "…"
	if shown := doc.Evaluation.Samples; len(shown) > 0 && !strings.Contains(shown[0].Prompt, `"`) {
		prompt = escapeLine(shown[0].Prompt)
	}
	last := lastModel(doc)
	fmt.Fprintln(a.out, "next:")
	if last != "" {
		fmt.Fprintf(a.out, "  trimtab generate %s/%s %q\n", id, escapeLine(last), prompt)
	}
	fmt.Fprintf(a.out, "  trimtab history %s\n", id)
	if last != "" {
		fmt.Fprintf(a.out, "  trimtab rerun %s %s %s --dry-run\n  trimtab model export %s/%s ./my-model\n", id,
			escapeLine(last), suggestedChange(doc, last), id, escapeLine(last))
	}
}

// suggestedChange are flags for a rerun that is worth trying: a weaker KL
// penalty for PPO, and otherwise the same again.
func suggestedChange(doc runs.View, stage string) string {
	for _, st := range doc.Stages {
		if st.Name == stage && st.Kind == recipes.KindPPO {
			return "--set " + escapeLine(stage) + ".kl_coef=0.05"
		}
	}
	return "--force"
}

// lastModel is the name of the last stage that made a language model, or
// empty: of a whole run that is ppo, the aligned model.
func lastModel(doc runs.View) string {
	last := ""
	for _, st := range doc.Stages {
		if st.Kind != recipes.KindReward && st.Outputs["model"] != "" {
			last = st.Name
		}
	}
	return last
}
