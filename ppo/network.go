package ppo

import (
	"github.com/trimtab/trimtab/model"
	"github.com/trimtab/trimtab/optim"
	"github.com/trimtab/trimtab/tensor"
)

// network is a model in training with its gradient and its optimizer. PPO
// trains two: the policy (actor) and the value model (critic). They share no
// weights.
type network struct {
	model *model.Model
	grad  []float32 // in the layout of model.NewGradient
	adam  *optim.AdamW
}

// newNetwork returns a network that trains m in place.
func newNetwork(pool *tensor.Pool, m *model.Model, c optim.Config) *network {
	n := &network{model: m, grad: m.NewGradient(), adam: optim.New(c, len(m.Slab), m.DecayRanges())}
	n.adam.Pool = pool
	return n
}

// zeroGrad clears the gradient.
func (n *network) zeroGrad() { n.adam.Pool.Clear(n.grad) }

// step performs the 0-based update number of total with the accumulated
// gradient. It returns the gradient's global norm before clipping, and the
// learning rate.
func (n *network) step(number, total int) (gradNorm, lr float32) {
	return n.adam.Step(n.model.Slab, n.model.FoldGradient(n.adam.Pool, n.grad), number, total)
}
