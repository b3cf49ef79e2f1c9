package sft

import (
	"fmt"

	"github.com/trimtab/trimtab/optim"
)

// Version of the stage: the same version, config, inputs and seed give the same bytes.
const Version = 1

// Config says for how long and with which optimizer.
type Config struct {
	Epochs int `yaml:"epochs" json:"epochs"` // passes over the demonstrations
	Batch  int `yaml:"batch" json:"batch"`   // sequences of one update
	// PretrainMix is the share of a batch that is pretraining rows instead of
	// demonstrations (InstructGPT C.3 mixes in 10 %). 0 needs no rows.
	PretrainMix float64      `yaml:"pretrain_mix" json:"pretrain_mix"`
	Optim       optim.Config `yaml:"optim" json:"optim"`
}

// Defaults are the settings that suited a thousand short demonstrations.
func Defaults() Config {
	o := optim.Default()
	o.LR, o.Beta1, o.Beta2, o.Eps, o.WeightDecay, o.Clip = 5e-4, 0.9, 0.98, 1e-8, 0.01, 1
	o.Schedule, o.Warmup, o.Floor = "cosine", 0, 0.1
	return Config{Epochs: 3, Batch: 32, Optim: o}
}

// Validate names the first field that is out of range.
func (c Config) Validate() error {
	if c.Epochs < 1 || c.Epochs > 1000 {
		return fmt.Errorf("epochs is %d: want 1 to 1000", c.Epochs)
	}
	if c.Batch < 1 || c.Batch > 4096 {
		return fmt.Errorf("batch is %d: want 1 to 4096", c.Batch)
	}
	if !(c.PretrainMix >= 0 && c.PretrainMix < 1) {
		return fmt.Errorf("pretrain_mix is %g: want 0 up to but not including 1", c.PretrainMix)
	}
	if rows := c.pretrainRows(); rows == c.Batch {
		return fmt.Errorf("pretrain_mix is %g: it leaves no demonstration in a batch of %d", c.PretrainMix, c.Batch)
	}
	if err := c.Optim.Validate(); err != nil {
		return fmt.Errorf("optim: %w", err)
	}
	return nil
}

// rowOrder of pretraining text in a batch; the rest are demonstrations.
func (c Config) pretrainRows() int { return int(float64(float64(c.Batch)*c.PretrainMix) + 0.5) }
