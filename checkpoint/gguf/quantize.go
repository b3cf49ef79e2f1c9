package gguf

import (
	"encoding/binary"
	"math"
)

// encoder writes whole blocks of src to dst, which has room for exactly them. It
// returns the number of an element that the type cannot hold, or fits.
type encoder func(dst []byte, src []float32) (refused int)

// fits is what an encoder returns if the type can hold every element.
const fits = -1

// encoders has the types that can be written.
var encoders = map[Type]encoder{F32: encodeF32, F16: encodeF16, BF16: encodeBF16, Q8_0: quantizeQ8_0}

// writable lists the types that can be written, as an error names them.
var writable = []Type{F32, F16, BF16, Q8_0}

func encodeF32(dst []byte, src []float32) int {
	for i, v := range src {
		binary.LittleEndian.PutUint32(dst[4*i:], math.Float32bits(v))
	}
	return fits
}

// encodeF16 rounds to nearest, ties to even. Infinities and NaN stay what they
// are; a number that would become infinite is refused.
func encodeF16(dst []byte, src []float32) int {
	for i, v := range src {
		h := float32ToFloat16(v)
		if h&0x7fff == 0x7c00 && !math.IsInf(float64(v), 0) {
			return i
		}
		binary.LittleEndian.PutUint16(dst[2*i:], h)
	}
	return fits
}

// encodeBF16 rounds and refuses as encodeF16 does.
func encodeBF16(dst []byte, src []float32) int {
	for i, v := range src {
		h := float32ToBfloat16(v)
		if h&0x7fff == 0x7f80 && !math.IsInf(float64(v), 0) {
			return i
		}
		binary.LittleEndian.PutUint16(dst[2*i:], h)
	}
	return fits
}

// quantizeQ8_0 is ggml's quantize_row_q8_0_ref: d = max|x|/127, which is rounded
// to binary16 only where it is stored, and q = x·(1/d), rounded to the nearest
// integer, halves away from zero. It refuses NaN, infinities, and blocks whose d
// overflows.
func quantizeQ8_0(dst []byte, src []float32) int {
	for at := 0; at < len(src); at += 32 {
		x := (*[32]float32)(src[at:])
		peak := 0
		for j, v := range x {
			if v-v != 0 { // true for NaN and ±Inf alone
				return at + j
			}
			if abs(v) > abs(x[peak]) {
				peak = j
			}
		}
		d := abs(x[peak]) / 127
		block := dst[at/32*34:]
		if binary.LittleEndian.PutUint16(block, float32ToFloat16(d)); math.IsInf(float64(half(block)), 0) {
			return at + peak
		}
		quantizeBlock((*[32]byte)(block[2:]), x, d)
	}
	return fits
}

// quantizeBlock computes the integers of a block from its unrounded scale.
func quantizeBlock(q *[32]byte, x *[32]float32, d float32) {
	inverse := float32(0)
	if d != 0 {
		inverse = 1 / d
	}
	for j, v := range x {
		v *= inverse
		if v-v != 0 {
			// 1/d is infinite for d below 2⁻¹²⁸. C leaves the conversion undefined; x86 gives 0, and
			// the stored d is 0 as well.
			v = 0
		}
		// The sum is exact in float64, and the conversion cuts off: halves are rounded away from zero.
		q[j] = byte(int32(float64(v) + math.Copysign(0.5, float64(v))))
	}
}

func abs(v float32) float32 { return math.Float32frombits(math.Float32bits(v) &^ (1 << 31)) }
