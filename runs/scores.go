package runs

import (
	"cmp"
	"encoding/json"
	"slices"
)

// measures are those of a model in an evaluation, in the order in which they are shown.
var measures = []string{"gold", "followed", "true", "polite", "concise", "reward", "kl", "length", "ended"}

// firstModels come first, in this order, then the others by name.
var firstModels = []string{"base", "sft", "ppo"}

// compareScores puts the evaluations of runs side by side: each model's measures, then
// what the report says of the reward model and of PPO against SFT.
func compareScores(sides []side) []ComparedScore {
	all := []ComparedScore{}
	for _, model := range evaluatedModels(sides) {
		for _, m := range measures {
			all = append(all, scoreOf(sides, model, m, func(e map[string]any) estimate {
				scores, _ := e[model].(map[string]any)
				return estimate{value: scores[m]}
			}))
		}
	}
	all = append(all, scoreOf(sides, "reward model", "accuracy",
		func(e map[string]any) estimate { return estimateOf(e, "reward_model", "accuracy") }),
		scoreOf(sides, "reward model", "longer_wins", func(e map[string]any) estimate {
			scores, _ := e["reward_model"].(map[string]any)
			return estimate{value: scores["longer_wins"]}
		}),
		scoreOf(sides, "reward model", "over_longer", func(e map[string]any) estimate {
			scores, _ := e["reward_model"].(map[string]any)
			return estimate{scores["over_longer"], scores["over_longer_low"], scores["over_longer_high"]}
		}),
		scoreOf(sides, "ppo", "win rate over sft",
			func(e map[string]any) estimate { return estimateOf(e, "ppo_over_sft", "value") }))
	return slices.DeleteFunc(all, func(s ComparedScore) bool {
		return !slices.ContainsFunc(s.Values, func(v *Number) bool { return v != nil })
	})
}

// estimate is a number of a report with its interval, if it has one.
type estimate struct{ value, low, high any }

func estimateOf(report map[string]any, part, value string) estimate {
	e, _ := report[part].(map[string]any)
	return estimate{e[value], e["low"], e["high"]}
}

// scoreOf reads one number of each run's evaluation.
func scoreOf(sides []side, model, measure string, of func(map[string]any) estimate) ComparedScore {
	s := ComparedScore{Model: model, Measure: measure}
	var low, high []*Number
	intervals := false
	for _, side := range sides {
		e := of(side.doc.Evaluation)
		s.Values, low, high = append(s.Values, numberOf(e.value)), append(low, numberOf(e.low)), append(high,
			numberOf(e.high))
		intervals = intervals || e.low != nil
	}
	if intervals {
		s.Low, s.High = low, high
	}
	s.Differences = differencesFromFirst(s.Values)
	return s
}

func numberOf(v any) *Number {
	f, ok := v.(float64)
	if !ok {
		return nil
	}
	n := Number(f)
	return &n
}

// evaluatedModels are the models that an evaluation has scores of: those with a length.
func evaluatedModels(sides []side) []string {
	var names []string
	for _, side := range sides {
		for name, value := range side.doc.Evaluation {
			scores, _ := value.(map[string]any)
			if scores["length"] != nil && !slices.Contains(names, name) {
				names = append(names, name)
			}
		}
	}
	rank := func(name string) int {
		if i := slices.Index(firstModels, name); i >= 0 {
			return i
		}
		return len(firstModels)
	}
	slices.SortFunc(names, func(a, b string) int { return cmp.Or(rank(a)-rank(b), cmp.Compare(a, b)) })
	return names
}

// sharedSamples are the first prompts whose answers every run's evaluation shows.
func sharedSamples(sides []side, most int) []ComparedSample {
	type sample struct {
		Prompt  string            `json:"prompt"`
		Answers map[string]string `json:"answers"`
	}
	shown := make([][]sample, len(sides))
	for i, side := range sides {
		raw, err := json.Marshal(side.doc.Evaluation["samples"])
		if err == nil {
			_ = json.Unmarshal(raw, &shown[i]) // a report of another shape has none
		}
	}
	all := []ComparedSample{}
	for _, first := range shown[0] {
		s := ComparedSample{Prompt: first.Prompt}
		for _, list := range shown {
			if k := slices.IndexFunc(list, func(o sample) bool { return o.Prompt == first.Prompt }); k >= 0 {
				s.Answers = append(s.Answers, list[k].Answers)
			}
		}
		if len(all) < most && len(s.Answers) == len(sides) {
			all = append(all, s)
		}
	}
	return all
}
