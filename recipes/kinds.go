package recipes

import (
	"fmt"

	"github.com/trimtab/trimtab/collect"
	"github.com/trimtab/trimtab/evaluate"
	"github.com/trimtab/trimtab/model"
	"github.com/trimtab/trimtab/ppo"
	"github.com/trimtab/trimtab/pretrain"
	"github.com/trimtab/trimtab/reward"
	"github.com/trimtab/trimtab/sft"
)

// The kinds of stage.
const (
	KindPretrain = "pretrain"
	KindSFT      = "sft"
	KindCollect  = "collect"
	KindReward   = "reward"
	KindPPO      = "ppo"
	KindEvaluate = "evaluate"
)

// Kinds lists the kinds of stage in the order of the chain.
func Kinds() []string {
	return []string{KindPretrain, KindSFT, KindCollect, KindReward, KindPPO, KindEvaluate}
}

// Config is a pointer to the settings of one stage: Pretrain, SFT, Collect,
// Reward, PPO or Evaluate.
type Config interface{ Validate() error }

// Pretrain is the config of a stage that makes a tokenizer and a base model.
type Pretrain struct {
	pretrain.Config `yaml:",inline"`
	// Tokenizer is "bpe" (trained on the stage's own text, of model.vocab_size pieces) or "gpt2".
	Tokenizer string `yaml:"tokenizer" json:"tokenizer"`
	// Model is the spec's model shape.
	Model model.Config `yaml:"-" json:"model"`
}

// Validate checks the choice of tokenizer, then the settings of the training.
func (c *Pretrain) Validate() error {
	if c.Tokenizer != "bpe" && c.Tokenizer != "gpt2" {
		return fmt.Errorf("tokenizer is %q: want bpe or gpt2", c.Tokenizer)
	}
	return c.Config.Validate()
}

// Reward is the config of a reward stage.
type Reward struct {
	reward.Config `yaml:",inline"`
}

// SFT is the config of a supervised fine-tuning stage.
type SFT struct {
	sft.Config `yaml:",inline"`
}

// PPO is the config of a ppo stage.
type PPO struct {
	ppo.Config `yaml:",inline"`
	// NumPrompts is how many of the prompts are used, chosen by the seed; 0 is all.
	NumPrompts int `yaml:"num_prompts" json:"pool"`
	// RolloutShards is the number of activities that make an iteration's
	// rollouts in parallel; with 0 or 1 the activity that learns from them does.
	// It changes no byte and is not part of the stage's stored config.
	RolloutShards int `yaml:"rollout_shards,omitempty" json:"rollout_shards,omitempty"`
}

// maxShards bounds the activities of an iteration: each of them adds events to
// the workflow's history, whose length is limited.
const maxShards = 64

// Validate checks the number of prompts, the algorithm's settings and the
// shards.
func (c *PPO) Validate() error {
	if c.NumPrompts < 0 || c.NumPrompts > 1e9 {
		return fmt.Errorf("num_prompts is %d: want 0 (all prompts) to %d", c.NumPrompts, int(1e9))
	}
	if err := c.Config.Validate(); err != nil {
		return err
	}
	if most := min(maxShards, c.Batch); c.RolloutShards < 0 || c.RolloutShards > most {
		return fmt.Errorf("rollout_shards is %d: want 0 or 1 (all in one worker) to %d, at most batch_size and at "+
			"most %d", c.RolloutShards, most, maxShards)
	}
	return nil
}

// shards returns RolloutShards if there are several, and 0 if one activity does
// all the work.
func (st Stage) shards() int {
	if c, ok := st.Config.(*PPO); ok && c.RolloutShards > 1 {
		return c.RolloutShards
	}
	return 0
}

// Collect is the config of a collect stage.
type Collect struct {
	collect.Config `yaml:",inline"`
}

// Evaluate is the config of an evaluate stage.
type Evaluate struct {
	evaluate.Config `yaml:",inline"`
}

// kind is what this package knows about a kind of stage. Everything that
// differs between kinds, except the arithmetic, is a field here.
type kind struct {
	version    int           // raised by hand whenever the stage's bytes change
	config     func() Config // defaults
	needsWorld bool
	inputs     func(c chain, st Stage) []want
	outputs    []string
	warning    warning
	carried    []carried // every setting, and whether it may change when continuing from a checkpoint
	ragged     bool      // the last step may read fewer items than the others
}

// kinds is filled by init, since what a stage reads depends on what the stages before it produce.
var kinds map[string]kind

func init() { kinds = stageKinds() }

// stageKinds returns the kinds by name.
func stageKinds() map[string]kind {
	return map[string]kind{
		KindPretrain: {
			version: pretrain.Version, outputs: []string{"model"}, carried: carriedPretrain,
			config: func() Config { return &Pretrain{Config: pretrain.Defaults(), Tokenizer: "bpe"} },
			inputs: func(chain, Stage) []want { return []want{{name: "text", data: true}} },
		},
		KindSFT: {
			version: sft.Version, outputs: []string{"model"}, carried: carriedSFT, ragged: true,
			config: func() Config { return &SFT{sft.Defaults()} },
			inputs: func(c chain, st Stage) []want {
				wants := []want{{name: "model", from: c.latest("model", KindPretrain, KindSFT), base: true},
					{name: "demonstrations", data: true}}
				if st.Config.(*SFT).PretrainMix > 0 {
					wants = append(wants, want{name: "text", data: true})
				}
				return wants
			},
		},
		KindCollect: {
			version: collect.Version, outputs: []string{"rankings"}, needsWorld: true, carried: carriedCollect,
			config: func() Config { return &Collect{collect.Defaults()} },
			inputs: func(c chain, st Stage) []want {
				return []want{{name: "model", from: c.latest("model", KindPretrain, KindSFT), base: true},
					{name: "prompts", data: true}}
			},
		},
		KindReward: {
			version: reward.Version, outputs: []string{"model"}, carried: carriedReward, ragged: true,
			config: func() Config { return &Reward{reward.Defaults()} },
			inputs: func(c chain, st Stage) []want {
				return []want{
					{name: "model", from: c.latest("model", KindPretrain, KindSFT), base: true},
					{name: "rankings", from: c.latest("rankings", KindCollect), data: true},
					{name: "demonstrations", data: true},
				}
			},
		},
		KindPPO: {
			version: ppo.Version, outputs: []string{"model"}, warning: warning{"missing_eos_rate", unended},
			carried: carriedPPO,
			config:  func() Config { return &PPO{Config: ppo.Defaults()} },
			inputs: func(c chain, st Stage) []want {
				wants := []want{
					{name: "model", from: c.latest("model", KindPretrain, KindSFT), base: true},
					{name: "reward", from: c.latest("model", KindReward)},
					// what KL is measured against; by default, the input model
					{name: "reference", optional: true},
					{name: "prompts", data: true},
				}
				if st.Config.(*PPO).PtxCoef != 0 {
					wants = append(wants, want{name: "text", data: true})
				}
				return wants
			},
		},
		KindEvaluate: {
			version: evaluate.Version, outputs: []string{"evaluation"}, carried: carriedEvaluate,
			config: func() Config { return &Evaluate{evaluate.Defaults()} },
			inputs: func(c chain, st Stage) []want {
				wants := c.models()
				wants = append(wants, want{name: "prompts", data: true})
				if c.latest("model", KindReward) != "" {
					wants = append(wants, want{name: "rankings", from: c.latest("rankings", KindCollect), data: true})
				}
				// the training data, to count the held-out prompts that occur in it
				return append(wants, want{name: "text", data: true, optional: true},
					want{name: "demonstrations", data: true, optional: true})
			},
		},
	}
}
