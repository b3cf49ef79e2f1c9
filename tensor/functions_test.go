package tensor

import (
	"math"
	"testing"
)

// ulp is the distance from |want| to the next float32.
func ulp(want float64) float64 {
	f := float32(math.Abs(want))
	if f < 0x1p-126 {
		return 0x1p-149
	}
	return float64(math.Nextafter32(f, infinity)) - float64(f)
}

func sigmoid64(x float64) float64 { return 1 / (1 + math.Exp(-x)) }

// functionBounds are the error bounds that the doc comments state.
var functionBounds = []struct {
	name     string
	f        func(float32) float32
	exact    func(float64) float64
	from, to float64
	ulps     float64
}{
	{"Exp1", Exp1, math.Exp, -86.6, 88.72, 1},
	{"Log1", Log1, math.Log, 1e-40, 3e38, 1},
	{"Log1 near 1", Log1, math.Log, 0.5, 2, 1},
	{"Sin1", Sin1, math.Sin, -100, 100, 1.6},
	{"Sin1 far", Sin1, math.Sin, -1e5, 1e5, 1.6},
	{"Sin1 very far", Sin1, math.Sin, -5e6, 5e6, 1.6},
	{"Cos1", Cos1, math.Cos, -100, 100, 1.6},
	{"Cos1 far", Cos1, math.Cos, -1e5, 1e5, 1.6},
	{"Cos1 very far", Cos1, math.Cos, -5e6, 5e6, 1.6},
	{"Sqrt1", Sqrt1, math.Sqrt, 0, 3e38, 0.5},
	{"Rsqrt1", Rsqrt1, func(x float64) float64 { return 1 / math.Sqrt(x) }, 1e-30, 3e30, 1.5},
	{"Tanh1", Tanh1, math.Tanh, -20, 20, 1.5},
	{"Tanh1 near 0", Tanh1, math.Tanh, -1, 1, 1.5},
	{"Sigmoid1", Sigmoid1, sigmoid64, -80, 80, 2.5},
	{"LogSigmoid1", LogSigmoid1, func(x float64) float64 { return math.Min(x, 0) - math.Log1p(math.Exp(-math.Abs(x))) },
		-80, 80, 3},
}

func TestFunctionErrors(t *testing.T) {
	for _, c := range functionBounds {
		const n = 300000
		worst, at := 0.0, 0.0
		for i := range n {
			x := float32(c.from + (c.to-c.from)*float64(i)/(n-1))
			if c.from > 0 && c.to/c.from > 1e6 {
				x = float32(c.from * math.Pow(c.to/c.from, float64(i)/(n-1)))
			}
			want := c.exact(float64(x))
			e := math.Abs(float64(c.f(x))-want) / ulp(want)
			if e > worst {
				worst, at = e, float64(x)
			}
		}
		t.Logf("%-13s worst error %.3f ulp at %g", c.name, worst, at)
		if worst > c.ulps {
			t.Errorf("%s: worst error %.3f ulp at %g, stated %.2f", c.name, worst, at, c.ulps)
		}
	}
}
