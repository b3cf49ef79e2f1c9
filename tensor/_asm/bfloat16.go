package main

import (
	"fmt"

	. "github.com/mmcloughlin/avo/build"
	"github.com/mmcloughlin/avo/ir"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// A word of 32 bits holds two neighbours along k, and a product over k elements is one over ⌈k/2⌉ words:
//
//	bit 31        16 15         0
//	    | first      | second     |
//
//	acc = fma(a.second, b.second, fma(a.first, b.first, acc))
//
// This is the order in which VDPBF16PS takes them. The tiles are those of matmul.go, two registers across, and so is
// the signature, with k, ldb and step counted in words.

// bfloat16 writes the products of pairs: words that hold two bfloat16, the first along k in the upper half. VDPBF16PS
// multiplies the upper halves and then the lower ones, each a fused multiply-add that takes and returns zero for
// subnormals; the emulated kernels do the same step by step.
func (s isa) bfloat16() {
	for r := 1; r <= s.pairsRows; r++ {
		if s.is512() {
			s.native(r)
		}
		s.emulated(r)
	}
	s.roundPairs()
	s.weave()
	if s.is512() {
		s.peakNative()
	}
}

// dpbf16 writes VDPBF16PS acc, first, second on 512-bit registers, for which the assembler has no mnemonic:
// EVEX.512.F3.0F38.W0 52 /r (Intel SDM, volume 2). Byte by byte, where the bits of register numbers in the prefix are
// inverted:
//
//	62
//	R X B R' 0 0 1 0      acc bit 3, second bits 4 and 3, acc bit 4; opcode map 0F38
//	0 v v v v 1 1 0       first bits 3 to 0; prefix F3
//	0 1 0 0 V' 0 0 0      512 bits; first bit 4; no mask
//	52                    opcode
//	1 1 r r r m m m       acc bits 2 to 0, second bits 2 to 0
func dpbf16(second, first, acc reg.VecPhysical) {
	bit := func(r reg.VecPhysical, n int) uint32 { return uint32(r.PhysicalIndex()>>n)&1 ^ 1 } // stored inverted
	p0 := bit(acc, 3)<<7 | bit(second, 4)<<6 | bit(second, 3)<<5 | bit(acc, 4)<<4 | 2
	p1 := uint32(^first.PhysicalIndex()&15)<<3 | 1<<2 | 2
	p2 := uint32(2)<<5 | bit(first, 4)<<3
	modRM := uint32(3)<<6 | uint32(acc.PhysicalIndex()&7)<<3 | uint32(second.PhysicalIndex()&7)
	Comment(fmt.Sprintf("VDPBF16PS %s, %s, %s", second.Asm(), first.Asm(), acc.Asm()))
	// avo passes LONG and WORD on to the assembler, which puts the bytes into the code as they are.
	emit := func(opcode string, value Op) {
		Instruction(&ir.Instruction{Opcode: opcode, Operands: []Op{value}})
	}
	emit("LONG", U32(0x62|p0<<8|p1<<16|p2<<24))
	emit("WORD", U16(0x52|modRM<<8))
}

// zmm lists the 512-bit registers by number.
var zmm = []reg.VecPhysical{reg.Z0, reg.Z1, reg.Z2, reg.Z3, reg.Z4, reg.Z5, reg.Z6, reg.Z7, reg.Z8, reg.Z9, reg.Z10,
	reg.Z11, reg.Z12, reg.Z13, reg.Z14, reg.Z15, reg.Z16, reg.Z17, reg.Z18, reg.Z19, reg.Z20, reg.Z21, reg.Z22, reg.Z23,
	reg.Z24, reg.Z25, reg.Z26, reg.Z27, reg.Z28, reg.Z29, reg.Z30, reg.Z31}

// native writes the micro-kernel of pairs for CPUs with AVX512-BF16. Its registers are fixed, since the encoding
// above has to know their numbers:
//
//	Z0  … Z23     accumulators, two for each row
//	Z24, Z25      columns of B; the bias before that
//	Z26 … Z31     broadcasts of A, in turn
func (s isa) native(mr int) {
	s.function(fmt.Sprintf("native%dx2", mr), product)
	Doc(fmt.Sprintf("native%dx2%s is pairs%dx2%s for processors with AVX512-BF16.", mr, s.name, mr, s.name))
	// The start value, as in loadC, in registers of known numbers.
	acc := make([][]reg.VecPhysical, mr)
	for i := range acc {
		acc[i] = zmm[2*i : 2*i+2]
		for _, v := range acc[i] {
			VPXORD(v, v, v)
		}
	}
	loadMasks(2)
	from := ifGiven("from")
	eachTile(acc, from, "ldf", s.lanes, func(m Mem, v int, r reg.VecPhysical) { VMOVUPS_Z(m, maskOf(v), r) })
	bias := ifGiven("bias")
	for v := range 2 {
		VMOVUPS_Z(Mem{Base: bias, Disp: 64 * v}, maskOf(v), zmm[24])
		for i := range acc {
			VADDPS(zmm[24], acc[i][v], acc[i][v])
		}
	}
	Label("ready")
	// As in gemmStep for tall tiles. Six registers for broadcasts in turn let the loads run ahead of the products.
	s.loopK(mr, func(a rows, b reg.GPVirtual) {
		cols := zmm[24:26]
		for v, r := range cols {
			VMOVUPS_Z(Mem{Base: b, Disp: v * 64}, maskOf(v), r)
		}
		for i := range mr {
			x := zmm[26+i%6]
			VBROADCASTSS(a.at(i), x)
			for v := range cols {
				dpbf16(cols[v], x, acc[i][v])
			}
		}
	})
	eachTile(acc, param("c"), "ldc", s.lanes, func(m Mem, v int, r reg.VecPhysical) { VMOVUPS(r, maskOf(v), m) })
	finish()
}

// peakNative is peak for pairs.
func (s isa) peakNative() {
	s.function("peakNative", "func(steps int)")
	Doc(fmt.Sprintf("peakNative%s continues 24 chains of VDPBF16PS, a register each, by that many steps; steps > 0.",
		s.name))
	steps := param("steps")
	// Zeros stay zeros, as in peak.
	for _, r := range zmm {
		VPXORD(r, r, r)
	}
	Label("loop")
	for i := range 24 {
		dpbf16(zmm[24], zmm[25], zmm[i])
	}
	DECQ(steps)
	JNZ(LabelRef("loop"))
	finish()
}

// flush holds the bits of MXCSR that make the CPU treat subnormals as zero:
//
//	0x0040   DAZ, in operands
//	0x8000   FTZ, in results
const flush = 0x8040

// emulated writes the micro-kernel of pairs by fused multiply-adds of float32, for CPUs without AVX512-BF16. It sets
// flush for the duration of the loop and restores the caller's MXCSR. bfloat16 is the upper half of a float32, so
// that widening is a mask or a shift.
func (s isa) emulated(mr int) {
	s.function(fmt.Sprintf("pairs%dx2", mr), product)
	Doc(fmt.Sprintf("pairs%dx2%s is gemm%dx2%s over pairs: for each, fma of the upper halves and then of the lower, "+
		"subnormals being zero.",
		mr, s.name, mr, s.name))
	acc := s.accumulate(mr, 2)
	// control is a place on the stack: MXCSR can only be stored to memory and loaded from it. After the first load it
	// holds the caller's value, for the end.
	control, old, word := AllocLocal(8), GP32(), GP32()
	STMXCSR(control)
	MOVL(control, old)
	MOVL(old, word)
	ORL(U32(flush), word)
	MOVL(word, control)
	LDMXCSR(control)
	MOVL(old, control)
	upper := s.register()
	s.broadcastWord(0xffff0000, upper)
	s.loopK(mr, func(a rows, b reg.GPVirtual) {
		// The upper halves come first along k: all chains take them before the lower ones.
		var high, low []reg.VecVirtual
		for v := range 2 {
			l, h := s.register(), s.register()
			s.loadColumn(Mem{Base: b, Disp: v * s.lanes * 4}, v, l)
			s.halves(l, upper, h)
			high, low = append(high, h), append(low, l)
		}
		for i := range mr {
			l, h := s.register(), s.register()
			VBROADCASTSS(a.at(i), l)
			s.halves(l, upper, h)
			for v := range 2 {
				VFMADD231PS(high[v], h, acc[i][v])
			}
			for v := range 2 {
				VFMADD231PS(low[v], l, acc[i][v])
			}
		}
	})
	s.storeC(acc)
	LDMXCSR(control)
	finish()
}

// halves sets high to the upper half of each word of w, and w to its lower half, shifted up: both as float32.
func (s isa) halves(w, upper, high reg.VecVirtual) {
	if s.is512() {
		VPANDD(upper, w, high)
	} else {
		VPAND(upper, w, high)
	}
	VPSLLD(U8(16), w, w)
}

// broadcastWord sets all lanes of r to a 32-bit word.
func (s isa) broadcastWord(bits uint32, r reg.VecVirtual) {
	VBROADCASTSS(table(fmt.Sprintf("bits%08x", bits), 1, func(int) uint32 { return bits }), r)
}

// rounding holds the constants for rounding to bfloat16: see roundBF16 in ../bfloat16.go.
type rounding struct {
	isa
	one, bias, quiet, upper reg.VecVirtual
}

// newRounding loads the constants.
func (s isa) newRounding() rounding {
	r := rounding{s, s.register(), s.register(), s.register(), s.register()}
	s.broadcastWord(1, r.one)
	s.broadcastWord(0x7fff, r.bias)
	s.broadcastWord(1<<22, r.quiet)
	s.broadcastWord(0xffff0000, r.upper)
	return r
}

// round makes the upper half of each word of x its bfloat16; the lower half is left unspecified. NaNs are chosen
// apart, since the carry could turn them into infinities.
func (r rounding) round(x reg.VecVirtual) {
	t := r.register()
	VPSRLD(U8(16), x, t)
	const unordered = 3
	// t = x + 0x7fff + (x>>16 & 1), as integers; for NaNs x with the quiet bit set.
	if r.is512() {
		VPANDD(r.one, t, t)
		VPADDD(r.bias, t, t)
		VCMPPS(U8(unordered), x, x, reg.K3)
		VPADDD(t, x, t)
		VPORD(r.quiet, x, reg.K3, t)
		VMOVUPS(t, x)
		return
	}
	VPAND(r.one, t, t)
	VPADDD(r.bias, t, t)
	VPADDD(t, x, t)
	nan, loud := r.register(), r.register()
	VCMPPS(U8(unordered), x, x, nan)
	VPOR(r.quiet, x, loud)
	VBLENDVPS(nan, loud, t, x)
}

// join returns, in first, words with the upper halves of first above those of second.
func (r rounding) join(first, second reg.VecVirtual) {
	VPSRLD(U8(16), second, second)
	if r.is512() {
		VPANDD(r.upper, first, first)
		VPORD(second, first, first)
		return
	}
	VPAND(r.upper, first, first)
	VPOR(second, first, first)
}

// roundPairs writes the kernel that turns neighbours in a row into pairs, a register of words at a time. AVX2
// shuffles within 128-bit lanes, and so the result needs one more permutation.
func (s isa) roundPairs() {
	s.function("roundPairs", "func(dst, src *float32, blocks int)")
	Doc(fmt.Sprintf("roundPairs%s sets dst[i] to the pair of src[2i] and src[2i+1] for i < %d*blocks; blocks > 0.",
		s.name, s.lanes))
	dst, src, blocks := param("dst"), param("src"), param("blocks")
	r := s.newRounding()
	// The indices of the elements of two registers that are first and second in their pairs.
	var even, odd reg.VecVirtual
	if s.is512() {
		even, odd = s.register(), s.register()
		VMOVUPS(table("even", 16, func(i int) uint32 { return uint32(2 * i) }), even)
		VMOVUPS(table("odd", 16, func(i int) uint32 { return uint32(2*i + 1) }), odd)
	}
	Label("loop")
	// Two registers of neighbours make one of words: the even elements are the first of each pair, the odd the second.
	x, y := s.register(), s.register()
	VMOVUPS(Mem{Base: src}, x)
	VMOVUPS(Mem{Base: src, Disp: 4 * s.lanes}, y)
	// VPERMT2PS picks from both registers by index; VSHUFPS picks within each 128-bit lane of both.
	first, second := s.register(), s.register()
	if s.is512() {
		VMOVUPS(x, first)
		VMOVUPS(x, second)
		VPERMT2PS(y, even, first)
		VPERMT2PS(y, odd, second)
	} else {
		VSHUFPS(U8(0x88), y, x, first)
		VSHUFPS(U8(0xdd), y, x, second)
	}
	r.round(first)
	r.round(second)
	r.join(first, second)
	// Put the 64-bit quarters of both 128-bit lanes back into order: 0, 2, 1, 3.
	if !s.is512() {
		VPERMQ(U8(0xd8), first, first)
	}
	VMOVUPS(first, Mem{Base: dst})
	ADDQ(U8(4*s.lanes), dst)
	ADDQ(U32(8*s.lanes), src)
	DECQ(blocks)
	JNZ(LabelRef("loop"))
	finish()
}

// weave writes the kernel that turns two rows into pairs, a register of columns wide.
func (s isa) weave() {
	s.function("weave", "func(dst *float32, width int, src *float32, ld, pairs int, columns uint64)")
	Doc(fmt.Sprintf("weave%s sets dst[r*width + j] to the pair of src[2r*ld + j] and src[(2r+1)*ld + j] for r < "+
		"pairs and j among the columns, a bit for each (AVX2: all %d); pairs > 0.",
		s.name, s.lanes))
	dst, src, width, ld, pairs := param("dst"), param("src"), distance("width"), distance("ld"), param("pairs")
	if s.is512() {
		KMOVW(param("columns").As32(), reg.K1)
	}
	// ahead is the distance of the prefetch: 16 rows.
	r, ahead := s.newRounding(), GP64()
	MOVQ(ld, ahead)
	SHLQ(U8(4), ahead)
	Label("loop")
	PREFETCHT0(Mem{Base: src, Index: ahead, Scale: 1})
	first, second := s.register(), s.register()
	// Columns that are not in use are read as zeros and not written (AVX-512).
	load := func(m Mem, v reg.VecVirtual) {
		if s.is512() {
			VMOVUPS_Z(m, reg.K1, v)
		} else {
			VMOVUPS(m, v)
		}
	}
	load(Mem{Base: src}, first)
	load(Mem{Base: src, Index: ld, Scale: 1}, second)
	r.round(first)
	r.round(second)
	r.join(first, second)
	if s.is512() {
		VMOVUPS(first, reg.K1, Mem{Base: dst})
	} else {
		VMOVUPS(first, Mem{Base: dst})
	}
	// Two rows on in src make one row of words in dst.
	LEAQ(Mem{Base: src, Index: ld, Scale: 2}, src)
	ADDQ(width, dst)
	DECQ(pairs)
	JNZ(LabelRef("loop"))
	finish()
}
