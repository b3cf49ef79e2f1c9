//go:build !purego

package tensor

// transposePanel transposes src (cols, k), whose rows are ld apart, into a panel (k, width).
func transposePanel(panel []float32, width int, src []float32, ld, k, cols int) {
	ks := kernels(false)
	if ks == nil {
		transposePortable(panel, width, src, ld, 0, k, cols)
		return
	}
	for c := 0; c < cols; c += ks.lanes {
		transposeRows(panel[c:], width, src[c*ld:], ld, k, min(ks.lanes, cols-c), ks.lanes)
	}
}

// transposeRows transposes n rows, at most as many as a register has lanes. The kernel always reads that many rows:
// fewer are first copied, some columns at a time, to a place where rows follow.
func transposeRows(panel []float32, width int, src []float32, ld, k, n, lanes int) {
	const chunk = 64
	var rows [16 * chunk]float32
	from := 0
	for whole := k &^ 3; from < whole; { // the kernel takes four columns at a time
		x, distance, columns := src[from:], ld, whole-from
		if n < lanes {
			columns = min(columns, chunk)
			for r := range n {
				copy(rows[r*chunk:], src[r*ld+from:r*ld+from+columns])
			}
			x, distance = rows[:], chunk
		}
		if lanes == 16 {
			transposeAVX512(&panel[from*width], width, &x[0], distance, columns/4)
		} else {
			transposeAVX2(&panel[from*width], width, &x[0], distance, columns/4)
		}
		from += columns
	}
	transposePortable(panel, width, src, ld, from, k, n)
}

// copyKernel is copyPortable, a register of columns at a time.
func copyKernel(panel []float32, width int, b []float32, ldb, k, cols int) {
	if active != avx512 {
		copyPortable(panel, width, b, ldb, k, cols)
		return
	}
	for c := 0; c < cols; c += 16 {
		narrowAVX512(&panel[c], width, &b[c], ldb, k, 1<<min(16, cols-c)-1)
	}
}

// packRowBF16Kernel sets whole registers of dst to the pairs of src and returns the number of words it has set; the
// rest is left to the caller.
func packRowBF16Kernel(dst, src []float32) (done int) {
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

// interleaveKernel is interleavePortable, a register of columns at a time. The AVX2 kernel takes whole registers only
// and leaves the last columns to the portable form.
func interleaveKernel(dst []float32, width int, src []float32, ld, pairs, cols int) {
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
	interleavePortable(dst, width, src, ld, pairs, cols)
}
