// Package optim moves the parameters of a model along its gradient: AdamW with
// decoupled weight decay, learning-rate schedules with a warm-up and a floor,
// and clipping by the global norm.
//
// State between steps is the two moments m and v, one slab each in the layout
// of the model's. The number of the update is given with each step, so that
// there is no counter to save and a resumed run takes the same steps.
package optim

import (
	"fmt"
	"slices"
	"strings"

	"github.com/trimtab/trimtab/tensor"
)

// Config is an optimizer and its schedule.
type Config struct {
	LR          float64 `yaml:"lr" json:"lr"` // at the end of the warm-up
	Beta1       float64 `yaml:"beta1" json:"beta1"`
	Beta2       float64 `yaml:"beta2" json:"beta2"`
	Eps         float64 `yaml:"eps" json:"eps"`
	WeightDecay float64 `yaml:"weight_decay" json:"weight_decay"` // of 2-D weights only
	Clip        float64 `yaml:"clip" json:"clip"`                 // largest global norm of the gradient; 0 = none
	Schedule    string  `yaml:"schedule" json:"schedule"`         // constant, linear or cosine
	Warmup      int     `yaml:"warmup" json:"warmup"`             // steps of linear warm-up
	Floor       float64 `yaml:"floor" json:"floor"`               // learning rate at the end, as a fraction of LR
	EpsStyle    string  `yaml:"eps_style" json:"eps_style"`       // torch or tensorflow: where Eps is added
}

// The values of Schedule and EpsStyle.
const (
	Constant   = "constant"
	Linear     = "linear"
	Cosine     = "cosine"
	Torch      = "torch"
	TensorFlow = "tensorflow"
)

// Default is GPT-3's AdamW: betas .9 and .95, decay .1, clipping at 1, cosine to a tenth.
func Default() Config {
	return Config{LR: 3e-4, Beta1: .9, Beta2: .95, Eps: 1e-8, WeightDecay: .1, Clip: 1,
		Schedule: Cosine, Warmup: 0, Floor: .1, EpsStyle: Torch}
}

// Validate names the first field out of its range, and the range.
func (c Config) Validate() error {
	for _, f := range []struct {
		name  string
		value float64
		ok    bool
		want  string
	}{
		{"lr", c.LR, c.LR > 0 && c.LR <= 10, "above 0, at most 10"},
		{"beta1", c.Beta1, c.Beta1 >= 0 && c.Beta1 < 1, "at least 0, below 1"},
		{"beta2", c.Beta2, c.Beta2 >= 0 && c.Beta2 < 1, "at least 0, below 1"},
		{"eps", c.Eps, c.Eps >= 1e-30 && c.Eps <= 1, "1e-30 to 1"},
		{"weight_decay", c.WeightDecay, c.WeightDecay >= 0 && c.WeightDecay <= 10, "0 to 10"},
		{"clip", c.Clip, c.Clip >= 0 && c.Clip <= 1e9, "0 (no clipping) to 1e9"},
		{"warmup", float64(c.Warmup), c.Warmup >= 0 && c.Warmup <= 1e9, "0 to 1e9 steps"},
		{"floor", c.Floor, c.Floor >= 0 && c.Floor <= 1, "0 to 1, a fraction of lr"},
	} {
		if !f.ok {
			return fmt.Errorf("%s: %g is out of range, allowed: %s", f.name, f.value, f.want)
		}
	}
	if err := oneOf("schedule", c.Schedule, Constant, Linear, Cosine); err != nil {
		return err
	}
	return oneOf("eps_style", c.EpsStyle, Torch, TensorFlow)
}

func oneOf(name, value string, allowed ...string) error {
	if slices.Contains(allowed, value) {
		return nil
	}
	return fmt.Errorf("%s: %q is unknown, allowed: %s", name, value, strings.Join(allowed, ", "))
}

// LearningRate is the learning rate of a step (counted from 0) among steps:
//
//	step < warmup:  lr·(step+1)/warmup
//	otherwise       lr·(floor + (1-floor)·f(p)),  p = (step-warmup)/(steps-warmup)
//	                f = 1 (constant), 1-p (linear), (1+cos πp)/2 (cosine)
//
// so that the floor would be reached by the step after the last; a step beyond
// that stays on the floor.
func LearningRate(c Config, step, steps int) float32 {
	if step < c.Warmup {
		return float32(c.LR * float64(step+1) / float64(c.Warmup))
	}
	p := 1.
	if span := steps - c.Warmup; span > 0 {
		p = min(1, float64(step-c.Warmup)/float64(span))
	}
	f := 1.
	switch c.Schedule {
	case Linear:
		f = 1 - p
	case Cosine:
		f = (1 + float64(tensor.Cos1(float32(pi*p)))) / 2
	}
	return float32(c.LR * (c.Floor + float64((1-c.Floor)*f)))
}

const pi = 3.14159265358979323846264338327950288
