package tensor

import "math"

// Weights that are only read may be kept as bfloat16: half the memory, and half the bytes to read for each token. A
// product with them under [V1] is the product with their exact float32 values, bit for bit. Nothing is rounded, unlike
// under [V1BF16], and each step is one [FMA].
//
// Kernels read B in words of two neighbours along k, as under V1BF16, but in the order that they have in memory on a
// little-endian CPU: the first is the lower half.

// widen returns a bfloat16 as float32. Every bfloat16 is a float32 of which the lower half is zero.
func widen(x uint16) float32 { return math.Float32frombits(uint32(x) << 16) }

// Widen sets dst[i] to the bfloat16 src[i]. It is exact.
func Widen(dst []float32, src []uint16) {
	sameLength("Widen", len(dst), len(src))
	if len(src) > 0 {
		widenKernel(dst, src)
	}
}

// widenPortable is the definition of Widen.
func widenPortable(dst []float32, src []uint16) {
	for i, x := range src {
		dst[i] = widen(x)
	}
}

// RoundBFloat16 sets dst[i] to src[i] rounded to bfloat16: to nearest even, so that a number beyond the largest
// bfloat16 by half a unit or more becomes an infinity. A NaN stays a NaN and is made quiet.
func RoundBFloat16(dst []uint16, src []float32) {
	sameLength("RoundBFloat16", len(dst), len(src))
	if len(src) > 0 {
		roundBFloat16Kernel(dst, src)
	}
}

// roundBFloat16Portable is the definition of RoundBFloat16.
func roundBFloat16Portable(dst []uint16, src []float32) {
	for i, x := range src {
		dst[i] = uint16(roundBF16(x) >> 16)
	}
}

// ResetHalf makes p a matrix (k, n) of bfloat16 for products under [V1], in half the memory of [PackedB.Reset]. The
// contents are unspecified until PackHalf has set them for every task. p's memory is reused when it is large enough.
func (p *PackedB) ResetHalf(k, n int) {
	p.k, p.n = k, n
	p.bf16, p.half = false, true
	p.resize()
}

// PackHalf is [PackedB.Pack] for bfloat16 and a p that ResetHalf has prepared: it copies one task's share of B, which
// is stored as (k, n), or as (n, k) if trans is set.
func (p *PackedB) PackHalf(task int, b []uint16, trans bool) {
	if !p.half {
		panic("tensor.PackedB.PackHalf: the matrix was made by Reset, which is for float32: call ResetHalf before")
	}
	sameLength("PackedB.PackHalf", p.k*p.n, len(b))
	if p.k == 0 {
		return
	}
	size := p.kWords() * panelColumns
	for i := task * panelsPerTask; i < min(p.panels(), (task+1)*panelsPerTask); i++ {
		j := i * panelColumns
		from, ld := j, p.n
		if trans {
			from, ld = j*p.k, p.k
		}
		packHalfPanel(p.data[i*size:(i+1)*size], panelColumns, b[from:], ld, p.k, min(panelColumns, p.n-j), trans)
	}
}

// halfWord returns the word of two bfloat16 that are neighbours along k.
func halfWord(first, second uint16) float32 {
	return math.Float32frombits(uint32(first) | uint32(second)<<16)
}

// unpackHalf returns the two elements of a word as float32.
func unpackHalf(word float32) (first, second float32) {
	b := math.Float32bits(word)
	return math.Float32frombits(b << 16), math.Float32frombits(b &^ 0xffff)
}

// packHalfPanel copies k rows and cols columns of op(B) to a panel (⌈k/2⌉, width) of words, whose further columns
// become zeros, and so does the second half of the last word of an odd k. b begins at the panel's first element and
// is stored transposed if trans is set.
func packHalfPanel(panel []float32, width int, b []uint16, ldb, k, cols int, trans bool) {
	if cols < width {
		clear(panel)
	}
	whole := k / 2
	if whole > 0 && trans {
		transposeHalf(panel, width, b, ldb, whole, cols)
	} else if whole > 0 {
		interleaveHalf(panel, width, b, ldb, whole, cols)
	}
	if k%2 != 0 {
		step, ld := ldb, 1
		if trans {
			step, ld = 1, ldb
		}
		for j := range cols {
			panel[whole*width+j] = halfWord(b[(k-1)*step+j*ld], 0)
		}
	}
}

// transposeHalfPortable sets panel[q*width + j] to the word of src[j*ld + 2q] and its neighbour, for q < words and j <
// cols.
func transposeHalfPortable(panel []float32, width int, src []uint16, ld, words, cols int) {
	for j := range cols {
		row := src[j*ld : j*ld+2*words]
		for q := range words {
			panel[q*width+j] = halfWord(row[2*q], row[2*q+1])
		}
	}
}

// interleaveHalfPortable sets panel[q*width + j] to the word of src[2q*ld + j] and src[(2q+1)*ld + j], for q < words
// and j < cols.
func interleaveHalfPortable(panel []float32, width int, src []uint16, ld, words, cols int) {
	for q := range words {
		for j := range cols {
			panel[q*width+j] = halfWord(src[2*q*ld+j], src[(2*q+1)*ld+j])
		}
	}
}

// portableHalf continues the chains of one row of C with a row of op(A), a (k), and a B of bfloat16.
func (g *product) portableHalf(a, row []float32) {
	switch {
	case g.packed != nil:
		g.portablePackedHalf(a, row)
	case g.transB:
		for j := range row {
			s := row[j]
			for l, v := range g.bHalf[j*g.ldb : j*g.ldb+g.k] {
				s = FMA(a[l], widen(v), s)
			}
			row[j] = s
		}
	default:
		for l, x := range a {
			for j, v := range g.bHalf[l*g.ldb : l*g.ldb+g.n] {
				row[j] = FMA(x, widen(v), row[j])
			}
		}
	}
}

// portablePackedHalf is portableHalf for packed B, panel by panel.
func (g *product) portablePackedHalf(a, row []float32) {
	size := g.packed.kWords() * panelColumns
	for j := range row {
		panel := g.packed.data[(g.firstPanel+j/panelColumns)*size:][:size]
		s := row[j]
		for l := 0; l < len(a); l += 2 {
			first, second := unpackHalf(panel[l/2*panelColumns+j%panelColumns])
			s = FMA(a[l], first, s)
			if l+1 < len(a) {
				s = FMA(a[l+1], second, s)
			}
		}
		row[j] = s
	}
}
