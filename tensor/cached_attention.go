package tensor

// KeyBlock is how many cached keys lie side by side: element i of key t is at
// (t/16*d + i)*16 + t%16.
const KeyBlock = 16

// AttentionScores sets dst[t], for t < n, to the product of a query with each of n
// cached keys: the chains that MatMulNT makes of a query (1, d) and keys (n, d).
// Some elements of dst behind those, to the next multiple of 16, are of no use.
// Meanwhile as much memory as the keys take is fetched from the first of next
// on, if there is one.
func AttentionScores(
	dst []float32, // (n, rounded up to 16)
	q []float32, // (d)
	k []float32, // keys in blocks of 16
	n int,
	next []float32,
) {
	d, blocks := len(q), (n+KeyBlock-1)/KeyBlock
	if d == 0 || n == 0 {
		clear(dst[:n])
		return
	}
	_, _ = dst[blocks*KeyBlock-1], k[blocks*KeyBlock*d-1]
	if len(next) == 0 {
		next = k
	}
	attentionScoresKernel(dst, q, k, blocks, next)
}

// WeightedValues sets dst[h*width + j] to Σ p[h*pHead + t]*v[h*vHead + t*width + j] over
// t < n in order, for each head: the chains that MatMul makes of weights (1, n)
// and values (n, width). width is a multiple of 16. It fetches from next on as
// Scores does.
func WeightedValues(
	dst []float32, // (heads, width)
	p []float32, pHead int, // (heads, n)
	v []float32, vHead int, // (heads, n, width)
	heads, width, n int,
	next []float32,
) {
	if n == 0 || heads*width == 0 {
		clear(dst[:heads*width])
		return
	}
	if width%16 != 0 {
		panic("tensor.Weigh: the width is not a multiple of 16")
	}
	_, _, _ = dst[heads*width-1], p[(heads-1)*pHead+n-1], v[(heads-1)*vHead+n*width-1]
	if len(next) == 0 {
		next = v
	}
	weightedValuesKernel(dst, p, pHead, v, vHead, heads, width, n, next)
}

func attentionScoresPortable(dst, q, k []float32, blocks int) {
	clear(dst[:blocks*KeyBlock])
	for b := range blocks {
		for i, x := range q {
			axpyPortable(dst[b*KeyBlock:(b+1)*KeyBlock], x, k[(b*len(q)+i)*KeyBlock:][:KeyBlock])
		}
	}
}

func weightedValuesPortable(dst, p []float32, pHead int, v []float32, vHead, heads, width, n int) {
	for h := range heads {
		row := dst[h*width : (h+1)*width]
		clear(row)
		for t, x := range p[h*pHead : h*pHead+n] {
			axpyPortable(row, x, v[h*vHead+t*width:][:width])
		}
	}
}
