package draw

import (
	"fmt"
	"math"
	"math/bits"
)

// Float64 returns a number in [0, 1), a multiple of 2⁻⁵³.
func (s *Stream) Float64() float64 { return float64(s.Uint64()>>11) * 0x1p-53 }

// openFloat64 returns a number in (0, 1), an odd multiple of 2⁻⁵³: one whose logarithm is finite and not zero.
func (s *Stream) openFloat64() float64 { return float64(s.Uint64()>>12<<1|1) * 0x1p-53 }

// IntN returns a number in [0, n), every one as likely as every other, by multiplication and rarely a rejection
// (Lemire, "Fast Random Integer Generation in an Interval", 2019). It panics unless n > 0.
func (s *Stream) IntN(n int) int {
	if n <= 0 {
		panic(fmt.Sprintf("draw.IntN: there is no number in [0, %d)", n))
	}
	m := uint64(n)
	high, low := bits.Mul64(s.Uint64(), m)
	if low < m {
		for reject := -m % m; low < reject; {
			high, low = bits.Mul64(s.Uint64(), m)
		}
	}
	return int(high)
}

// Bool returns true with probability p.
func (s *Stream) Bool(p float64) bool { return s.Float64() < p }

// Normal returns a number of the normal distribution with mean 0 and variance 1, by Marsaglia's polar method. It
// gives one of the two numbers that the method makes, so that a stream has no hidden half.
func (s *Stream) Normal() float64 {
	for {
		x, y := 2*s.Float64()-1, 2*s.Float64()-1
		q := float64(x*x) + float64(y*y)
		if q > 0 && q < 1 {
			return x * math.Sqrt(-2*ln(q)/q)
		}
	}
}

// Gumbel returns a number of the standard Gumbel distribution. The index of the largest logit + Gumbel is a draw from
// the softmax of the logits.
func (s *Stream) Gumbel() float64 { return -ln(-ln(s.openFloat64())) }

// Perm returns the numbers 0 … n-1 in random order.
func (s *Stream) Perm(n int) []int {
	p := make([]int, n)
	for i := range p {
		p[i] = i
	}
	Shuffle(s, p)
	return p
}

// Weighted returns index i with probability weights[i] / Σ weights, by the inverse of the cumulative distribution. It
// panics unless the weights are finite, none is negative, and one is positive.
func (s *Stream) Weighted(weights []float64) int {
	var total float64
	last := -1
	for i, w := range weights {
		if !(w >= 0) {
			panic(fmt.Sprintf("draw.Weighted: weight %d is %g", i, w))
		}
		if w > 0 {
			last = i
		}
		total += w
	}
	if last < 0 || math.IsInf(total, 1) {
		panic(fmt.Sprintf("draw.Weighted: the %d weights sum to %g", len(weights), total))
	}
	u := float64(s.Float64() * total)
	for i, w := range weights[:last] {
		if u < w {
			return i
		}
		u -= w
	}
	return last
}

// Shuffle puts x into random order, in place (Fisher and Yates).
func Shuffle[T any](s *Stream, x []T) {
	for i := len(x) - 1; i > 0; i-- {
		j := s.IntN(i + 1)
		x[i], x[j] = x[j], x[i]
	}
}

// Pick returns one element of x, each equally likely. It panics if there is none.
func Pick[T any](s *Stream, x []T) T { return x[s.IntN(len(x))] }

// ln returns the natural logarithm of a positive normal number, after FreeBSD's e_log.c. Every product is rounded
// before it is added, so that no compiler fuses the two. The worst error is 1 unit in the last place.
//
//	x = 2**k * (1+f), sqrt(1/2) <= 1+f < sqrt(2);  s = f/(2+f)
//	ln(1+f) = f - (f²/2 - s*(f²/2 + R(s²)))
func ln(x float64) float64 {
	const (
		high = 6.93147180369123816490e-01 // ln 2, in two parts
		low  = 1.90821492927058770002e-10
		l1   = 6.666666666666735130e-01
		l2   = 3.999999999940941908e-01
		l3   = 2.857142874366239149e-01
		l4   = 2.222219843214978396e-01
		l5   = 1.818357216161805012e-01
		l6   = 1.531383769920937332e-01
		l7   = 1.479819860511658591e-01
	)
	b := math.Float64bits(x)
	e := (b - 0x3fe6a09e667f3bcd) & (0xfff << 52) // k, where the bits of an exponent are; the constant is sqrt(1/2)
	k := float64(int64(e) >> 52)
	f := math.Float64frombits(b-e) - 1
	s := f / (2 + f)
	z := float64(s * s)
	r := l7
	for _, l := range [...]float64{l6, l5, l4, l3, l2, l1} {
		r = float64(r*z) + l
	}
	r = float64(r * z)
	h := float64(0.5 * f * f)
	t := float64(s*(h+r)) + float64(k*low)
	return float64(k*high) - ((h - t) - f)
}
