package tensor

// NormEps is added to the variance by [LayerNorm] before the root is taken: GPT-2's epsilon.
const NormEps = 1e-5

// LayerNorm normalises each row of x, of C = cols elements, to mean 0 and variance 1, then scales and shifts it (Ba,
// Kiros & Hinton, "Layer Normalization", 2016):
//
//	mean = Sum(x)/C,  rstd = 1/sqrt(Σ (x-mean)²/C + NormEps),  y = fma((x-mean)*rstd, gamma, beta)
//
// It stores mean and rstd of each row for [LayerNormBackward].
func LayerNorm(
	y []float32, // (rows, cols)
	mean, rstd []float32, // (rows)
	x []float32, // (rows, cols)
	gamma, beta []float32, // (cols)
	rows, cols int,
) {
	sameLength("LayerNorm", rows*cols, len(y), len(x))
	sameLength("LayerNorm", cols, len(gamma), len(beta))
	sameLength("LayerNorm", rows, len(mean), len(rstd))
	if cols == 0 {
		return
	}
	for r := range rows {
		xr := x[r*cols : (r+1)*cols]
		m := sumKernel(xr) / float32(cols)
		s := Rsqrt1(sumSquaredDifferencesKernel(xr, m)/float32(cols) + NormEps)
		normalizeKernel(y[r*cols:(r+1)*cols], xr, gamma, beta, m, s)
		mean[r], rstd[r] = m, s
	}
}

// LayerNormBackward accumulates the gradients of [LayerNorm], row after row. With n = (x-mean)*rstd and g = dy*gamma,
//
//	dx = fma(rstd, fma(-n, Σ g*n/C, g - Σ g/C), dx)
//	dgamma = fma(dy, n, dgamma)
//	dbeta += dy
//
// With a nil dx, or with nil dgamma and dbeta, those are not computed: the rows of dx are independent and may be spread
// over workers, whereas each element of dgamma and dbeta is one chain over the rows in order.
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
		sameLength("LayerNormBackward", cols, len(dgamma), len(dbeta))
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
		if dgamma != nil {
			normParametersKernel(dgamma, dbeta, xr, dyr, mean[r], rstd[r])
		}
	}
}
