package evaluate

import "fmt"

// Version of the stage: the same version, config, inputs and seed give the same bytes.
const Version = 1

// JudgeGold names the judge of the starter world, which knows the instructions
// and the facts behind every prompt.
const JudgeGold = "gold"

// Config says how the models are sampled and what judges their answers.
type Config struct {
	// Temperature is that of all models, so that they are compared like with like.
	Temperature float64 `yaml:"temperature" json:"temperature"`
	// MaxNewTokens bounds an answer, its stop token included.
	MaxNewTokens int `yaml:"max_new_tokens" json:"max_tokens"`
	// Prompts is how many held-out prompts of each test set are asked at most; 0 is all.
	Prompts int `yaml:"prompts" json:"prompts"`
	// Samples is how many prompts the report shows with every model's answer.
	Samples int `yaml:"samples" json:"samples"`
	// World is the seed of the starter world whose judge it is.
	World uint64 `yaml:"-" json:"world"`
	// Judge is JudgeGold where the world is known. Without one, only reward,
	// KL, length and the share of ended answers are measured.
	Judge string `yaml:"-" json:"judge,omitempty"`
}

// Defaults are the settings of the default run: models are compared at the
// temperature at which PPO trains.
func Defaults() Config { return Config{Temperature: 1, MaxNewTokens: 28, Samples: 5} }

// Validate names the first field that is out of range.
func (c Config) Validate() error {
	switch {
	case c.Prompts < 0 || c.Prompts > 1e6:
		return fmt.Errorf("prompts is %d: want 0 to %d", c.Prompts, int(1e6))
	case c.Samples < 0 || c.Samples > 1e4:
		return fmt.Errorf("samples is %d: want 0 to %d", c.Samples, int(1e4))
	case !(c.Temperature > 0) || c.Temperature > 100: // NaN included
		return fmt.Errorf("temperature is %g: want more than 0, at most 100", c.Temperature)
	case c.MaxNewTokens < 1 || c.MaxNewTokens > 1<<16:
		return fmt.Errorf("max_new_tokens is %d: want 1 to %d", c.MaxNewTokens, 1<<16)
	}
	return nil
}
