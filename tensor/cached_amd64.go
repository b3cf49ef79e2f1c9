//go:build !purego

package tensor

var (
	scores512 = []func(dst, q, k *float32, d int, next *float32){scores1AVX512, scores2AVX512, scores3AVX512, scores4AVX512,
		scores5AVX512, scores6AVX512, scores7AVX512, scores8AVX512}
	scores2  = []func(dst, q, k *float32, d int, next *float32){scores1AVX2, scores2AVX2, scores3AVX2, scores4AVX2}
	weigh512 = []weigher{{1, weigh1x1AVX512, 4, weigh1x4AVX512}, {2, weigh2x1AVX512, 4, weigh2x4AVX512},
		{3, weigh3x1AVX512, 2, weigh3x2AVX512}, {4, weigh4x1AVX512, 2, weigh4x2AVX512}}
	weigh2 = []weigher{{1, weigh1x1AVX2, 4, weigh1x4AVX2}, {2, weigh2x1AVX2, 2, weigh2x2AVX2},
		{3, weigh3x1AVX2, 1, weigh3x1AVX2}, {4, weigh4x1AVX2, 1, weigh4x1AVX2}}
)

// scoresKernel takes as many blocks at once as there are registers, nearly as
// many each time.
func scoresKernel(dst, q, k []float32, blocks int, next []float32) {
	kernels := scores512
	switch active {
	case portable:
		scoresPortable(dst, q, k, blocks)
		return
	case avx2:
		kernels = scores2
	}
	parts := (blocks + len(kernels) - 1) / len(kernels)
	for i := range parts {
		from, to := blocks*i/parts, blocks*(i+1)/parts
		kernels[to-from-1](&dst[from*KeyBlock], &q[0], &k[from*KeyBlock*len(q)], len(q), &next[min(from*KeyBlock*len(q), len(next)-1)])
	}
}

// weigher is the kernels for values of that many times 16 columns.
type weigher struct {
	units int
	one   func(dst, p *float32, pHead int, v *float32, vHead, ld, n int, next *float32)
	heads int // that many takes at once
	many  func(dst, p *float32, pHead int, v *float32, vHead, ld, n int, next *float32)
}

func weighKernel(dst, p []float32, pHead int, v []float32, vHead, heads, width, n int, next []float32) {
	kernels := weigh512
	switch active {
	case portable:
		weighPortable(dst, p, pHead, v, vHead, heads, width, n)
		return
	case avx2:
		kernels = weigh2
	}
	for h, fetched := 0, 0; h < heads; {
		if width <= 64 && heads-h >= kernels[width/16-1].heads {
			k := &kernels[width/16-1]
			k.many(&dst[h*width], &p[h*pHead], pHead, &v[h*vHead], vHead, width, n, &next[min(fetched, len(next)-1)])
			h += k.heads
			fetched += k.heads * width * n
			continue
		}
		for j := 0; j < width; j += 64 {
			k := &kernels[min(64, width-j)/16-1]
			k.one(&dst[h*width+j], &p[h*pHead], 0, &v[h*vHead+j], 0, width, n, &next[min(fetched, len(next)-1)])
			fetched += 16 * k.units * n
		}
		h++
	}
}
