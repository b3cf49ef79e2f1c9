package tensor

import "math"

// The reference: what every kernel must equal bit for bit. Slices have equal
// lengths, not zero.

// lanes are the 16 partial results of a reduction.
type lanes [16]float32

// sum combines the lanes in the fixed tree.
func (l *lanes) sum() float32 {
	for w := 8; w > 0; w /= 2 {
		for i := range w {
			l[i] += l[i+w]
		}
	}
	return l[0]
}

// pad adds +0 to the lanes that n elements leave out of their last block.
func (l *lanes) pad(n int) {
	if n%16 != 0 {
		for i := n % 16; i < 16; i++ {
			l[i] += 0
		}
	}
}

func addPortable(dst, x []float32) {
	for i, v := range x {
		dst[i] += v
	}
}

func mulPortable(dst, x []float32) {
	for i, v := range x {
		dst[i] *= v
	}
}

func scalePortable(dst []float32, a float32) {
	for i := range dst {
		dst[i] *= a
	}
}

func axpyPortable(dst []float32, a float32, x []float32) {
	for i, v := range x { // FMA, written out since this is a product's inner loop
		s := float64(a)*float64(v) + float64(dst[i])
		if b := math.Float64bits(s); b<<35 == 1<<63 || b<<1 < 897<<53 {
			dst[i] = fmaOdd(a, v, dst[i])
		} else {
			dst[i] = float32(s)
		}
	}
}

func sumPortable(x []float32) float32 {
	var l lanes
	for i, v := range x {
		l[i%16] += v
	}
	l.pad(len(x))
	return l.sum()
}

func dotPortable(x, y []float32) float32 {
	var l lanes
	for i, v := range x {
		l[i%16] = FMA(v, y[i], l[i%16])
	}
	l.pad(len(x))
	return l.sum()
}

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

// maxps is the instruction MAXPS: b unless a is larger.
func maxps(a, b float32) float32 {
	if a > b {
		return a
	}
	return b
}

func expPortable(dst, x []float32) {
	for i, v := range x {
		dst[i] = Exp1(v)
	}
}

func geluPortable(dst, x []float32) {
	for i, v := range x {
		dst[i] = gelu1(v)
	}
}

func geluBackwardPortable(dx, x, dy []float32) {
	for i, v := range x {
		dx[i] = dy[i] * geluSlope1(v)
	}
}

func geluForwardBackwardPortable(dx, x, dy, y []float32) {
	geluPortable(y, x)
	geluBackwardPortable(dx, x, dy)
}

func softmaxPortable(x []float32, scale float32) (max, sum float32) {
	max = scale * maxPortable(x)
	sum = expSumPortable(x, scale, max)
	scalePortable(x, 1/sum)
	return max, sum
}

// expSumPortable sets x to exp(scale*x - max) and returns its sum.
func expSumPortable(x []float32, scale, max float32) float32 {
	var l lanes
	for i, v := range x {
		x[i] = Exp1(float32(scale*v) - max)
		l[i%16] += x[i]
	}
	l.pad(len(x))
	return l.sum()
}

func sumExpPortable(x []float32, scale, max float32) float32 {
	var l lanes
	for i, v := range x {
		l[i%16] += Exp1(float32(scale*v) - max)
	}
	l.pad(len(x))
	return l.sum()
}

func softmaxBackwardPortable(ds, p, dp []float32, dot, scale float32) {
	for i, v := range p {
		ds[i] = scale * (v * (dp[i] - dot))
	}
}

func sumSquaredDifferencesPortable(x []float32, mean float32) float32 {
	var l lanes
	for i, v := range x {
		d := v - mean
		l[i%16] = FMA(d, d, l[i%16])
	}
	l.pad(len(x))
	return l.sum()
}

func normalizePortable(y, x, gamma, beta []float32, mean, rstd float32) {
	for i, v := range x {
		y[i] = FMA((v-mean)*rstd, gamma[i], beta[i])
	}
}

// normSumsPortable returns the sums of g = dy*gamma and of g*n.
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

func normBackwardPortable(dx, x, dy, gamma []float32, mean, rstd, g, gn float32) {
	for i, v := range x {
		n := (v - mean) * rstd
		t := FMA(-n, gn, float32(dy[i]*gamma[i])-g)
		dx[i] = FMA(rstd, t, dx[i])
	}
}

func normParametersPortable(dgamma, dbeta, x, dy []float32, mean, rstd float32) {
	for i, v := range x {
		dgamma[i] = FMA(dy[i], (v-mean)*rstd, dgamma[i])
		dbeta[i] += dy[i]
	}
}

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

// emaPortable moves avg towards w by a share of the way.
func emaPortable(avg, w []float32, share float32) {
	for i, v := range w {
		avg[i] = FMA(share, v-avg[i], avg[i])
	}
}
