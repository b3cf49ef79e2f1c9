package tensor

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
)

// underBF16 runs f with every implementation, and with the emulation of
// bfloat16 products where the processor has them.
func underBF16(t *testing.T, f func(t *testing.T)) {
	t.Helper()
	under(t, f)
	if !hasBF16 {
		return
	}
	t.Run("avx512 emulated", func(t *testing.T) {
		hasBF16 = false
		defer func() { hasBF16 = true }()
		f(t)
	})
}

// defineBF16 is the formula of products under V1BF16 of A (m, k) and B (k, n),
// given by their elements.
func defineBF16(c []float32, ldc, m, n, k int, add bool, a, b func(i, l int) float32) {
	upper := func(x float32) float32 { return math.Float32frombits(roundBF16(x)) }
	for i := range m {
		for j := range n {
			var s float32
			if add {
				s = c[i*ldc+j]
			}
			for l := range k {
				s = FlushedFMA(upper(a(i, l)), upper(b(l, j)), s)
			}
			if k%2 != 0 {
				s = FlushedFMA(0, 0, s)
			}
			c[i*ldc+j] = s
		}
	}
}

var packedSizes = [][3]int{{1, 1, 1}, {1, 32, 2}, {2, 33, 3}, {3, 16, 5}, {4, 31, 8}, {5, 64, 7}, {6, 48, 31},
	{7, 15, 32}, {8, 97, 33}, {9, 130, 34}, {10, 65, 64}, {11, 40, 65}, {12, 32, 100}, {13, 70, 20},
	{25, 34, 19}, {37, 1, 66}, {5, 70, 395}, {14, 33, 800}, {700, 34, 9}, {13, 17, 512}}

// TestPacked compares products with a packed B, set and added, with the
// definition, by every implementation, B stored either way.
func TestPacked(t *testing.T) {
	for _, numerics := range []Numerics{V1, V1BF16} {
		for _, trans := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s trans=%v", numerics, trans), func(t *testing.T) {
				underBF16(t, func(t *testing.T) {
					r := rand.New(rand.NewPCG(11, 12))
					for _, s := range packedSizes {
						checkPacked(t, r, numerics, trans, s[0], s[1], s[2])
					}
				})
			})
		}
	}
}

func checkPacked(t *testing.T, r *rand.Rand, numerics Numerics, trans bool, m, n, k int) {
	t.Helper()
	lda, ldc := k+r.IntN(4), n+r.IntN(4)
	specials := numerics == V1BF16 && m < 20
	a, b, old := values(r, m*lda, specials), values(r, k*n, false), values(r, m*ldc, specials)
	of := func(l, j int) float32 { return b[l*n+j] }
	if trans {
		of = func(l, j int) float32 { return b[j*k+l] }
	}
	var p PackedB
	p.Reset(numerics, k, n)
	for task := range p.Tasks() {
		p.Pack(task, b, trans)
	}
	for _, add := range []bool{false, true} {
		want := append([]float32(nil), old...)
		define(numerics, want, ldc, m, n, k, add, func(i, l int) float32 { return a[i*lda+l] }, of)
		c, guards := guarded(old, r.IntN(4))
		Product{M: m, A: a, LDA: lda, Packed: &p, C: c, LDC: ldc, Accumulate: add}.Run(nil)
		if !guards() {
			t.Fatalf("(%d,%d,%d): wrote beyond C", m, n, k)
		}
		if i := firstDifference(c, want); i >= 0 {
			t.Fatalf("(%d,%d,%d) add=%v: (%d,%d) is %x, want %x", m, n, k, add, i/ldc, i%ldc,
				math.Float32bits(c[i]), math.Float32bits(want[i]))
		}
	}
}

func firstDifference(a, b []float32) int {
	for i := range a {
		if !sameBits(a[i:i+1], b[i:i+1]) {
			return i
		}
	}
	return -1
}

func define(numerics Numerics, c []float32, ldc, m, n, k int, add bool, a, b func(i, l int) float32) {
	if numerics == V1BF16 {
		defineBF16(c, ldc, m, n, k, add, a, b)
		return
	}
	for i := range m {
		for j := range n {
			var s float32
			if add {
				s = c[i*ldc+j]
			}
			for l := range k {
				s = FMA(a(i, l), b(l, j), s)
			}
			c[i*ldc+j] = s
		}
	}
}

// TestPackedWorkers: the number of workers changes no bit, in matrices with
// odd row distances.
func TestPackedWorkers(t *testing.T) {
	var pools []*Pool
	for workers := 1; workers <= 7; workers++ {
		p := NewPool(workers)
		defer p.Close()
		pools = append(pools, p)
	}
	r := rand.New(rand.NewPCG(15, 16))
	for _, numerics := range []Numerics{V1, V1BF16} {
		for _, s := range [][3]int{{300, 100, 40}, {64, 1300, 37}, {1, 3000, 180}, {1000, 7, 180}} {
			checkPackedWorkers(t, r, numerics, pools, s[0], s[1], s[2])
		}
	}
}

func checkPackedWorkers(t *testing.T, r *rand.Rand, numerics Numerics, pools []*Pool, m, n, k int) {
	t.Helper()
	lda, ldc := k+1+r.IntN(4), n+1+r.IntN(4)
	a, b := values(r, m*lda, false), values(r, k*n, false)
	var want []float32 // of the portable reference
	everyKernels(t, numerics, func(name string) {
		var packed PackedB
		packed.Reset(numerics, k, n)
		for task := range packed.Tasks() {
			packed.Pack(task, b, false)
		}
		for _, p := range poolsFor(name, pools) {
			c, guards := guarded(make([]float32, m*ldc), r.IntN(4))
			Product{M: m, A: a, LDA: lda, Packed: &packed, C: c, LDC: ldc}.Run(p)
			if want == nil {
				want = c
			}
			if !guards() || !sameBits(c, want) {
				t.Errorf("%s %s (%d,%d,%d): %d workers differ from the reference, or wrote beyond C",
					name, numerics, m, n, k, p.Workers())
			}
		}
	})
}

// TestBF16Subnormals: what lies below the normal range is zero, before and
// after a product, and a result is judged after it is rounded.
func TestBF16Subnormals(t *testing.T) {
	// products near 2^-126 beside sums near it, from a narrow range of exponents
	r := rand.New(rand.NewPCG(17, 18))
	tiny := func(n int, low, high int) []float32 {
		x := make([]float32, n)
		for i := range x {
			x[i] = math.Float32frombits(r.Uint32()&0x807fffff | uint32(low+r.IntN(high-low))<<23)
		}
		return x
	}
	const m, n, k = 5, 64, 8
	for range 200 {
		a, b, old := tiny(m*k, 50, 75), tiny(k*n, 45, 75), tiny(m*n, 0, 4)
		var want []float32
		underBF16(t, func(t *testing.T) {
			var p PackedB
			p.Reset(V1BF16, k, n)
			p.Pack(0, b, false)
			c := append([]float32(nil), old...)
			Product{M: m, A: a, Packed: &p, C: c, Accumulate: true}.Run(nil)
			if want == nil {
				want = c
			}
			if i := firstDifference(c, want); i >= 0 {
				t.Fatalf("element %d is %x, the reference's %x", i, math.Float32bits(c[i]), math.Float32bits(want[i]))
			}
		})
	}
}

func TestRoundBF16(t *testing.T) {
	for _, c := range []struct{ x, want uint32 }{
		{0x3f800000, 0x3f80}, {0x3f808000, 0x3f80}, {0x3f818000, 0x3f82}, {0x3f808001, 0x3f81}, {0x7f7fffff, 0x7f80},
		{0x80000000, 0x8000}, {0x7f800000, 0x7f80}, {0x7f800001, 0x7fc0}, {0xffffffff, 0xffff}, {0x00007fff, 0},
		{0x00018000, 2},
	} {
		if got := roundBF16(math.Float32frombits(c.x)) >> 16; got != c.want {
			t.Errorf("%08x becomes %04x, want %04x", c.x, got, c.want)
		}
	}
}

// TestFlushedFMA names results that other conventions would give.
func TestFlushedFMA(t *testing.T) {
	for _, c := range [][4]float32{
		{0x1p64, 0x1p63, -0x1p127, 0},                         // exact cancellation of what is large
		{0x1p-70, 0x1p-60, 0x1p-127, 0},                       // the sum's operand is flushed, then the result
		{-0x1p-70, 0x1p-60, 0, float32(math.Copysign(0, -1))}, // keeping the sign
		{0x1p-100, -0x1p-51, 0x1p-126, 0x1p-126},              // a tie at 24 bits, to even
		{0x1p-100, -(1 - 0x1p-24) * 0x1p-50, 0x1p-126, 0},     // nearer to what is below
		{1 - 0x1p-24, 0x1p-126, 0, 0},                         // rounds to 24 bits below 2^-126
		{1 - 0x1p-24, 1 - 0x1p-24, 0, 1 - 0x1p-23},            //
		{1 + 0x1p-23, 0x1p-126, 0, 0x1p-126 + 0x1p-149},       //
	} {
		if got := FlushedFMA(c[0], c[1], c[2]); math.Float32bits(got) != math.Float32bits(c[3]) {
			t.Errorf("FlushedFMA(%g, %g, %g) is %g, want %g", c[0], c[1], c[2], got, c[3])
		}
	}
}

// TestInit compares products that start from rows, from a bias and from both
// with the same product added to what those make.
func TestInit(t *testing.T) {
	underBF16(t, func(t *testing.T) {
		r := rand.New(rand.NewPCG(21, 22))
		for _, numerics := range []Numerics{V1, V1BF16} {
			for _, s := range [][3]int{{1, 5, 3}, {13, 33, 20}, {30, 70, 395}, {250, 40, 30}, {5, 17, 0}} {
				for variant := range 6 {
					checkInit(t, r, numerics, variant, s[0], s[1], s[2])
				}
			}
		}
	})
}

func checkInit(t *testing.T, r *rand.Rand, numerics Numerics, variant, m, n, k int) {
	t.Helper()
	a, b, bias := values(r, m*k, false), values(r, k*n, false), values(r, n, true)
	ldc := n + 3
	c, guards := guarded(values(r, m*ldc, true), 1)
	p := []Product{
		{}, {Bias: bias}, {Init: values(r, m*(n+2), true), LDInit: n + 2}, {Init: values(r, m*n, true)},
		{Init: values(r, m*n, true), LDInit: n, Bias: bias}, {Init: c, LDInit: ldc, Bias: bias},
	}[variant]
	want := append([]float32(nil), c...)
	for i := range m {
		for j := range n {
			x := float32(0)
			switch {
			case p.Init != nil && p.Bias != nil:
				x = p.Init[i*leading(p.LDInit, n)+j] + bias[j]
			case p.Init != nil:
				x = p.Init[i*leading(p.LDInit, n)+j]
			case p.Bias != nil:
				x = bias[j]
			}
			want[i*ldc+j] = x
		}
	}
	restore := use(t, "portable")
	Product{Numerics: numerics, M: m, N: n, K: k, A: a, B: b, C: want, LDC: ldc, Accumulate: true}.Run(nil)
	restore()
	p.M, p.A, p.C, p.LDC = m, a, c, ldc
	if variant%2 == 0 {
		p.Numerics, p.N, p.K, p.B = numerics, n, k, b
	} else {
		p.Packed = new(PackedB)
		p.Packed.Reset(numerics, k, n)
		for task := range p.Packed.Tasks() {
			p.Packed.Pack(task, b, false)
		}
	}
	p.Run(nil)
	if !guards() || firstDifference(c, want) >= 0 {
		t.Fatalf("%s (%d,%d,%d): variant %d differs", numerics, m, n, k, variant)
	}
}
