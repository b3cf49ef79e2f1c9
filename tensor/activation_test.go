package tensor

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
)

var activations64 = map[Activation]func(float64) float64{
	GeluTanh:    gelu64,
	GeluErf:     func(x float64) float64 { return x * math.Erfc(-x/math.Sqrt2) / 2 },
	ReLU:        func(x float64) float64 { return math.Max(x, 0) },
	ReLUSquared: func(x float64) float64 { return math.Max(x, 0) * math.Max(x, 0) },
	SiLU:        func(x float64) float64 { return x / (1 + math.Exp(-x)) },
}

// Every activation against float64, and its slope against differences of that.
func TestActivations(t *testing.T) {
	for a := GeluTanh; a <= SiLU; a++ {
		t.Run(a.String(), func(t *testing.T) {
			exact := activations64[a]
			x := grid(-30, 30, 100001)
			y, again, dx, ones := make([]float32, len(x)), make([]float32, len(x)), make([]float32, len(x)), grid(1, 1, len(x))
			a.Forward(y, x)
			a.ForwardBackward(dx, x, ones, again)
			if !sameBits(y, again) {
				t.Error("the activation differs when its slope is taken")
			}
			for i, v := range x {
				want := exact(float64(v))
				if e := math.Abs(float64(y[i]) - want); e > 6e-7*math.Max(1, math.Abs(want)) {
					t.Fatalf("f(%g) is %g, want %g", v, y[i], want)
				}
				const h = 1e-5
				slope := (exact(float64(v)+h) - exact(float64(v)-h)) / (2 * h)
				if kink := math.Abs(float64(v)) < 2*h; !kink && math.Abs(float64(dx[i])-slope) > 1e-6*math.Max(1, math.Abs(slope)) {
					t.Fatalf("f'(%g) is %g, want %g", v, dx[i], slope)
				}
			}
		})
	}
	if got := Activation(9).String(); got != "Activation(9)" {
		t.Error(got)
	}
}

// The worst errors that the doc comment of Forward states.
func TestActivationErrors(t *testing.T) {
	x := grid(-4, 4, 300001)
	y := make([]float32, len(x))
	GeluErf.Forward(y, x)
	if e, at := worst(x, y, activations64[GeluErf]); e > 5e-7 {
		t.Errorf("gelu errs by %g at %g", e, at)
	}
	x = grid(-86, 86, 300001)
	y = make([]float32, len(x))
	SiLU.Forward(y, x)
	for i, v := range x {
		want := activations64[SiLU](float64(v))
		if e := math.Abs(float64(y[i])-want) / ulp(want); e > 3 && want != 0 {
			t.Fatalf("silu(%g) errs by %g units in the last place", v, e)
		}
	}
}

// A gated activation and its gradients, against differences.
func TestGated(t *testing.T) {
	r := rand.New(rand.NewPCG(31, 32))
	for a := GeluTanh; a <= SiLU; a++ {
		if a == ReLU || a == ReLUSquared { // a kink spoils differences
			continue
		}
		n := 300
		gate, up, dy := values(r, n, false), values(r, n, false), values(r, n, false)
		y, again, dgate, dup := make([]float32, n), make([]float32, n), make([]float32, n), make([]float32, n)
		loss := func() float64 {
			a.Gated(y, gate, up)
			return dot64(y, dy)
		}
		loss()
		a.GatedBackward(dgate, dup, again, gate, up, dy)
		if !sameBits(y, again) {
			t.Errorf("%s: the activation differs in the backward pass", a)
		}
		checkSlopes(t, fmt.Sprint(a, " dgate"), loss, gate, dgate, 2e-2)
		checkSlopes(t, fmt.Sprint(a, " dup"), loss, up, dup, 2e-2)
	}
}

func TestSoftCap(t *testing.T) {
	r := rand.New(rand.NewPCG(33, 34))
	x, w := values(r, 40, false), values(r, 40, false)
	y := make([]float32, 40)
	loss := func() float64 {
		copy(y, x)
		SoftCap(y, .7, 2)
		return dot64(y, w)
	}
	loss()
	for i, v := range x {
		if want := 2 * math.Tanh(.7*float64(v)/2); math.Abs(float64(y[i])-want) > 1e-6 {
			t.Errorf("softcap(%g) is %g, want %g", v, y[i], want)
		}
	}
	ds := append([]float32(nil), w...)
	SoftCapBackward(ds, y, .7, 2)
	checkSlopes(t, "ds", loss, x, ds, 1e-3)
}

func TestRMSNorm(t *testing.T) {
	const rows, cols, eps = 3, 21, 1e-6
	r := rand.New(rand.NewPCG(35, 36))
	for _, offset := range []float32{0, 1} {
		x, w, gamma := values(r, rows*cols, false), values(r, rows*cols, false), values(r, cols, false)
		y, rstd := make([]float32, rows*cols), make([]float32, rows)
		loss := func() float64 {
			RMSNorm(y, rstd, x, gamma, offset, rows, cols, eps)
			return dot64(y, w)
		}
		loss()
		for i := range rows {
			square := 0.
			for _, q := range x[i*cols : (i+1)*cols] {
				square += float64(q) * float64(q) / cols
			}
			for j := range cols {
				want := float64(x[i*cols+j]) / math.Sqrt(square+eps) * float64(offset+gamma[j])
				if math.Abs(float64(y[i*cols+j])-want) > 1e-5 {
					t.Errorf("y[%d,%d] is %g, want %g", i, j, y[i*cols+j], want)
				}
			}
		}
		dx, dgamma, both := make([]float32, rows*cols), make([]float32, cols), make([]float32, rows*cols)
		RMSNormBackward(dx, nil, w, x, rstd, gamma, offset, rows, cols)
		RMSNormBackward(both, dgamma, w, x, rstd, gamma, offset, rows, cols)
		if !sameBits(dx, both) {
			t.Error("dx differs when dgamma is taken")
		}
		checkSlopes(t, "dx", loss, x, dx, 1e-2)
		checkSlopes(t, "dgamma", loss, gamma, dgamma, 1e-3)
	}
}
