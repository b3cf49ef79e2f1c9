package recipes

import (
	"fmt"

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

// Config is a pointer to the settings of one stage.
type Config interface{ Validate() error }

// Pretrain is the config of a stage that makes a tokenizer and a base model.
type Pretrain struct {
	pretrain.Config `yaml:",inline"`
	// Tokenizer is "bpe" (trained on the stage's own text, of model.vocab pieces) or "gpt2".
	Tokenizer string `yaml:"tokenizer" json:"tokenizer"`
	// Model is the spec's model shape.
	Model model.Config `yaml:"-" json:"model"`
}

// Validate checks the arithmetic and the choice of tokenizer.
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
	// Pool is how many of the prompts are used, chosen by the seed; 0 is all.
	Pool int `yaml:"pool" json:"pool"`
	// RolloutShards is by how many activities, side by side, an iteration's
	// rollouts are made; 0 or 1 is by the one that learns from them. It changes
	// no byte and is no part of the stage's stored config.
	RolloutShards int `yaml:"rollout_shards,omitempty" json:"rollout_shards,omitempty"`
}

// maxShards bounds the activities of an iteration: each is some events of the workflow's history.
const maxShards = 64

// Validate checks the arithmetic, the pool and the shards.
func (c *PPO) Validate() error {
	if c.Pool < 0 || c.Pool > 1e9 {
		return fmt.Errorf("pool is %d: want 0 (all prompts) to %d", c.Pool, int(1e9))
	}
	if err := c.Config.Validate(); err != nil {
		return err
	}
	if most := min(maxShards, c.Batch); c.RolloutShards < 0 || c.RolloutShards > most {
		return fmt.Errorf("rollout_shards is %d: want 0 or 1 (all in one worker) to %d, at most batch and at most %d",
			c.RolloutShards, most, maxShards)
	}
	return nil
}

// shards is RolloutShards where there are several.
func (st Stage) shards() int {
	if c, ok := st.Config.(*PPO); ok && c.RolloutShards > 1 {
		return c.RolloutShards
	}
	return 0
}

// Collect is the config of a stage that samples responses and has them ranked.
type Collect struct {
	Prompts int `yaml:"prompts" json:"prompts"` // ranked for training
	// ranked prompts kept for measuring the reward model
	HeldOut      int     `yaml:"held_out" json:"held_out"`
	MinResponses int     `yaml:"min_responses" json:"min_responses"` // K is drawn between the two
	MaxResponses int     `yaml:"max_responses" json:"max_responses"`
	Temperature  float64 `yaml:"temperature" json:"temperature"`
	MaxTokens    int     `yaml:"max_tokens" json:"max_tokens"`
	Batch        int     `yaml:"batch" json:"batch"`         // prompts a step
	Labellers    string  `yaml:"labellers" json:"labellers"` // "simulated"
	// that two labellers should reach on pairs of different texts
	Agreement float64 `yaml:"agreement" json:"agreement"`
	World     uint64  `yaml:"-" json:"world"`
}

// Validate names the first field out of range.
func (c *Collect) Validate() error {
	switch {
	case c.Labellers != "simulated":
		return fmt.Errorf("labellers is %q: want simulated; rankings of people come in with `trimtab data import` as "+
			"data.rankings", c.Labellers)
	case c.MinResponses < 2 || c.MaxResponses > 9 || c.MinResponses > c.MaxResponses:
		return fmt.Errorf("responses from %d to %d: want 2 to 9", c.MinResponses, c.MaxResponses)
	case c.Agreement < .5 || c.Agreement >= 1:
		return fmt.Errorf("agreement is %g: want .5 (chance) to less than 1", c.Agreement)
	}
	if err := within("", []bound{{"prompts", c.Prompts, 1, 1e6}, {"held_out", c.HeldOut, 0, 1e6},
		{"batch", c.Batch, 1, 1 << 16}}); err != nil {
		return err
	}
	return validateSampling(c.Temperature, c.MaxTokens)
}

// Evaluate is the config of the stage that compares the run's models.
type Evaluate struct {
	Temperature float64 `yaml:"temperature" json:"temperature"`
	MaxTokens   int     `yaml:"max_tokens" json:"max_tokens"`
	Prompts     int     `yaml:"prompts" json:"prompts"` // held-out prompts of each test set at the most; 0 is all
	Samples     int     `yaml:"samples" json:"samples"` // answers before and after to show
	World       uint64  `yaml:"-" json:"world"`
	// Judge is "gold" where the world is known, else empty: reward, KL and length only.
	Judge string `yaml:"-" json:"judge,omitempty"`
}

// Validate names the first field out of range.
func (c *Evaluate) Validate() error {
	if err := within("", []bound{{"prompts", c.Prompts, 0, 1e6}, {"samples", c.Samples, 0, 1e4}}); err != nil {
		return err
	}
	return validateSampling(c.Temperature, c.MaxTokens)
}

func validateSampling(temperature float64, maxTokens int) error {
	if !(temperature > 0) || temperature > 100 {
		return fmt.Errorf("temperature is %g: want more than 0, at most 100", temperature)
	}
	return within("", []bound{{"max_tokens", maxTokens, 1, 1 << 16}})
}

// kind is what the program knows of a kind of stage.
type kind struct {
	version    int           // raised by hand whenever the stage's bytes change
	config     func() Config // defaults
	needsWorld bool
	inputs     func(c chain, st Stage) []want
	outputs    []string
	warning    warning
	carried    []carried // every setting, and what becomes of it from a checkpoint on
	ragged     bool      // the last step may read fewer items than the others
}

// kinds is filled by init, since what a stage reads depends on what the stages before it make.
var kinds map[string]kind

func init() { kinds = stageKinds() }

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
			version: 1, outputs: []string{"rankings"}, needsWorld: true, carried: carriedCollect,
			config: func() Config {
				return &Collect{Prompts: 400, HeldOut: 120, MinResponses: 4, MaxResponses: 9, Temperature: 1,
					MaxTokens: 28, Batch: 64, Labellers: "simulated", Agreement: .73}
			},
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
					// what KL is measured against; if it is not named, the input model
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
			version: 1, outputs: []string{"evaluation"}, carried: carriedEvaluate,
			config: func() Config { return &Evaluate{Temperature: 1, MaxTokens: 28, Samples: 5} },
			inputs: func(c chain, st Stage) []want {
				wants := c.models()
				wants = append(wants, want{name: "prompts", data: true})
				if c.latest("model", KindReward) != "" {
					wants = append(wants, want{name: "rankings", from: c.latest("rankings", KindCollect), data: true})
				}
				// what was trained on, to count the held-out prompts that it holds
				return append(wants, want{name: "text", data: true, optional: true},
					want{name: "demonstrations", data: true, optional: true})
			},
		},
	}
}
