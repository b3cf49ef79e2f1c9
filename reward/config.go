package reward

import (
	"fmt"

	"github.com/trimtab/trimtab/optim"
)

// Version of the stage: the same version, config, inputs and seed give the same bytes.
const Version = 1

// Config says for how long and with which optimizer.
type Config struct {
	Epochs int          `yaml:"epochs" json:"epochs"` // passes over the rankings; more than two or three overfit
	Batch  int          `yaml:"batch" json:"batch"`   // rankings of one update, each with all its pairs
	Optim  optim.Config `yaml:"optim" json:"optim"`
}

// Defaults are the settings that suited some hundred rankings of 4 to 9 short responses.
func Defaults() Config {
	o := optim.Default()
	o.LR, o.Beta1, o.Beta2, o.Eps, o.WeightDecay, o.Clip = 5e-4, 0.9, 0.98, 1e-8, 0.05, 1
	o.Schedule, o.Warmup, o.Floor = "cosine", 10, 0.1
	return Config{Epochs: 2, Batch: 4, Optim: o}
}

// Validate names the first field that is out of range.
func (c Config) Validate() error {
	if c.Epochs < 1 || c.Epochs > 1000 {
		return fmt.Errorf("epochs is %d: want 1 to 1000", c.Epochs)
	}
	if c.Batch < 1 || c.Batch > 4096 {
		return fmt.Errorf("batch is %d: want 1 to 4096", c.Batch)
	}
	if err := c.Optim.Validate(); err != nil {
		return fmt.Errorf("optim: %w", err)
	}
	return nil
}
