package gguf

import (
	"encoding/binary"
	"math"
)

// The functions here and in kquants.go follow the dequantize_row functions of
// ggml-quants.c, which define what a block means. Each takes whole blocks. In a
// comment, d and m are a block's scale and minimum, q its integers.

// blocks makes a function for one block into one for any number of them.
func blocks(size, elements int, one func(y []float32, b []byte)) func(dst []float32, src []byte) {
	return func(dst []float32, src []byte) {
		for len(dst) >= elements {
			one(dst[:elements:elements], src[:size:size])
			dst, src = dst[elements:], src[size:]
		}
	}
}

// half reads a binary16, the form of all scales.
func half(b []byte) float32 { return float16ToFloat32(binary.LittleEndian.Uint16(b)) }

func dequantizeF32(dst []float32, src []byte) {
	src = src[:4*len(dst)]
	for i := range dst {
		dst[i] = math.Float32frombits(binary.LittleEndian.Uint32(src[4*i:]))
	}
}

func dequantizeF16(dst []float32, src []byte) {
	src = src[:2*len(dst)]
	for i := range dst {
		dst[i] = half(src[2*i:])
	}
}

func dequantizeBF16(dst []float32, src []byte) {
	src = src[:2*len(dst)]
	for i := range dst {
		dst[i] = bfloat16ToFloat32(binary.LittleEndian.Uint16(src[2*i:]))
	}
}

// dequantizeQ8_0: d (2 bytes), 32 × int8. y = q·d.
func dequantizeQ8_0(y []float32, b []byte) {
	d, q := half(b), (*[32]byte)(b[2:])
	out := (*[32]float32)(y)
	for j := range out {
		out[j] = float32(int8(q[j])) * d
	}
}

// The types of 4 and 5 bits keep element j in the lower and element j+16 in the
// upper half of byte j.

// dequantizeQ4_0: d, 16 bytes. y = (q−8)·d.
func dequantizeQ4_0(y []float32, b []byte) {
	d, q := half(b), (*[16]byte)(b[2:])
	low, high := (*[16]float32)(y), (*[16]float32)(y[16:])
	for j, v := range q {
		low[j] = float32(int(v&0xf)-8) * d
		high[j] = float32(int(v>>4)-8) * d
	}
}

// dequantizeQ4_1: d, m, 16 bytes. y = q·d + m.
func dequantizeQ4_1(y []float32, b []byte) {
	d, m, q := half(b), half(b[2:]), (*[16]byte)(b[4:])
	low, high := (*[16]float32)(y), (*[16]float32)(y[16:])
	for j, v := range q {
		low[j] = float32(float32(v&0xf)*d) + m
		high[j] = float32(float32(v>>4)*d) + m
	}
}

// fifthBits returns the uppermost bit of elements j and j+16, in its place.
func fifthBits(bits uint32, j int) (low, high uint32) {
	return bits >> j << 4 & 0x10, bits >> (j + 12) & 0x10
}

// dequantizeQ5_0: d, 32 fifth bits, 16 bytes. y = (q−16)·d.
func dequantizeQ5_0(y []float32, b []byte) {
	d, bits, q := half(b), binary.LittleEndian.Uint32(b[2:]), (*[16]byte)(b[6:])
	low, high := (*[16]float32)(y), (*[16]float32)(y[16:])
	for j, v := range q {
		l, h := fifthBits(bits, j)
		low[j] = float32(int32(uint32(v&0xf)|l)-16) * d
		high[j] = float32(int32(uint32(v>>4)|h)-16) * d
	}
}

// dequantizeQ5_1: d, m, 32 fifth bits, 16 bytes. y = q·d + m.
func dequantizeQ5_1(y []float32, b []byte) {
	d, m := half(b), half(b[2:])
	bits, q := binary.LittleEndian.Uint32(b[4:]), (*[16]byte)(b[8:])
	low, high := (*[16]float32)(y), (*[16]float32)(y[16:])
	for j, v := range q {
		l, h := fifthBits(bits, j)
		low[j] = float32(float32(uint32(v&0xf)|l)*d) + m
		high[j] = float32(float32(uint32(v>>4)|h)*d) + m
	}
}
