//go:build !purego

package tensor

import "golang.org/x/sys/cpu"

// detect returns the fastest kernels that this CPU has and whose registers the operating system saves. BMI2 is there
// for the masks of tails (BZHI).
func detect() implementation {
	x := cpu.X86
	switch {
	case x.HasAVX512F && x.HasAVX512DQ && x.HasBMI2 && x.HasFMA && x.HasAVX2:
		return avx512
	case x.HasAVX2 && x.HasFMA:
		return avx2
	}
	return portable
}

// detectBF16 reports whether products under V1BF16 may use VDPBF16PS.
func detectBF16() bool {
	return detect() == avx512 && cpu.X86.HasAVX512BF16 && nativeBF16Matches()
}

// nativeBF16Matches tries VDPBF16PS on values whose result depends on the order and the rounding: the upper halves
// first, each product fused with its sum, subnormal operands and results zero. Intel's manual describes it so; a CPU or
// an emulator that differs gets the emulated kernels, and so the same bits.
func nativeBF16Matches() bool {
	a := []float32{packBF16(0x1p64, 1), packBF16(1, -1), packBF16(1+0x1p-7, 0x1p-12), packBF16(0x1p-70, 0x1p-65),
		packBF16(0x1p-80, 0)}
	b := []float32{packBF16(0x1p63, 1), packBF16(0x1p24, 0x1p24), packBF16(1+0x1p-7, 0x1p-12),
		packBF16(0x1p-70, 0x1p-66), packBF16(0x1p-60, 0)}
	c := []float32{-0x1p127, 1, 0x1p-20, 0x1p-126, 0x1p-127}
	for i := range a {
		got, want := c[i:i+1:i+1], []float32{c[i]}
		native1x2AVX512(&got[0], 1, &got[0], 1, nil, &a[i], 1, 1, &b[i], 1, 1, &b[i], 1, 0)
		dpbf16Portable(want, a[i], b[i:i+1])
		if got[0] != want[0] {
			return false
		}
	}
	return true
}

// The kernels below dispatch to the implementation in use. Each computes, bit for bit, what its portable form does, and
// expects slices of equal lengths that are not empty: assembly checks nothing, and &x[0] of an empty slice panics.

// addKernel is dst[i] += x[i].
func addKernel(dst, x []float32) {
	switch active {
	case avx512:
		addAVX512(&dst[0], &x[0], len(x))
	case avx2:
		addAVX2(&dst[0], &x[0], len(x))
	default:
		addPortable(dst, x)
	}
}

// mulKernel is dst[i] *= x[i].
func mulKernel(dst, x []float32) {
	switch active {
	case avx512:
		mulAVX512(&dst[0], &x[0], len(x))
	case avx2:
		mulAVX2(&dst[0], &x[0], len(x))
	default:
		mulPortable(dst, x)
	}
}

// scaleKernel is dst[i] *= a.
func scaleKernel(dst []float32, a float32) {
	switch active {
	case avx512:
		scaleAVX512(&dst[0], a, len(dst))
	case avx2:
		scaleAVX2(&dst[0], a, len(dst))
	default:
		scalePortable(dst, a)
	}
}

// axpyKernel is dst[i] = FMA(a, x[i], dst[i]).
func axpyKernel(dst []float32, a float32, x []float32) {
	switch active {
	case avx512:
		axpyAVX512(&dst[0], a, &x[0], len(x))
	case avx2:
		axpyAVX2(&dst[0], a, &x[0], len(x))
	default:
		axpyPortable(dst, a, x)
	}
}

// sumKernel returns Σ x[i] over the 16 virtual lanes, as all sums below.
func sumKernel(x []float32) float32 {
	switch active {
	case avx512:
		return sumAVX512(&x[0], len(x))
	case avx2:
		return sumAVX2(&x[0], len(x))
	}
	return sumPortable(x)
}

// dotKernel returns Σ x[i]*y[i], fused.
func dotKernel(x, y []float32) float32 {
	switch active {
	case avx512:
		return dotAVX512(&x[0], &y[0], len(x))
	case avx2:
		return dotAVX2(&x[0], &y[0], len(x))
	}
	return dotPortable(x, y)
}

func maxKernel(x []float32) float32 {
	switch active {
	case avx512:
		return maxAVX512(&x[0], len(x))
	case avx2:
		return maxAVX2(&x[0], len(x))
	}
	return maxPortable(x)
}

func expKernel(dst, x []float32) {
	switch active {
	case avx512:
		expAVX512(&dst[0], &x[0], len(x))
	case avx2:
		expAVX2(&dst[0], &x[0], len(x))
	default:
		expPortable(dst, x)
	}
}

func geluKernel(dst, x []float32) {
	switch active {
	case avx512:
		geluAVX512(&dst[0], &x[0], len(x))
	case avx2:
		geluAVX2(&dst[0], &x[0], len(x))
	default:
		geluPortable(dst, x)
	}
}

func geluBackwardKernel(dx, x, dy []float32) {
	switch active {
	case avx512:
		geluBackwardAVX512(&dx[0], &x[0], &dy[0], len(x))
	case avx2:
		geluBackwardAVX2(&dx[0], &x[0], &dy[0], len(x))
	default:
		geluBackwardPortable(dx, x, dy)
	}
}

func geluForwardBackwardKernel(dx, x, dy, y []float32) {
	switch active {
	case avx512:
		geluBothAVX512(&dx[0], &x[0], &dy[0], &y[0], len(x))
	case avx2:
		geluBothAVX2(&dx[0], &x[0], &dy[0], &y[0], len(x))
	default:
		geluForwardBackwardPortable(dx, x, dy, y)
	}
}

// softmaxKernel turns x into probabilities, in three passes over the row, which stays in the cache.
func softmaxKernel(x []float32, scale float32) (max, sum float32) {
	switch active {
	case avx512:
		return softmaxAVX512(&x[0], scale, len(x))
	case avx2:
		return softmaxAVX2(&x[0], scale, len(x))
	}
	return softmaxPortable(x, scale)
}

// sumExpKernel returns Σ exp(scale*x[i] - max).
func sumExpKernel(x []float32, scale, max float32) float32 {
	switch active {
	case avx512:
		return sumExpAVX512(&x[0], scale, max, len(x))
	case avx2:
		return sumExpAVX2(&x[0], scale, max, len(x))
	}
	return sumExpPortable(x, scale, max)
}

func softmaxBackwardKernel(ds, p, dp []float32, dot, scale float32) {
	switch active {
	case avx512:
		softmaxBackwardAVX512(&ds[0], &p[0], &dp[0], dot, scale, len(p))
	case avx2:
		softmaxBackwardAVX2(&ds[0], &p[0], &dp[0], dot, scale, len(p))
	default:
		softmaxBackwardPortable(ds, p, dp, dot, scale)
	}
}

// sumSquaredDifferencesKernel returns Σ (x[i]-mean)².
func sumSquaredDifferencesKernel(x []float32, mean float32) float32 {
	switch active {
	case avx512:
		return sumSquaredDifferencesAVX512(&x[0], mean, len(x))
	case avx2:
		return sumSquaredDifferencesAVX2(&x[0], mean, len(x))
	}
	return sumSquaredDifferencesPortable(x, mean)
}

func normalizeKernel(y, x, gamma, beta []float32, mean, rstd float32) {
	switch active {
	case avx512:
		normalizeAVX512(&y[0], &x[0], &gamma[0], &beta[0], mean, rstd, len(x))
	case avx2:
		normalizeAVX2(&y[0], &x[0], &gamma[0], &beta[0], mean, rstd, len(x))
	default:
		normalizePortable(y, x, gamma, beta, mean, rstd)
	}
}

func normSumsKernel(x, dy, gamma []float32, mean, rstd float32) (sum, sumN float32) {
	switch active {
	case avx512:
		return normSumsAVX512(&x[0], &dy[0], &gamma[0], mean, rstd, len(x))
	case avx2:
		return normSumsAVX2(&x[0], &dy[0], &gamma[0], mean, rstd, len(x))
	}
	return normSumsPortable(x, dy, gamma, mean, rstd)
}

func normBackwardKernel(dx, x, dy, gamma []float32, mean, rstd, g, gn float32) {
	switch active {
	case avx512:
		normBackwardAVX512(&dx[0], &x[0], &dy[0], &gamma[0], mean, rstd, g, gn, len(x))
	case avx2:
		normBackwardAVX2(&dx[0], &x[0], &dy[0], &gamma[0], mean, rstd, g, gn, len(x))
	default:
		normBackwardPortable(dx, x, dy, gamma, mean, rstd, g, gn)
	}
}

// normParametersKernel accumulates the gradients of gamma and beta.
func normParametersKernel(dgamma, dbeta, x, dy []float32, mean, rstd float32) {
	switch active {
	case avx512:
		normParametersAVX512(&dgamma[0], &dbeta[0], &x[0], &dy[0], mean, rstd, len(x))
	case avx2:
		normParametersAVX2(&dgamma[0], &dbeta[0], &x[0], &dy[0], mean, rstd, len(x))
	default:
		normParametersPortable(dgamma, dbeta, x, dy, mean, rstd)
	}
}

// normalizeScaleKernel is y[i] = FMA((x[i]-mean)*rstd, gamma[i], +0).
func normalizeScaleKernel(y, x, gamma []float32, mean, rstd float32) {
	switch active {
	case avx512:
		normalizeScaleAVX512(&y[0], &x[0], &gamma[0], mean, rstd, len(x))
	case avx2:
		normalizeScaleAVX2(&y[0], &x[0], &gamma[0], mean, rstd, len(x))
	default:
		normalizeScalePortable(y, x, gamma, mean, rstd)
	}
}

// normGammaKernel accumulates the gradient of gamma.
func normGammaKernel(dgamma, x, dy []float32, mean, rstd float32) {
	switch active {
	case avx512:
		normGammaAVX512(&dgamma[0], &x[0], &dy[0], mean, rstd, len(x))
	case avx2:
		normGammaAVX2(&dgamma[0], &x[0], &dy[0], mean, rstd, len(x))
	default:
		normGammaPortable(dgamma, x, dy, mean, rstd)
	}
}

// rmsNormKernel is y[i] = FMA(x[i]*rstd, offset+gamma[i], +0), and returns rstd.
func rmsNormKernel(y, x, gamma []float32, offset, eps float32) (rstd float32) {
	switch active {
	case avx512:
		return rmsNormAVX512(&y[0], &x[0], &gamma[0], offset, eps, len(x))
	case avx2:
		return rmsNormAVX2(&y[0], &x[0], &gamma[0], offset, eps, len(x))
	}
	return rmsNormPortable(y, x, gamma, offset, eps)
}

// rmsNormBackwardKernel adds the gradient of a row's x to dx.
func rmsNormBackwardKernel(dx, x, dy, gamma []float32, rstd, offset float32) {
	switch active {
	case avx512:
		rmsNormBackwardAVX512(&dx[0], &x[0], &dy[0], &gamma[0], rstd, offset, len(x))
	case avx2:
		rmsNormBackwardAVX2(&dx[0], &x[0], &dy[0], &gamma[0], rstd, offset, len(x))
	default:
		rmsNormBackwardPortable(dx, x, dy, gamma, rstd, offset)
	}
}

// rotateKernel turns the pairs (a[i], b[i]).
func rotateKernel(a, b, cos, sin []float32) {
	switch active {
	case avx512:
		rotateAVX512(&a[0], &b[0], &cos[0], &sin[0], len(cos))
	case avx2:
		rotateAVX2(&a[0], &b[0], &cos[0], &sin[0], len(cos))
	default:
		rotatePortable(a, b, cos, sin)
	}
}

// rotateBackKernel turns the pairs (a[i], b[i]) by the opposite angles.
func rotateBackKernel(a, b, cos, sin []float32) {
	switch active {
	case avx512:
		rotateBackAVX512(&a[0], &b[0], &cos[0], &sin[0], len(cos))
	case avx2:
		rotateBackAVX2(&a[0], &b[0], &cos[0], &sin[0], len(cos))
	default:
		rotateBackPortable(a, b, cos, sin)
	}
}

// adamwKernel passes the parameters of the step as the address of the first: the kernel reads them by offset.
func adamwKernel(w, m, v, g []float32, a *adamwParams) {
	switch active {
	case avx512:
		adamwAVX512(&w[0], &m[0], &v[0], &g[0], &a.gradScale, len(w))
	case avx2:
		adamwAVX2(&w[0], &m[0], &v[0], &g[0], &a.gradScale, len(w))
	default:
		adamwPortable(w, m, v, g, a)
	}
}

// emaKernel is avg[i] = FMA(share, w[i]-avg[i], avg[i]).
func emaKernel(avg, w []float32, share float32) {
	switch active {
	case avx512:
		emaAVX512(&avg[0], &w[0], share, len(w))
	case avx2:
		emaAVX2(&avg[0], &w[0], share, len(w))
	default:
		emaPortable(avg, w, share)
	}
}
