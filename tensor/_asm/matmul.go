package main

import (
	"fmt"

	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// A micro-kernel holds a tile of C in registers while it runs over k. In the pseudo-code of its pieces:
//
//	acc[r][v] = from[r, v] + bias[v]            loadC, for R rows and V registers of columns
//	for l in 0 … k-1:                           loopK
//		for r, v: acc[r][v] += a[r, l] * b[l, v]    gemmStep, fused
//	c[r, v] = acc[r][v]                         storeC
//
// Each lane of each accumulator is one chain of the numeric contract, which only ever sees k in ascending order: that
// is why tiles, blocks and workers change no bit.
//
// The usual tile of AVX-512 is 12 rows by 2 registers: 24 accumulators, 2 columns of B and broadcasts of A make 27 of
// 32 registers, and 24 independent chains hide the latency of an FMA, 4 cycles at 2 a cycle, with room for loads that
// come late. AVX2 has 16 registers: 6 rows by 2 take 12. Products of few rows take wider tiles, so that they have as
// many chains.

// rows addresses up to 16 rows with few registers: a base for every fourth row, and the distance between rows once
// and three times. x86 addressing adds base and index, scaled by 1, 2 or 4:
//
//	row 0  (base)            row 2  (base)(step*2)
//	row 1  (base)(step*1)    row 3  (base)(triple*1)
//
// and row 4 begins again with the next base.
type rows struct {
	base         []reg.GPVirtual // of rows 0, 4, 8 …
	step, triple reg.GPVirtual   // bytes between rows, and three times that
}

// newRows returns the addresses of n rows from base on, step bytes apart.
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

// at returns the place of row i.
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

// advance moves all rows by a number of bytes.
func (r rows) advance(by Op) {
	for _, b := range r.base {
		ADDQ(by, b)
	}
}

// matmul writes the micro-kernels of the matrix products, gemmRxV for tiles of R rows and V registers of columns, and
// the kernels that pack their operands.
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

// peak writes a loop of fused multiply-adds from register to register, in as many independent chains as the tallest
// tile has: the rate it reaches is the bound of every product.
func (s isa) peak() {
	s.function("peak", "func(steps int)")
	Doc(fmt.Sprintf("peak%s continues %d chains of multiply-adds, a register each, by that many steps; steps > 0.",
		s.name, 2*s.rows))
	// Zeros stay zeros: no chain can overflow or become subnormal, which would take longer.
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

// narrow writes fetch, which prefetches C, and narrow, which copies at most 16 columns of a matrix, row by row.
func (s isa) narrow() {
	// fetch: a tile of C is 128 bytes wide, two cache lines of each row.
	s.function("fetch", "func(x *float32, ld, rows int)")
	Doc("fetchAVX512 brings the first 32 elements of some rows near; rows > 0.")
	x, stride, count := param("x"), distance("ld"), param("rows")
	Label("loop")
	PREFETCHT0(Mem{Base: x})
	PREFETCHT0(Mem{Base: x, Disp: 64})
	ADDQ(stride, x)
	DECQ(count)
	JNZ(LabelRef("loop"))
	finish()

	// narrow: a masked load and store for each row, and a prefetch of the row 16 further on.
	s.function("narrow", "func(dst *float32, width int, src *float32, ld, rows int, columns uint64)")
	Doc("narrowAVX512 sets dst[r*width + j] = src[r*ld + j] for j among the columns, at most 16 and a bit for each; " +
		"rows > 0.")
	dst, src, width, ld, rows := param("dst"), param("src"), distance("width"), distance("ld"), param("rows")
	// K1 is free here: K1 to K6 are the masks of columns only in micro-kernels.
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

// product is the signature of every micro-kernel. Chains start from the rows of from, to each of which bias, if any,
// is added; without from they start at zero. low and high have a bit for each column of C in use (AVX-512; AVX2 uses
// all columns). next is prefetched, a cache line for each step over k.
const product = "func(c *float32, ldc int, from *float32, ldf int, bias *float32, a *float32, row, step int, b " +
	"*float32, ldb, k int, next *float32, low, high uint64)"

// gemm writes the micro-kernel for mr rows and nv registers of columns.
func (s isa) gemm(mr, nv int) {
	s.function(fmt.Sprintf("gemm%dx%d", mr, nv), product)
	Doc(fmt.Sprintf("gemm%dx%d%s continues the chains of %d rows by %d columns: c[i,j] = fma(a[i,l], b[l,j], c[i,j]) "+
		"for l in order.",
		mr, nv, s.name, mr, nv*s.lanes))
	// The tile of C stays in registers from its load to its store, for all k of the block.
	acc := s.accumulate(mr, nv)
	s.loopK(mr, func(a rows, b reg.GPVirtual) { s.gemmStep(acc, a, b) })
	s.storeC(acc)
	finish()
}

// accumulate returns the registers of a tile of C, set to the start value.
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

// loadC adds the start value to the zeroed accumulators: the rows of from, then bias, in one rounding.
func (s isa) loadC(acc [][]reg.VecVirtual) {
	if s.is512() {
		loadMasks(len(acc[0]))
	}
	// Without from the accumulators keep the zeros they were given, and bias is not looked at.
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

// storeC stores a tile of C.
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

// storeFull stores a tile two registers across whose columns are all in use, and returns from the function: stores
// under a mask are slower. Other tiles continue behind it.
func storeFull[R Op](acc [][]R) {
	// All 32 columns are in use if all bits of low are set.
	low := param("low")
	CMPL(low.As32(), U32(1<<32-1))
	JNE(LabelRef("part"))
	eachTile(acc, param("c"), "ldc", 16, func(m Mem, _ int, r R) { VMOVUPS(r, m) })
	finish()
	Label("part")
}

// loopK writes the loop over k: step continues every chain of the tile by one word.
func (s isa) loopK(mr int, step func(a rows, b reg.GPVirtual)) {
	// a, b and next move at every step: by one word along k, by one row of the panel, by one cache line.
	a := newRows(mr, param("a"), distance("row"))
	forward, b, ldb, k, next := distance("step"), param("b"), distance("ldb"), param("k"), param("next")
	// A product over no k is its start value.
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

// gemmStep is one step over k, an outer product. Whichever are fewer of the rows' broadcasts and the columns'
// registers are held; the others are loaded one at a time.
func (s isa) gemmStep(acc [][]reg.VecVirtual, a rows, b reg.GPVirtual) {
	s.outerProduct(acc, a, func(v int) reg.VecVirtual {
		r := s.register()
		s.loadColumn(Mem{Base: b, Disp: v * s.lanes * 4}, v, r)
		return r
	})
}

// outerProduct is gemmStep with the columns that column makes.
func (s isa) outerProduct(acc [][]reg.VecVirtual, a rows, column func(v int) reg.VecVirtual) {
	// A column is a register of B's current row, a value one word of A in all lanes.
	mr, nv := len(acc), len(acc[0])
	value := func(i int) reg.VecVirtual {
		r := s.register()
		VBROADCASTSS(a.at(i), r)
		return r
	}
	// Tall tiles: the columns are held, and every value is used nv times.
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
	// Wide tiles: the values are held, and every column is used mr times.
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

// ifGiven loads a pointer; where it is nil, it jumps to where the chains are ready.
func ifGiven(name string) reg.GPVirtual {
	p := param(name)
	TESTQ(p, p)
	JZ(LabelRef("ready"))
	return p
}

// eachTile calls f for every register of a tile with its place in the rows at base.
func eachTile[R any](acc [][]R, base reg.GPVirtual, ld string, lanes int, f func(m Mem, v int, r R)) {
	// A row of the tile is len(row) registers side by side.
	c := newRows(len(acc), base, distance(ld))
	for i, row := range acc {
		for v, r := range row {
			f(c.at(i).Offset(v*lanes*4), v, r)
		}
	}
}

// loadColumn loads register v of columns, with zeros in the columns that are not in use.
func (s isa) loadColumn(m Mem, v int, r reg.VecVirtual) {
	if s.is512() {
		VMOVUPS_Z(m, maskOf(v), r)
	} else {
		VMOVUPS(m, r)
	}
}

// maskOf returns the mask register of the v-th register of columns.
func maskOf(v int) reg.Register {
	return []reg.Register{reg.K1, reg.K2, reg.K3, reg.K4, reg.K5, reg.K6}[v]
}

// loadMasks loads the mask registers for nv registers of columns from low and high, 16 bits each.
func loadMasks(nv int) {
	for v := range nv {
		// low holds the masks of registers 0 to 3, high those of 4 and 5; shifts bring the next one down.
		if v%4 == 0 {
			r := param([]string{"low", "high"}[v/4])
			for w := v; w < min(nv, v+4); w++ {
				KMOVW(r.As32(), maskOf(w))
				SHRQ(U8(16), r)
			}
		}
	}
}

// transpose writes the kernel that turns s.lanes rows of src into columns, four elements of each at a time. Register
// i, of 0 to 3, holds four elements of each of the rows i, i+4, i+8, …; unpacking within 128-bit lanes then gives, in
// order, four rows of the result.
func (s isa) transpose() {
	s.function("transpose", "func(dst *float32, width int, src *float32, ld, blocks int)")
	Doc(fmt.Sprintf("transpose%s sets dst[l*width + j] = src[j*ld + l] for j < %d and l < 4*blocks; blocks > 0.",
		s.name, s.lanes))
	// Rows of src are read through 16 or 8 addresses, rows of dst written through 4.
	src := newRows(s.lanes, param("src"), distance("ld"))
	dst := newRows(4, param("dst"), distance("width"))
	blocks := param("blocks")
	if s.is512() {
		// K1, K2 and K3 select the second, third and fourth 128-bit lane of a register.
		for q, k := range []reg.Register{reg.K1, reg.K2, reg.K3} {
			r := GP32()
			MOVL(U32(0xf0<<(4*q)), r)
			KMOVW(r, k)
		}
	}
	Label("loop")
	// Load: 128-bit lane q of z[i] holds four elements of row 4q+i.
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
	// Transpose the 4 by 4 matrix in every lane: first pairs of elements, then pairs of pairs.
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
	// z[l] is now column l of all rows: lanes in the order of the rows.
	for i := range z {
		VMOVUPS(z[i], dst.at(i))
	}
	// Four columns on in src, four rows on in dst.
	src.advance(U8(16))
	next := GP64()
	LEAQ(Mem{Base: dst.base[0], Index: dst.step, Scale: 4}, next)
	MOVQ(next, dst.base[0])
	DECQ(blocks)
	JNZ(LabelRef("loop"))
	finish()
}
