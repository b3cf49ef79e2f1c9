package tensor

import "math"

// FMA returns x*y + z rounded once, as the FMA instructions do.
//
// The product of two float32 is exact in float64, so that only the sum is rounded there. Rounding a second time, to
// float32, can go wrong only where the first rounding landed halfway between two float32, or where the result is below
// the normal range. In those cases, which the bits of s show, the sum is first rounded to odd (Boldo & Melquiond,
// "Emulation of FMA and correctly rounded sums: proved algorithms using rounding to odd", 2008).
func FMA(x, y, z float32) float32 {
	s := float64(x)*float64(y) + float64(z) // the compiler may fuse this: the product is exact either way
	if b := math.Float64bits(s); b<<35 == 1<<63 || b<<1 < 897<<53 {
		return fmaOdd(x, y, z)
	}
	return float32(s)
}

// fmaOdd is FMA with the sum rounded to odd: of the two float64 around the exact sum it takes the one whose last bit is
// set, unless the sum is exact. float64 has far more than the two extra bits that make rounding that once more
// correct.
func fmaOdd(x, y, z float32) float32 {
	p := float64(float64(x) * float64(y))
	c := float64(z)
	s := p + c
	t := s - p
	e := (p - (s - t)) + (c - t) // Knuth's two-sum: s + e is the exact sum
	b := math.Float64bits(s)
	if e == 0 || e != e || b&1 == 1 {
		return float32(s)
	}
	if (e > 0) == (s > 0) {
		b++ // away from zero
	} else {
		b--
	}
	return float32(math.Float64frombits(b))
}
