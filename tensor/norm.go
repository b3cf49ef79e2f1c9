package tensor

// NormEps is added to the variance by [LayerNorm] before the root is taken: GPT-2's epsilon.
const NormEps = 1e-5

// LayerNorm is [LayerNormEps] with NormEps.
func LayerNorm(
	y []float32, // (rows, cols)
	mean, rstd []float32, // (rows)
	x []float32, // (rows, cols)
	gamma, beta []float32, // (cols)
	rows, cols int,
) {
	LayerNormEps(y, mean, rstd, x, gamma, beta, rows, cols, NormEps)
}

// LayerNormEps normalises each row of x, of C = cols elements, to mean 0 and variance 1, then scales and shifts it (Ba,
// Kiros & Hinton, "Layer Normalization", 2016):
//
//	mean = Sum(x)/C,  rstd = 1/sqrt(Σ (x-mean)²/C + eps),  y = fma((x-mean)*rstd, gamma, beta)
//
// It stores mean and rstd of each row for [LayerNormBackward]. A nil beta is zero. y may be x.
func LayerNormEps(
	y []float32, // (rows, cols)
	mean, rstd []float32, // (rows)
	x []float32, // (rows, cols)
	gamma, beta []float32, // (cols)
	rows, cols int,
	eps float32,
) {
	sameLength("LayerNorm", rows*cols, len(y), len(x))
	sameLength("LayerNorm", cols, len(gamma))
	if beta != nil {
		sameLength("LayerNorm", cols, len(beta))
	}
	sameLength("LayerNorm", rows, len(mean), len(rstd))
	if cols == 0 {
		return
	}
	for r := range rows {
		xr, yr := x[r*cols:(r+1)*cols], y[r*cols:(r+1)*cols]
		m := sumKernel(xr) / float32(cols)
		s := Rsqrt1(sumSquaredDifferencesKernel(xr, m)/float32(cols) + eps)
		if beta != nil {
			normalizeKernel(yr, xr, gamma, beta, m, s)
		} else {
			normalizeScaleKernel(yr, xr, gamma, m, s)
		}
		mean[r], rstd[r] = m, s
	}
}

// LayerNormBackward accumulates the gradients of [LayerNorm], row after row. With n = (x-mean)*rstd and g = dy*gamma,
//
//	dx = fma(rstd, fma(-n, Σ g*n/C, g - Σ g/C), dx)
//	dgamma = fma(dy, n, dgamma)
//	dbeta += dy
//
// With a nil dx, or with a nil dgamma (and then dbeta), those are not computed, and neither is a nil dbeta alone: the
// rows of dx are independent and may be spread over workers, whereas each element of dgamma and dbeta is one chain over
// the rows in order.
func LayerNormBackward(
	dx []float32, // (rows, cols)
	dgamma, dbeta []float32, // (cols)
	dy, x []float32, // (rows, cols)
	mean, rstd []float32, // (rows)
	gamma []float32, // (cols)
	rows, cols int,
) {
	sameLength("LayerNormBackward", rows*cols, len(dy), len(x))
	sameLength("LayerNormBackward", rows, len(mean), len(rstd))
	sameLength("LayerNormBackward", cols, len(gamma))
	if dgamma != nil {
		sameLength("LayerNormBackward", cols, len(dgamma))
	}
	if dbeta != nil {
		sameLength("LayerNormBackward", cols, len(dbeta))
	}
	if cols == 0 {
		return
	}
	for r := range rows {
		xr, dyr := x[r*cols:(r+1)*cols], dy[r*cols:(r+1)*cols]
		if dx != nil {
			g, gn := normSumsKernel(xr, dyr, gamma, mean[r], rstd[r])
			c := float32(cols)
			normBackwardKernel(dx[r*cols:(r+1)*cols], xr, dyr, gamma, mean[r], rstd[r], g/c, gn/c)
		}
		switch {
		case dgamma == nil:
		case dbeta == nil:
			normGammaKernel(dgamma, xr, dyr, mean[r], rstd[r])
		default:
			normParametersKernel(dgamma, dbeta, xr, dyr, mean[r], rstd[r])
		}
	}
}

// RMSNorm divides each row of x, of C = cols elements, by the root of its mean square, then scales it (Zhang &
// Sennrich, "Root Mean Square Layer Normalization", 2019); offset is added to the scales, 1 in Gemma:
//
//	rstd = 1/sqrt(Σ x²/C + eps),  y = fma(x*rstd, offset + gamma, +0)
//
// It stores rstd of each row for [RMSNormBackward]. y may be x.
func RMSNorm(
	y []float32, // (rows, cols)
	rstd []float32, // (rows)
	x []float32, // (rows, cols)
	gamma []float32, // (cols)
	offset float32,
	rows, cols int,
	eps float32,
) {
	sameLength("RMSNorm", rows*cols, len(y), len(x))
	sameLength("RMSNorm", cols, len(gamma))
	sameLength("RMSNorm", rows, len(rstd))
	if cols == 0 {
		return
	}
	for r := range rows {
		rstd[r] = rmsNormKernel(y[r*cols:(r+1)*cols], x[r*cols:(r+1)*cols], gamma, offset, eps)
	}
}

// RMSNormBackward accumulates the gradients of [RMSNorm], row after row. With n = x*rstd and g = dy*(offset + gamma),
//
//	dx = fma(rstd, fma(-n, Σ g*n/C, g), dx)
//	dgamma = fma(dy, n, dgamma)
//
// A nil dx or dgamma is not computed: the rows of dx are independent and may be spread over workers, whereas each
// element of dgamma is one chain over the rows in order.
func RMSNormBackward(
	dx []float32, // (rows, cols)
	dgamma []float32, // (cols)
	dy, x []float32, // (rows, cols)
	rstd []float32, // (rows)
	gamma []float32, // (cols)
	offset float32,
	rows, cols int,
) {
	sameLength("RMSNormBackward", rows*cols, len(dy), len(x))
	sameLength("RMSNormBackward", rows, len(rstd))
	sameLength("RMSNormBackward", cols, len(gamma))
	if cols == 0 {
		return
	}
	for r := range rows {
		xr, dyr := x[r*cols:(r+1)*cols], dy[r*cols:(r+1)*cols]
		if dx != nil {
			rmsNormBackwardKernel(dx[r*cols:(r+1)*cols], xr, dyr, gamma, rstd[r], offset)
		}
		if dgamma != nil {
			normGammaKernel(dgamma, xr, dyr, 0, rstd[r])
		}
	}
}
