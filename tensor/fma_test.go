package tensor

import (
	"math"
	"math/big"
	"math/rand/v2"
	"testing"
)

// exactFMA is x*y + z computed without rounding, then rounded once.
func exactFMA(x, y, z float32) float32 {
	number := func(v float32) *big.Float { return new(big.Float).SetPrec(2000).SetFloat64(float64(v)) }
	p := number(x)
	p.Mul(p, number(y))
	p.Add(p, number(z))
	f, _ := p.Float32()
	return f
}

// TestFMATriples holds cases where rounding twice goes wrong.
func TestFMATriples(t *testing.T) {
	for _, c := range []struct {
		x, y, z float32
		want    uint32
	}{
		// (1+2⁻²⁰) * 2⁻²⁴(1-2⁻²⁰) + 1+2⁻²³ lies just below a middle
		{1 + 0x1p-20, 0x1p-24 * (1 - 0x1p-20), 1 + 0x1p-23, 0x3f800001},
		{1, 0x1p-24, 1 + 0x1p-23, 0x3f800002},           // a true middle: to even
		{1 + 0x1p-23, 0x1p-24, 1 + 0x1p-23, 0x3f800002}, // just above one
		{0x1p-75, 0x1p-75, 0x1p-149, 0x00000002},        // subnormal, a middle
		{0x1p-75, 0x1.fffffep-76, 0x1p-149, 0x00000001}, // just below it
		{0x1p-75, 0x1p-75, 0, 0x00000000},               // a middle, to zero
		{0x1p-75, 0x1.000002p-75, 0, 0x00000001},        // just above it
		{0x1.fffffep127, 1, 0x1p103, 0x7f800000},        // overflow at a middle
		{0x1.fffffep127, 1, 0x1.fffffep102, 0x7f7fffff}, // just below
		{-1, 0, 0, 0x00000000},                          // -0 + 0
		{float32(math.Copysign(0, -1)), 1, float32(math.Copysign(0, -1)), 0x80000000},
	} {
		if got := math.Float32bits(FMA(c.x, c.y, c.z)); got != c.want {
			t.Errorf("FMA(%g, %g, %g) = %08x, want %08x", c.x, c.y, c.z, got, c.want)
		}
	}
}

// TestFMAExact compares with exact arithmetic: all bit patterns, patterns whose
// exponents are near each other, and sums made to fall beside a middle.
func TestFMAExact(t *testing.T) {
	r := rand.New(rand.NewPCG(11, 12))
	any := func() float32 { return math.Float32frombits(r.Uint32()) }
	near := func(e int) float32 {
		return math.Float32frombits(r.Uint32()&0x807fffff | uint32(max(0, min(254, e)))<<23)
	}
	check := func(x, y, z float32) {
		bad := func(v float32) bool { return v != v || math.IsInf(float64(v), 0) }
		if bad(x) || bad(y) || bad(z) {
			return
		}
		got, want := FMA(x, y, z), exactFMA(x, y, z)
		if got != want {
			t.Fatalf("FMA(%x, %x, %x) = %x, want %x", x, y, z, got, want)
		}
		if odd := fmaOdd(x, y, z); odd != want {
			t.Fatalf("fmaOdd(%x, %x, %x) = %x, want %x", x, y, z, odd, want)
		}
	}
	for range 60000 {
		check(any(), any(), any())
		ex, ey := r.IntN(255), r.IntN(255)
		check(near(ex), near(ey), near(ex+ey-127+r.IntN(60)-30))
		check(near(r.IntN(70)), near(r.IntN(70)+20), near(r.IntN(30))) // subnormal sums
		// a product of two values a few bits wide, added far below
		x, y := 1+float32(r.IntN(8))*0x1p-23, 1-float32(r.IntN(8))*0x1p-24
		check(x, y*float32(math.Ldexp(1, -24-r.IntN(3))), 1+float32(r.IntN(16))*0x1p-23)
	}
}

func TestFMASpecial(t *testing.T) {
	nan := float32(math.NaN())
	for _, v := range []float32{FMA(nan, 1, 1), FMA(1, 1, nan), FMA(infinity, 0, 1), FMA(infinity, 1, -infinity)} {
		if v == v {
			t.Errorf("got %g, want NaN", v)
		}
	}
	if FMA(infinity, 2, 1) != infinity || FMA(1, 1, -infinity) != -infinity {
		t.Error("infinities are lost")
	}
	for _, acc := range []float32{0, 1, -3e-45, infinity, math.MaxFloat32} {
		if FMA(0, 7, acc) != acc {
			t.Errorf("fma(0, 7, %g) is not neutral", acc)
		}
	}
}

func FuzzFMA(f *testing.F) {
	f.Add(uint32(0x3f800008), uint32(0x337ffff0), uint32(0x3f800001))
	f.Fuzz(func(t *testing.T, a, b, c uint32) {
		x, y, z := math.Float32frombits(a), math.Float32frombits(b), math.Float32frombits(c)
		if s := float64(x)*float64(y) + float64(z); s-s != 0 {
			t.Skip("not finite")
		}
		if got, want := FMA(x, y, z), exactFMA(x, y, z); got != want {
			t.Errorf("FMA(%x, %x, %x) = %x, want %x", x, y, z, got, want)
		}
	})
}

func BenchmarkFMA(b *testing.B) {
	s := float32(0)
	for b.Loop() {
		s = FMA(s, 0.5, 1.1)
	}
	_ = s
}
