package model_test

import (
	"fmt"
	"slices"

	"github.com/trimtab/trimtab/draw"
	"github.com/trimtab/trimtab/model"
	"github.com/trimtab/trimtab/optim"
	"github.com/trimtab/trimtab/tensor"
)

// A small model learns one sequence by heart and continues it.
func Example() {
	m := model.New(model.Config{Layers: 1, Width: 16, Heads: 2, Context: 8, Vocab: 10}, false)
	m.Init(draw.New(1, "example"))
	pool := tensor.NewPool(2)
	defer pool.Close()
	ps := model.NewPass(pool)

	const steps = 60
	c := optim.Default()
	c.LR = 1e-2
	adam := optim.New(c, len(m.Slab), m.DecayRanges())
	batch, targets := model.NextTokens([][]int32{{3, 1, 4, 1, 5, 9, 2, 6}}, nil)
	for step := range steps {
		g, loss := m.NewGradient(), float32(0)
		ps.Forward(m, batch)
		// The loss is the mean negative log-likelihood: each log-probability has the same gradient.
		dlogp := slices.Repeat([]float32{-1 / float32(len(targets))}, len(targets))
		for _, logp := range ps.WeightedLogProbs(m, g, targets, 1, dlogp).LogP {
			loss -= logp / float32(len(targets))
		}
		ps.BackwardBody(m, g)
		adam.Step(m.Slab, m.FoldGradient(pool, g), step, steps)
		if step == 0 || step == steps-1 {
			fmt.Printf("step %d: loss %.3f\n", step, loss)
		}
	}
	prompts := [][]int32{{3, 1, 4}}
	greedy := model.SampleOptions{MaxNewTokens: 5}
	fmt.Println(model.Generate(ps, m, prompts, greedy, draw.New(1, "sample"), 0)[0].Tokens)
	// Output:
	// step 0: loss 2.377
	// step 59: loss 0.041
	// [1 5 9 2 6]
}
