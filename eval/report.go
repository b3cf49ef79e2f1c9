package eval

import (
	"cmp"
	"slices"

	"github.com/trimtab/trimtab/label"
)

// Report is what an evaluate stage writes: the models of a run on held-out
// prompts, all sampled at the same temperature. It is the only declaration of
// that document: the stage encodes it, and the service, the model papers and
// the command line decode it. Its JSON is stored under its own digest, so
// neither the names nor the order of its fields may change.
type Report struct {
	Models      map[string]Scores `json:"models"` // by the name of the input
	RewardModel *RewardAccuracy   `json:"reward_model,omitempty"`
	// Wins is the share of prompts on which the judge prefers PPO's answer to SFT's.
	Wins    *Estimate       `json:"ppo_over_sft,omitempty"`
	Samples []SampleAnswers `json:"samples"`
	Prompts int             `json:"prompts"` // held-out prompts that every model answered
	Overlap int             `json:"overlap"` // of them, those that occur in a training text
	Judge   string          `json:"judge,omitempty"`
}

// Scores are a model's means over its answers to the held-out prompts. A nil
// score was not measured: Gold to Concise need a judge, Reward needs a reward
// model, KL a reference, and Ended is missing from the oldest reports.
type Scores struct {
	Gold     *float64 `json:"gold,omitempty"`     // the judge's score, 0 to 1
	Followed *float64 `json:"followed,omitempty"` // share that answers the kind of question asked
	True     *float64 `json:"true,omitempty"`     // share that does, and is true
	Polite   *float64 `json:"polite,omitempty"`   // courtesy: 0 insults, ½ is plain, 1 is courteous
	Concise  *float64 `json:"concise,omitempty"`  // share that ends in few words
	Reward   *float64 `json:"reward,omitempty"`   // raw score of the reward model
	KL       *float64 `json:"kl,omitempty"`       // from the SFT model, nats a response (estimator k1)
	Length   *float64 `json:"length,omitempty"`   // tokens a response
	Ended    *float64 `json:"ended,omitempty"`    // share that reached a stop token
	// Sets has the means of each test set, where the prompts have more than one tag.
	Sets map[string]Scores `json:"sets,omitempty"`
}

// Measure is one of a model's scores with its name in reports, metrics and tables.
type Measure struct {
	Name  string
	Value *float64 // nil where it was not measured
}

// Measures lists the scores in the order in which they are shown.
func (s Scores) Measures() []Measure {
	return []Measure{
		{"gold", s.Gold},
		{"followed", s.Followed},
		{"true", s.True},
		{"polite", s.Polite},
		{"concise", s.Concise},
		{"reward", s.Reward},
		{"kl", s.KL},
		{"length", s.Length},
		{"ended", s.Ended},
	}
}

// RewardAccuracy compares a reward model with held-out rankings, and with the
// rule that the longer answer wins, which is what it has to beat.
type RewardAccuracy struct {
	Pairs             int     `json:"pairs"`
	Accuracy          float64 `json:"accuracy"`
	Low               float64 `json:"low"` // 95 % bootstrap interval over groups of rankings
	High              float64 `json:"high"`
	LongerWins        float64 `json:"longer_wins"`
	MatchedPairs      int     `json:"matched_pairs"` // whose lengths differ by less than a quarter of their mean
	MatchedAccuracy   float64 `json:"matched_accuracy"`
	MatchedLongerWins float64 `json:"matched_longer_wins"`

	// The fields below are metrics of the reward stage and no part of the
	// report, whose bytes are those that earlier builds wrote.

	Interval   label.Interval `json:"-"` // the same as Low and High, with the number of groups
	Over       float64        `json:"-"` // Accuracy less LongerWins
	OverBounds label.Interval `json:"-"` // of Over: paired, over the same groups
}

// SampleAnswers is one held-out prompt with each model's answer to it.
type SampleAnswers struct {
	Prompt  string            `json:"prompt"`
	Set     string            `json:"set,omitempty"` // the prompt's tag
	Answers map[string]string `json:"answers"`       // by model
}

// modelOrder has the models of the InstructGPT chain in the order of training.
var modelOrder = []string{"base", "sft", "ppo"}

// CompareModels orders names of models for tables: base, sft and ppo first,
// then all others by name.
func CompareModels(a, b string) int {
	rank := func(name string) int {
		if i := slices.Index(modelOrder, name); i >= 0 {
			return i
		}
		return len(modelOrder)
	}
	return cmp.Or(rank(a)-rank(b), cmp.Compare(a, b))
}
