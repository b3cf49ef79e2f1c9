package reward

import (
	"testing"

	"github.com/trimtab/trimtab/tensor"
	"github.com/trimtab/trimtab/train/traintest"
)

// fields are all that a Trainer holds, by what becomes of it between steps.
var fields = traintest.Fields{
	"config": traintest.Input, "in": traintest.Input, "order": traintest.Input,
	"grad": traintest.Scratch, "pass": traintest.Scratch,
	"epoch": traintest.Scratch, "perm": traintest.Scratch, // a function of order and of the step
}.With("scorer", traintest.Model).With("adam", traintest.AdamW)

func TestStateIsAllThereIs(t *testing.T) {
	for name, scalar := range map[string]bool{"from a language model": false, "from a reward model": true} {
		t.Run(name, func(t *testing.T) {
			pool := tensor.NewPool(2)
			defer pool.Close()
			c := config()
			c.Batch = 10
			traintest.Case[*Trainer]{Fields: fields, New: func(t *testing.T) *Trainer {
				in := inputs()
				in.Pool = pool
				if scalar {
					in.Model = newTrainer(t, c, in).scorer
				}
				return newTrainer(t, c, in)
			}, Result: func(_ *testing.T, tr *Trainer) any { return tr.Result() }}.Run(t)
		})
	}
}
