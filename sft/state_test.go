package sft

import (
	"testing"

	"github.com/trimtab/trimtab/tensor"
	"github.com/trimtab/trimtab/train/traintest"
)

func TestStateIsAllThereIs(t *testing.T) {
	for name, mix := range map[string]float64{"demonstrations": 0, "pretrain_mix": .3} {
		t.Run(name, func(t *testing.T) {
			pool := tensor.NewPool(2)
			defer pool.Close()
			c := config()
			c.PretrainMix = mix
			traintest.Case[*Trainer]{Fields: traintest.SFT, New: func(t *testing.T) *Trainer {
				in := inputs()
				in.Pool = pool
				return newTrainer(t, c, in)
			}, Result: func(_ *testing.T, tr *Trainer) any { return tr.Result() }}.Run(t)
		})
	}
}
