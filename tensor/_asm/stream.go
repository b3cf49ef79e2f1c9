package main

import (
	"fmt"

	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// Products of very few rows with a B stored as (n, k) are bound by how fast memory gives B. Their kernels transpose B
// in registers, on its way to the multipliers, so that there is one stream of instructions in which loads, shuffles and
// multiply-adds of different rows of B overlap.

// streamGroups lists the kernels by rows of A: registers of columns, of which each is a chain for every row. They are
// enough to keep the multipliers ahead of memory, which a chain of bfloat16 asks to be twice as fast.
func (s isa) streamGroups(half bool) []int {
	switch {
	case !s.is512():
		return []int{4, 2}
	case half:
		return []int{4, 4, 2, 2, 2, 2, 2, 2}
	}
	return []int{2, 2, 2, 2, 2, 2, 2, 2}
}

// stream writes the kernels for both kinds of B.
func (s isa) stream() {
	for _, half := range []bool{false, true} {
		for i, groups := range s.streamGroups(half) {
			s.streamRows(i+1, groups, half)
		}
	}
}

// streamRows writes the kernel for mr rows of A and as many rows of B as fill that many registers.
func (s isa) streamRows(mr, groups int, half bool) {
	name, kind, perWord := "stream", "float32", 1
	if half {
		name, kind, perWord = "streamHalf", "bfloat16", 2
	}
	s.function(fmt.Sprintf("%s%d", name, mr), "func(c *float32, ldc int, from *float32, ldf int, bias *float32, "+
		"a *float32, row int, b *float32, ld, blocks, ahead int, low, high uint64)")
	Doc(fmt.Sprintf("%s%d%s continues the chains of %d rows by %d columns over %d*blocks elements of k, "+
		"with a B of %s stored as (n, k), ld bytes from row to row, and fetches as many bytes as "+
		"it reads from ahead bytes after b on, in one stream; blocks > 0, and all columns are in use.",
		name, mr, s.name, mr, groups*s.lanes, 16*perWord, kind))
	acc := s.accumulate(mr, groups)
	upper := s.selectUpper(half)
	if s.is512() {
		loadUpperHalf()
	}
	a := newRows(mr, param("a"), distance("row"))
	b, ld, ld3, blocks := param("b"), param("ld"), GP64(), param("blocks")
	next := param("ahead")
	ADDQ(b, next)
	LEAQ(Mem{Base: ld, Index: ld, Scale: 2}, ld3)
	Label("loop")
	place := rowsFrom(b, ld, ld3)
	per := s.lanes / 2 // words of a row that are transposed at once
	for v := range groups {
		for part := range 16 / per {
			for i := range s.lanes * per / 16 {
				PREFETCHT0(Mem{Base: next, Disp: 64 * (v*s.lanes + part*s.lanes*per/16 + i)})
			}
			words := s.turned(func(i int) Mem { return place(v*s.lanes + i).Offset(4 * per * part) })
			for w, word := range words {
				at := 4 * perWord * (per*part + w)
				if half {
					first := s.register()
					VPSLLD(U8(16), word, first)
					s.multiply(acc, v, a, at, first)
					s.secondHalf(word, upper, word)
					at += 4
				}
				s.multiply(acc, v, a, at, word)
			}
		}
	}
	a.advance(U32(64 * perWord))
	ADDQ(U8(64), b)
	ADDQ(U32(64*groups*s.lanes), next)
	DECQ(blocks)
	JNZ(LabelRef("loop"))
	if s.is512() {
		loadMasks(1) // K1 served to transpose
	}
	s.storeC(acc)
	finish()
}

// multiply continues the chains of register v of columns with one column of k, of which A's values lie at bytes from
// the rows of a on.
func (s isa) multiply(acc [][]reg.VecVirtual, v int, a rows, at int, column reg.VecVirtual) {
	for i := range acc {
		if s.is512() {
			VFMADD231PS_BCST(a.at(i).Offset(at), column, acc[i][v])
			continue
		}
		x := s.register()
		VBROADCASTSS(a.at(i).Offset(at), x)
		VFMADD231PS(x, column, acc[i][v])
	}
}

// turned returns columns of words: 8 of 16 rows, or 4 of 8.
func (s isa) turned(at func(i int) Mem) []reg.VecVirtual {
	if s.is512() {
		return s.turn512(at)
	}
	return s.turn256(at)
}

// loadUpperHalf makes K1 select the upper half of a register, 64 bits at a time.
func loadUpperHalf() {
	upper := GP32()
	MOVL(U32(0xf0), upper)
	KMOVW(upper, reg.K1)
}

// rowsFrom returns a function that gives the place of any of many rows. Rows are asked for in nearly rising order:
// only few registers hold addresses at a time.
func rowsFrom(base, step, triple reg.GPVirtual) func(i int) Mem {
	r := rows{base: []reg.GPVirtual{base}, step: step, triple: triple}
	return func(i int) Mem {
		for len(r.base) <= i/4 {
			b := GP64()
			LEAQ(Mem{Base: r.base[len(r.base)-1], Index: step, Scale: 4}, b)
			r.base = append(r.base, b)
		}
		return r.at(i)
	}
}
