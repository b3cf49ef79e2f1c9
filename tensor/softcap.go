package tensor

import "math"

// SoftCap keeps x within ±cap (Gemma Team, "Gemma 2", 2024), for a positive cap:
//
//	x[i] = cap·tanh(scale·x[i]/cap)
//
// The tanh has a worst error of 1.5 units in the last place: see [Tanh1].
func SoftCap(x []float32, scale, cap float32) {
	if len(x) > 0 {
		softCapKernel(x, scale, cap)
	}
}

// SoftCapBackward multiplies ds by the derivative of [SoftCap] where its result was y:
//
//	ds[i] *= scale·(1 - (y[i]/cap)²)
func SoftCapBackward(ds, y []float32, scale, cap float32) {
	sameLength("SoftCapBackward", len(ds), len(y))
	if len(y) > 0 {
		softCapBackwardKernel(ds, y, scale, cap)
	}
}

// softCapPortable is x[i] = cap * tanh((scale*x[i])/cap).
func softCapPortable(x []float32, scale, cap float32) {
	for i, v := range x {
		x[i] = cap * Tanh1((scale*v)/cap)
	}
}

// softCapBackwardPortable is ds[i] *= scale * (1 - t*t), t = y[i]/cap.
func softCapBackwardPortable(ds, y []float32, scale, cap float32) {
	for i, v := range y {
		t := v / cap
		ds[i] *= scale * (1 - float32(t*t))
	}
}

// Tanh1 returns the hyperbolic tangent of x: by a polynomial of the Cephes library (Moshier, 1992) for |x| below .625,
// otherwise as ±(1 - 2/(e**2|x| + 1)). Worst error 1.5 units in the last place.
func Tanh1(x float32) float32 {
	if a := float32(math.Abs(float64(x))); a > tanhNear {
		return float32(math.Copysign(float64(1-2/(Exp1(2*a)+1)), float64(x)))
	}
	z := x * x
	p := float32(tanhC4*z) + tanhC3
	p = float32(p*z) + tanhC2
	p = float32(p*z) + tanhC1
	p = float32(p*z) + tanhC0
	return float32((p*z)*x) + x
}
