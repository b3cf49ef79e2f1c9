package tensor

import "math"

// The functions below are the reference: the definition that every kernel must equal bit for bit. Slices have equal
// lengths, not zero. Products are converted, float32(x*y), wherever they are added to something, since the compiler may
// otherwise fuse the two.

// lanes holds the 16 partial results of a reduction; element i belongs to lane i mod 16.
type lanes [16]float32

// sum combines the lanes in the fixed tree: lane l with l+8, then l+4, l+2 and l+1.
func (l *lanes) sum() float32 {
	for w := 8; w > 0; w /= 2 {
		for i := range w {
			l[i] += l[i+w]
		}
	}
	return l[0]
}

// pad adds +0 to the lanes that n elements leave out of their last block, as kernels do, which load zeros there. It
// turns a lane of -0 into +0.
func (l *lanes) pad(n int) {
	if n%16 != 0 {
		for i := n % 16; i < 16; i++ {
			l[i] += 0
		}
	}
}

// addPortable is dst[i] += x[i].
func addPortable(dst, x []float32) {
	for i, v := range x {
		dst[i] += v
	}
}

// mulPortable is dst[i] *= x[i].
func mulPortable(dst, x []float32) {
	for i, v := range x {
		dst[i] *= v
	}
}

// scalePortable is dst[i] *= a.
func scalePortable(dst []float32, a float32) {
	for i := range dst {
		dst[i] *= a
	}
}

// axpyPortable is dst[i] = FMA(a, x[i], dst[i]). It is the inner loop of the reference product, and so FMA is written
// out here: the call would cost more than the arithmetic.
func axpyPortable(dst []float32, a float32, x []float32) {
	for i, v := range x {
		s := float64(a)*float64(v) + float64(dst[i])
		if b := math.Float64bits(s); b<<35 == 1<<63 || b<<1 < 897<<53 {
			dst[i] = fmaOdd(a, v, dst[i])
		} else {
			dst[i] = float32(s)
		}
	}
}

// sumPortable returns Σ x[i].
func sumPortable(x []float32) float32 {
	var l lanes
	for i, v := range x {
		l[i%16] += v
	}
	l.pad(len(x))
	return l.sum()
}

// dotPortable returns Σ x[i]*y[i], fused.
func dotPortable(x, y []float32) float32 {
	var l lanes
	for i, v := range x {
		l[i%16] = FMA(v, y[i], l[i%16])
	}
	l.pad(len(x))
	return l.sum()
}

// maxPortable returns the largest x[i]. Lanes start at -Inf and need no padding.
func maxPortable(x []float32) float32 {
	var l lanes
	for i := range l {
		l[i] = -infinity
	}
	for i, v := range x {
		l[i%16] = maxps(l[i%16], v)
	}
	for w := 8; w > 0; w /= 2 {
		for i := range w {
			l[i] = maxps(l[i], l[i+w])
		}
	}
	return l[0]
}

// maxps is the instruction of that name: a if it is larger, otherwise b, and so b where one of them is a NaN.
func maxps(a, b float32) float32 {
	if a > b {
		return a
	}
	return b
}

// expPortable is dst[i] = e**x[i].
func expPortable(dst, x []float32) {
	for i, v := range x {
		dst[i] = Exp1(v)
	}
}

// geluPortable is dst[i] = gelu(x[i]).
func geluPortable(dst, x []float32) {
	for i, v := range x {
		dst[i] = gelu1(v)
	}
}

// geluBackwardPortable is dx[i] = dy[i] * gelu'(x[i]).
func geluBackwardPortable(dx, x, dy []float32) {
	for i, v := range x {
		dx[i] = dy[i] * geluSlope1(v)
	}
}

// geluForwardBackwardPortable is both; the kernels share the exponential between them.
func geluForwardBackwardPortable(dx, x, dy, y []float32) {
	geluPortable(y, x)
	geluBackwardPortable(dx, x, dy)
}

// softmaxPortable replaces x by exp(scale*x - max) / sum and returns max = scale*Max(x) and sum.
func softmaxPortable(x []float32, scale float32) (max, sum float32) {
	max = scale * maxPortable(x)
	sum = expSumPortable(x, scale, max)
	scalePortable(x, 1/sum)
	return max, sum
}

// expSumPortable replaces x by exp(scale*x - max) and returns the sum of that.
func expSumPortable(x []float32, scale, max float32) float32 {
	var l lanes
	for i, v := range x {
		x[i] = Exp1(float32(scale*v) - max)
		l[i%16] += x[i]
	}
	l.pad(len(x))
	return l.sum()
}

// sumExpPortable returns Σ exp(scale*x[i] - max) and leaves x as it is: expSumPortable without the stores.
func sumExpPortable(x []float32, scale, max float32) float32 {
	var l lanes
	for i, v := range x {
		l[i%16] += Exp1(float32(scale*v) - max)
	}
	l.pad(len(x))
	return l.sum()
}

// softmaxBackwardPortable is ds[i] = scale * p[i] * (dp[i] - dot), with dot = Σ p*dp.
func softmaxBackwardPortable(ds, p, dp []float32, dot, scale float32) {
	for i, v := range p {
		ds[i] = scale * (v * (dp[i] - dot))
	}
}

// sumSquaredDifferencesPortable returns Σ (x[i]-mean)², fused: the variance of a row times its length.
func sumSquaredDifferencesPortable(x []float32, mean float32) float32 {
	var l lanes
	for i, v := range x {
		d := v - mean
		l[i%16] = FMA(d, d, l[i%16])
	}
	l.pad(len(x))
	return l.sum()
}

// normalizePortable is y[i] = FMA((x[i]-mean)*rstd, gamma[i], beta[i]).
func normalizePortable(y, x, gamma, beta []float32, mean, rstd float32) {
	for i, v := range x {
		y[i] = FMA((v-mean)*rstd, gamma[i], beta[i])
	}
}

// normSumsPortable returns Σ g and Σ g*n, with g = dy*gamma and n = (x-mean)*rstd: the two sums over a row that the
// gradient of LayerNorm's input needs.
func normSumsPortable(x, dy, gamma []float32, mean, rstd float32) (sum, sumN float32) {
	var a, b lanes
	for i, v := range x {
		g := float32(dy[i] * gamma[i])
		a[i%16] += g
		b[i%16] = FMA(g, (v-mean)*rstd, b[i%16])
	}
	a.pad(len(x))
	b.pad(len(x))
	return a.sum(), b.sum()
}

// normBackwardPortable is dx[i] = FMA(rstd, FMA(-n, gn, dy[i]*gamma[i] - g), dx[i]), where g and gn are the two sums
// of normSumsPortable divided by the length of the row.
func normBackwardPortable(dx, x, dy, gamma []float32, mean, rstd, g, gn float32) {
	for i, v := range x {
		n := (v - mean) * rstd
		t := FMA(-n, gn, float32(dy[i]*gamma[i])-g)
		dx[i] = FMA(rstd, t, dx[i])
	}
}

// normParametersPortable accumulates one row: dgamma[i] = FMA(dy[i], n, dgamma[i]), dbeta[i] += dy[i].
func normParametersPortable(dgamma, dbeta, x, dy []float32, mean, rstd float32) {
	for i, v := range x {
		dgamma[i] = FMA(dy[i], (v-mean)*rstd, dgamma[i])
		dbeta[i] += dy[i]
	}
}

// normalizeScalePortable is y[i] = FMA((x[i]-mean)*rstd, gamma[i], +0): normalizePortable without beta.
func normalizeScalePortable(y, x, gamma []float32, mean, rstd float32) {
	for i, v := range x {
		y[i] = FMA((v-mean)*rstd, gamma[i], 0)
	}
}

// normGammaPortable accumulates one row: dgamma[i] = FMA(dy[i], (x[i]-mean)*rstd, dgamma[i]).
func normGammaPortable(dgamma, x, dy []float32, mean, rstd float32) {
	for i, v := range x {
		dgamma[i] = FMA(dy[i], (v-mean)*rstd, dgamma[i])
	}
}

// rmsNormPortable is y[i] = FMA(x[i]*rstd, offset+gamma[i], +0), and returns rstd = 1/sqrt(Σ x²/n + eps).
func rmsNormPortable(y, x, gamma []float32, offset, eps float32) (rstd float32) {
	rstd = Rsqrt1(dotPortable(x, x)/float32(len(x)) + eps)
	for i, v := range x {
		y[i] = FMA(v*rstd, offset+gamma[i], 0)
	}
	return rstd
}

// rmsNormBackwardPortable is dx[i] = FMA(rstd, FMA(-n[i], Σ g*n / len(x), g[i]), dx[i]), with n = x*rstd and
// g = dy*(offset+gamma).
func rmsNormBackwardPortable(dx, x, dy, gamma []float32, rstd, offset float32) {
	var l lanes
	for i, v := range x {
		l[i%16] = FMA(dy[i]*(offset+gamma[i]), v*rstd, l[i%16])
	}
	l.pad(len(x))
	gn := l.sum() / float32(len(x))
	for i, v := range x {
		t := FMA(-(v * rstd), gn, dy[i]*(offset+gamma[i]))
		dx[i] = FMA(rstd, t, dx[i])
	}
}

// adamwPortable is the step of AdamW: see there for the formulas.
func adamwPortable(w, m, v, g []float32, a *adamwParams) {
	for i := range w {
		h := g[i] * a.gradScale
		mi := FMA(a.beta1, m[i], a.oneMinusBeta1*h)
		vi := FMA(a.beta2, v[i], a.oneMinusBeta2*float32(h*h))
		m[i], v[i] = mi, vi
		q := mi / FMA(Sqrt1(vi), a.vScale, a.eps)
		w[i] = FMA(a.negStepSize, q, w[i]*a.decayFactor)
	}
}

// emaPortable is avg[i] = FMA(share, w[i]-avg[i], avg[i]), with share = 1 - decay.
func emaPortable(avg, w []float32, share float32) {
	for i, v := range w {
		avg[i] = FMA(share, v-avg[i], avg[i])
	}
}
