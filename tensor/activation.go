package tensor

import (
	"fmt"
	"math"
)

// Activation is the function f of an MLP. Its names are those of Hugging Face.
type Activation int

// The activations.
const (
	GeluTanh    Activation = iota // gelu_pytorch_tanh: see [Gelu]
	GeluErf                       // gelu: x·Φ(x) (Hendrycks & Gimpel, 2016)
	ReLU                          // relu: max(x, 0)
	ReLUSquared                   // relu2: max(x, 0)² (So et al., "Primer", 2021)
	SiLU                          // silu: x/(1 + e**-x) (Elfwing et al., 2018)
)

// String returns Hugging Face's name.
func (a Activation) String() string {
	names := [...]string{"gelu_pytorch_tanh", "gelu", "relu", "relu2", "silu"}
	if a < 0 || int(a) >= len(names) {
		return fmt.Sprintf("Activation(%d)", int(a))
	}
	return names[a]
}

// activationBlock is the number of elements whose exponentials are in memory at once.
const activationBlock = 256

// Forward sets y to f(x), element by element. y may be x.
//
// GeluErf takes Φ from formula 7.1.26 of Abramowitz & Stegun (1964), whose error is 8e-8: the worst error is 5e-7 in
// absolute terms, for x up to 4. That of SiLU is 3 units in the last place for x above -86, below which it is 0.
func (a Activation) Forward(y, x []float32) {
	sameLength("Activation.Forward", len(y), len(x))
	if a == GeluTanh {
		Gelu(y, x)
		return
	}
	for from := 0; from < len(x); from += activationBlock {
		to := min(len(x), from+activationBlock)
		a.block(y[from:to], nil, x[from:to])
	}
}

// ForwardBackward sets y to f(x) and dx to dy·f'(x). It is for backward passes that need the activation again and did
// not keep it. dx may be dy.
func (a Activation) ForwardBackward(dx, x, dy, y []float32) {
	sameLength("Activation.ForwardBackward", len(dx), len(x), len(dy), len(y))
	if a == GeluTanh {
		GeluForwardBackward(dx, x, dy, y)
		return
	}
	var slope [activationBlock]float32
	for from := 0; from < len(x); from += activationBlock {
		to := min(len(x), from+activationBlock)
		s := slope[:to-from]
		a.block(y[from:to], s, x[from:to])
		for i, d := range dy[from:to] {
			dx[from+i] = d * s[i]
		}
	}
}

// Gated sets y to f(gate)·up (Shazeer, "GLU Variants Improve Transformer", 2020).
func (a Activation) Gated(y, gate, up []float32) {
	sameLength("Activation.Gated", len(y), len(gate), len(up))
	a.Forward(y, gate)
	Mul(y, up)
}

// GatedBackward sets y to f(gate)·up, with the bits of [Activation.Gated], dgate to dy·up·f'(gate), and dup to
// dy·f(gate). No two of the slices may be the same.
func (a Activation) GatedBackward(dgate, dup, y, gate, up, dy []float32) {
	sameLength("Activation.GatedBackward", len(dgate), len(dup), len(y), len(gate), len(up), len(dy))
	copy(dup, dy)
	Mul(dup, up)
	a.ForwardBackward(dgate, gate, dup, y)
	copy(dup, dy)
	Mul(dup, y)
	Mul(y, up)
}

// block sets y to f(x) and, unless it is nil, slope to f'(x), for at most activationBlock elements. y may be x.
func (a Activation) block(y, slope, x []float32) {
	var exps [activationBlock]float32
	e := exps[:len(x)]
	switch a {
	case GeluErf:
		for i, v := range x {
			e[i] = -float32(.5 * float32(v*v))
		}
		Exp(e, e)
		geluErf(y, slope, x, e)
	case SiLU:
		for i, v := range x {
			e[i] = -v
		}
		Exp(e, e)
		silu(y, slope, x, e)
	case ReLU:
		relu(y, slope, x)
	case ReLUSquared:
		reluSquared(y, slope, x)
	case GeluTanh:
		panic("tensor.Activation: the tanh form of GELU has kernels of its own")
	}
}

// silu is SiLU given e = e**-x: with s = 1/(1+e),
//
//	f = x/(1+e),  f' = s + s·(e·s)·x
func silu(y, slope, x, e []float32) {
	for i, v := range x {
		if slope != nil {
			s := 1 / (1 + e[i])
			rest := float32(min(e[i], math.MaxFloat32) * s) // 1-s; Inf·0 would be NaN where s is 0
			slope[i] = s + float32(float32(s*rest)*v)
		}
		y[i] = v / (1 + e[i])
	}
}

// Constants of formula 7.1.26 of Abramowitz & Stegun, for u = |x|/√2 and halved, and of the normal density.
const (
	erfP         = .3275911 * math.Sqrt2 / 2
	erfA1        = .254829592 / 2
	erfA2        = -.284496736 / 2
	erfA3        = 1.421413741 / 2
	erfA4        = -1.453152027 / 2
	erfA5        = 1.061405429 / 2
	inverseRoot2 = .3989422804014327 // 1/√(2π)
)

// geluErf is GeluErf given e = e**(-x²/2): with t = 1/(1 + p|x|) and q = Φ(-|x|) = t·(a1 + t·(a2 + …))·e,
//
//	f = x·Φ(x),  f' = Φ(x) + x·e/√(2π)
func geluErf(y, slope, x, e []float32) {
	for i, v := range x {
		t := 1 / (1 + float32(erfP*float32(math.Abs(float64(v)))))
		q := float32(t*erfA5) + erfA4
		q = float32(t*q) + erfA3
		q = float32(t*q) + erfA2
		q = float32(t*q) + erfA1
		phi := float32(float32(t*q) * e[i])
		if v > 0 {
			phi = 1 - phi
		}
		if slope != nil {
			slope[i] = phi + float32(float32(v*e[i])*inverseRoot2)
		}
		y[i] = v * phi
	}
}

// relu is ReLU; its slope at 0 is 0, as PyTorch's.
func relu(y, slope, x []float32) {
	for i, v := range x {
		f, s := v, float32(1)
		if !(v > 0) && v == v {
			f, s = 0, 0
		}
		y[i] = f
		if slope != nil {
			slope[i] = s
		}
	}
}

// reluSquared is ReLUSquared.
func reluSquared(y, slope, x []float32) {
	for i, v := range x {
		f := v
		if !(v > 0) && v == v {
			f = 0
		}
		y[i] = f * f
		if slope != nil {
			slope[i] = 2 * f
		}
	}
}
