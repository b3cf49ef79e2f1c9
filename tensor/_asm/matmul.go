package main

import (
	"fmt"

	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// rows addresses up to 16 rows: a base for every fourth, and the distance
// between rows once and three times.
type rows struct {
	base         []reg.GPVirtual
	step, triple reg.GPVirtual
}

func newRows(n int, base, step reg.GPVirtual) rows {
	r := rows{step: step, base: []reg.GPVirtual{base}, triple: GP64()}
	LEAQ(Mem{Base: step, Index: step, Scale: 2}, r.triple)
	for i := 4; i < n; i += 4 {
		b := GP64()
		LEAQ(Mem{Base: r.base[len(r.base)-1], Index: step, Scale: 4}, b)
		r.base = append(r.base, b)
	}
	return r
}

func (r rows) at(i int) Mem {
	m := Mem{Base: r.base[i/4]}
	switch i % 4 {
	case 1:
		m.Index, m.Scale = r.step, 1
	case 2:
		m.Index, m.Scale = r.step, 2
	case 3:
		m.Index, m.Scale = r.triple, 1
	}
	return m
}

func (r rows) advance(by Op) {
	for _, b := range r.base {
		ADDQ(by, b)
	}
}

// matmul writes the inner loops of the matrix products: gemmRxV computes R rows
// and V registers of columns.
func (s isa) matmul() {
	for r := 1; r <= s.rows; r++ {
		s.gemm(r, 2)
		if r <= len(s.wide) && s.wide[r-1] != 2 {
			s.gemm(r, s.wide[r-1])
		}
	}
	s.transpose()
	s.peak()
	if s.is512() {
		s.narrow()
	}
}

// peak runs fused multiply-adds from register to register, in as many chains
// as the widest tile of the matrix product has.
func (s isa) peak() {
	s.function("peak", "func(steps int)")
	Doc(fmt.Sprintf("peak%s continues %d chains of multiply-adds, a register each, by that many steps; steps > 0.",
		s.name, 2*s.rows))
	steps, x := param("steps"), s.register()
	s.zero(x)
	var chains []reg.VecVirtual
	for range 2 * s.rows {
		v := s.register()
		s.zero(v)
		chains = append(chains, v)
	}
	Label("loop")
	for _, v := range chains {
		VFMADD231PS(x, x, v)
	}
	DECQ(steps)
	JNZ(LabelRef("loop"))
	finish()
}

// narrow copies a narrow piece of a matrix, a row in one register.
func (s isa) narrow() {
	s.function("fetch", "func(x *float32, ld, rows int)")
	Doc("fetchAVX512 brings the first 32 elements of some rows near; rows > 0.")
	x, far, count := param("x"), distance("ld"), param("rows")
	Label("loop")
	PREFETCHT0(Mem{Base: x})
	PREFETCHT0(Mem{Base: x, Disp: 64})
	ADDQ(far, x)
	DECQ(count)
	JNZ(LabelRef("loop"))
	finish()

	s.function("narrow", "func(dst *float32, width int, src *float32, ld, rows int, columns uint64)")
	Doc("narrowAVX512 sets dst[r*width + j] = src[r*ld + j] for j among the columns, at most 16 and a bit for each; " +
		"rows > 0.")
	dst, src, width, ld, rows := param("dst"), param("src"), distance("width"), distance("ld"), param("rows")
	KMOVW(param("columns").As32(), reg.K1)
	row, ahead := s.register(), GP64()
	MOVQ(ld, ahead)
	SHLQ(U8(4), ahead)
	Label("loop")
	PREFETCHT0(Mem{Base: src, Index: ahead, Scale: 1})
	VMOVUPS_Z(Mem{Base: src}, reg.K1, row)
	VMOVUPS(row, reg.K1, Mem{Base: dst})
	ADDQ(ld, src)
	ADDQ(width, dst)
	DECQ(rows)
	JNZ(LabelRef("loop"))
	finish()
}

// product is the signature of every inner loop of a matrix product. low and
// high have a bit for each column of C in use (AVX-512; AVX2 uses all), next is
// where memory is fetched ahead: a line for each step over k. Chains begin in
// the rows of from, if any, to each of which bias, if any, is added.
const product = "func(c *float32, ldc int, from *float32, ldf int, bias *float32, a *float32, row, step int, b " +
	"*float32, ldb, k int, next *float32, low, high uint64)"

func (s isa) gemm(mr, nv int) {
	s.function(fmt.Sprintf("gemm%dx%d", mr, nv), product)
	Doc(fmt.Sprintf("gemm%dx%d%s continues the chains of %d rows by %d columns: c[i,j] = fma(a[i,l], b[l,j], c[i,j]) "+
		"for l in order.",
		mr, nv, s.name, mr, nv*s.lanes))
	acc := s.accumulate(mr, nv)
	s.loopK(mr, func(a rows, b reg.GPVirtual) { s.gemmStep(acc, a, b) })
	s.storeC(acc)
	finish()
}

// accumulate makes the registers of C's tile: zeros, or what is there.
func (s isa) accumulate(mr, nv int) [][]reg.VecVirtual {
	acc := make([][]reg.VecVirtual, mr)
	for i := range acc {
		for range nv {
			v := s.register()
			s.zero(v)
			acc[i] = append(acc[i], v)
		}
	}
	s.loadC(acc)
	return acc
}

func (s isa) loadC(acc [][]reg.VecVirtual) {
	if s.is512() {
		loadMasks(len(acc[0]))
	}
	from := ifGiven("from")
	eachTile(acc, from, "ldf", s.lanes, func(m Mem, v int, r reg.VecVirtual) { s.loadColumn(m, v, r) })
	bias := ifGiven("bias")
	for v := range acc[0] {
		r := s.register()
		s.loadColumn(Mem{Base: bias, Disp: v * s.lanes * 4}, v, r)
		for i := range acc {
			VADDPS(r, acc[i][v], acc[i][v])
		}
	}
	Label("ready")
}

func (s isa) storeC(acc [][]reg.VecVirtual) {
	if s.is512() && len(acc[0]) == 2 {
		storeFull(acc)
	}
	eachTile(acc, param("c"), "ldc", s.lanes, func(m Mem, v int, r reg.VecVirtual) {
		if s.is512() {
			VMOVUPS(r, maskOf(v), m)
		} else {
			VMOVUPS(r, m)
		}
	})
}

// storeFull stores a tile two registers across whose columns are all in use,
// and returns: stores under a mask are slow.
func storeFull[R Op](acc [][]R) {
	low := param("low")
	CMPL(low.As32(), U32(1<<32-1))
	JNE(LabelRef("part"))
	eachTile(acc, param("c"), "ldc", 16, func(m Mem, _ int, r R) { VMOVUPS(r, m) })
	finish()
	Label("part")
}

// loopK runs step for each l < k.
func (s isa) loopK(mr int, step func(a rows, b reg.GPVirtual)) {
	a := newRows(mr, param("a"), distance("row"))
	forward, b, ldb, k, next := distance("step"), param("b"), distance("ldb"), param("k"), param("next")
	TESTQ(k, k)
	JZ(LabelRef("store"))
	Label("loop")
	PREFETCHT0(Mem{Base: next})
	step(a, b)
	a.advance(forward)
	ADDQ(ldb, b)
	ADDQ(U8(64), next)
	DECQ(k)
	JNZ(LabelRef("loop"))
	Label("store")
}

// gemmStep is one l. Whichever is fewer of a row's broadcasts and a step's
// columns is held in registers.
func (s isa) gemmStep(acc [][]reg.VecVirtual, a rows, b reg.GPVirtual) {
	mr, nv := len(acc), len(acc[0])
	column := func(v int) reg.VecVirtual {
		r := s.register()
		s.loadColumn(Mem{Base: b, Disp: v * s.lanes * 4}, v, r)
		return r
	}
	value := func(i int) reg.VecVirtual {
		r := s.register()
		VBROADCASTSS(a.at(i), r)
		return r
	}
	if nv <= mr {
		var cols []reg.VecVirtual
		for v := range nv {
			cols = append(cols, column(v))
		}
		for i := range mr {
			x := value(i)
			for v := range nv {
				VFMADD231PS(cols[v], x, acc[i][v])
			}
		}
		return
	}
	var values []reg.VecVirtual
	for i := range mr {
		values = append(values, value(i))
	}
	for v := range nv {
		x := column(v)
		for i := range mr {
			VFMADD231PS(x, values[i], acc[i][v])
		}
	}
}

// ifGiven is a pointer; where it is nil, the chains are ready.
func ifGiven(name string) reg.GPVirtual {
	p := param(name)
	TESTQ(p, p)
	JZ(LabelRef("ready"))
	return p
}

// eachTile calls f for every register of a tile with its place in the rows at
// base.
func eachTile[R any](acc [][]R, base reg.GPVirtual, ld string, lanes int, f func(m Mem, v int, r R)) {
	c := newRows(len(acc), base, distance(ld))
	for i, row := range acc {
		for v, r := range row {
			f(c.at(i).Offset(v*lanes*4), v, r)
		}
	}
}

func (s isa) loadColumn(m Mem, v int, r reg.VecVirtual) {
	if s.is512() {
		VMOVUPS_Z(m, maskOf(v), r)
	} else {
		VMOVUPS(m, r)
	}
}

// maskOf is the mask register of the v-th register of columns.
func maskOf(v int) reg.Register {
	return []reg.Register{reg.K1, reg.K2, reg.K3, reg.K4, reg.K5, reg.K6}[v]
}

func loadMasks(nv int) {
	for v := range nv {
		if v%4 == 0 {
			r := param([]string{"low", "high"}[v/4])
			for w := v; w < min(nv, v+4); w++ {
				KMOVW(r.As32(), maskOf(w))
				SHRQ(U8(16), r)
			}
		}
	}
}

// transpose turns s.lanes rows of src into columns, four elements of each at a
// time: the registers hold, for i = 0 … 3, four elements of rows i, i+4, ….
func (s isa) transpose() {
	s.function("transpose", "func(dst *float32, width int, src *float32, ld, blocks int)")
	Doc(fmt.Sprintf("transpose%s sets dst[l*width + j] = src[j*ld + l] for j < %d and l < 4*blocks; blocks > 0.",
		s.name, s.lanes))
	src := newRows(s.lanes, param("src"), distance("ld"))
	dst := newRows(4, param("dst"), distance("width"))
	blocks := param("blocks")
	if s.is512() {
		for q, k := range []reg.Register{reg.K1, reg.K2, reg.K3} {
			r := GP32()
			MOVL(U32(0xf0<<(4*q)), r)
			KMOVW(r, k)
		}
	}
	Label("loop")
	var z [4]reg.VecVirtual
	for i := range z {
		z[i] = s.register()
		VMOVUPS(src.at(i), z[i].AsX())
		for q := 1; q < s.lanes/4; q++ {
			if s.is512() {
				VBROADCASTF32X4(src.at(4*q+i), maskOf(q-1), z[i])
			} else {
				VINSERTF128(U8(1), src.at(4+i), z[i], z[i])
			}
		}
	}
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
	for i := range z {
		VMOVUPS(z[i], dst.at(i))
	}
	src.advance(U8(16))
	next := GP64()
	LEAQ(Mem{Base: dst.base[0], Index: dst.step, Scale: 4}, next)
	MOVQ(next, dst.base[0])
	DECQ(blocks)
	JNZ(LabelRef("loop"))
	finish()
}
