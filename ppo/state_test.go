package ppo

import (
	"testing"

	"github.com/trimtab/trimtab/tensor"
	"github.com/trimtab/trimtab/train/traintest"
)

// fields are all that a Trainer holds, by what becomes of it between steps.
// There is no average of the policies without ema_decay.
func fields(average bool) traintest.Fields {
	f := traintest.Fields{
		"config": traintest.Input, "in": traintest.Input, "in.Scorer.seen": traintest.Scratch, "pass": traintest.Scratch, "micro": traintest.Input,
		"beta": traintest.State, "scale": traintest.State, "sampling": traintest.Input, "shuffle": traintest.Input,
	}.With("prompts", traintest.Cycle).With("rows", traintest.Cycle)
	for _, network := range []string{"policy", "value"} {
		f = f.With(network, traintest.Fields{"grad": traintest.Scratch}).With(network+".m", traintest.Model).With(network+".adam", traintest.AdamW)
	}
	if !average {
		return f.With("ema", traintest.Fields{"": traintest.State})
	}
	return f.With("ema", traintest.Model)
}

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
			traintest.Case[*Trainer]{Fields: fields(c.EMADecay > 0), New: func(t *testing.T) *Trainer {
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
