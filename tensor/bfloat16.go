package tensor

import "math"

// A word of a product under [V1BF16] is a pair: two neighbours along k in
// bfloat16, the first in the upper half. It travels as a float32 of those bits.

// hasBF16 says that the processor's products of bfloat16 round as FlushedFMA
// does; where they are absent, or differ, they are emulated.
var hasBF16 = detectBF16()

// roundBF16 is x as bfloat16, in the upper half of the result: rounded to
// nearest even, a NaN staying one.
func roundBF16(x float32) uint32 {
	b := math.Float32bits(x)
	if x != x {
		return (b | 1<<22) &^ 0xffff
	}
	return (b + 0x7fff + b>>16&1) &^ 0xffff
}

func packBF16(first, second float32) float32 {
	return math.Float32frombits(roundBF16(first) | roundBF16(second)>>16)
}

func unpackBF16(word float32) (first, second float32) {
	b := math.Float32bits(word)
	return math.Float32frombits(b &^ 0xffff), math.Float32frombits(b << 16)
}

// flushSubnormal is zero, with x's sign, for x below the normal range.
func flushSubnormal(x float32) float32 {
	if b := math.Float32bits(x); b&0x7f800000 == 0 {
		return math.Float32frombits(b & (1 << 31))
	}
	return x
}

// FlushedFMA is [FMA] in which operands and result below the normal range are
// zero, as in the processor's bfloat16 products. A result counts as below when
// it is so after rounding to 24 bits.
func FlushedFMA(x, y, z float32) float32 {
	x, y, z = flushSubnormal(x), flushSubnormal(y), flushSubnormal(z)
	r := FMA(x, y, z)
	if b := math.Float32bits(r) & 0x7fffffff; b > 1<<23 || z >= 0x1p-60 || z <= -0x1p-60 {
		return r // where z is as large, x*y + z is zero or normal
	}
	const up = 1 << 40
	if s := FMA(x*up, y, z*up); s >= 0x1p-86 || s <= -0x1p-86 { // 24 bits, unlike r
		return s / up
	}
	return math.Float32frombits(math.Float32bits(r) & (1 << 31))
}

// packRowBF16 sets dst to the pairs of src, the last one filled up with zero.
func packRowBF16(dst, src []float32) {
	done := packRowBF16Kernel(dst, src)
	for i := done; i < len(dst); i++ {
		second := float32(0)
		if 2*i+1 < len(src) {
			second = src[2*i+1]
		}
		dst[i] = packBF16(src[2*i], second)
	}
}

// interleaveRowsBF16 sets dst[r*width + j], j < cols, to the pairs of rows 2r and 2r+1
// of src, for the words of k rows.
func interleaveRowsBF16(dst []float32, width int, src []float32, ld, k, cols int) {
	if whole := k / 2; whole > 0 {
		interleaveKernel(dst, width, src, ld, whole, cols)
	}
	if k%2 != 0 {
		last := dst[k/2*width:]
		for j, v := range src[(k-1)*ld : (k-1)*ld+cols] {
			last[j] = packBF16(v, 0)
		}
	}
}

func interleavePortable(dst []float32, width int, src []float32, ld, pairs, cols int) {
	for r := range pairs {
		for j := range cols {
			dst[r*width+j] = packBF16(src[2*r*ld+j], src[(2*r+1)*ld+j])
		}
	}
}

// dpbf16Portable continues a row of chains: both halves of a against those of b.
func dpbf16Portable(row []float32, a float32, b []float32) {
	a1, a2 := unpackBF16(a)
	for j, w := range b {
		b1, b2 := unpackBF16(w)
		row[j] = FlushedFMA(a2, b2, FlushedFMA(a1, b1, row[j]))
	}
}
