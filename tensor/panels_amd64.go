//go:build !purego

package tensor

// turnPanel turns rows of src (cols, k), at distance ld, into a panel (k, width).
func turnPanel(panel []float32, width int, src []float32, ld, k, cols int) {
	ks := kernels(false)
	if ks == nil {
		turnRest(panel, width, src, ld, 0, k, cols)
		return
	}
	for c := 0; c < cols; c += ks.lanes {
		n, from, done := min(ks.lanes, cols-c), src[c*ld:], 0
		if n == ks.lanes && k >= 4 {
			done = k &^ 3
			if ks.lanes == 16 {
				transposeAVX512(&panel[c], width, &from[0], ld, k/4)
			} else {
				transposeAVX2(&panel[c], width, &from[0], ld, k/4)
			}
		}
		turnRest(panel[c:], width, from, ld, done, k, n)
	}
}

func copyKernel(panel []float32, width int, b []float32, ldb, k, cols int) {
	if active != avx512 {
		copyPortable(panel, width, b, ldb, k, cols)
		return
	}
	for c := 0; c < cols; c += 16 {
		narrowAVX512(&panel[c], width, &b[c], ldb, k, 1<<min(16, cols-c)-1)
	}
}

// roundPairsKernel fills whole registers of dst and returns how many words.
func roundPairsKernel(dst, src []float32) (done int) {
	switch active {
	case avx512:
		if n := len(src) / 32; n > 0 {
			roundPairsAVX512(&dst[0], &src[0], n)
			return 16 * n
		}
	case avx2:
		if n := len(src) / 16; n > 0 {
			roundPairsAVX2(&dst[0], &src[0], n)
			return 8 * n
		}
	}
	return 0
}

func weaveKernel(dst []float32, width int, src []float32, ld, pairs, cols int) {
	switch active {
	case avx512:
		for c := 0; c < cols; c += 16 {
			weaveAVX512(&dst[c], width, &src[c], ld, pairs, 1<<min(16, cols-c)-1)
		}
		return
	case avx2:
		c := 0
		for ; c+8 <= cols; c += 8 {
			weaveAVX2(&dst[c], width, &src[c], ld, pairs, 0)
		}
		if c == cols {
			return
		}
		dst, src, cols = dst[c:], src[c:], cols-c
	}
	weavePortable(dst, width, src, ld, pairs, cols)
}
