package tensor

import "math"

// Under [V1BF16] a 32-bit word of a product's operands is a pair: two neighbours along k in bfloat16, the first in the
// upper half. Words travel through the code as the float32 of those bits, so that both contracts share the packing.

// hasBF16 reports whether the CPU has bfloat16 dot products that round as FlushedFMA does. Where they are missing, or
// differ, the kernels emulate them. Tests clear it to run the emulation.
var hasBF16 = detectBF16()

// roundBF16 returns x as bfloat16 in the upper half of the result, the lower half zero: rounded to nearest even, as
// adding half a unit in the last place, less one where the last bit is even, carries. A NaN stays a NaN and is made
// quiet, since the carry could turn it into an infinity.
func roundBF16(x float32) uint32 {
	b := math.Float32bits(x)
	if x != x {
		return (b | 1<<22) &^ 0xffff
	}
	return (b + 0x7fff + b>>16&1) &^ 0xffff
}

// packBF16 returns the word of two elements that are neighbours along k.
func packBF16(first, second float32) float32 {
	return math.Float32frombits(roundBF16(first) | roundBF16(second)>>16)
}

// unpackBF16 returns the two elements of a word; bfloat16 are exact in float32.
func unpackBF16(word float32) (first, second float32) {
	b := math.Float32bits(word)
	return math.Float32frombits(b &^ 0xffff), math.Float32frombits(b << 16)
}

// flushSubnormal returns x, or zero with x's sign where x is below the normal range.
func flushSubnormal(x float32) float32 {
	if b := math.Float32bits(x); b&0x7f800000 == 0 {
		return math.Float32frombits(b & (1 << 31))
	}
	return x
}

// FlushedFMA is [FMA] with subnormal operands and results flushed to zero, the arithmetic of the CPU's bfloat16 dot
// products. A result is subnormal if it is below 2**-126 after rounding to 24 bits with an unbounded exponent.
func FlushedFMA(x, y, z float32) float32 {
	x, y, z = flushSubnormal(x), flushSubnormal(y), flushSubnormal(z)
	r := FMA(x, y, z)
	if b := math.Float32bits(r) & 0x7fffffff; b > 1<<23 || z >= 0x1p-60 || z <= -0x1p-60 {
		return r // beside so large a z, x*y + z is zero or normal
	}
	// Near the border r may have been rounded as a subnormal, to fewer than 24 bits. The scaled sum is normal.
	const up = 1 << 40
	if s := FMA(x*up, y, z*up); s >= 0x1p-86 || s <= -0x1p-86 {
		return s / up
	}
	return math.Float32frombits(math.Float32bits(r) & (1 << 31))
}

// packRowBF16 sets dst to the pairs of src: dst[i] = (src[2i], src[2i+1]), the last padded with zero. len(dst) is half
// of len(src), rounded up.
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

// interleaveRowsBF16 sets dst[r*width + j], for r < ⌈k/2⌉ and j < cols, to the pair of rows 2r and 2r+1 of src (k,
// cols) in column j: the layout that x86 calls VNNI. The last pair of an odd k is padded with zeros.
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

// interleavePortable is interleaveRowsBF16 for whole pairs of rows.
func interleavePortable(dst []float32, width int, src []float32, ld, pairs, cols int) {
	for r := range pairs {
		for j := range cols {
			dst[r*width+j] = packBF16(src[2*r*ld+j], src[(2*r+1)*ld+j])
		}
	}
}

// dpbf16Portable continues a row of chains by one word of k, as VDPBF16PS does: first with the upper halves of a and
// b[j], then with the lower,
//
//	row[j] = fma(a₂, b₂[j], fma(a₁, b₁[j], row[j])),  fma being FlushedFMA
func dpbf16Portable(row []float32, a float32, b []float32) {
	a1, a2 := unpackBF16(a)
	for j, w := range b {
		b1, b2 := unpackBF16(w)
		row[j] = FlushedFMA(a2, b2, FlushedFMA(a1, b1, row[j]))
	}
}
