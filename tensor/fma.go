package tensor

import "math"

// FMA returns x*y + z rounded once, as the FMA instructions do.
//
// The product of two float32 is exact in float64, and so only the sum is
// rounded there. A second rounding, to float32, can go wrong only where the
// first one landed on the middle between two float32; for those, and for
// results below the normal range, the sum is first rounded to odd.
// Below, the product needs no conversion: to fuse an exact product is harmless.
func FMA(x, y, z float32) float32 {
	s := float64(x)*float64(y) + float64(z)
	if b := math.Float64bits(s); b<<35 == 1<<63 || b<<1 < 897<<53 {
		return fmaOdd(x, y, z)
	}
	return float32(s)
}

// fmaOdd is FMA with the sum rounded to odd: of the two float64 around the
// exact sum, the one whose last bit is set, unless the sum is exact.
func fmaOdd(x, y, z float32) float32 {
	p := float64(float64(x) * float64(y))
	c := float64(z)
	s := p + c
	t := s - p
	e := (p - (s - t)) + (c - t) // s + e is the exact sum
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
