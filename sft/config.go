package sft

import (
	"fmt"

	"github.com/trimtab/trimtab/optim"
)

// Version of the stage: the same version, config, inputs and seed give the
// same bytes. It is part of a stage's cache key, so a change of the arithmetic
// has to raise it.
const Version = 1

// Config says how long to train and with which optimizer.
type Config struct {
	Epochs int `yaml:"num_train_epochs" json:"epochs"` // passes over the demonstrations
	Batch  int `yaml:"batch_size" json:"batch"`        // sequences of one update
	// PretrainMix is the share of a batch that is pretraining rows instead of
	// demonstrations (InstructGPT C.3 mixes in 10 %). 0, the default, needs no
	// rows.
	PretrainMix float64      `yaml:"pretrain_mix" json:"pretrain_mix"`
	Optim       optim.Config `yaml:",inline" json:"optim"`
}

// Defaults returns settings that suit about a thousand short demonstrations.
func Defaults() Config {
	o := optim.Config{
		LR:          5e-4,
		Beta1:       0.9,
		Beta2:       0.98,
		Eps:         1e-8,
		WeightDecay: 0.01,
		Clip:        1,
		Schedule:    optim.Cosine,
		Warmup:      0,
		Floor:       0.1,
		EpsStyle:    optim.Torch,
	}
	return Config{Epochs: 3, Batch: 32, Optim: o}
}

// Validate returns an error that names the first field out of range and the
// range, or nil.
func (c Config) Validate() error {
	if c.Epochs < 1 || c.Epochs > 1000 {
		return fmt.Errorf("num_train_epochs is %d: want 1 to 1000", c.Epochs)
	}
	if c.Batch < 1 || c.Batch > 4096 {
		return fmt.Errorf("batch_size is %d: want 1 to 4096", c.Batch)
	}
	if !(c.PretrainMix >= 0 && c.PretrainMix < 1) { // negated, so that NaN fails too
		return fmt.Errorf("pretrain_mix is %g: want at least 0 and less than 1", c.PretrainMix)
	}
	if rows := c.pretrainRows(); rows == c.Batch {
		return fmt.Errorf("pretrain_mix is %g: it leaves no demonstration in a batch of %d", c.PretrainMix, c.Batch)
	}
	if err := c.Optim.Validate(); err != nil {
		return err
	}
	return nil
}

// pretrainRows is the number of pretraining rows in a batch, rounded to the
// nearest whole row; the other sequences are demonstrations. The inner
// conversion keeps the product from being fused with the addition, which would
// round differently on some processors.
func (c Config) pretrainRows() int { return int(float64(float64(c.Batch)*c.PretrainMix) + 0.5) }
