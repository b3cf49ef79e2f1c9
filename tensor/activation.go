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

// activations1 are the activations at one number, alone and with their derivatives.
var activations1 = [...]struct {
	value func(x float32) float32
	both  func(x float32) (f, slope float32)
}{
	GeluTanh:    {gelu1, geluBoth1},
	GeluErf:     {geluErf1, geluErfBoth1},
	ReLU:        {relu1, reluBoth1},
	ReLUSquared: {reluSquared1, reluSquaredBoth1},
	SiLU:        {silu1, siluBoth1},
}

// Forward sets y to f(x), element by element. y may be x.
//
// GeluErf takes Φ from formula 7.1.26 of Abramowitz & Stegun (1964), whose error is 8e-8: the worst error is 5e-7 in
// absolute terms, for x up to 4. That of SiLU is 3 units in the last place for x above -86, below which it is 0.
func (a Activation) Forward(y, x []float32) {
	sameLength("Activation.Forward", len(y), len(x))
	if len(x) > 0 {
		a.forwardKernel(y, x)
	}
}

// ForwardBackward sets y to f(x) and dx to dy·f'(x). It is for backward passes that need the activation again and did
// not keep it: both share one exponential. The worst error of f' is 4e-7 for GeluErf and 2e-7 for SiLU. dx may be dy.
func (a Activation) ForwardBackward(dx, x, dy, y []float32) {
	sameLength("Activation.ForwardBackward", len(dx), len(x), len(dy), len(y))
	if len(x) > 0 {
		a.forwardBackwardKernel(dx, x, dy, y)
	}
}

// Gated sets y to f(gate)·up (Shazeer, "GLU Variants Improve Transformer", 2020). y may be gate or up.
func (a Activation) Gated(y, gate, up []float32) {
	sameLength("Activation.Gated", len(y), len(gate), len(up))
	if len(gate) > 0 {
		a.gatedKernel(y, gate, up)
	}
}

// GatedBackward sets y to f(gate)·up, with the bits of [Activation.Gated], dgate to (dy·up)·f'(gate), and dup to
// dy·f(gate). No two of the slices may be the same.
func (a Activation) GatedBackward(dgate, dup, y, gate, up, dy []float32) {
	sameLength("Activation.GatedBackward", len(dgate), len(dup), len(y), len(gate), len(up), len(dy))
	if len(gate) > 0 {
		a.gatedBackwardKernel(dgate, dup, y, gate, up, dy)
	}
}

// forwardPortable is y[i] = f(x[i]).
func (a Activation) forwardPortable(y, x []float32) {
	f := activations1[a].value
	for i, v := range x {
		y[i] = f(v)
	}
}

// forwardBackwardPortable is y[i] = f(x[i]), dx[i] = dy[i] * f'(x[i]).
func (a Activation) forwardBackwardPortable(dx, x, dy, y []float32) {
	both := activations1[a].both
	for i, v := range x {
		f, slope := both(v)
		y[i] = f
		dx[i] = dy[i] * slope
	}
}

// gatedPortable is y[i] = f(gate[i]) * up[i].
func (a Activation) gatedPortable(y, gate, up []float32) {
	f := activations1[a].value
	for i, v := range gate {
		y[i] = f(v) * up[i]
	}
}

// gatedBackwardPortable is y[i] = f(gate[i]) * up[i], dgate[i] = (dy[i]*up[i]) * f'(gate[i]), dup[i] = dy[i] *
// f(gate[i]).
func (a Activation) gatedBackwardPortable(dgate, dup, y, gate, up, dy []float32) {
	both := activations1[a].both
	for i, v := range gate {
		f, slope := both(v)
		y[i] = f * up[i]
		dgate[i] = (dy[i] * up[i]) * slope
		dup[i] = dy[i] * f
	}
}

// geluBoth1 returns gelu1 and its derivative.
func geluBoth1(x float32) (f, slope float32) { return gelu1(x), geluSlope1(x) }

// silu1 returns x/(1 + e**-x).
func silu1(x float32) float32 { return x / (1 + Exp1(-x)) }

// siluBoth1 returns silu1 and its derivative s + (s * (e*s)) * x, with e = e**-x and s = 1/(1+e), and so e*s = 1-s.
func siluBoth1(x float32) (f, slope float32) {
	e := Exp1(-x)
	s := 1 / (1 + e)
	rest := min(e, math.MaxFloat32) * s // Inf*0 would be NaN where s is 0
	return x / (1 + e), s + float32((s*rest)*x)
}

// geluErf1 returns x*Φ(x).
func geluErf1(x float32) float32 {
	phi, _ := normal1(x)
	return x * phi
}

// geluErfBoth1 returns geluErf1 and its derivative Φ(x) + x*e/sqrt(2 pi), with e = e**(-x²/2).
func geluErfBoth1(x float32) (f, slope float32) {
	phi, e := normal1(x)
	return x * phi, phi + float32(float32(x*e)*rsqrt2Pi)
}

// normal1 returns Φ(x), the distribution function of the standard normal distribution, and e = e**(-x²/2):
//
//	t = 1/(1 + p*|x|),  Φ(-|x|) = t*(a1 + t*(a2 + …)) * e
func normal1(x float32) (phi, e float32) {
	e = Exp1(-(0.5 * (x * x)))
	t := 1 / (1 + float32(erfP*float32(math.Abs(float64(x)))))
	q := float32(t*erfA5) + erfA4
	q = float32(t*q) + erfA3
	q = float32(t*q) + erfA2
	q = float32(t*q) + erfA1
	phi = float32((t * q) * e) // rounded: the difference below must not be fused with it
	if x > 0 {
		phi = 1 - phi
	}
	return phi, e
}

// relu1 returns x, or 0 where x is not above it. A NaN stays.
func relu1(x float32) float32 {
	if x <= 0 {
		return 0
	}
	return x
}

// reluBoth1 returns relu1 and its derivative, which is 0 at 0, as PyTorch's.
func reluBoth1(x float32) (f, slope float32) {
	if x <= 0 {
		return 0, 0
	}
	return x, 1
}

// reluSquared1 returns relu1(x)².
func reluSquared1(x float32) float32 {
	f := relu1(x)
	return f * f
}

// reluSquaredBoth1 returns reluSquared1 and its derivative.
func reluSquaredBoth1(x float32) (f, slope float32) {
	f = relu1(x)
	return f * f, 2 * f
}
