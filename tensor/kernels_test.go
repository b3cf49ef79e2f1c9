package tensor

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
)

// under runs f as a subtest with every implementation that there is.
func under(t *testing.T, f func(t *testing.T)) {
	for _, name := range Implementations() {
		t.Run(name, func(t *testing.T) {
			defer use(t, name)()
			f(t)
		})
	}
}

func use(t testing.TB, name string) func() {
	restore, err := Use(name)
	if err != nil {
		t.Fatal(err)
	}
	return restore
}

const guard = 12345.678

// guarded returns n values between guard words, off by some elements from any
// alignment, and a check that the guards still stand.
func guarded(values []float32, off int) (x []float32, check func() bool) {
	n := len(values)
	all := make([]float32, n+32+off)
	for i := range all {
		all[i] = guard
	}
	x = all[16+off : 16+off+n : 16+off+n]
	copy(x, values)
	return x, func() bool {
		for i, v := range all {
			if (i < 16+off || i >= 16+off+n) && v != guard {
				return false
			}
		}
		return true
	}
}

// sameBits compares bit for bit; all NaN are alike.
func sameBits(a, b []float32) bool {
	return slices.EqualFunc(a, b, func(x, y float32) bool {
		return math.Float32bits(x) == math.Float32bits(y) || x != x && y != y
	})
}

// special are values that a kernel may get wrong: zeros, subnormals, the ends
// of exp, halves of rounding.
var special = []float32{0, float32(math.Copysign(0, -1)), 1, -1,
	1e-45, -1e-45, 1e-38, 0x1p-126, -86.64339, -86.6434, -86.7,
	88.72283, 88.7229, 100, -100, 3e38, -3e38, 1e-30, 0.625, 5, -5, 1 + 0x1p-20, 1 + 0x1p-23}

// values returns n numbers: most normal, some special if asked for.
func values(r *rand.Rand, n int, specials bool) []float32 {
	x := make([]float32, n)
	for i := range x {
		x[i] = float32(r.NormFloat64() * 3)
		if specials && r.IntN(4) == 0 {
			x[i] = special[r.IntN(len(special))]
		}
	}
	return x
}

// kernelCases call every slice function on arrays of one length; what they
// return is compared too.
var kernelCases = []struct {
	name   string
	arrays int
	run    func(a [][]float32) []float32
}{
	{"Add", 2, func(a [][]float32) []float32 { Add(a[0], a[1]); return nil }},
	{"Mul", 2, func(a [][]float32) []float32 { Mul(a[0], a[1]); return nil }},
	{"Scale", 1, func(a [][]float32) []float32 { Scale(a[0], 1.7); return nil }},
	{"Axpy", 2, func(a [][]float32) []float32 { Axpy(a[0], -0.3, a[1]); return nil }},
	{"Sum", 1, func(a [][]float32) []float32 { return []float32{Sum(a[0])} }},
	{"SumSquares", 1, func(a [][]float32) []float32 { return []float32{SumSquares(a[0])} }},
	{"Dot", 2, func(a [][]float32) []float32 { return []float32{Dot(a[0], a[1])} }},
	{"Max", 1, func(a [][]float32) []float32 { return []float32{Max(a[0])} }},
	{"Exp", 2, func(a [][]float32) []float32 { Exp(a[0], a[1]); return nil }},
	{"Exp in place", 1, func(a [][]float32) []float32 { Exp(a[0], a[0]); return nil }},
	{"Gelu", 2, func(a [][]float32) []float32 { Gelu(a[0], a[1]); return nil }},
	{"GeluBackward", 3, func(a [][]float32) []float32 { GeluBackward(a[0], a[1], a[2]); return nil }},
	{"GeluBackward in place", 2, func(a [][]float32) []float32 { GeluBackward(a[1], a[0], a[1]); return nil }},
	{"GeluForwardBackward", 4, func(a [][]float32) []float32 {
		GeluForwardBackward(a[0], a[1], a[2], a[3])
		return nil
	}},
	{"GeluForwardBackward in place", 3, func(a [][]float32) []float32 {
		GeluForwardBackward(a[1], a[0], a[1], a[2])
		return nil
	}},
	{"Softmax", 1, func(a [][]float32) []float32 { m, s := Softmax(a[0], 0.7); return []float32{m, s} }},
	{"LogSumExp", 1, func(a [][]float32) []float32 { m, s := LogSumExp(a[0], 0.7); return []float32{m, s} }},
	{"SoftmaxBackward", 3, func(a [][]float32) []float32 { SoftmaxBackward(a[0], a[1], a[2], 0.7); return nil }},
	{"SoftmaxBackward in place", 2, func(a [][]float32) []float32 {
		SoftmaxBackward(a[1], a[0], a[1], 0.7)
		return nil
	}},
	{"LayerNorm", 4, func(a [][]float32) []float32 {
		var mean, rstd [1]float32
		LayerNorm(a[0], mean[:], rstd[:], a[1], a[2], a[3], 1, len(a[0]))
		return []float32{mean[0], rstd[0]}
	}},
	{"LayerNormBackward", 6, func(a [][]float32) []float32 {
		LayerNormBackward(a[0], a[1], a[2], a[3], a[4], []float32{0.3}, []float32{1.3}, a[5], 1, len(a[0]))
		return nil
	}},
	{"LayerNorm without bias", 3, func(a [][]float32) []float32 {
		var mean, rstd [1]float32
		LayerNormEps(a[0], mean[:], rstd[:], a[1], a[2], nil, 1, len(a[0]), 1e-6)
		return []float32{mean[0], rstd[0]}
	}},
	{"RMSNorm", 3, func(a [][]float32) []float32 {
		var rstd [1]float32
		RMSNorm(a[0], rstd[:], a[1], a[2], 0, 1, len(a[0]), 1e-6)
		return rstd[:]
	}},
	{"RMSNorm in place with offset", 2, func(a [][]float32) []float32 {
		var rstd [1]float32
		RMSNorm(a[0], rstd[:], a[0], a[1], 1, 1, len(a[0]), 1e-6)
		return rstd[:]
	}},
	{"RMSNormBackward", 5, func(a [][]float32) []float32 {
		RMSNormBackward(a[0], a[1], a[2], a[3], []float32{1.3}, a[4], 1, 1, len(a[0]))
		return nil
	}},
	{"SiLU", 2, func(a [][]float32) []float32 { SiLU.Forward(a[0], a[1]); return nil }},
	{"SiLU backward", 4, func(a [][]float32) []float32 { SiLU.ForwardBackward(a[0], a[1], a[2], a[3]); return nil }},
	{"SiLU gated", 3, func(a [][]float32) []float32 { SiLU.Gated(a[0], a[1], a[2]); return nil }},
	{"SiLU gated backward", 6, func(a [][]float32) []float32 {
		SiLU.GatedBackward(a[0], a[1], a[2], a[3], a[4], a[5])
		return nil
	}},
	{"GeluErf", 2, func(a [][]float32) []float32 { GeluErf.Forward(a[0], a[1]); return nil }},
	{"GeluErf backward", 4, func(a [][]float32) []float32 {
		GeluErf.ForwardBackward(a[0], a[1], a[2], a[3])
		return nil
	}},
	{"GeluErf in place", 1, func(a [][]float32) []float32 { GeluErf.Forward(a[0], a[0]); return nil }},
	{"GeluErf gated", 3, func(a [][]float32) []float32 { GeluErf.Gated(a[0], a[1], a[2]); return nil }},
	{"GeluErf gated backward", 6, func(a [][]float32) []float32 {
		GeluErf.GatedBackward(a[0], a[1], a[2], a[3], a[4], a[5])
		return nil
	}},
	{"GeluTanh", 2, func(a [][]float32) []float32 { GeluTanh.Forward(a[0], a[1]); return nil }},
	{"GeluTanh backward", 4, func(a [][]float32) []float32 {
		GeluTanh.ForwardBackward(a[0], a[1], a[2], a[3])
		return nil
	}},
	{"GeluTanh gated", 3, func(a [][]float32) []float32 { GeluTanh.Gated(a[0], a[1], a[2]); return nil }},
	{"GeluTanh gated backward", 6, func(a [][]float32) []float32 {
		GeluTanh.GatedBackward(a[0], a[1], a[2], a[3], a[4], a[5])
		return nil
	}},
	{"ReLU", 2, func(a [][]float32) []float32 { ReLU.Forward(a[0], a[1]); return nil }},
	{"ReLU backward", 4, func(a [][]float32) []float32 { ReLU.ForwardBackward(a[0], a[1], a[2], a[3]); return nil }},
	{"ReLU gated", 3, func(a [][]float32) []float32 { ReLU.Gated(a[0], a[1], a[2]); return nil }},
	{"ReLU gated backward", 6, func(a [][]float32) []float32 {
		ReLU.GatedBackward(a[0], a[1], a[2], a[3], a[4], a[5])
		return nil
	}},
	{"ReLUSquared", 2, func(a [][]float32) []float32 { ReLUSquared.Forward(a[0], a[1]); return nil }},
	{"ReLUSquared backward", 4, func(a [][]float32) []float32 {
		ReLUSquared.ForwardBackward(a[0], a[1], a[2], a[3])
		return nil
	}},
	{"ReLUSquared gated", 3, func(a [][]float32) []float32 { ReLUSquared.Gated(a[0], a[1], a[2]); return nil }},
	{"ReLUSquared gated backward", 6, func(a [][]float32) []float32 {
		ReLUSquared.GatedBackward(a[0], a[1], a[2], a[3], a[4], a[5])
		return nil
	}},
	{"SiLU in place", 1, func(a [][]float32) []float32 { SiLU.Forward(a[0], a[0]); return nil }},
	{"SiLU backward in place", 3, func(a [][]float32) []float32 {
		SiLU.ForwardBackward(a[1], a[0], a[1], a[2])
		return nil
	}},
	{"LayerNormBackward without bias", 5, func(a [][]float32) []float32 {
		LayerNormBackward(a[0], a[1], nil, a[2], a[3], []float32{0.3}, []float32{1.3}, a[4], 1, len(a[0]))
		return nil
	}},
	{"RMSNormBackward without offset", 5, func(a [][]float32) []float32 {
		RMSNormBackward(a[0], a[1], a[2], a[3], []float32{1.3}, a[4], 0, 1, len(a[0]))
		return nil
	}},
	{"RMSNorm of two rows", 3, func(a [][]float32) []float32 {
		var rstd [2]float32
		h := len(a[0]) / 2
		RMSNorm(a[0][:2*h], rstd[:], a[1][:2*h], a[2][:h], 0, 2, h, 1e-5)
		return rstd[:]
	}},
	{"Rotate", 3, func(a [][]float32) []float32 {
		h := len(a[0]) / 2
		Rotate(a[0][:2*h], a[1][:h], a[2][:h])
		return nil
	}},
	{"RotateBack", 3, func(a [][]float32) []float32 {
		h := len(a[0]) / 2
		RotateBack(a[0][:2*h], a[1][:h], a[2][:h])
		return nil
	}},
	{"SoftCap", 1, func(a [][]float32) []float32 { SoftCap(a[0], .7, 5); return nil }},
	{"SoftCapBackward", 2, func(a [][]float32) []float32 { SoftCapBackward(a[0], a[1], .7, 5); return nil }},
	{"AdamW", 4, func(a [][]float32) []float32 {
		for i, v := range a[2] {
			a[2][i] = float32(math.Abs(float64(v)))
		}
		AdamW(a[0], a[1], a[2], a[3], adamStep)
		return nil
	}},
	{"AdamW TensorFlow", 4, func(a [][]float32) []float32 {
		for i, v := range a[2] {
			a[2][i] = float32(math.Abs(float64(v)))
		}
		o := adamStep
		o.TensorFlowEps = true
		AdamW(a[0], a[1], a[2], a[3], o)
		return nil
	}},
	{"EMA", 2, func(a [][]float32) []float32 { EMA(a[0], a[1], 0.99); return nil }},
}

var adamStep = AdamWStep{LR: 1e-3, Beta1: 0.9, Beta2: 0.95, Eps: 1e-8, WeightDecay: 0.1,
	BiasCorr1: 0.271, BiasCorr2: 0.143, GradScale: 0.5}

// TestKernels compares every implementation with the reference, bit for bit, at
// every length to 130 and a few long ones, at odd places in memory.
func TestKernels(t *testing.T) {
	lengths := []int{255, 1000, 4097}
	for n := range 131 {
		lengths = append(lengths, n)
	}
	for _, c := range kernelCases {
		t.Run(c.name, func(t *testing.T) {
			r := rand.New(rand.NewPCG(1, 2))
			for _, n := range lengths {
				for _, specials := range []bool{false, true} {
					var in [][]float32
					for range c.arrays {
						in = append(in, values(r, n, specials))
					}
					compareKernel(t, n, in, c.run)
				}
			}
		})
	}
}

func compareKernel(t *testing.T, n int, in [][]float32, run func(a [][]float32) []float32) {
	t.Helper()
	var want [][]float32
	for _, name := range Implementations() {
		restore := use(t, name)
		var out [][]float32
		var checks []func() bool
		for i, x := range in {
			g, check := guarded(x, (n+i)%5)
			out, checks = append(out, g), append(checks, check)
		}
		out = append(out, run(out))
		restore()
		for i, check := range checks {
			if !check() {
				t.Fatalf("%s, length %d: wrote beyond array %d", name, n, i)
			}
		}
		if name == "portable" {
			want = out
			continue
		}
		for i := range out {
			if !sameBits(out[i], want[i]) {
				t.Fatalf("%s, length %d, array %d:\n got %v\nwant %v\n  of %v", name, n, i, out[i], want[i], in)
			}
		}
	}
}

// TestKernelsNotANumber: a NaN or an infinity comes out where arithmetic says.
func TestKernelsNotANumber(t *testing.T) {
	nan := float32(math.NaN())
	under(t, func(t *testing.T) {
		for n := 1; n < 40; n++ {
			for at := range n {
				x := make([]float32, n)
				x[at] = nan
				if v := Sum(x); v == v {
					t.Fatalf("a NaN at %d of %d is lost in the sum", at, n)
				}
				Exp(x, x)
				if v := x[at]; v == v {
					t.Fatalf("exp(NaN) = %g", v)
				}
				x[at] = nan
				if _, s := Softmax(x, 1); s == s {
					t.Fatalf("a NaN at %d of %d is lost in the softmax", at, n)
				}
			}
		}
		x := []float32{infinity, -infinity, 0}
		Exp(x, x)
		if !sameBits(x, []float32{infinity, 0, 1}) {
			t.Errorf("exp of infinities and 0 is %v", x)
		}
		y := []float32{-infinity, 2, -infinity}
		Softmax(y, 1)
		if !sameBits(y, []float32{0, 1, 0}) {
			t.Errorf("softmax of one entry is %v", y)
		}
	})
}

func TestUse(t *testing.T) {
	for _, name := range []string{"", "avx1024", "AVX2"} {
		if _, err := Use(name); err == nil {
			t.Errorf("Use(%q) gave no error", name)
		}
	}
	before := Implementation()
	restore := use(t, "portable")
	if got := Implementation(); got != "portable" {
		t.Errorf("in use: %s", got)
	}
	restore()
	if Implementation() != before {
		t.Errorf("restored %s, not %s", Implementation(), before)
	}
	if InitError() != nil {
		t.Errorf("at start: %v", InitError())
	}
}

func TestMismatchedLengths(t *testing.T) {
	defer func() {
		if recover() == nil {
			t.Error("lengths 2 and 3 did not panic")
		}
	}()
	Add(make([]float32, 2), make([]float32, 3))
}

func BenchmarkVector(b *testing.B) {
	const n = 65536
	r := rand.New(rand.NewPCG(1, 2))
	for _, name := range Implementations() {
		for _, c := range kernelCases {
			if name == "portable" && c.name != "Gelu" {
				continue
			}
			b.Run(fmt.Sprintf("%s/%s", c.name, name), func(b *testing.B) {
				defer use(b, name)()
				a := make([][]float32, c.arrays)
				for i := range a {
					a[i] = values(r, n, false)
				}
				for b.Loop() {
					c.run(a)
				}
				b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/n, "ns/value")
			})
		}
	}
}
