package main

import (
	"fmt"

	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// decode writes the two products of one query with cached keys and values.
// Registers are taken in units of 16 columns.
func (s isa) decode() {
	for blocks := 1; blocks <= 8/s.parts; blocks++ {
		s.scores(blocks)
	}
	for units := 1; units <= 4; units++ {
		s.weigh(units)
	}
}

// scores takes blocks of 16 keys, each (d, 16).
func (s isa) scores(blocks int) {
	s.function(fmt.Sprintf("scores%d", blocks), "func(dst, q, k *float32, d int, next *float32)")
	Doc(fmt.Sprintf("scores%d%s sets dst[16b + t] to the chain of q[i]*k[(b*d + i)*16 + t] over i < d, for %d blocks b, and fetches as much from next on; d > 0.", blocks, s.name, blocks))
	dst, q, k, d, next, block := param("dst"), param("q"), param("k"), param("d"), param("next"), GP64()
	MOVQ(d, block)
	SHLQ(U8(6), block)
	var at []reg.GPVirtual
	for b := range blocks {
		if b == 0 {
			at = append(at, k)
			continue
		}
		r := GP64()
		MOVQ(at[b-1], r)
		ADDQ(block, r)
		at = append(at, r)
	}
	acc := s.units(blocks)
	i := GP64()
	XORQ(i, i)
	Label("loop")
	x := s.register()
	VBROADCASTSS(Mem{Base: q}, x)
	for b := range blocks {
		PREFETCHT0(Mem{Base: next, Disp: 64 * b})
		for p := range s.parts {
			VFMADD231PS(Mem{Base: at[b], Index: i, Scale: 1, Disp: 32 * p}, x, acc[b*s.parts+p])
		}
	}
	ADDQ(U8(4), q)
	ADDQ(U8(64), i)
	ADDQ(U32(64*blocks), next)
	DECQ(d)
	JNZ(LabelRef("loop"))
	for j, v := range acc {
		VMOVUPS(v, Mem{Base: dst, Disp: j * s.lanes * 4})
	}
	finish()
}

// units are registers for that many times 16 columns, set to zero.
func (s isa) units(n int) (acc []reg.VecVirtual) {
	for range n * s.parts {
		v := s.register()
		s.zero(v)
		acc = append(acc, v)
	}
	return acc
}

// weigh sums values by their weights.
func (s isa) weigh(units int) {
	s.function(fmt.Sprintf("weigh%d", units), "func(dst, p, v *float32, ld, n int, next *float32)")
	Doc(fmt.Sprintf("weigh%d%s sets dst[j] to the chain of p[t]*v[t*ld + j] over t < n, for j < %d, and fetches as much from next on; n > 0.", units, s.name, 16*units))
	dst, p, v, ld, n, next := param("dst"), param("p"), param("v"), distance("ld"), param("n"), param("next")
	acc := s.units(units)
	Label("loop")
	for j := range units {
		PREFETCHT0(Mem{Base: next, Disp: 64 * j})
	}
	x := s.register()
	VBROADCASTSS(Mem{Base: p}, x)
	for j, r := range acc {
		VFMADD231PS(Mem{Base: v, Disp: j * s.lanes * 4}, x, r)
	}
	ADDQ(U8(4), p)
	ADDQ(ld, v)
	ADDQ(U32(64*units), next)
	DECQ(n)
	JNZ(LabelRef("loop"))
	for j, r := range acc {
		VMOVUPS(r, Mem{Base: dst, Disp: j * s.lanes * 4})
	}
	finish()
}
