package pretrain

import (
	"fmt"

	"github.com/trimtab/trimtab/optim"
)

// Version of the stage: the same version, config, inputs and seed give the same bytes.
const Version = 1

// Config says for how long and with which optimizer.
type Config struct {
	Tokens int `yaml:"tokens" json:"tokens"` // to train on, over all epochs
	// length of a row; the caller packs rows of this length
	RowTokens   int          `yaml:"row_tokens" json:"row_tokens"`
	BatchTokens int          `yaml:"batch_tokens" json:"batch_tokens"` // of one update: a multiple of RowTokens
	Optim       optim.Config `yaml:"optim" json:"optim"`
}

// Defaults are the settings that taught a small model a small world best.
func Defaults() Config {
	o := optim.Default()
	o.LR, o.Beta1, o.Beta2, o.Eps, o.WeightDecay, o.Clip = 2e-3, 0.9, 0.98, 1e-8, 0.05, 1
	o.Schedule, o.Warmup, o.Floor = "cosine", 50, 0.05
	return Config{Tokens: 2_000_000, RowTokens: 64, BatchTokens: 512, Optim: o}
}

// Validate names the first field that is out of range.
func (c Config) Validate() error {
	for _, f := range []struct {
		name           string
		v, least, most int
	}{
		{"row_tokens", c.RowTokens, 2, 1 << 16},
		{"batch_tokens", c.BatchTokens, c.RowTokens, 1 << 20},
		{"tokens", c.Tokens, c.BatchTokens, 1 << 40},
	} {
		if f.v < f.least || f.v > f.most {
			return fmt.Errorf("%s is %d: want %d to %d", f.name, f.v, f.least, f.most)
		}
	}
	if c.BatchTokens%c.RowTokens != 0 {
		return fmt.Errorf("batch_tokens is %d: want a multiple of row_tokens, %d", c.BatchTokens, c.RowTokens)
	}
	if err := c.Optim.Validate(); err != nil {
		return fmt.Errorf("optim: %w", err)
	}
	return nil
}
