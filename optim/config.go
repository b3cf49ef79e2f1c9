// Package optim moves the parameters of a model along its gradient: AdamW with
// decoupled weight decay, learning-rate schedules with a warm-up and a floor,
// and clipping by the global norm of the gradient.
//
// The state between steps is the two moments m and v, one slab each in the
// layout of the model's parameters. The number of the update is given with each
// step, so that there is no counter to save, and a resumed run takes the same
// steps. Bits depend neither on the number of workers nor on the machine.
package optim

import (
	"fmt"
	"slices"
	"strings"
)

// Config is an optimizer and its schedule. Its YAML names are those of Hugging Face's TrainingArguments; its JSON
// names are part of stored documents.
type Config struct {
	LR          float64 `yaml:"learning_rate" json:"lr"` // the highest: at the end of the warm-up
	Beta1       float64 `yaml:"adam_beta1" json:"beta1"`
	Beta2       float64 `yaml:"adam_beta2" json:"beta2"`
	Eps         float64 `yaml:"adam_epsilon" json:"eps"`
	WeightDecay float64 `yaml:"weight_decay" json:"weight_decay"`    // of the ranges given to New
	Clip        float64 `yaml:"max_grad_norm" json:"clip"`           // largest global norm of the gradient; 0 = none
	Schedule    string  `yaml:"lr_scheduler_type" json:"schedule"`   // constant, linear or cosine
	Warmup      int     `yaml:"warmup_steps" json:"warmup"`          // steps of linear warm-up
	Floor       float64 `yaml:"min_lr_ratio" json:"floor"`           // learning rate at the end, as a fraction of LR
	EpsStyle    string  `yaml:"adam_epsilon_style" json:"eps_style"` // torch or tensorflow: where Eps is added
}

// The values of Schedule and EpsStyle.
const (
	Constant   = "constant"
	Linear     = "linear"
	Cosine     = "cosine"
	Torch      = "torch"
	TensorFlow = "tensorflow"
)

// Default returns GPT-3's AdamW (Brown et al., 2020, appendix B): betas .9 and .95, decay .1, clipping at 1, and a
// cosine to a tenth of the rate.
func Default() Config {
	return Config{LR: 3e-4, Beta1: .9, Beta2: .95, Eps: 1e-8, WeightDecay: .1, Clip: 1,
		Schedule: Cosine, Warmup: 0, Floor: .1, EpsStyle: Torch}
}

// Validate returns an error that names the first field out of its range, and the range.
func (c Config) Validate() error {
	for _, f := range []struct {
		name  string
		value float64
		ok    bool
		want  string
	}{
		{"learning_rate", c.LR, c.LR > 0 && c.LR <= 10, "above 0, at most 10"},
		{"adam_beta1", c.Beta1, c.Beta1 >= 0 && c.Beta1 < 1, "at least 0, below 1"},
		{"adam_beta2", c.Beta2, c.Beta2 >= 0 && c.Beta2 < 1, "at least 0, below 1"},
		{"adam_epsilon", c.Eps, c.Eps >= 1e-30 && c.Eps <= 1, "1e-30 to 1"},
		{"weight_decay", c.WeightDecay, c.WeightDecay >= 0 && c.WeightDecay <= 10, "0 to 10"},
		{"max_grad_norm", c.Clip, c.Clip >= 0 && c.Clip <= 1e9, "0 (no clipping) to 1e9"},
		{"warmup_steps", float64(c.Warmup), c.Warmup >= 0 && c.Warmup <= 1e9, "0 to 1e9 steps"},
		{"min_lr_ratio", c.Floor, c.Floor >= 0 && c.Floor <= 1, "0 to 1, a fraction of learning_rate"},
	} {
		if !f.ok {
			return fmt.Errorf("%s: %g is out of range, allowed: %s", f.name, f.value, f.want)
		}
	}
	if err := oneOf("lr_scheduler_type", c.Schedule, Constant, Linear, Cosine); err != nil {
		return err
	}
	return oneOf("adam_epsilon_style", c.EpsStyle, Torch, TensorFlow)
}

// oneOf returns an error unless value is one of allowed.
func oneOf(name, value string, allowed ...string) error {
	if slices.Contains(allowed, value) {
		return nil
	}
	return fmt.Errorf("%s: %q is unknown, allowed: %s", name, value, strings.Join(allowed, ", "))
}
