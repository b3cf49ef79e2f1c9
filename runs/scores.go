package runs

import (
	"slices"

	"github.com/trimtab/trimtab/eval"
)

// compareScores sets the scores of the evaluations side by side: the measures
// of each model, then those of the reward model and the win rate of PPO over
// SFT. A score that no run has is left out.
func compareScores(sides []side) []ComparedScore {
	all := []ComparedScore{}
	for _, model := range evaluatedModels(sides) {
		// The measures of a zero Scores have the names, in the order of display; a
		// model that a run did not evaluate has the same measures, all nil.
		for i, m := range (eval.Scores{}).Measures() {
			all = append(all, scoreOf(sides, model, m.Name, func(e EvaluationView) estimate {
				return estimate{value: e.Models[model].Measures()[i].Value}
			}))
		}
	}
	all = append(all,
		rewardScore(sides, "accuracy", func(r *RewardModelView) estimate {
			return estimate{&r.Accuracy, &r.Low, &r.High}
		}),
		rewardScore(sides, "longer_wins", func(r *RewardModelView) estimate { return estimate{value: &r.LongerWins} }),
		rewardScore(sides, "over_longer", func(r *RewardModelView) estimate {
			return estimate{r.OverLonger, r.OverLongerLow, r.OverLongerHigh}
		}),
		scoreOf(sides, "ppo", "win rate over sft", func(e EvaluationView) estimate {
			if e.Wins == nil {
				return estimate{}
			}
			return estimate{&e.Wins.Value, &e.Wins.Low, &e.Wins.High}
		}))
	return slices.DeleteFunc(all, func(s ComparedScore) bool {
		return !slices.ContainsFunc(s.Values, func(v *Number) bool { return v != nil })
	})
}

// estimate is a figure of a report with its 95 % interval; nil is what the
// report does not have.
type estimate struct{ value, low, high *float64 }

// rewardScore compares one figure of each run's reward model.
func rewardScore(sides []side, measure string, of func(*RewardModelView) estimate) ComparedScore {
	return scoreOf(sides, "reward model", measure, func(e EvaluationView) estimate {
		if e.RewardModel == nil {
			return estimate{}
		}
		return of(e.RewardModel)
	})
}

// scoreOf compares one figure of each run's evaluation. Low and High stay nil
// if no run has an interval for it.
func scoreOf(sides []side, model, measure string, of func(EvaluationView) estimate) ComparedScore {
	s := ComparedScore{Model: model, Measure: measure}
	var low, high []*Number
	intervals := false
	for _, side := range sides {
		e := of(side.view.Evaluation)
		s.Values = append(s.Values, numberOf(e.value))
		low = append(low, numberOf(e.low))
		high = append(high, numberOf(e.high))
		intervals = intervals || e.low != nil
	}
	if intervals {
		s.Low, s.High = low, high
	}
	s.Differences = differencesFromFirst(s.Values)
	return s
}

// numberOf returns a figure as a Number, which JSON can hold whatever its value
// is; nil stays nil.
func numberOf(v *float64) *Number {
	if v == nil {
		return nil
	}
	n := Number(*v)
	return &n
}

// evaluatedModels returns the names of the models that any of the evaluations
// has scores of, in the order of eval.CompareModels.
func evaluatedModels(sides []side) []string {
	var names []string
	for _, side := range sides {
		names = append(names, side.view.Evaluation.ModelNames()...)
	}
	slices.SortFunc(names, eval.CompareModels) // a total order by name, so Compact finds every duplicate
	return slices.Compact(names)
}

// sharedSamples returns the first prompts that every run's evaluation shows, at
// most so many, in the order of the first run.
func sharedSamples(sides []side, most int) []ComparedSample {
	all := []ComparedSample{}
	for _, first := range sides[0].view.Evaluation.Samples {
		s := ComparedSample{Prompt: first.Prompt}
		for _, side := range sides {
			samples := side.view.Evaluation.Samples
			same := func(o eval.SampleAnswers) bool { return o.Prompt == first.Prompt }
			if k := slices.IndexFunc(samples, same); k >= 0 {
				s.Answers = append(s.Answers, samples[k].Answers)
			}
		}
		// Only prompts that every evaluation shows can be compared.
		if len(all) < most && len(s.Answers) == len(sides) {
			all = append(all, s)
		}
	}
	return all
}
