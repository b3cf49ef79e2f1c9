//go:build purego || !amd64

package tensor

// Without assembly the kernels of half.go are the portable forms.

func widenKernel(dst []float32, src []uint16)         { widenPortable(dst, src) }
func roundBFloat16Kernel(dst []uint16, src []float32) { roundBFloat16Portable(dst, src) }
func transposeHalf(panel []float32, width int, src []uint16, ld, words, cols int) {
	transposeHalfPortable(panel, width, src, ld, words, cols)
}
func interleaveHalf(panel []float32, width int, src []uint16, ld, words, cols int) {
	interleaveHalfPortable(panel, width, src, ld, words, cols)
}
