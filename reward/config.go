package reward

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
	// Epochs is the number of passes over the rankings. More than two or three
	// overfit.
	Epochs int `yaml:"num_train_epochs" json:"epochs"`
	// Batch is the number of rankings of one update, each with all its pairs.
	Batch int          `yaml:"batch_size" json:"batch"`
	Optim optim.Config `yaml:",inline" json:"optim"`
}

// Defaults returns settings that suit a few hundred rankings of 4 to 9 short
// responses.
func Defaults() Config {
	o := optim.Config{
		LR:          5e-4,
		Beta1:       0.9,
		Beta2:       0.98,
		Eps:         1e-8,
		WeightDecay: 0.05,
		Clip:        1,
		Schedule:    optim.Cosine,
		Warmup:      10,
		Floor:       0.1,
		EpsStyle:    optim.Torch,
	}
	return Config{Epochs: 2, Batch: 4, Optim: o}
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
	if err := c.Optim.Validate(); err != nil {
		return err
	}
	return nil
}
