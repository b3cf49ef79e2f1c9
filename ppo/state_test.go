package ppo

import (
	"testing"

	"github.com/trimtab/trimtab/tensor"
	"github.com/trimtab/trimtab/train/traintest"
)

func TestEveryFieldIsAccountedFor(t *testing.T) {
	full := fullConfig()
	for name, c := range map[string]Config{
		"plain":               toyConfig(),
		"everything":          full,
		"the average":         with(func(c *Config) { c.EMADecay = .9 }),
		"adaptive KL":         with(func(c *Config) { c.KLController, c.KLTarget, c.KLHorizon = KLAdaptive, .01, 100 }),
		"pretraining":         with(func(c *Config) { c.PtxCoef, c.PtxRows = .5, 2 }),
		"the value warmed up": with(func(c *Config) { c.ValueWarmup = 2 }),
		"scores as they come": with(func(c *Config) { c.ScoreSamples, c.MissingEOS = 0, EOSIgnore }),
	} {
		t.Run(name, func(t *testing.T) {
			pool := tensor.NewPool(2)
			defer pool.Close()
			fields := traintest.PPO
			if c.EMADecay > 0 {
				fields = traintest.PPOAverage
			}
			fields = fields.With("in.Scorer", traintest.Fields{"seen": traintest.Scratch})
			traintest.Case[*Trainer]{Fields: fields, New: func(t *testing.T) *Trainer {
				in := toyInputs()
				in.Pool = pool
				return newToy(t, c, in)
			}, Result: func(_ *testing.T, tr *Trainer) any { return tr.Result() }}.Run(t)
		})
	}
}

// with is the toy's config with one thing switched on.
func with(change func(*Config)) Config {
	c := toyConfig()
	change(&c)
	return c
}
