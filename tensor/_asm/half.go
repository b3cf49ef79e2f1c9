package main

import (
	"fmt"

	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// Here only B is bfloat16. A word of it holds two neighbours along k as they lie in memory,
//
//	bit 31        16 15         0
//	    | second     | first      |
//
// and each half, moved to the upper half of a word, is a float32: what the products multiply is exact.

// half writes the products with a B of bfloat16, what packs it, and the conversions of slices.
func (s isa) half() {
	for r := 1; r <= s.rows; r++ {
		s.mixed(r, 2)
		if r <= len(s.wide) && s.wide[r-1] != 2 {
			s.mixed(r, s.wide[r-1])
		}
	}
	s.turn()
	s.weaveHalf()
	s.widen()
	s.roundHalf()
}

// mixed writes the micro-kernel for mr rows and nv registers of columns: that of gemm, two steps over k to a word.
// B is always a panel, whose registers are whole.
func (s isa) mixed(mr, nv int) {
	s.function(fmt.Sprintf("mixed%dx%d", mr, nv), product)
	Doc(fmt.Sprintf("mixed%dx%d%s is gemm%dx%d%s for words of two bfloat16 in B; k counts elements, and ldb words.",
		mr, nv, s.name, mr, nv, s.name))
	acc := s.accumulate(mr, nv)
	upper := s.selectUpper(true)
	// a moves at every element, b and next at every word.
	a := newRows(mr, param("a"), distance("row"))
	forward, b, ldb, next, words := distance("step"), param("b"), distance("ldb"), param("next"), param("k")
	first := func(v int) reg.VecVirtual {
		r := s.register()
		s.firstHalf(Mem{Base: b, Disp: v * s.lanes * 4}, r)
		return r
	}
	second := func(v int) reg.VecVirtual {
		r := s.register()
		s.secondHalf(Mem{Base: b, Disp: v * s.lanes * 4}, upper, r)
		return r
	}
	SHRQ(U8(1), words)
	JZ(LabelRef("last"))
	Label("loop")
	PREFETCHT0(Mem{Base: next})
	s.outerProduct(acc, a, first)
	a.advance(forward)
	s.outerProduct(acc, a, second)
	a.advance(forward)
	ADDQ(ldb, b)
	ADDQ(U8(64), next)
	DECQ(words)
	JNZ(LabelRef("loop"))
	// The last element of an odd k has no neighbour: padding would meet a zero, or an infinity, of A.
	Label("last")
	odd := param("k")
	TESTQ(U32(1), odd)
	JZ(LabelRef("store"))
	s.outerProduct(acc, a, first)
	Label("store")
	s.storeC(acc)
	finish()
}

// firstHalf sets r to the first halves of the words at m, as float32.
func (s isa) firstHalf(m Mem, r reg.VecVirtual) {
	if s.is512() {
		VPSLLD(U8(16), m, r)
		return
	}
	VMOVUPS(m, r) // AVX2 shifts registers only
	VPSLLD(U8(16), r, r)
}

// selectUpper returns, where it is needed, the operand of secondHalf that selects the upper halves of words. AVX2 has
// no register left to hold it.
func (s isa) selectUpper(needed bool) Op {
	switch {
	case !needed:
		return nil
	case !s.is512():
		return table("upper", 8, func(int) uint32 { return 0xffff0000 })
	}
	r := s.register()
	s.broadcastWord(0xffff0000, r)
	return r
}

// secondHalf sets r to the second halves of the words at m, as float32.
func (s isa) secondHalf(m, upper Op, r reg.VecVirtual) {
	switch {
	case s.is512():
		VPANDD(m, upper, r)
	case m == Op(r):
		VPAND(upper, r, r)
	default:
		VMOVUPS(m, r)
		VPAND(upper, r, r)
	}
}

// turn writes the kernel that transposes words to panels, 16 words of s.lanes rows at a time, as long as memory
// is, and fetches what comes next: as many bytes as it reads, in one stream, whatever the distance of the rows.
func (s isa) turn() {
	s.function("turn", "func(dst *float32, width int, src *float32, ld, blocks, groups, ahead int)")
	Doc(fmt.Sprintf("turn%s sets dst[l*width + j] to word l of row j of src, whose rows are ld bytes apart, for l < "+
		"16*blocks and j < %d*groups, and fetches as many bytes from ahead bytes after src on; blocks, groups > 0.",
		s.name, s.lanes))
	src, step, triple, next := param("src"), param("ld"), GP64(), param("ahead")
	LEAQ(Mem{Base: step, Index: step, Scale: 2}, triple)
	ADDQ(src, next)
	dst, width, width3, groups := param("dst"), distance("width"), GP64(), param("groups")
	LEAQ(Mem{Base: width, Index: width, Scale: 2}, width3)
	if s.is512() {
		loadUpperHalf()
	}
	Label("group")
	column, blocks := GP64(), param("blocks")
	MOVQ(dst, column)
	Label("loop")
	// Each part of the block takes as many words of a row as a register holds of two rows, or a part of a register.
	per := s.lanes / 2
	for part := range 16 / per {
		for i := range s.lanes * per / 16 {
			PREFETCHT0(Mem{Base: next, Disp: 64 * (part*s.lanes*per/16 + i)})
		}
		place := rowsFrom(src, step, triple)
		out := s.turned(func(i int) Mem { return place(i).Offset(4 * per * part) })
		for q := 0; q < len(out); q += 4 {
			to := rows{base: []reg.GPVirtual{column}, step: width, triple: width3}
			for i, v := range out[q : q+4] {
				VMOVUPS(v, to.at(i))
			}
			LEAQ(Mem{Base: column, Index: width, Scale: 4}, column)
		}
	}
	ADDQ(U8(64), src)
	ADDQ(U32(64*s.lanes), next)
	DECQ(blocks)
	JNZ(LabelRef("loop"))
	// The next group: a register of columns on in dst, and as many rows on in src.
	ADDQ(U8(4*s.lanes), dst)
	back := param("blocks")
	SHLQ(U8(6), back)
	SUBQ(back, src)
	for range s.lanes / 8 {
		LEAQ(Mem{Base: src, Index: step, Scale: 8}, src)
	}
	DECQ(groups)
	JNZ(LabelRef("group"))
	finish()
}

// turn512 returns the columns of 8 words of 16 rows. A register takes 8 words of two rows, four rows apart; unpacking
// gives, in its 128-bit lanes, words w and w+4 of four rows and of the four behind:
//
//	a[w]   rows 0 to 3, word w | the same, w+4 | rows  4 to  7, word w | the same, w+4
//	b[w]   rows 8 to 11        |               | rows 12 to 15         |
//
// and the even lanes of both make column w, the odd ones column w+4.
func (s isa) turn512(at func(i int) Mem) (out []reg.VecVirtual) {
	var quads [2][]reg.VecVirtual
	for q := range quads {
		z := make([]reg.VecVirtual, 4)
		for i := range z {
			z[i] = s.register()
			VBROADCASTF64X4(at(8*q+i), z[i])
		}
		for i := range z {
			VBROADCASTF64X4(at(8*q+4+i), reg.K1, z[i])
		}
		quads[q] = s.unpack(z)
	}
	out = make([]reg.VecVirtual, 8)
	for w := range 4 {
		a, b := quads[0][w], quads[1][w]
		out[w], out[w+4] = s.register(), b
		VSHUFF32X4(U8(0x88), b, a, out[w])
		VSHUFF32X4(U8(0xdd), b, a, b)
	}
	return out
}

// turn256 returns the columns of 4 words of 8 rows.
func (s isa) turn256(at func(i int) Mem) []reg.VecVirtual {
	z := make([]reg.VecVirtual, 4)
	for i := range z {
		z[i] = s.register()
		VBROADCASTF128(at(i), z[i])
	}
	for i := range z {
		VINSERTF128(U8(1), at(4+i), z[i], z[i])
	}
	return s.unpack(z)
}

// unpack transposes the 4 by 4 words of four registers in every 128-bit lane: first pairs of words, then pairs of
// pairs.
func (s isa) unpack(z []reg.VecVirtual) []reg.VecVirtual {
	var t [4]reg.VecVirtual
	for i := range t {
		t[i] = s.register()
	}
	VUNPCKLPS(z[1], z[0], t[0])
	VUNPCKHPS(z[1], z[0], t[1])
	VUNPCKLPS(z[3], z[2], t[2])
	VUNPCKHPS(z[3], z[2], t[3])
	VUNPCKLPD(t[2], t[0], z[0])
	VUNPCKHPD(t[2], t[0], z[1])
	VUNPCKLPD(t[3], t[1], z[2])
	VUNPCKHPD(t[3], t[1], z[3])
	return z
}

// weaveHalf writes the kernel that joins two rows of bfloat16 to words, a register of columns wide.
func (s isa) weaveHalf() {
	s.function("weaveHalf", "func(dst *float32, width int, src *uint16, ld, words int, columns uint64)")
	Doc(fmt.Sprintf("weaveHalf%s sets dst[r*width + j] to the word of src[2r*ld + j] and src[(2r+1)*ld + j] for r < "+
		"words and j among the columns, a bit for each (AVX2: all %d); words > 0.", s.name, s.lanes))
	dst, src, width, ld, words := param("dst"), param("src"), distance("width"), param("ld"), param("words")
	SHLQ(U8(1), ld)
	if s.is512() {
		KMOVW(param("columns").As32(), reg.K1)
	}
	// ahead is the distance of the prefetch: 16 rows.
	ahead := GP64()
	MOVQ(ld, ahead)
	SHLQ(U8(4), ahead)
	Label("loop")
	PREFETCHT0(Mem{Base: src, Index: ahead, Scale: 1})
	first, second := s.register(), s.register()
	if s.is512() {
		VPMOVZXWD_Z(Mem{Base: src}, reg.K1, first)
		VPMOVZXWD_Z(Mem{Base: src, Index: ld, Scale: 1}, reg.K1, second)
		VPSLLD(U8(16), second, second)
		VPORD(first, second, second)
		VMOVUPS(second, reg.K1, Mem{Base: dst})
	} else {
		VPMOVZXWD(Mem{Base: src}, first)
		VPMOVZXWD(Mem{Base: src, Index: ld, Scale: 1}, second)
		VPSLLD(U8(16), second, second)
		VPOR(first, second, second)
		VMOVUPS(second, Mem{Base: dst})
	}
	LEAQ(Mem{Base: src, Index: ld, Scale: 2}, src)
	ADDQ(width, dst)
	DECQ(words)
	JNZ(LabelRef("loop"))
	finish()
}

// widen writes the conversion to float32, 16 elements at a time.
func (s isa) widen() {
	s.function("widen", "func(dst *float32, src *uint16, blocks int)")
	Doc(fmt.Sprintf("widen%s sets dst[i] to src[i], a bfloat16, for i < 16*blocks; blocks > 0.", s.name))
	dst, src, blocks := param("dst"), param("src"), param("blocks")
	Label("loop")
	for part := range s.parts {
		v := s.register()
		VPMOVZXWD(Mem{Base: src, Disp: 2 * s.lanes * part}, v)
		VPSLLD(U8(16), v, v)
		VMOVUPS(v, Mem{Base: dst, Disp: 4 * s.lanes * part})
	}
	ADDQ(U8(32), src)
	ADDQ(U8(64), dst)
	DECQ(blocks)
	JNZ(LabelRef("loop"))
	finish()
}

// roundHalf writes the conversion to bfloat16, 16 elements at a time.
func (s isa) roundHalf() {
	s.function("roundHalf", "func(dst *uint16, src *float32, blocks int)")
	Doc(fmt.Sprintf("roundHalf%s sets dst[i] to src[i] rounded to bfloat16 for i < 16*blocks; blocks > 0.", s.name))
	dst, src, blocks := param("dst"), param("src"), param("blocks")
	r := s.newRounding()
	Label("loop")
	var x []reg.VecVirtual
	for part := range s.parts {
		v := s.register()
		VMOVUPS(Mem{Base: src, Disp: 4 * s.lanes * part}, v)
		r.round(v)
		VPSRLD(U8(16), v, v)
		x = append(x, v)
	}
	if s.is512() {
		VPMOVDW(x[0], Mem{Base: dst})
	} else { // the 64-bit quarters come out in the order 0, 2, 1, 3
		VPACKUSDW(x[1], x[0], x[0])
		VPERMQ(U8(0xd8), x[0], x[0])
		VMOVUPS(x[0], Mem{Base: dst})
	}
	ADDQ(U8(64), src)
	ADDQ(U8(32), dst)
	DECQ(blocks)
	JNZ(LabelRef("loop"))
	finish()
}
