package reward

import (
	"testing"

	"github.com/trimtab/trimtab/tensor"
	"github.com/trimtab/trimtab/train/traintest"
)

func TestStateIsAllThereIs(t *testing.T) {
	for name, scalar := range map[string]bool{"from a language model": false, "from a reward model": true} {
		t.Run(name, func(t *testing.T) {
			pool := tensor.NewPool(2)
			defer pool.Close()
			c := config()
			c.Batch = 10
			traintest.Case[*Trainer]{Fields: traintest.Reward, New: func(t *testing.T) *Trainer {
				in := inputs()
				in.Pool = pool
				if scalar {
					in.Model = newTrainer(t, c, in).model
				}
				return newTrainer(t, c, in)
			}, Result: func(_ *testing.T, tr *Trainer) any { return tr.Result() }}.Run(t)
		})
	}
}
