package main

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/trimtab/trimtab"
	"github.com/trimtab/trimtab/recipes"
	"github.com/trimtab/trimtab/runs"
)

// modelScores are a model's means on held-out prompts.
type modelScores struct {
	Gold, Followed, True, Polite, Concise, Reward, KL, Length, Ended *float64
}

// evaluationOutcome is a run's evaluation as people read it.
type evaluationOutcome struct {
	names   []string // base, sft, ppo, then the others
	models  map[string]modelScores
	reward  *rewardAccuracy
	winRate *struct{ Value, Low, High float64 }
	samples []struct {
		Prompt  string
		Answers map[string]string
	}
	prompts, overlap int
	judge            string
}

// rewardAccuracy is how a reward model does on held-out rankings, and what stands beside that.
type rewardAccuracy struct {
	Pairs              int
	Accuracy           float64
	Low, High          float64
	LongerWins         float64 `json:"longer_wins"`
	MatchedPairs       int     `json:"matched_pairs"`
	MatchedAccuracy    float64 `json:"matched_accuracy"`
	MatchedLongerWins  float64 `json:"matched_longer_wins"`
	LabellersAgreement float64 `json:"labellers_agreement"`
	OracleAccuracy     float64 `json:"oracle_accuracy"` // over all pairs, those for training too
	// What only newer programs measured.
	Groups         int
	OverLonger     *float64 `json:"over_longer"`
	OverLongerLow  float64  `json:"over_longer_low"`
	OverLongerHigh float64  `json:"over_longer_high"`
	HeldOracle     *float64 `json:"held_out_oracle_accuracy"`
	HeldOracleLow  float64  `json:"held_out_oracle_low"`
	HeldOracleHigh float64  `json:"held_out_oracle_high"`
}

// outcomeOf reads the evaluation of a document; it reports false when there is none yet.
func outcomeOf(doc runs.View) (evaluationOutcome, bool) {
	o := evaluationOutcome{models: map[string]modelScores{}}
	into := map[string]any{
		"reward_model": &o.reward, "ppo_over_sft": &o.winRate, "samples": &o.samples,
		"prompts": &o.prompts, "overlap": &o.overlap, "judge": &o.judge,
	}
	for name, value := range doc.Evaluation {
		raw, err := json.Marshal(value)
		if err != nil {
			continue
		}
		if target, known := into[name]; known {
			_ = json.Unmarshal(raw, target) // a report of another shape is shown as far as it goes
			continue
		}
		var s modelScores
		if json.Unmarshal(raw, &s) == nil && s.Length != nil {
			o.models[name] = s
			o.names = append(o.names, name)
		}
	}
	slices.SortFunc(o.names, compareModels)
	return o, len(o.names) > 0
}

// compareModels puts base, SFT and PPO first, then the others by name.
func compareModels(a, b string) int {
	order := []string{"base", "sft", "ppo"}
	rank := func(name string) int {
		if i := slices.Index(order, name); i >= 0 {
			return i
		}
		return len(order)
	}
	return cmp.Or(rank(a)-rank(b), strings.Compare(a, b))
}

// printOutcome is the end of a run for people: the models side by side,
// answers before and after, where everything is, what to type next.
func (a *app) printOutcome(doc runs.View) error {
	o, ok := outcomeOf(doc)
	if ok {
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

// printModels is the table of models side by side: a row a measure, a column a model.
func (a *app) printModels(o evaluationOutcome) error {
	g := grid{head: append([]string{"on held-out prompts"}, o.names...), right: make([]bool, len(o.names)+1)}
	for i := range o.names {
		g.right[i+1] = true
	}
	for _, row := range []struct {
		name, format string
		of           func(modelScores) *float64
	}{
		{"gold score", "%.3f", func(s modelScores) *float64 { return s.Gold }},
		{"  followed the instruction", "%.3f", func(s modelScores) *float64 { return s.Followed }},
		{"  true", "%.3f", func(s modelScores) *float64 { return s.True }},
		{"  polite", "%.3f", func(s modelScores) *float64 { return s.Polite }},
		{"  concise", "%.3f", func(s modelScores) *float64 { return s.Concise }},
		{"raw score", "%.2f", func(s modelScores) *float64 { return s.Reward }},
		{"KL from SFT, nats", "%.2f", func(s modelScores) *float64 { return s.KL }},
		{"length, tokens", "%.1f", func(s modelScores) *float64 { return s.Length }},
		{"came to an end", "%.3f", func(s modelScores) *float64 { return s.Ended }},
	} {
		cells, some := []string{row.name}, false
		for _, name := range o.names {
			v := row.of(o.models[name])
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

// printCaveats says what the numbers rest on: who labelled, what the reward
// model has to beat, and what training has not seen.
func (a *app) printCaveats(doc runs.View, o evaluationOutcome) {
	say := func(format string, args ...any) { a.printText(fmt.Sprintf(format, args...), "    ") }
	fmt.Fprintln(a.out)
	if w := o.winRate; w != nil {
		say("PPO's answer beats SFT's by the gold judge on %.1f %% of the prompts (95 %%: %.1f … %.1f)", 100*w.Value,
			100*w.Low, 100*w.High)
	}
	for _, line := range o.reward.lines() {
		say("%s", line)
	}
	say("overlap: %d of %d held-out prompts are in a training text", o.overlap, o.prompts)
	if hasSimulatedLabels(doc) {
		say("the rankings are by simulated labellers, and the gold score is the starter world's own; no person " +
			"judged these texts")
	}
}

// roughGroups is on how many groups an interval is called rough.
const roughGroups = 10

// formatInterval is a 95 % interval over groups, as far as there is one.
func formatInterval(low, high float64, groups int) string {
	switch {
	case groups == 1:
		return "no interval: all of one group"
	case groups > 1 && groups < roughGroups:
		return fmt.Sprintf("95 %%, rough, of %d groups: %.3f … %.3f", groups, low, high)
	case groups > 1:
		return fmt.Sprintf("95 %%, by %d groups: %.3f … %.3f", groups, low, high)
	}
	return fmt.Sprintf("95 %%: %.3f … %.3f", low, high)
}

// lines say how good the reward model is, and beside what.
func (r *rewardAccuracy) lines() (lines []string) {
	if r == nil {
		return nil
	}
	say := func(format string, args ...any) { lines = append(lines, fmt.Sprintf(format, args...)) }
	say("reward model on held-out rankings: accuracy %.3f (%s; %d pairs)", r.Accuracy,
		formatInterval(r.Low, r.High, r.Groups), r.Pairs)
	if r.OverLonger != nil {
		say("  the longer one wins: %.3f; the reward model is better by %+.3f (%s)", r.LongerWins, *r.OverLonger,
			formatInterval(r.OverLongerLow, r.OverLongerHigh, r.Groups))
	} else {
		say("  the longer one wins: %.3f", r.LongerWins)
	}
	switch {
	case r.HeldOracle != nil:
		say("  the labellers' mean taste, without their noise: %.3f of the same pairs (%s); a reference, no ceiling",
			*r.HeldOracle, formatInterval(r.HeldOracleLow, r.HeldOracleHigh, r.Groups))
	case r.OracleAccuracy != 0:
		say("  the labellers' mean taste, without their noise: %.3f of all pairs, those for training too; a "+
			"reference, no ceiling", r.OracleAccuracy)
	}
	if r.LabellersAgreement != 0 {
		say("  labellers agree with one another: %.3f", r.LabellersAgreement)
	}
	if r.MatchedPairs > 0 {
		say("  on the %d pairs of about the same length: accuracy %.3f, the longer one wins %.3f", r.MatchedPairs,
			r.MatchedAccuracy, r.MatchedLongerWins)
	}
	return lines
}

// hasSimulatedLabels reports whether a stage of the run collected labels, which only simulated labellers give.
func hasSimulatedLabels(doc runs.View) bool {
	return slices.ContainsFunc(doc.Stages, func(st runs.StageView) bool { return st.Kind == recipes.KindCollect })
}

// printSamples shows what each model answers to the same prompts.
func (a *app) printSamples(o evaluationOutcome) {
	for _, s := range o.samples {
		fmt.Fprintln(a.out)
		a.printText("  "+escapeLine(s.Prompt), "  ")
		for _, name := range o.names {
			text := escapeLine(strings.TrimSpace(s.Answers[name]))
			if text == "" {
				text = "(nothing)"
			}
			head := fmt.Sprintf("    %-6s ", escapeLine(name))
			a.printText(head+text, strings.Repeat(" ", len(head)))
		}
	}
}

// printNext says where everything is kept and what to type next.
func (a *app) printNext(doc runs.View) {
	id := shortID(doc.ID)
	fmt.Fprintf(a.out, "\nrun %s (%s) completed in %s\n", id, escapeLine(doc.Name), formatSeconds(doc.Seconds))
	for _, m := range doc.Models {
		fmt.Fprintf(a.out, "  %-8s %s\n", escapeLine(m.Name), m.Digest)
	}
	a.printText(fmt.Sprintf("models and checkpoints are in %s; every ranking, rollout, metric and decision is in "+
		"Postgres", escapeLine(a.storeFolder())), "  ")
	prompt := "…"
	if o, _ := outcomeOf(doc); len(o.samples) > 0 && !strings.Contains(o.samples[0].Prompt, `"`) {
		prompt = escapeLine(o.samples[0].Prompt)
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

// suggestedChange is a change that is worth trying on a stage.
func suggestedChange(doc runs.View, stage string) string {
	for _, st := range doc.Stages {
		if st.Name == stage && st.Kind == recipes.KindPPO {
			return "--set " + escapeLine(stage) + ".kl_coef=0.05"
		}
	}
	return "--force"
}

// lastModel is the stage of the last language model that the run made.
func lastModel(doc runs.View) string {
	last := ""
	for _, st := range doc.Stages {
		if st.Kind != recipes.KindReward && st.Outputs["model"] != "" {
			last = st.Name
		}
	}
	return last
}
