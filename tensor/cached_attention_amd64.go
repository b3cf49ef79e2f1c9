//go:build !purego

package tensor

var (
	scoresKernelsAVX512 = []func(dst, q, k *float32, d int, next *float32){scores1AVX512, scores2AVX512, scores3AVX512,
		scores4AVX512,
		scores5AVX512, scores6AVX512, scores7AVX512, scores8AVX512}
	scoresKernelsAVX2 = []func(dst, q, k *float32, d int, next *float32){scores1AVX2, scores2AVX2, scores3AVX2,
		scores4AVX2}
	valuesKernelsAVX512 = []valuesKernels{{1, weigh1x1AVX512, 4, weigh1x4AVX512},
		{2, weigh2x1AVX512, 4, weigh2x4AVX512},
		{3, weigh3x1AVX512, 2, weigh3x2AVX512}, {4, weigh4x1AVX512, 2, weigh4x2AVX512}}
	valuesKernelsAVX2 = []valuesKernels{{1, weigh1x1AVX2, 4, weigh1x4AVX2}, {2, weigh2x1AVX2, 2, weigh2x2AVX2},
		{3, weigh3x1AVX2, 1, weigh3x1AVX2}, {4, weigh4x1AVX2, 1, weigh4x1AVX2}}
)

// attentionScoresKernel takes as many blocks at once as there are registers, nearly as
// many each time.
func attentionScoresKernel(dst, q, k []float32, blocks int, next []float32) {
	kernels := scoresKernelsAVX512
	switch active {
	case portable:
		attentionScoresPortable(dst, q, k, blocks)
		return
	case avx2:
		kernels = scoresKernelsAVX2
	}
	parts := (blocks + len(kernels) - 1) / len(kernels)
	for i := range parts {
		from, to := blocks*i/parts, blocks*(i+1)/parts
		kernels[to-from-1](&dst[from*KeyBlock], &q[0], &k[from*KeyBlock*len(q)], len(q),
			&next[min(from*KeyBlock*len(q), len(next)-1)])
	}
}

// valuesKernels is the kernels for values of that many times 16 columns.
type valuesKernels struct {
	columns16 int
	oneHead   func(dst, p *float32, pHead int, v *float32, vHead, ld, n int, next *float32)
	heads     int // that many takes at once
	manyHeads func(dst, p *float32, pHead int, v *float32, vHead, ld, n int, next *float32)
}

func weightedValuesKernel(dst, p []float32, pHead int, v []float32, vHead, heads, width, n int, next []float32) {
	kernels := valuesKernelsAVX512
	switch active {
	case portable:
		weightedValuesPortable(dst, p, pHead, v, vHead, heads, width, n)
		return
	case avx2:
		kernels = valuesKernelsAVX2
	}
	for h, fetched := 0, 0; h < heads; {
		if width <= 64 && heads-h >= kernels[width/16-1].heads {
			k := &kernels[width/16-1]
			k.manyHeads(&dst[h*width], &p[h*pHead], pHead, &v[h*vHead], vHead, width, n,
				&next[min(fetched, len(next)-1)])
			h += k.heads
			fetched += k.heads * width * n
			continue
		}
		for j := 0; j < width; j += 64 {
			k := &kernels[min(64, width-j)/16-1]
			k.oneHead(&dst[h*width+j], &p[h*pHead], 0, &v[h*vHead+j], 0, width, n, &next[min(fetched, len(next)-1)])
			fetched += 16 * k.columns16 * n
		}
		h++
	}
}
