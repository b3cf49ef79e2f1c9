package evaluate

import "fmt"

// Version of the stage: the same version, config, inputs and seed give the same bytes.
const Version = 1

// JudgeGold names the judge of the starter world.
const JudgeGold = "gold"

// Config says how the models are sampled and what judges their answers.
type Config struct {
	Temperature float64 `yaml:"temperature" json:"temperature"`
	MaxTokens   int     `yaml:"max_new_tokens" json:"max_tokens"` // of an answer
	Prompts     int     `yaml:"prompts" json:"prompts"`           // held-out prompts of each test set at most; 0 is all
	Samples     int     `yaml:"samples" json:"samples"`           // prompts whose answers the report shows
	World       uint64  `yaml:"-" json:"world"`                   // seed of the starter world that judges
	// Judge is JudgeGold where the world is known. Without one, only reward,
	// KL, length and the share of ended answers are measured.
	Judge string `yaml:"-" json:"judge,omitempty"`
}

// Defaults are the settings of the default run.
func Defaults() Config { return Config{Temperature: 1, MaxTokens: 28, Samples: 5} }

// Validate names the first field that is out of range.
func (c Config) Validate() error {
	switch {
	case c.Prompts < 0 || c.Prompts > 1e6:
		return fmt.Errorf("prompts is %d: want 0 to %d", c.Prompts, int(1e6))
	case c.Samples < 0 || c.Samples > 1e4:
		return fmt.Errorf("samples is %d: want 0 to %d", c.Samples, int(1e4))
	case !(c.Temperature > 0) || c.Temperature > 100: // NaN included
		return fmt.Errorf("temperature is %g: want more than 0, at most 100", c.Temperature)
	case c.MaxTokens < 1 || c.MaxTokens > 1<<16:
		return fmt.Errorf("max_new_tokens is %d: want 1 to %d", c.MaxTokens, 1<<16)
	}
	return nil
}
