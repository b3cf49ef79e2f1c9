package sft

import (
	"testing"

	"github.com/trimtab/trimtab/tensor"
	"github.com/trimtab/trimtab/train/traintest"
)

// fields are all that a Trainer holds, by what becomes of it between steps.
var fields = traintest.Fields{
	"config": traintest.Input, "in": traintest.Input, "grad": traintest.Scratch, "pass": traintest.Scratch,
}.With("examples", traintest.Cycle).With("rows", traintest.Cycle).With("policy", traintest.Model).With("adam", traintest.AdamW)

func TestStateIsAllThereIs(t *testing.T) {
	for name, mix := range map[string]float64{"demonstrations": 0, "pretrain_mix": .3} {
		t.Run(name, func(t *testing.T) {
			pool := tensor.NewPool(2)
			defer pool.Close()
			c := config()
			c.PretrainMix = mix
			traintest.Case[*Trainer]{Fields: fields, New: func(t *testing.T) *Trainer {
				in := inputs()
				in.Pool = pool
				return newTrainer(t, c, in)
			}, Result: func(_ *testing.T, tr *Trainer) any { return tr.Result() }}.Run(t)
		})
	}
}
