//go:build !purego

package tensor

import "unsafe"

var (
	mixedAVX512 = kernelSet{
		lanes: 16, masked: true, half: true,
		narrow: []gemm{mixed1x2AVX512, mixed2x2AVX512, mixed3x2AVX512, mixed4x2AVX512, mixed5x2AVX512, mixed6x2AVX512,
			mixed7x2AVX512, mixed8x2AVX512, mixed9x2AVX512, mixed10x2AVX512, mixed11x2AVX512, mixed12x2AVX512},
		wide: []gemm{mixed1x6AVX512, mixed2x6AVX512, mixed3x6AVX512, mixed4x6AVX512, mixed5x4AVX512, mixed6x4AVX512,
			mixed7x3AVX512, mixed8x3AVX512},
		wideRegisters: f32AVX512.wideRegisters,
	}
	mixedAVX2 = kernelSet{
		lanes: 8, half: true,
		narrow: []gemm{mixed1x2AVX2, mixed2x2AVX2, mixed3x2AVX2, mixed4x2AVX2, mixed5x2AVX2, mixed6x2AVX2},
		wide:   []gemm{mixed1x8AVX2, mixed2x4AVX2, mixed3x4AVX2, mixed4x3AVX2},

		wideRegisters: f32AVX2.wideRegisters,
	}
)

// kernels returns the kernels in use for the product, or nil when the reference is in use.
func (g *product) kernels() *kernelSet {
	switch {
	case !g.half:
		return kernels(g.bf16)
	case active == avx512:
		return &mixedAVX512
	case active == avx2:
		return &mixedAVX2
	}
	return nil
}

// widenKernel is widenPortable, 16 elements at a time.
func widenKernel(dst []float32, src []uint16) {
	blocks := len(src) / 16
	switch {
	case blocks == 0 || active == portable:
		blocks = 0
	case active == avx512:
		widenAVX512(&dst[0], &src[0], blocks)
	default:
		widenAVX2(&dst[0], &src[0], blocks)
	}
	widenPortable(dst[16*blocks:], src[16*blocks:])
}

// roundBFloat16Kernel is roundBFloat16Portable, 16 elements at a time.
func roundBFloat16Kernel(dst []uint16, src []float32) {
	blocks := len(src) / 16
	switch {
	case blocks == 0 || active == portable:
		blocks = 0
	case active == avx512:
		roundHalfAVX512(&dst[0], &src[0], blocks)
	default:
		roundHalfAVX2(&dst[0], &src[0], blocks)
	}
	roundBFloat16Portable(dst[16*blocks:], src[16*blocks:])
}

// transposeHalf is transposeHalfPortable.
func transposeHalf(panel []float32, width int, src []uint16, ld, words, cols int) {
	if !turnWords(panel, width, unsafe.Pointer(&src[0]), 2*ld, words, cols, 0) {
		transposeHalfPortable(panel, width, src, ld, words, cols)
	}
}

// turnWords sets panel[q*width + j] to word q of row j of src, whose rows are ld bytes apart, for q < words and j <
// cols, and fetches memory from ahead bytes after src on, as much as it reads. It does nothing and reports false where
// there are fewer columns or words than the kernel takes at a time. What is left at an end is done once more, together
// with what precedes it.
func turnWords(panel []float32, width int, src unsafe.Pointer, ld, words, cols, ahead int) bool {
	lanes, turn := 16, turnAVX512
	switch active {
	case avx2:
		lanes, turn = 8, turnAVX2
	case portable:
		return false
	}
	if words < 16 || cols < lanes {
		return false
	}
	across := func(to int, from unsafe.Pointer, groups, ahead int) {
		turn(&panel[to], width, (*float32)(from), ld, words/16, groups, ahead)
		if q := words - 16; words%16 != 0 {
			turn(&panel[q*width+to], width, (*float32)(unsafe.Add(from, 4*q)), ld, 1, groups, 0)
		}
	}
	across(0, src, cols/lanes, ahead)
	if j := cols - lanes; cols%lanes != 0 {
		across(j, unsafe.Add(src, j*ld), 1, 0)
	}
	return true
}

// interleaveHalf is interleaveHalfPortable, a register of columns at a time. The AVX2 kernel takes whole registers
// only and leaves the last columns to the portable form.
func interleaveHalf(panel []float32, width int, src []uint16, ld, words, cols int) {
	c := 0
	switch active {
	case avx512:
		for ; c < cols; c += 16 {
			weaveHalfAVX512(&panel[c], width, &src[c], ld, words, 1<<min(16, cols-c)-1)
		}
		return
	case avx2:
		for ; c+8 <= cols; c += 8 {
			weaveHalfAVX2(&panel[c], width, &src[c], ld, words, 0)
		}
	}
	if c < cols {
		interleaveHalfPortable(panel[c:], width, src[c:], ld, words, cols-c)
	}
}
