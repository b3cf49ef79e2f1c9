package pretrain

import (
	"testing"

	"github.com/trimtab/trimtab/tensor"
	"github.com/trimtab/trimtab/train/traintest"
)

func TestStateIsAllThereIs(t *testing.T) {
	c := config()
	c.Tokens = 6 * c.BatchTokens // more than two epochs
	for name, workers := range map[string]int{"alone": 1, "pool": 3} {
		t.Run(name, func(t *testing.T) {
			pool := tensor.NewPool(workers)
			defer pool.Close()
			traintest.Case[*Trainer]{Fields: traintest.Pretrain, New: func(t *testing.T) *Trainer {
				in := inputs()
				in.Pool = pool
				return newTrainer(t, c, in)
			}, Result: func(_ *testing.T, tr *Trainer) any { return tr.Result() }}.Run(t)
		})
	}
}
