package optim

import (
	"math"

	"github.com/trimtab/trimtab/tensor"
)

// LearningRate returns the learning rate of a step (counted from 0) among steps:
//
//	step < warmup:  lr·(step+1)/warmup
//	otherwise       lr·(floor + (1-floor)·f(p)),  p = (step-warmup)/(steps-warmup)
//	                f = 1 (constant), 1-p (linear), (1+cos πp)/2 (cosine)
//
// A warm-up begins above 0, so that its first step is not lost. The floor would be reached by the step after the
// last; steps beyond that stay on it. The cosine is package tensor's, whose bits are the same on every machine.
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
		f = (1 + float64(tensor.Cos1(float32(math.Pi*p)))) / 2
	}
	return float32(c.LR * (c.Floor + float64((1-c.Floor)*f)))
}
