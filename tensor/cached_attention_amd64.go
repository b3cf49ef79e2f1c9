//go:build !purego

package tensor

// scoresKernel computes the scores of a fixed number of key blocks; valuesKernel sums a fixed number of columns of a
// fixed number of heads. The numbers are in their names; _asm/decode.go generates both.
type (
	scoresKernel func(dst, q, k *float32, d int, next *float32)
	valuesKernel func(dst, start, p *float32, pHead int, v *float32, vHead, ld, n int, next *float32)
)

// Kernels for 1, 2, 3 … blocks of keys: as many accumulators as fit into the registers.
var (
	scoresKernelsAVX512 = []scoresKernel{scores1AVX512, scores2AVX512, scores3AVX512, scores4AVX512, scores5AVX512,
		scores6AVX512, scores7AVX512, scores8AVX512}
	scoresKernelsAVX2 = []scoresKernel{scores1AVX2, scores2AVX2, scores3AVX2, scores4AVX2}
)

// Kernels for values of 16, 32, 48 and 64 columns.
var (
	valuesKernelsAVX512 = []valuesKernels{
		{1, weigh1x1AVX512, 4, weigh1x4AVX512},
		{2, weigh2x1AVX512, 4, weigh2x4AVX512},
		{3, weigh3x1AVX512, 2, weigh3x2AVX512},
		{4, weigh4x1AVX512, 2, weigh4x2AVX512},
	}
	valuesKernelsAVX2 = []valuesKernels{
		{1, weigh1x1AVX2, 4, weigh1x4AVX2},
		{2, weigh2x1AVX2, 2, weigh2x2AVX2},
		{3, weigh3x1AVX2, 1, weigh3x1AVX2},
		{4, weigh4x1AVX2, 1, weigh4x1AVX2},
	}
)

// attentionScoresKernel takes as few calls as the registers allow, with nearly equally many blocks in each.
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

// valuesKernels holds the kernels for values of that many times 16 columns.
type valuesKernels struct {
	columns16 int
	oneHead   valuesKernel
	heads     int // that manyHeads takes at once, so that enough independent chains hide the latency of an FMA
	manyHeads valuesKernel
}

// noValues is where chains begin that continue none: the most floats that one of the kernels sets.
var noValues [128]float32

// weightedValuesKernel takes several heads at once where their values are at most 64 columns wide, otherwise one head
// and 64 columns at a time. fetched counts the floats prefetched so far, and so where in next to continue. With more,
// the chains continue those in dst.
func weightedValuesKernel(
	dst, p []float32, pHead int, v []float32, vHead, heads, width, n int, next []float32, more bool,
) {
	kernels := valuesKernelsAVX512
	switch active {
	case portable:
		weightedValuesPortable(dst, p, pHead, v, vHead, heads, width, n, more)
		return
	case avx2:
		kernels = valuesKernelsAVX2
	}
	for h, fetched := 0, 0; h < heads; {
		if width <= 64 && heads-h >= kernels[width/16-1].heads {
			k := &kernels[width/16-1]
			k.manyHeads(&dst[h*width], chainStart(dst, h*width, more), &p[h*pHead], pHead, &v[h*vHead], vHead, width, n,
				&next[min(fetched, len(next)-1)])
			h += k.heads
			fetched += k.heads * width * n
			continue
		}
		for j := 0; j < width; j += 64 {
			k := &kernels[min(64, width-j)/16-1]
			k.oneHead(&dst[h*width+j], chainStart(dst, h*width+j, more), &p[h*pHead], 0, &v[h*vHead+j], 0, width, n,
				&next[min(fetched, len(next)-1)])
			fetched += 16 * k.columns16 * n
		}
		h++
	}
}

// chainStart returns where the chains of dst[i] and what follows begin.
func chainStart(dst []float32, i int, more bool) *float32 {
	if more {
		return &dst[i]
	}
	return &noValues[0]
}
