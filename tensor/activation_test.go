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
			y, again := make([]float32, len(x)), make([]float32, len(x))
			dx, ones := make([]float32, len(x)), grid(1, 1, len(x))
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
				kink := math.Abs(float64(v)) < 2*h
				if !kink && math.Abs(float64(dx[i])-slope) > 1e-6*math.Max(1, math.Abs(slope)) {
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

// slopes64 are the derivatives of those that have errors, for the bounds of ForwardBackward's comment.
var slopes64 = map[Activation]func(float64) float64{
	GeluErf: func(x float64) float64 {
		return math.Erfc(-x/math.Sqrt2)/2 + x*math.Exp(-x*x/2)/math.Sqrt(2*math.Pi)
	},
	SiLU: func(x float64) float64 {
		s := sigmoid64(x)
		return s + x*s*(1-s)
	},
}

// The worst errors of the derivatives that the doc comment of ForwardBackward states.
func TestActivationSlopeErrors(t *testing.T) {
	bounds := map[Activation]float64{GeluErf: 4e-7, SiLU: 2e-7}
	x := grid(-30, 30, 600001)
	y, dx, ones := make([]float32, len(x)), make([]float32, len(x)), grid(1, 1, len(x))
	for a, exact := range slopes64 {
		a.ForwardBackward(dx, x, ones, y)
		e, at := worst(x, dx, exact)
		t.Logf("%s': worst error %.3g at %g", a, e, at)
		if e > bounds[a] {
			t.Errorf("%s': worst error %.3g at %g", a, e, at)
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

// TestActivationsNotFinite: NaN and infinities, which kernelCases lack, come out of every implementation as out of the
// reference; a NaN never comes out as a number.
func TestActivationsNotFinite(t *testing.T) {
	nan := float32(math.NaN())
	r := rand.New(rand.NewPCG(37, 38))
	for _, n := range []int{1, 7, 16, 19, 35} {
		for at := range n {
			for _, v := range []float32{nan, infinity, -infinity, math.MaxFloat32, -math.MaxFloat32} {
				x, up, dy := values(r, n, false), values(r, n, false), values(r, n, false)
				x[at] = v
				for a := GeluTanh; a <= SiLU; a++ {
					compareKernel(t, n, [][]float32{dy, x, dy, dy}, func(s [][]float32) []float32 {
						a.ForwardBackward(s[0], s[1], s[2], s[3])
						return s[3]
					})
					compareKernel(t, n, [][]float32{dy, dy, dy, x, up, dy}, func(s [][]float32) []float32 {
						a.GatedBackward(s[0], s[1], s[2], s[3], s[4], s[5])
						return nil
					})
					compareKernel(t, n, [][]float32{x, up}, func(s [][]float32) []float32 {
						a.Forward(s[0], s[0])
						if v != v && s[0][at] == s[0][at] {
							t.Errorf("%s of a NaN is %g", a, s[0][at])
						}
						return nil
					})
				}
				compareKernel(t, n, [][]float32{x, up}, func(s [][]float32) []float32 {
					SoftCap(s[0], .7, 5)
					SoftCapBackward(s[1], s[0], .7, 5)
					if v != v && s[0][at] == s[0][at] {
						t.Errorf("a NaN is capped to %g", s[0][at])
					}
					return nil
				})
			}
		}
	}
}

// At the ends of the range the activations have the values of their limits, where arithmetic has one.
func TestActivationLimits(t *testing.T) {
	under(t, func(t *testing.T) {
		for a := GeluTanh; a <= SiLU; a++ {
			x := []float32{100, -100, 0, infinity}
			want := []float32{100, 0, 0, infinity}
			if a == ReLUSquared {
				want[0] = 10000
			}
			a.Forward(x, x)
			for i, v := range x {
				if v != want[i] {
					t.Errorf("%s: value %d is %g, want %g", a, i, v, want[i])
				}
			}
		}
		x := []float32{infinity, -infinity, 0, 1e30, -1e30}
		SoftCap(x, .7, 5)
		for i, want := range []float32{5, -5, 0, 5, -5} {
			if x[i] != want {
				t.Errorf("capped value %d is %g, want %g", i, x[i], want)
			}
		}
	})
}

// TestNormRows: rows of a batch have the bits of rows alone, in either direction, so that a batch may be split; and the
// norms of single short rows, of heads, are those of one call.
func TestNormRows(t *testing.T) {
	r := rand.New(rand.NewPCG(39, 40))
	under(t, func(t *testing.T) {
		for _, cols := range []int{1, 16, 21, 64, 130} {
			const rows, offset, eps = 5, 1, 1e-6
			x, w, gamma := values(r, rows*cols, false), values(r, rows*cols, false), values(r, cols, false)
			y, one := make([]float32, rows*cols), make([]float32, rows*cols)
			dx, oneDX := values(r, rows*cols, false), make([]float32, rows*cols)
			copy(oneDX, dx)
			dgamma, oneDGamma := make([]float32, cols), make([]float32, cols)
			rstd, oneRstd := make([]float32, rows), make([]float32, rows)
			RMSNorm(y, rstd, x, gamma, offset, rows, cols, eps)
			RMSNormBackward(dx, dgamma, w, x, rstd, gamma, offset, rows, cols)
			for i := range rows {
				at, to := i*cols, (i+1)*cols
				RMSNorm(one[at:to], oneRstd[i:i+1], x[at:to], gamma, offset, 1, cols, eps)
				RMSNormBackward(oneDX[at:to], nil, w[at:to], x[at:to], rstd[i:i+1], gamma, offset, 1, cols)
				RMSNormBackward(nil, oneDGamma, w[at:to], x[at:to], rstd[i:i+1], gamma, offset, 1, cols)
			}
			if !sameBits(y, one) || !sameBits(rstd, oneRstd) || !sameBits(dx, oneDX) || !sameBits(dgamma, oneDGamma) {
				t.Errorf("%d columns: rows together differ from rows alone", cols)
			}
		}
	})
}

// TestLayerNormWithoutBias: without a bias the norm is that with a bias of zeros.
func TestLayerNormWithoutBias(t *testing.T) {
	r := rand.New(rand.NewPCG(53, 54))
	under(t, func(t *testing.T) {
		for _, cols := range []int{1, 15, 16, 64, 97} {
			const rows = 3
			x, w, gamma := values(r, rows*cols, false), values(r, rows*cols, false), values(r, cols, false)
			zeros, dbeta := make([]float32, cols), make([]float32, cols)
			mean, rstd := make([]float32, rows), make([]float32, rows)
			y, with := make([]float32, rows*cols), make([]float32, rows*cols)
			LayerNormEps(y, mean, rstd, x, gamma, nil, rows, cols, 1e-3)
			LayerNormEps(with, mean, rstd, x, gamma, zeros, rows, cols, 1e-3)
			dx, withDX := make([]float32, rows*cols), make([]float32, rows*cols)
			dgamma, withDGamma := make([]float32, cols), make([]float32, cols)
			LayerNormBackward(dx, dgamma, nil, w, x, mean, rstd, gamma, rows, cols)
			LayerNormBackward(withDX, withDGamma, dbeta, w, x, mean, rstd, gamma, rows, cols)
			if !sameBits(y, with) || !sameBits(dx, withDX) || !sameBits(dgamma, withDGamma) {
				t.Errorf("%d columns: no bias differs from a bias of zeros", cols)
			}
		}
	})
}
