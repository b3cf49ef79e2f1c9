package optim

import (
	"fmt"
	"math"

	"github.com/trimtab/trimtab/tensor"
)

// AdamW is Adam with decoupled weight decay (Loshchilov & Hutter, "Decoupled Weight Decay Regularization", 2019,
// algorithm 2). With t = step+1, ĝ the clipped gradient and d the decay where it applies:
//
//	m = β1·m + (1-β1)·ĝ,  v = β2·v + (1-β2)·ĝ²
//	torch:       w = w·(1 - lr·d) - lr/(1-β1^t) · m / (√v/√(1-β2^t) + eps)
//	tensorflow:  w = w·(1 - lr·d) - lr·√(1-β2^t)/(1-β1^t) · m / (√v + eps)
//
// TensorFlow's eps is added outside the bias correction, and is therefore larger in effect in the first steps.
// lm-human-preferences was trained so (Huang, Liu & von Werra, "The N Implementation Details of RLHF with PPO",
// 2023).
//
// An AdamW serves one goroutine, and one model.
type AdamW struct {
	Pool *tensor.Pool // workers of the sweep; nil runs on the caller

	// Average, if not nil, is an exponential moving average of the weights, as long as they are. It moves towards them
	// at each step, in the same sweep: see tensor.EMA.
	Average      []float32
	AverageDecay float32

	config Config
	m, v   []float32    // (n) first and second moment of the gradient
	parts  []sweepRange // tasks of the sweep
	sums   []float32    // (n/normBlock) squares of the gradient, by block

	w, g  []float32              // (n) of the running step
	now   tensor.AdamWStep       // of the running step, without weight decay
	sweep func(task, worker int) // sweepTask, and below it normTask, bound once so that a step allocates nothing
	norm  func(task, worker int)
}

// sweepRange is a half-open range of the slab, at most sweepPart long, that either decays as a whole or not at all.
type sweepRange struct {
	from, to int
	decays   bool
}

// Work is divided into parts of these sizes whatever the number of workers, which therefore changes no bit.
const (
	sweepPart = 1 << 15 // parameters of a task of the sweep
	normBlock = 1 << 12 // parameters whose squares are summed in float32
)

// New returns an optimizer for a slab of n parameters, with moments of zero. decay lists the half-open ranges that
// weight decay applies to, in ascending order and without overlap: see model.Model.DecayRanges. It panics when c or
// decay is not valid.
func New(c Config, n int, decay [][2]int) *AdamW {
	if err := c.Validate(); err != nil {
		panic("optim.New: " + err.Error())
	}
	a := &AdamW{config: c, m: tensor.Slab(n), v: tensor.Slab(n)}
	at := 0
	for _, r := range decay {
		if r[0] < at || r[1] < r[0] || r[1] > n {
			panic(fmt.Sprintf("optim.New: decay range %v overlaps or leaves the slab of %d", r, n))
		}
		a.add(at, r[0], false)
		a.add(r[0], r[1], true)
		at = r[1]
	}
	a.add(at, n, false)
	a.sums = make([]float32, (n+normBlock-1)/normBlock)
	a.sweep, a.norm = a.sweepTask, a.normTask
	return a
}

// add divides a range into parts.
func (a *AdamW) add(from, to int, decays bool) {
	for ; from < to; from += sweepPart {
		a.parts = append(a.parts, sweepRange{from, min(to, from+sweepPart), decays})
	}
}

// Step is update number step, counted from 0, of steps: it moves w along g, and Average along with it. It returns the
// global norm of g before clipping, and the learning rate. g is left as it is. It allocates nothing.
func (a *AdamW) Step(w, g []float32, step, steps int) (gradNorm, lr float32) {
	if len(w) != len(a.m) || len(g) != len(a.m) {
		panic(fmt.Sprintf("optim: %d weights and %d gradients for an optimizer of %d: see model.Model.FoldGradient",
			len(w), len(g), len(a.m)))
	}
	c := &a.config
	a.w, a.g = w, g
	norm := a.globalNorm()
	scale := 1.
	if c.Clip > 0 && norm > c.Clip {
		scale = c.Clip / norm
	}
	lr = LearningRate(*c, step, steps)
	a.now = tensor.AdamWStep{
		LR:            lr,
		Beta1:         float32(c.Beta1),
		Beta2:         float32(c.Beta2),
		Eps:           float32(c.Eps),
		BiasCorr1:     float32(1 - powInt(c.Beta1, step+1)),
		BiasCorr2:     float32(1 - powInt(c.Beta2, step+1)),
		GradScale:     float32(scale),
		TensorFlowEps: c.EpsStyle == TensorFlow,
	}
	a.Pool.Run(len(a.parts), a.sweep)
	return float32(norm), lr
}

// sweepTask updates one part of the slab, while its weights, moments and gradient are in the cache.
func (a *AdamW) sweepTask(task, _ int) {
	p, now := a.parts[task], a.now
	if p.decays {
		now.WeightDecay = float32(a.config.WeightDecay)
	}
	tensor.AdamW(a.w[p.from:p.to], a.m[p.from:p.to], a.v[p.from:p.to], a.g[p.from:p.to], now)
	if a.Average != nil {
		tensor.EMA(a.Average[p.from:p.to], a.w[p.from:p.to], a.AverageDecay)
	}
}

// globalNorm returns √(Σ g²). The squares of a block are summed by tensor.SumSquares, the blocks in order in float64.
func (a *AdamW) globalNorm() float64 {
	a.Pool.Run(len(a.sums), a.norm)
	sum := 0.
	for _, s := range a.sums {
		sum += float64(s)
	}
	return math.Sqrt(sum)
}

// normTask sums the squares of one block.
func (a *AdamW) normTask(task, _ int) {
	from := task * normBlock
	a.sums[task] = tensor.SumSquares(a.g[from:min(from+normBlock, len(a.g))])
}

// powInt returns b^t by repeated squaring: multiplications only, whose bits are the same on every CPU.
func powInt(b float64, t int) float64 {
	p := 1.
	for ; t > 0; t >>= 1 {
		if t&1 == 1 {
			p = float64(p * b)
		}
		b = float64(b * b)
	}
	return p
}

// State returns the moments m and v as views, named prefix+"m" and prefix+"v". Writing to them restores a checkpoint.
func (a *AdamW) State(prefix string) []tensor.NamedArray {
	n := len(a.m)
	return []tensor.NamedArray{
		{Name: prefix + "m", Shape: []int{n}, Data: a.m},
		{Name: prefix + "v", Shape: []int{n}, Data: a.v},
	}
}
