//go:build purego || !amd64

package tensor

// Without assembly every kernel is the reference: on other architectures, and under the build tag purego.

func detect() implementation { return portable }
func detectBF16() bool       { return false }

func addKernel(dst, x []float32)                       { addPortable(dst, x) }
func mulKernel(dst, x []float32)                       { mulPortable(dst, x) }
func scaleKernel(dst []float32, a float32)             { scalePortable(dst, a) }
func axpyKernel(dst []float32, a float32, x []float32) { axpyPortable(dst, a, x) }
func sumKernel(x []float32) float32                    { return sumPortable(x) }
func dotKernel(x, y []float32) float32                 { return dotPortable(x, y) }
func maxKernel(x []float32) float32                    { return maxPortable(x) }
func expKernel(dst, x []float32)                       { expPortable(dst, x) }
func geluKernel(dst, x []float32)                      { geluPortable(dst, x) }
func geluBackwardKernel(dx, x, dy []float32)           { geluBackwardPortable(dx, x, dy) }
func geluForwardBackwardKernel(dx, x, dy, y []float32) { geluForwardBackwardPortable(dx, x, dy, y) }
func softmaxKernel(x []float32, scale float32) (max, sum float32) {
	return softmaxPortable(x, scale)
}
func sumExpKernel(x []float32, scale, max float32) float32 { return sumExpPortable(x, scale, max) }
func softmaxBackwardKernel(ds, p, dp []float32, dot, scale float32) {
	softmaxBackwardPortable(ds, p, dp, dot, scale)
}
func sumSquaredDifferencesKernel(x []float32, mean float32) float32 {
	return sumSquaredDifferencesPortable(x, mean)
}
func normalizeKernel(y, x, gamma, beta []float32, mean, rstd float32) {
	normalizePortable(y, x, gamma, beta, mean, rstd)
}
func normSumsKernel(x, dy, gamma []float32, mean, rstd float32) (sum, sumN float32) {
	return normSumsPortable(x, dy, gamma, mean, rstd)
}
func normBackwardKernel(dx, x, dy, gamma []float32, mean, rstd, g, gn float32) {
	normBackwardPortable(dx, x, dy, gamma, mean, rstd, g, gn)
}
func normParametersKernel(dgamma, dbeta, x, dy []float32, mean, rstd float32) {
	normParametersPortable(dgamma, dbeta, x, dy, mean, rstd)
}
func normalizeScaleKernel(y, x, gamma []float32, mean, rstd float32) {
	normalizeScalePortable(y, x, gamma, mean, rstd)
}
func normGammaKernel(dgamma, x, dy []float32, mean, rstd float32) {
	normGammaPortable(dgamma, x, dy, mean, rstd)
}
func rmsNormKernel(y, x, gamma []float32, offset, eps float32) (rstd float32) {
	return rmsNormPortable(y, x, gamma, offset, eps)
}
func rmsNormBackwardKernel(dx, x, dy, gamma []float32, rstd, offset float32) {
	rmsNormBackwardPortable(dx, x, dy, gamma, rstd, offset)
}
func rotateKernel(a, b, cos, sin []float32)     { rotatePortable(a, b, cos, sin) }
func rotateBackKernel(a, b, cos, sin []float32) { rotateBackPortable(a, b, cos, sin) }
func (a Activation) forwardKernel(y, x []float32) {
	a.forwardPortable(y, x)
}
func (a Activation) forwardBackwardKernel(dx, x, dy, y []float32) {
	a.forwardBackwardPortable(dx, x, dy, y)
}
func (a Activation) gatedKernel(y, gate, up []float32) {
	a.gatedPortable(y, gate, up)
}
func (a Activation) gatedBackwardKernel(dgate, dup, y, gate, up, dy []float32) {
	a.gatedBackwardPortable(dgate, dup, y, gate, up, dy)
}
func softCapKernel(x []float32, scale, cap float32) { softCapPortable(x, scale, cap) }
func softCapBackwardKernel(ds, y []float32, scale, cap float32) {
	softCapBackwardPortable(ds, y, scale, cap)
}
func adamwKernel(w, m, v, g []float32, a *adamwParams) { adamwPortable(w, m, v, g, a) }
func emaKernel(avg, w []float32, share float32)        { emaPortable(avg, w, share) }

// runSerial computes the product on the calling goroutine, which may be a worker.
func (g *product) runSerial() { g.runPortable() }

// packRowBF16Kernel sets no words: the caller sets those that are left.
func packRowBF16Kernel(_, _ []float32) (done int) { return 0 }
func interleaveKernel(dst []float32, width int, src []float32, ld, pairs, cols int) {
	interleavePortable(dst, width, src, ld, pairs, cols)
}
func copyKernel(panel []float32, width int, b []float32, ldb, k, cols int) {
	copyPortable(panel, width, b, ldb, k, cols)
}
func transposePanel(panel []float32, width int, src []float32, ld, k, cols int) {
	transposePortable(panel, width, src, ld, 0, k, cols)
}

// The portable forms have nothing to prefetch with.

func attentionScoresKernel(dst, q, k []float32, blocks int, _ []float32) {
	attentionScoresPortable(dst, q, k, blocks)
}
func weightedValuesKernel(
	dst, p []float32, pHead int, v []float32, vHead, heads, width, n int, _ []float32, more bool,
) {
	weightedValuesPortable(dst, p, pHead, v, vHead, heads, width, n, more)
}

// Peak returns 0: no kernel is in use whose peak could be measured.
func Peak(int) (operations float64) { return 0 }

// PeakBF16 returns 0: no kernel is in use whose peak could be measured.
func PeakBF16(int) (operations float64) { return 0 }
