package tensor

import "math"

// Sin1 returns the sine of x radians. Range and error are those of [Cos1].
func Sin1(x float32) float32 {
	r, q := reduceQuarter(x)
	return quadrant(r, q)
}

// RotaryAngles sets cosines and sines of a position (Su et al., "RoFormer", 2021), each multiplied by scale:
//
//	cos[i] = scale·cos(position·frequency[i]),  sin[i] = scale·sin(position·frequency[i])
//
// The angle is rounded to float32, as PyTorch's is. See [Cos1] for the error.
func RotaryAngles(cos, sin, frequency []float32, position int, scale float32) {
	sameLength("RotaryAngles", len(cos), len(sin), len(frequency))
	for i, f := range frequency {
		r, q := reduceQuarter(float32(position) * f)
		cos[i], sin[i] = scale*quadrant(r, q+1), scale*quadrant(r, q)
	}
}

// Rotate turns pairs of x by angles whose cosines and sines are given: pair i is x[i] and x[i+h], with h = len(cos),
// the layout of Hugging Face.
//
//	x[i], x[i+h] = x[i]·cos[i] - x[i+h]·sin[i], x[i+h]·cos[i] + x[i]·sin[i]
//
// Both products are rounded before they are added.
func Rotate(
	x []float32, // (2h)
	cos, sin []float32, // (h)
) {
	h := len(cos)
	sameLength("Rotate", h, len(sin))
	sameLength("Rotate", 2*h, len(x))
	if h > 0 {
		rotateKernel(x[:h], x[h:], cos, sin)
	}
}

// RotateBack is the transpose of [Rotate], which takes a gradient back through it: the rotation by the opposite angles.
func RotateBack(
	x []float32, // (2h)
	cos, sin []float32, // (h)
) {
	h := len(cos)
	sameLength("RotateBack", h, len(sin))
	sameLength("RotateBack", 2*h, len(x))
	if h > 0 {
		rotateBackKernel(x[:h], x[h:], cos, sin)
	}
}

// rotatePortable turns the pairs (a[i], b[i]).
func rotatePortable(a, b, cos, sin []float32) {
	for i, c := range cos {
		s, u, v := sin[i], a[i], b[i]
		a[i] = float32(u*c) - float32(v*s)
		b[i] = float32(v*c) + float32(u*s)
	}
}

// rotateBackPortable turns the pairs (a[i], b[i]) by the opposite angles.
func rotateBackPortable(a, b, cos, sin []float32) {
	for i, c := range cos {
		s, u, v := sin[i], a[i], b[i]
		a[i] = float32(u*c) + float32(v*s)
		b[i] = float32(v*c) - float32(u*s)
	}
}

// Pow64 returns base**exponent for a positive base, with a relative error below 1e-14 for results up to 1e15. Unlike
// math.Pow it gives the same bits on every machine.
func Pow64(base, exponent float64) float64 { return Exp64(float64(exponent * Log64(base))) }

// Log64 returns the natural logarithm of a positive, normal x, from the series of artanh:
//
//	x = 2**e·m, √½ <= m < √2, ln x = e·ln 2 + 2·(z + z³/3 + z⁵/5 + …), z = (m-1)/(m+1)
//
// The worst error is 4e-16·max(1, |ln x|).
func Log64(x float64) float64 {
	m, e := math.Frexp(x) // exact
	if m < math.Sqrt2/2 {
		m, e = 2*m, e-1
	}
	z := (m - 1) / (m + 1)
	square := z * z
	sum := 0.
	for k := 25; k >= 1; k -= 2 {
		sum = float64(sum*square) + 1/float64(k)
	}
	return float64(float64(e)*math.Ln2) + 2*float64(z*sum)
}

// Exp64 returns e**x for |x| up to 700, from the series of e**r: x = n·ln 2 + r, |r| <= ln 2/2. The relative error is
// below 4e-16·max(1, |x|).
func Exp64(x float64) float64 {
	const high, low = 6.93147180369123816490e-01, 1.90821492927058770002e-10 // ln 2 in two parts
	n := math.RoundToEven(float64(x / math.Ln2))
	r := x - float64(n*high) - float64(n*low)
	sum := 1.
	for k := 16; k >= 1; k-- {
		sum = float64(sum*(r/float64(k))) + 1
	}
	return math.Ldexp(sum, int(n)) // exact
}
