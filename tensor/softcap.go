package tensor

import "math"

// SoftCap keeps x within ±cap: x[i] = cap·tanh(scale·x[i]/cap). The tanh has a worst error of 3 units in the last
// place: see [Tanh1].
func SoftCap(x []float32, scale, cap float32) {
	for from := 0; from < len(x); from += activationBlock {
		block := x[from:min(len(x), from+activationBlock)]
		var exps [activationBlock]float32
		e := exps[:len(block)]
		for i, v := range block {
			block[i] = float32(scale*v) / cap
			e[i] = 2 * float32(math.Abs(float64(block[i])))
		}
		Exp(e, e)
		for i, u := range block {
			block[i] = cap * tanh(u, e[i])
		}
	}
}

// SoftCapBackward multiplies ds by the derivative of [SoftCap] where its result was y:
//
//	ds[i] *= scale·(1 - (y[i]/cap)²)
func SoftCapBackward(ds, y []float32, scale, cap float32) {
	sameLength("SoftCapBackward", len(ds), len(y))
	for i, v := range y {
		t := v / cap
		ds[i] *= scale * (1 - float32(t*t))
	}
}

// Tanh1 returns the hyperbolic tangent of x: by a polynomial of the Cephes library (Moshier, 1992) for |x| below .625,
// otherwise as ±(1 - 2/(e**2|x| + 1)). Worst error 3 units in the last place.
func Tanh1(x float32) float32 { return tanh(x, Exp1(2*float32(math.Abs(float64(x))))) }

// tanh returns the hyperbolic tangent of x given e = e**2|x|.
func tanh(x, e float32) float32 {
	if a := float32(math.Abs(float64(x))); a > .625 {
		return float32(math.Copysign(float64(1-2/(e+1)), float64(x)))
	}
	z := x * x
	p := float32(-5.70498872745e-3*z) + 2.06390887954e-2
	p = float32(p*z) - 5.37397155531e-2
	p = float32(p*z) + 1.33314422036e-1
	p = float32(p*z) - 3.33332819422e-1
	return float32(float32(p*z)*x) + x
}
