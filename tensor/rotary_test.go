package tensor

import (
	"math"
	"math/rand/v2"
	"testing"
)

func TestPow64(t *testing.T) {
	r := rand.New(rand.NewPCG(41, 42))
	for range 100000 {
		base, exponent := math.Exp(r.Float64()*30-5), r.Float64()*2-1
		got, want := Pow64(base, exponent), math.Pow(base, exponent)
		if math.Abs(got/want-1) > 1e-14 {
			t.Fatalf("%g**%g is %g, want %g", base, exponent, got, want)
		}
		if got, want := Log64(base), math.Log(base); math.Abs(got-want) > 4e-16*math.Max(1, math.Abs(want)) {
			t.Fatalf("the logarithm of %g is %g, want %g", base, got, want)
		}
	}
	for base, want := range map[float64]float64{1: 1, 10000: .01, 500000: 1 / math.Sqrt(500000)} {
		if got := Pow64(base, -.5); math.Abs(got/want-1) > 1e-15 {
			t.Errorf("%g**-½ is %g, want %g", base, got, want)
		}
	}
}

// A rotation keeps lengths and angles between pairs, follows its formula, and RotateBack undoes it.
func TestRotate(t *testing.T) {
	r := rand.New(rand.NewPCG(43, 44))
	for h := range 70 {
		x, frequency := values(r, 2*h, false), values(r, h, false)
		cos, sin := make([]float32, h), make([]float32, h)
		RotaryAngles(cos, sin, frequency, 37, 1)
		y := append([]float32(nil), x...)
		Rotate(y, cos, sin)
		for i := range h {
			angle := 37 * float64(frequency[i])
			c, s := math.Cos(angle), math.Sin(angle)
			a, b := float64(x[i])*c-float64(x[i+h])*s, float64(x[i+h])*c+float64(x[i])*s
			if math.Abs(a-float64(y[i])) > 2e-4 || math.Abs(b-float64(y[i+h])) > 2e-4 {
				t.Errorf("pair %d of %d is %g, %g, want %g, %g", i, h, y[i], y[i+h], a, b)
			}
		}
		RotateBack(y, cos, sin)
		for i := range y {
			if math.Abs(float64(y[i]-x[i])) > 1e-5 {
				t.Errorf("element %d of %d comes back as %g, not %g", i, 2*h, y[i], x[i])
			}
		}
	}
}

// Every implementation rotates alike at every length, writes nothing else, and has each product rounded on its own.
func TestRotateKernels(t *testing.T) {
	r := rand.New(rand.NewPCG(49, 50))
	for h := range 131 {
		for _, rotate := range []func(x, cos, sin []float32){Rotate, RotateBack} {
			for _, specials := range []bool{false, true} {
				in := [][]float32{values(r, 2*h, specials), values(r, h, specials), values(r, h, specials)}
				compareKernel(t, h, in, func(a [][]float32) []float32 { rotate(a[0], a[1], a[2]); return nil })
			}
		}
	}
}

// RotateBack is the transpose of Rotate, so that <Rotate(x), w> = <x, RotateBack(w)>, at any scale.
func TestRotateTransposed(t *testing.T) {
	r := rand.New(rand.NewPCG(51, 52))
	under(t, func(t *testing.T) {
		for _, h := range []int{1, 8, 20, 64} {
			x, w, frequency := values(r, 2*h, false), values(r, 2*h, false), values(r, h, false)
			cos, sin := make([]float32, h), make([]float32, h)
			RotaryAngles(cos, sin, frequency, 1234, 1.4)
			y, dx := append([]float32(nil), x...), append([]float32(nil), w...)
			Rotate(y, cos, sin)
			RotateBack(dx, cos, sin)
			if a, b := dot64(y, w), dot64(x, dx); math.Abs(a-b) > 1e-4*(1+math.Abs(a)) {
				t.Errorf("h %d: %g forward, %g back", h, a, b)
			}
		}
	})
}

// The angles of positions to 5 million, against float64 from the same float32 angle.
func TestRotaryAngles(t *testing.T) {
	frequency := make([]float32, 32)
	for i := range frequency {
		frequency[i] = float32(Pow64(10000, -float64(i)/32))
	}
	cos, sin := make([]float32, 32), make([]float32, 32)
	for _, position := range []int{0, 1, 2047, 131071, 1000003, 5000000} {
		RotaryAngles(cos, sin, frequency, position, 1)
		for i, f := range frequency {
			angle := float64(float32(position) * f)
			if c, s := math.Cos(angle), math.Sin(angle); math.Abs(c-float64(cos[i])) > 1e-7 ||
				math.Abs(s-float64(sin[i])) > 1e-7 {
				t.Errorf("position %d, pair %d: %g, %g, want %g, %g", position, i, cos[i], sin[i], c, s)
			}
			if cos[i] != Cos1(float32(position)*f) || sin[i] != Sin1(float32(position)*f) {
				t.Errorf("position %d, pair %d: other bits than Cos1 and Sin1", position, i)
			}
		}
	}
}
