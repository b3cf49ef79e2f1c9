package tensor

import "math"

// Constants of the polynomials. exp, log, cos and tanh have the forms and coefficients of the single precision
// functions of the Cephes library (Moshier, 1992), evaluated by Horner's rule, with FMA but for tanh. The generator of
// the assembly reads these constants from here: see _asm/constants.go.
const (
	expHigh  = 88.72283    // the largest x whose exponential is finite
	expLow   = -86.64339   // -125 ln 2
	log2E    = 1.44269504  // log2(e)
	ln2High  = 0.693359375 // ln 2 to 10 bits
	ln2Low   = -2.12194440e-4
	expMagic = 12582912 // 1.5 * 2**23: adding it rounds to an integer

	expC7 = 2 * 1.9875691500e-4 // twice the coefficients of e**r
	expC6 = 2 * 1.3981999507e-3
	expC5 = 2 * 8.3334519073e-3
	expC4 = 2 * 4.1665795894e-2
	expC3 = 2 * 1.6666665459e-1
	expC2 = 2 * 5.0000001201e-1
	expC1 = 2
	expC0 = 2

	geluA = 1.5957691216057308 // 2 sqrt(2/pi)
	geluB = geluA * 0.044715
	geluC = 3 * geluB

	// Formula 7.1.26 of Abramowitz & Stegun (1964) for erf, of |x|/sqrt(2) and halved: the normal distribution's tail.
	erfP     = .3275911 * 0.70710678118654752440
	erfA1    = .254829592 / 2
	erfA2    = -.284496736 / 2
	erfA3    = 1.421413741 / 2
	erfA4    = -1.453152027 / 2
	erfA5    = 1.061405429 / 2
	rsqrt2Pi = .3989422804014327 // 1/sqrt(2 pi)

	// The polynomial of Cephes for tanh, for |x| up to tanhNear.
	tanhNear = .625
	tanhC4   = -5.70498872745e-3
	tanhC3   = 2.06390887954e-2
	tanhC2   = -5.37397155531e-2
	tanhC1   = 1.33314422036e-1
	tanhC0   = -3.33332819422e-1
)

// infinity is +Inf, which Go has no float32 constant for.
var infinity = float32(math.Inf(1))

// Exp1 returns e**x.
//
//	n = round(x*log2(e)), r = x - n*ln 2, e**x = 2*p(r) * 2**(n-1)
//
// It is 0 for x below -86.64339 and +Inf for x above 88.72283.
// Worst error 1 unit in the last place, against float64.
func Exp1(x float32) float32 {
	if x > expHigh {
		return infinity
	}
	if x < expLow {
		return 0
	}
	t := FMA(x, log2E, expMagic) // n in the lowest bits of the significand
	n := t - expMagic
	r := FMA(n, -ln2High, x)
	r = FMA(n, -ln2Low, r)
	p := FMA(expC7, r, expC6)
	p = FMA(p, r, expC5)
	p = FMA(p, r, expC4)
	p = FMA(p, r, expC3)
	p = FMA(p, r, expC2)
	p = FMA(p, r, expC1)
	p = FMA(p, r, expC0)
	return p * math.Float32frombits(math.Float32bits(t)<<23+126<<23) // 2**(n-1): 2**n may be out of range
}

// Log1 returns the natural logarithm of x: -Inf at 0, NaN below.
//
//	x = 2**e * (1+f), sqrt(1/2) <= 1+f < sqrt(2)
//	ln x = f - f²/2 + f³ p(f) + e ln 2
//
// Worst error 1 unit in the last place.
func Log1(x float32) float32 {
	switch {
	case x != x || x > math.MaxFloat32:
		return x
	case x < 0:
		return float32(math.NaN())
	case x == 0:
		return -infinity
	}
	var e float32
	if x < 0x1p-126 { // subnormal: scaled into the normal range
		x *= 0x1p23
		e = -23
	}
	b := math.Float32bits(x)
	i := (b - 0x3f3504f3) & 0xff800000 // sqrt(1/2) and up: exponent 0
	e += float32(int32(i) >> 23)
	f := math.Float32frombits(b-i) - 1
	p := float32(7.0376836292e-2)
	for _, c := range [...]float32{-1.1514610310e-1, 1.1676998740e-1, -1.2420140846e-1, 1.4249322787e-1,
		-1.6668057665e-1, 2.0000714765e-1, -2.4999993993e-1, 3.3333331174e-1} {
		p = FMA(p, f, c)
	}
	z := f * f
	y := float32(f*z) * p
	y = FMA(e, ln2Low, y)
	y = FMA(z, -0.5, y)
	return FMA(e, ln2High, f+y)
}

// Cos1 returns the cosine of x radians. The argument is reduced in float64 by multiples of pi/2; the bound holds for
// |x| up to 5e6. It is NaN for |x| above about 3e9, where nothing is left of the argument. Worst error 1.6 units in
// the last place.
func Cos1(x float32) float32 {
	r, q := reduceQuarter(x)
	return quadrant(r, q+1)
}

// reduceQuarter returns r in [-pi/4, pi/4] and q with x = r + q*pi/2, after Cody and Waite: the first part of pi/2
// has so few bits that its product with any n within the bound is exact.
func reduceQuarter(x float32) (r float32, q int64) {
	const high, low = 0x3ff921fb54400000, 0x3dd0b4611a626331 // pi/2 in two parts
	v := float64(x)
	n := math.RoundToEven(float64(v * 0.6366197723675814))
	if !(math.Abs(n) < 1<<31) {
		return float32(math.NaN()), 0 // far beyond the bound, or NaN or Inf
	}
	v -= float64(n * math.Float64frombits(high))
	v -= float64(n * math.Float64frombits(low))
	return float32(v), int64(n)
}

// quadrant returns sin(r + q*pi/2) for |r| <= pi/4: by a polynomial for the sine of r where q is even, for the cosine
// where it is odd, negated in the lower half of the circle.
func quadrant(r float32, q int64) float32 {
	z := r * r
	var y float32
	if q&1 == 0 {
		p := FMA(-1.9515295891e-4, z, 8.3321608736e-3)
		p = FMA(p, z, -1.6666654611e-1)
		y = FMA(p*z, r, r)
	} else {
		p := FMA(2.443315711809948e-5, z, -1.388731625493765e-3)
		p = FMA(p, z, 4.166664568298827e-2)
		y = FMA(p*z, z, FMA(z, -0.5, 1))
	}
	if q&2 != 0 {
		return -y
	}
	return y
}

// Sqrt1 returns the square root of x, correctly rounded.
func Sqrt1(x float32) float32 { return float32(math.Sqrt(float64(x))) }

// Rsqrt1 returns 1/sqrt(x): the correctly rounded quotient of 1 and the
// correctly rounded root. Worst error 1.5 units in the last place.
func Rsqrt1(x float32) float32 { return 1 / Sqrt1(x) }

// Sigmoid1 returns 1/(1 + e**-x).
// Worst error 2.5 units in the last place for x above -86.6, 0 below.
func Sigmoid1(x float32) float32 { return 1 / (1 + Exp1(-x)) }

// LogSigmoid1 returns ln(1/(1 + e**-x)) = min(x, 0) - ln(1 + e**-|x|), with Kahan's ln(1+t) = t ln(u)/(u-1), u = 1+t,
// which keeps the digits that 1+t loses of a small t.
// Worst error 3 units in the last place.
func LogSigmoid1(x float32) float32 {
	t := Exp1(-float32(math.Abs(float64(x))))
	l := t
	if u := 1 + t; u != 1 {
		l = float32(Log1(u)*t) / (u - 1)
	}
	if x < 0 {
		return x - l
	}
	return -l
}

// gelu1 returns x*s, s = sigmoid(2u), 2u = x*(geluA + geluB*x²): the tanh form of GELU (Hendrycks & Gimpel, 2016),
// since (1+tanh u)/2 = sigmoid(2u).
func gelu1(x float32) float32 { return x / (1 + geluExp(x, x*x)) }

// geluExp returns e**-2u for z = x².
func geluExp(x, z float32) float32 { return Exp1(-(x * FMA(z, geluB, geluA))) }

// geluSlope1 returns the derivative of gelu1, s + x*(geluA + geluC*x²) * s*(1-s),
// where 1-s = e**-2u * s.
func geluSlope1(x float32) float32 {
	z := x * x
	e := geluExp(x, z)
	s := 1 / (1 + e)
	if e > math.MaxFloat32 {
		e = math.MaxFloat32 // Inf*0 would be NaN: s is 0 there
	}
	return FMA(x*FMA(z, geluC, geluA), s*(e*s), s)
}
