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

// Values in pieces give the bits of one call, also where heads share them.
func TestWeightedValuesAdd(t *testing.T) {
	r := rand.New(rand.NewPCG(45, 46))
	under(t, func(t *testing.T) {
		for _, shared := range []bool{false, true} {
			const heads, width, n = 3, 32, 50
			p, v := values(r, heads*n, false), values(r, heads*n*width, false)
			vHead := n * width
			if shared {
				vHead = 0
			}
			want, got := make([]float32, heads*width), make([]float32, heads*width)
			WeightedValues(want, p, n, v, vHead, heads, width, n, nil)
			WeightedValues(got, p, n, v, vHead, heads, width, 16, nil)
			WeightedValuesAdd(got, p[16:], n, v[16*width:], vHead, heads, width, n-16, nil)
			if !sameBits(got, want) {
				t.Errorf("pieces differ from the whole; shared %t", shared)
			}
		}
	})
}
