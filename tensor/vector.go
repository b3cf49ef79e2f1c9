package tensor

import "fmt"

// sameLength panics unless every length equals the first: a bug of the caller, of which the message names the
// function.
func sameLength(what string, n int, others ...int) {
	for _, m := range others {
		if m != n {
			panic(fmt.Sprintf("tensor.%s: lengths %d and %d differ", what, n, m))
		}
	}
}

// Add adds x to dst: dst[i] += x[i].
func Add(dst, x []float32) {
	sameLength("Add", len(dst), len(x))
	if len(x) > 0 {
		addKernel(dst, x)
	}
}

// Mul multiplies dst by x: dst[i] *= x[i].
func Mul(dst, x []float32) {
	sameLength("Mul", len(dst), len(x))
	if len(x) > 0 {
		mulKernel(dst, x)
	}
}

// Scale multiplies dst by a number: dst[i] *= a.
func Scale(dst []float32, a float32) {
	if len(dst) > 0 {
		scaleKernel(dst, a)
	}
}

// Axpy adds a multiple of x to dst: dst[i] = fma(a, x[i], dst[i]).
func Axpy(dst []float32, a float32, x []float32) {
	sameLength("Axpy", len(dst), len(x))
	if len(x) > 0 {
		axpyKernel(dst, a, x)
	}
}

// Sum returns the sum of x over 16 lanes; see the package comment.
func Sum(x []float32) float32 {
	if len(x) == 0 {
		return 0
	}
	return sumKernel(x)
}

// SumSquares returns the sum of x[i]*x[i] over 16 lanes, each a chain of FMA.
func SumSquares(x []float32) float32 { return Dot(x, x) }

// Dot returns the sum of x[i]*y[i] over 16 lanes, each a chain of FMA.
func Dot(x, y []float32) float32 {
	sameLength("Dot", len(x), len(y))
	if len(x) == 0 {
		return 0
	}
	return dotKernel(x, y)
}

// Max returns the largest of x, or -Inf if x is empty. Whether a NaN in x shows in the result is unspecified.
func Max(x []float32) float32 {
	if len(x) == 0 {
		return -infinity
	}
	return maxKernel(x)
}

// Exp sets dst[i] to e**x[i]; see [Exp1] for the range and the error. dst may be x.
func Exp(dst, x []float32) {
	sameLength("Exp", len(dst), len(x))
	if len(x) > 0 {
		expKernel(dst, x)
	}
}

// Gelu sets dst to the tanh form of GELU (Hendrycks & Gimpel, 2016), as GPT-2 has it:
//
//	gelu(x) = x/2 * (1 + tanh u) = x / (1 + e**-2u),  u = sqrt(2/pi) (x + 0.044715 x³)
//
// The worst error is 6e-7 in absolute terms, and 1e-6 of the value for x above -3. dst may be x.
func Gelu(dst, x []float32) {
	sameLength("Gelu", len(dst), len(x))
	if len(x) > 0 {
		geluKernel(dst, x)
	}
}

// GeluBackward sets dx to the gradient of [Gelu] at x, dx = dy * gelu'(x), where
//
//	gelu'(x) = s + x * 2u'(x) * s*(1-s),  s = 1/(1 + e**-2u),  1-s = e**-2u * s
//
// The worst error of gelu' is 3e-7. dx may be dy or x.
func GeluBackward(dx, x, dy []float32) {
	sameLength("GeluBackward", len(dx), len(x), len(dy))
	if len(x) > 0 {
		geluBackwardKernel(dx, x, dy)
	}
}

// GeluForwardBackward sets y to [Gelu] of x and dx to [GeluBackward] of x and dy. It is for backward passes that need
// the activation again and did not keep it: both share one exponential. dx may be dy.
func GeluForwardBackward(dx, x, dy, y []float32) {
	sameLength("GeluForwardBackward", len(dx), len(x), len(dy), len(y))
	if len(x) > 0 {
		geluForwardBackwardKernel(dx, x, dy, y)
	}
}

// Softmax replaces x by softmax(scale*x), for a positive scale:
//
//	max = scale*Max(x),  e[i] = exp(scale*x[i] - max),  sum = Σ e (16 lanes),  x[i] = e[i] * (1/sum)
//
// Subtracting max keeps the exponentials finite. The logarithm of a probability is scale*x[i] - max - Log1(sum), from
// the old x. Entries of -Inf get probability 0; not all may be -Inf. For an empty x it returns -Inf and 0.
func Softmax(x []float32, scale float32) (max, sum float32) {
	if len(x) == 0 {
		return -infinity, 0
	}
	return softmaxKernel(x, scale)
}

// LogSumExp returns the max and sum of [Softmax] and leaves x as it is:
//
//	ln Σ exp(scale*x[i]) = max + Log1(sum)
func LogSumExp(x []float32, scale float32) (max, sum float32) {
	if len(x) == 0 {
		return -infinity, 0
	}
	max = scale * maxKernel(x)
	return max, sumExpKernel(x, scale, max)
}

// SoftmaxBackward sets ds to the gradient of p = [Softmax](s, scale) at s, given the gradient dp of p:
//
//	ds[i] = scale * (p[i] * (dp[i] - Dot(p, dp)))
//
// ds may be p or dp.
func SoftmaxBackward(ds, p, dp []float32, scale float32) {
	sameLength("SoftmaxBackward", len(ds), len(p), len(dp))
	if len(p) > 0 {
		softmaxBackwardKernel(ds, p, dp, dotKernel(p, dp), scale)
	}
}

// EMA moves the exponential moving average avg towards w: avg[i] = fma(1-decay, w[i]-avg[i], avg[i]).
func EMA(avg, w []float32, decay float32) {
	sameLength("EMA", len(avg), len(w))
	if len(w) > 0 {
		emaKernel(avg, w, 1-decay)
	}
}
