package tensor

// KeyBlock is how many cached keys lie side by side: element i of key t is at
// (t/16*d + i)*16 + t%16.
const KeyBlock = 16

// Scores sets dst[t], for t < n, to the product of a query with each of n
// cached keys: the chains that MatMulNT makes of a query (1, d) and keys (n, d).
// Some elements of dst behind those, to the next multiple of 16, are of no use.
// Meanwhile as much memory as the keys take is fetched from the first of next
// on, if there is one.
func Scores(
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
	scoresKernel(dst, q, k, blocks, next)
}

// Weigh sets dst[j] to Σ p[t]*v[t*ld + j] over t in order: the chains that
// MatMul makes of weights (1, n) and values (n, ld). len(dst) and ld are
// multiples of 16. It fetches from next on as Scores does.
func Weigh(dst, p, v []float32, ld int, next []float32) {
	n := len(p)
	if n == 0 || len(dst) == 0 {
		clear(dst)
		return
	}
	if len(dst)%16 != 0 || ld%16 != 0 {
		panic("tensor.Weigh: widths are not multiples of 16")
	}
	_ = v[(n-1)*ld+len(dst)-1]
	if len(next) == 0 {
		next = v
	}
	weighKernel(dst, p, v, ld, next)
}

func scoresPortable(dst, q, k []float32, blocks int) {
	clear(dst[:blocks*KeyBlock])
	for b := range blocks {
		for i, x := range q {
			axpyPortable(dst[b*KeyBlock:(b+1)*KeyBlock], x, k[(b*len(q)+i)*KeyBlock:][:KeyBlock])
		}
	}
}

func weighPortable(dst, p, v []float32, ld int) {
	clear(dst)
	for t, x := range p {
		axpyPortable(dst, x, v[t*ld:t*ld+len(dst)])
	}
}
