package pretrain

import (
	"fmt"

	"github.com/trimtab/trimtab/optim"
)

// Version of the stage: the same version, config, inputs and seed give the
// same bytes. It is part of a stage's cache key, so a change of the arithmetic
// has to raise it.
const Version = 1

// Config says how long to train and with which optimizer. All lengths are in
// tokens.
type Config struct {
	// Tokens is how many to train on, over all epochs; the last update may go
	// beyond it.
	Tokens int `yaml:"tokens" json:"tokens"`
	// BlockSize is the length of a row. The caller packs rows of this length, and
	// the model's context has to hold all but the last of its tokens.
	BlockSize int `yaml:"block_size" json:"row_tokens"`
	// BatchTokens is the size of one update, a multiple of BlockSize.
	BatchTokens int `yaml:"batch_tokens" json:"batch_tokens"`
	// Optim is the optimizer with its learning-rate schedule.
	Optim optim.Config `yaml:",inline" json:"optim"`
}

// Defaults returns the settings that reached the lowest loss with a small
// model on a small corpus.
func Defaults() Config {
	o := optim.Config{
		LR:          2e-3,
		Beta1:       0.9,
		Beta2:       0.98,
		Eps:         1e-8,
		WeightDecay: 0.05,
		Clip:        1,
		Schedule:    optim.Cosine,
		Warmup:      50,
		Floor:       0.05,
		EpsStyle:    optim.Torch,
	}
	return Config{Tokens: 2_000_000, BlockSize: 64, BatchTokens: 512, Optim: o}
}

// Validate returns an error that names the first field out of range and the
// range, or nil.
func (c Config) Validate() error {
	for _, f := range []struct {
		name            string
		value, min, max int
	}{
		{"block_size", c.BlockSize, 2, 1 << 16}, // two: the first token of a row is no target
		{"batch_tokens", c.BatchTokens, c.BlockSize, 1 << 20},
		{"tokens", c.Tokens, c.BatchTokens, 1 << 40},
	} {
		if f.value < f.min || f.value > f.max {
			return fmt.Errorf("%s is %d: want %d to %d", f.name, f.value, f.min, f.max)
		}
	}
	if c.BatchTokens%c.BlockSize != 0 {
		return fmt.Errorf("batch_tokens is %d: want a multiple of block_size, %d", c.BatchTokens, c.BlockSize)
	}
	if err := c.Optim.Validate(); err != nil {
		return err
	}
	return nil
}
