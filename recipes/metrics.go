package recipes

import (
	"fmt"
	"slices"
	"strings"

	"github.com/trimtab/trimtab"
)

// Measures returns the names of the final metrics of stage i, which its gates
// may name. heldOut says whether some of its rankings are held out: without
// them a reward model is measured only on training rankings.
func (s Spec) Measures(i int, heldOut bool) []string {
	st := s.Stages[i]
	training := []string{"loss", "entropy", "mean_token_accuracy", "num_tokens", "grad_norm", "learning_rate", "epoch"}
	switch c := st.Config.(type) {
	case *Pretrain:
		return append(training, fits(fitItems[KindPretrain]...)...)
	case *SFT:
		names := append(training, fits(fitItems[KindSFT]...)...)
		if c.PretrainMix > 0 {
			names = append(names, fits("text")...)
		}
		return names
	case *Collect:
		names := []string{"responses", "rankings", "pairs", "distinct_responses", "agreement", "oracle_accuracy",
			"longer_wins"}
		if c.HeldOut > 0 {
			names = append(names, heldOutNames("oracle_accuracy", "oracle_accuracy_low", "oracle_accuracy_high",
				"pairs", "groups")...)
		}
		return append(names, fits(fitItems[KindCollect]...)...)
	case *Reward:
		return rewardMeasures(heldOut)
	case *PPO:
		return ppoMeasures(c)
	case *Evaluate:
		return s.evaluateMeasures(i, heldOut)
	}
	return nil
}

// fits returns the names of the metrics that count some items (data/ITEMS/kept,
// …/cut, …/left_out).
func fits(items ...string) []string {
	var names []string
	for _, it := range items {
		for _, m := range (trimtab.Fit{Items: it}).Metrics() {
			names = append(names, m.Name)
		}
	}
	return names
}

// rewardMeasures returns the metrics of a reward stage, named as in TRL's
// RewardTrainer; eval_… are on held-out rankings.
func rewardMeasures(heldOut bool) []string {
	each := []string{"loss", "accuracy", "margin", "min_reward", "mean_reward", "max_reward"}
	names := append(slices.Clone(each), "num_tokens", "grad_norm", "learning_rate", "epoch")
	if heldOut {
		for _, name := range each {
			names = append(names, "eval_"+name)
		}
		names = append(names, heldOutNames("accuracy", "accuracy_low", "accuracy_high", "pairs", "groups",
			"longer_wins", "over_longer", "over_longer_low",
			"over_longer_high", "matched_pairs", "matched_accuracy", "matched_longer_wins")...)
	}
	return append(names, fits(fitItems[KindReward]...)...)
}

// heldOutNames puts held_out/ before each name, in place.
func heldOutNames(names ...string) []string {
	for i := range names {
		names[i] = "held_out/" + names[i]
	}
	return names
}

// ppoMeasures returns the metrics of a ppo stage, named as in TRL's PPOTrainer.
func ppoMeasures(c *PPO) []string {
	names := []string{"objective/kl", "objective/kl3", "objective/kl_coef", "objective/entropy",
		"objective/neg_logprob", "objective/non_score_reward",
		"objective/rlhf_reward", "objective/scores", "objective/raw_scores", "objective/score_length_correlation",
		"response_length", "missing_eos_rate",
		"val/num_eos_tokens", "val/explained_var", "loss/value_avg", "val/clipfrac_avg", "value/grad_norm", "value/lr",
		"lr", "episode",
		"loss/policy_avg", "policy/approxkl_avg", "policy/clipfrac_avg", "policy/entropy_avg", "policy/grad_norm",
		"val/ratio", "val/ratio_var"}
	if c.PtxCoef > 0 {
		names = append(append(names, "loss/ptx_avg"), fits("text")...)
	}
	return append(names, fits(fitItems[KindPPO]...)...)
}

// evaluateMeasures returns the metrics of an evaluate stage. Each model that
// answers has its own, under the name of its input: the judge's where there is
// a starter world, the reward model's score where there is one, and the KL
// divergence from the SFT model where that is among them.
func (s Spec) evaluateMeasures(i int, heldOut bool) []string {
	names, scorer := []string{"responses"}, false
	wants := kinds[KindEvaluate].inputs(chain{s.Stages[:i]}, s.Stages[i])
	reference := slices.ContainsFunc(wants, func(w want) bool { return w.name == KindSFT })
	for _, w := range wants {
		if w.data {
			continue
		}
		if j := slices.IndexFunc(s.Stages[:i], func(st Stage) bool { return st.Name == w.from }); j >= 0 &&
			s.Stages[j].Kind == KindReward {
			scorer = true
		}
	}
	for _, w := range wants {
		j := slices.IndexFunc(s.Stages[:i], func(st Stage) bool { return st.Name == w.from })
		if w.data || j >= 0 && s.Stages[j].Kind == KindReward {
			continue
		}
		each := []string{"length"}
		if s.Starter != nil {
			each = append(each, "gold", "followed", "true", "polite")
		}
		if scorer {
			each = append(each, "reward")
		}
		if reference && w.name != KindSFT && w.name != "base" {
			each = append(each, "kl")
		}
		for _, name := range each {
			names = append(names, w.name+"/"+name)
		}
	}
	if scorer && heldOut {
		names = append(names, "reward_model/accuracy", "reward_model/longer_wins")
	}
	return append(append(names, "overlap"), fits(fitItems[KindEvaluate]...)...)
}

// CheckGates returns an error if a gate of stage i is on a metric that the
// stage does not measure. Without this check the gate would be missed only after
// all the work had been done.
func (s Spec) CheckGates(i int, heldOut bool) error {
	names := s.Measures(i, heldOut)
	for _, g := range s.Stages[i].Gates {
		if slices.Contains(names, g.Metric) {
			continue
		}
		remedy := Suggest(g.Metric, names)
		if slices.Contains(s.Measures(i, true), g.Metric) {
			remedy = `give some of the rankings "split": "test", or gate on one of ` + strings.Join(names, ", ")
			return invalid(remedy,
				"stage %s: its gate is on %s, which is measured on held-out rankings, and there are none",
				s.Stages[i].Name, g.Metric)
		}
		return invalid(remedy, "stage %s: its gate is on %q, which the stage does not measure", s.Stages[i].Name,
			g.Metric)
	}
	return nil
}

// CheckRoom returns an error if the max_new_tokens of a stage leave no room for
// a prompt in a context of that many tokens. The shortest prompt has three:
// end-of-text, one token, and the newline before the answer.
func CheckRoom(st Stage, context int) error {
	const least = 3 // a prompt is end-of-text, at least one token, and a newline
	most := 0
	switch c := st.Config.(type) {
	case *PPO:
		most = c.MaxNewTokens
	case *Evaluate:
		most = c.MaxNewTokens
	}
	if most > 0 && most+least > context {
		return fmt.Errorf("max_new_tokens is %d: in the model's context of %d tokens it leaves no room for a prompt: "+
			"want at most %d", most, context, context-least)
	}
	return nil
}
