package main

import (
	"fmt"

	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// While sampling, attention is one query for each head against n cached keys and values: two products of a vector
// with a matrix, bound by how fast the cache can be read.
//
//	scores   s[t] = Σ_i q[i] * k[t, i]      keys in blocks of 16, transposed: see KeyBlock in ../cached_attention.go
//	values   o[j] = Σ_t p[t] * v[t, j]      values in rows, padded to a multiple of 16 columns
//
// Both run along a register without any sum across lanes: a lane is a key in the first and a column in the second,
// and so each result is one chain in ascending order, as in a matrix product. Memory is prefetched for the next call,
// not for this one: it is the next row of the batch that would otherwise wait.

// decode writes the two products of attention with cached keys and values, for one query. Their sizes are counted in
// units of 16 columns: one register, or two under AVX2.
func (s isa) decode() {
	for blocks := 1; blocks <= 8/s.parts; blocks++ {
		s.scores(blocks)
	}
	for units := 1; units <= 4; units++ {
		s.weigh(units, 1)
		if most := 4 / s.parts / units * 2; most > 1 {
			s.weigh(units, min(4, most))
		}
	}
}

// scores writes the kernel for that many blocks of 16 keys. A query's element is broadcast once and multiplied with
// the same element of every key, so that each lane is one chain over d.
func (s isa) scores(blocks int) {
	s.function(fmt.Sprintf("scores%d", blocks), "func(dst, q, k *float32, d int, next *float32)")
	Doc(fmt.Sprintf("scores%d%s sets dst[16b + t] to the chain of q[i]*k[(b*d + i)*16 + t] over i < d, for %d blocks "+
		"b, and fetches as much from next on; d > 0.", blocks, s.name, blocks))
	dst, q, k, d, next, block := param("dst"), param("q"), param("k"), param("d"), param("next"), GP64()
	// A block of 16 keys is d rows of 64 bytes. at holds where each block begins.
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
	// One chain in each lane: 16 scores of each block.
	acc := s.units(blocks)
	// i is the place within every block, in bytes: element i/64 of the keys.
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
	// The next element of the query and of the keys; next moves by as much as was prefetched.
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

// units returns registers for n times 16 columns, set to zero.
func (s isa) units(n int) (acc []reg.VecVirtual) {
	for range n * s.parts {
		v := s.register()
		s.zero(v)
		acc = append(acc, v)
	}
	return acc
}

// weigh writes the kernel that sums values by their weights, units*16 columns wide and some heads at once: one head
// alone may have too few chains to keep the multipliers busy.
func (s isa) weigh(units, heads int) {
	s.function(fmt.Sprintf("weigh%dx%d", units, heads),
		"func(dst, start, p *float32, pHead int, v *float32, vHead, ld, n int, next *float32)")
	Doc(fmt.Sprintf("weigh%dx%d%s sets dst[h*%d + j] to the chain of p[h*pHead + t]*v[h*vHead + t*ld + j] over t < "+
		"n that begins in the same element of start, for j < %d and %d heads, and fetches as much from next on; n > 0.",
		units, heads, s.name, 16*units, 16*units, heads))
	dst, start, p, pHead := param("dst"), param("start"), param("p"), distance("pHead")
	v, vHead, ld, n, next := param("v"), distance("vHead"), distance("ld"), param("n"), param("next")
	// Heads are addressed like rows: the weights of each, and the values of each.
	weights, values := newRows(heads, p, pHead), newRows(heads, v, vHead)
	// One chain in each lane, for every head and column.
	var acc [][]reg.VecVirtual
	for h := range heads {
		var chains []reg.VecVirtual
		for j := range units * s.parts {
			v := s.register()
			VMOVUPS(Mem{Base: start, Disp: h*units*64 + j*s.lanes*4}, v)
			chains = append(chains, v)
		}
		acc = append(acc, chains)
	}
	Label("loop")
	for h := range heads {
		for j := range units {
			PREFETCHT0(Mem{Base: next, Disp: 64 * (h*units + j)})
		}
		x := s.register()
		VBROADCASTSS(weights.at(h), x)
		for j, r := range acc[h] {
			VFMADD231PS(values.at(h).Offset(j*s.lanes*4), x, r)
		}
	}
	// The next token.
	weights.advance(U8(4))
	values.advance(ld)
	ADDQ(U32(64*units*heads), next)
	DECQ(n)
	JNZ(LabelRef("loop"))
	for h := range heads {
		for j, r := range acc[h] {
			VMOVUPS(r, Mem{Base: dst, Disp: h*units*64 + j*s.lanes*4})
		}
	}
	finish()
}
