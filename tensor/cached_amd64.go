//go:build !purego

package tensor

var (
	scores512 = []func(dst, q, k *float32, d int, next *float32){scores1AVX512, scores2AVX512, scores3AVX512, scores4AVX512,
		scores5AVX512, scores6AVX512, scores7AVX512, scores8AVX512}
	scores2  = []func(dst, q, k *float32, d int, next *float32){scores1AVX2, scores2AVX2, scores3AVX2, scores4AVX2}
	weigh512 = []func(dst, p, v *float32, ld, n int, next *float32){weigh1AVX512, weigh2AVX512, weigh3AVX512, weigh4AVX512}
	weigh2   = []func(dst, p, v *float32, ld, n int, next *float32){weigh1AVX2, weigh2AVX2, weigh3AVX2, weigh4AVX2}
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

func weighKernel(dst, p, v []float32, ld int, next []float32) {
	kernels := weigh512
	switch active {
	case portable:
		weighPortable(dst, p, v, ld)
		return
	case avx2:
		kernels = weigh2
	}
	for j := 0; j < len(dst); j += 64 {
		kernels[min(64, len(dst)-j)/16-1](&dst[j], &p[0], &v[j], ld, len(p), &next[min(j*len(p), len(next)-1)])
	}
}
