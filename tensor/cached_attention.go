package tensor

// KeyBlock is the number of cached keys that lie side by side. Element i of key t is at (t/16*d + i)*16 + t%16, so that
// the scores of 16 keys are one register and a query's element is broadcast once for them.
const KeyBlock = 16

// AttentionScores sets dst[t], for t < n, to the product q·k_t of one query with each of n cached keys, before scaling
// and softmax. The bits are those of a [Product] of the query (1, d) with the transposed keys (n, d).
//
// dst must have room for n rounded up to a multiple of KeyBlock; the elements beyond n are overwritten with unspecified
// values. While it computes it prefetches as much memory from the beginning of next as the keys take; nil prefetches
// the keys themselves.
func AttentionScores(
	dst []float32, // (n, rounded up to 16)
	q []float32, // (d)
	k []float32, // (n/16, d, 16), see KeyBlock
	n int,
	next []float32,
) {
	d, blocks := len(q), (n+KeyBlock-1)/KeyBlock
	if d == 0 || n == 0 {
		clear(dst[:n])
		return
	}
	_, _ = dst[blocks*KeyBlock-1], k[blocks*KeyBlock*d-1] // the kernels check no bounds
	if len(next) == 0 {
		next = k
	}
	attentionScoresKernel(dst, q, k, blocks, next)
}

// WeightedValues sets dst to the attention output of one query before the output projection, for each head:
//
//	dst[h, j] = Σ_{t<n} p[h, t] · v[h, t, j]
//
// The bits are those of a [Product] of the weights (1, n) with the values (n, width): one chain over t. Heads are pHead
// apart in p and vHead in v, which is 0 where several heads share the values; width is a multiple of 16. It prefetches
// from next on as AttentionScores does, as much for each head as its values take.
func WeightedValues(
	dst []float32, // (heads, width)
	p []float32, pHead int, // (heads, n)
	v []float32, vHead int, // (heads, n, width)
	heads, width, n int,
	next []float32,
) {
	if n == 0 {
		clear(dst[:heads*width])
	}
	weightedValues(dst, p, pHead, v, vHead, heads, width, n, next, false)
}

// WeightedValuesAdd is [WeightedValues] that continues the chains of an earlier call, for values that lie in several
// pieces: dst begins with what is there, and so the bits are those of one call.
func WeightedValuesAdd(
	dst []float32, // (heads, width)
	p []float32, pHead int, // (heads, n)
	v []float32, vHead int, // (heads, n, width)
	heads, width, n int,
	next []float32,
) {
	weightedValues(dst, p, pHead, v, vHead, heads, width, n, next, true)
}

// weightedValues is WeightedValuesAdd, or WeightedValues of n > 0.
func weightedValues(
	dst, p []float32, pHead int, v []float32, vHead, heads, width, n int, next []float32, more bool,
) {
	if n == 0 || heads*width == 0 {
		return
	}
	if width%16 != 0 {
		panic("tensor.WeightedValues: the width is not a multiple of 16")
	}
	// the kernels check no bounds
	_, _, _ = dst[heads*width-1], p[(heads-1)*pHead+n-1], v[(heads-1)*vHead+n*width-1]
	if len(next) == 0 {
		next = v
	}
	weightedValuesKernel(dst, p, pHead, v, vHead, heads, width, n, next, more)
}

// attentionScoresPortable is the reference of AttentionScores.
func attentionScoresPortable(dst, q, k []float32, blocks int) {
	clear(dst[:blocks*KeyBlock])
	for b := range blocks {
		for i, x := range q {
			axpyPortable(dst[b*KeyBlock:(b+1)*KeyBlock], x, k[(b*len(q)+i)*KeyBlock:][:KeyBlock])
		}
	}
}

// weightedValuesPortable is the reference of WeightedValues, and with more that of WeightedValuesAdd.
func weightedValuesPortable(dst, p []float32, pHead int, v []float32, vHead, heads, width, n int, more bool) {
	for h := range heads {
		row := dst[h*width : (h+1)*width]
		if !more {
			clear(row)
		}
		for t, x := range p[h*pHead : h*pHead+n] {
			axpyPortable(row, x, v[h*vHead+t*width:][:width])
		}
	}
}
