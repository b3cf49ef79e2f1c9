package gguf

import "math"

// float16ToFloat32 widens an IEEE 754 binary16. Every number is exact. A NaN is
// made quiet, as by ggml (ggml_compute_fp16_to_fp32 multiplies by a power of two).
func float16ToFloat32(h uint16) float32 {
	sign := uint32(h&0x8000) << 16
	exponent, fraction := uint32(h>>10&0x1f), uint32(h&0x3ff)
	switch {
	case exponent == 0: // zero or subnormal: fraction · 2⁻²⁴
		v := float32(fraction) * (1.0 / (1 << 24))
		return math.Float32frombits(math.Float32bits(v) | sign)
	case exponent < 0x1f: // the exponent's bias is 15 in binary16 and 127 in binary32
		return math.Float32frombits(sign | (exponent+112)<<23 | fraction<<13)
	case fraction == 0:
		return math.Float32frombits(sign | 0xff<<23)
	}
	return math.Float32frombits(sign | 0x1ff<<22 | fraction<<13)
}

// float32ToFloat16 rounds to the nearest IEEE 754 binary16, to the even one of
// two. From 65520 on that is an infinity; every NaN becomes the quiet one of its
// sign, as in ggml_compute_fp32_to_fp16.
func float32ToFloat16(f float32) uint16 {
	w := math.Float32bits(f)
	sign, size := uint16(w>>16&0x8000), w&0x7fffffff
	switch {
	case size > 0x7f800000: // NaN
		return sign | 0x7e00
	case size >= 0x477ff000: // 65520, halfway between the largest number and the next power of two
		return sign | 0x7c00
	case size < 0x38800000: // below 2⁻¹⁴: subnormal, or zero
		// Floats from ½ to 1 are 2⁻²⁴ apart, as subnormal binary16 are, so the sum rounds as wanted.
		v := math.Float32frombits(size) + 0.5
		return sign | uint16(math.Float32bits(v)-math.Float32bits(0.5))
	}
	size += 0xfff + size>>13&1 // a carry into the exponent is right
	return sign | uint16((size-112<<23)>>13)
}

// bfloat16ToFloat32 widens a bfloat16, the upper half of a float32.
func bfloat16ToFloat32(h uint16) float32 { return math.Float32frombits(uint32(h) << 16) }

// float32ToBfloat16 rounds to the nearest bfloat16, to the even one of two. A NaN
// is made quiet, as in ggml_compute_fp32_to_bf16.
func float32ToBfloat16(f float32) uint16 {
	w := math.Float32bits(f)
	if w&0x7fffffff > 0x7f800000 {
		return uint16(w>>16) | 64
	}
	return uint16((w + 0x7fff + w>>16&1) >> 16)
}
