//go:build !purego

package tensor

import "unsafe"

var (
	mixedAVX512 = kernelSet{
		lanes: 16, masked: true, half: true,
		narrow: []gemm{mixed1x2AVX512, mixed2x2AVX512, mixed3x2AVX512, mixed4x2AVX512, mixed5x2AVX512, mixed6x2AVX512,
			mixed7x2AVX512, mixed8x2AVX512, mixed9x2AVX512, mixed10x2AVX512, mixed11x2AVX512, mixed12x2AVX512},
		wide: []gemm{mixed1x6AVX512, mixed2x6AVX512, mixed3x6AVX512, mixed4x6AVX512, mixed5x4AVX512, mixed6x4AVX512,
			mixed7x3AVX512, mixed8x3AVX512},
		wideRegisters: f32AVX512.wideRegisters,
	}
	mixedAVX2 = kernelSet{
		lanes: 8, half: true,
		narrow: []gemm{mixed1x2AVX2, mixed2x2AVX2, mixed3x2AVX2, mixed4x2AVX2, mixed5x2AVX2, mixed6x2AVX2},
		wide:   []gemm{mixed1x8AVX2, mixed2x4AVX2, mixed3x4AVX2, mixed4x3AVX2},

		wideRegisters: f32AVX2.wideRegisters,
	}
)

// kernels returns the kernels in use for the product, or nil when the reference is in use.
func (g *product) kernels() *kernelSet {
	switch {
	case !g.half:
		return kernels(g.bf16)
	case active == avx512:
		return &mixedAVX512
	case active == avx2:
		return &mixedAVX2
	}
	return nil
}

// widenKernel is widenPortable, 16 elements at a time.
func widenKernel(dst []float32, src []uint16) {
	blocks := len(src) / 16
	switch {
	case blocks == 0 || active == portable:
		blocks = 0
	case active == avx512:
		widenAVX512(&dst[0], &src[0], blocks)
	default:
		widenAVX2(&dst[0], &src[0], blocks)
	}
	widenPortable(dst[16*blocks:], src[16*blocks:])
}

// roundBFloat16Kernel is roundBFloat16Portable, 16 elements at a time.
func roundBFloat16Kernel(dst []uint16, src []float32) {
	blocks := len(src) / 16
	switch {
	case blocks == 0 || active == portable:
		blocks = 0
	case active == avx512:
		roundHalfAVX512(&dst[0], &src[0], blocks)
	default:
		roundHalfAVX2(&dst[0], &src[0], blocks)
	}
	roundBFloat16Portable(dst[16*blocks:], src[16*blocks:])
}

// transposeHalf is transposeHalfPortable.
func transposeHalf(panel []float32, width int, src []uint16, ld, words, cols int) {
	if !turnWords(panel, width, unsafe.Pointer(&src[0]), 2*ld, words, cols, 0) {
		transposeHalfPortable(panel, width, src, ld, words, cols)
	}
}

// turnWords sets panel[q*width + j] to word q of row j of src, whose rows are ld bytes apart, for q < words and j <
// cols, and fetches memory from ahead bytes after src on, as much as it reads. It does nothing and reports false where
// there are fewer columns or words than the kernel takes at a time. What is left at an end is done once more, together
// with what precedes it.
func turnWords(panel []float32, width int, src unsafe.Pointer, ld, words, cols, ahead int) bool {
	lanes, turn := 16, turnAVX512
	switch active {
	case avx2:
		lanes, turn = 8, turnAVX2
	case portable:
		return false
	}
	if words < 16 || cols < lanes {
		return false
	}
	across := func(to int, from unsafe.Pointer, groups, ahead int) {
		turn(&panel[to], width, (*float32)(from), ld, words/16, groups, ahead)
		if q := words - 16; words%16 != 0 {
			turn(&panel[q*width+to], width, (*float32)(unsafe.Add(from, 4*q)), ld, 1, groups, 0)
		}
	}
	across(0, src, cols/lanes, ahead)
	if j := cols - lanes; cols%lanes != 0 {
		across(j, unsafe.Add(src, j*ld), 1, 0)
	}
	return true
}

// interleaveHalf is interleaveHalfPortable, a register of columns at a time. The AVX2 kernel takes whole registers
// only and leaves the last columns to the portable form.
func interleaveHalf(panel []float32, width int, src []uint16, ld, words, cols int) {
	c := 0
	switch active {
	case avx512:
		for ; c < cols; c += 16 {
			weaveHalfAVX512(&panel[c], width, &src[c], ld, words, 1<<min(16, cols-c)-1)
		}
		return
	case avx2:
		for ; c+8 <= cols; c += 8 {
			weaveHalfAVX2(&panel[c], width, &src[c], ld, words, 0)
		}
	}
	if c < cols {
		interleaveHalfPortable(panel[c:], width, src[c:], ld, words, cols-c)
	}
}

// rowsPlan says how runRows cuts a product.
type rowsPlan struct {
	nr int // columns of a panel
	kc int // elements along k of a panel
}

// panelWords is the number of words of a panel of runRows: with the rows of A that meet it, it stays in the
// first-level cache.
const panelWords = 6144

// planRows returns the plan: panels of nearly equal depth, in whole blocks of turn.
func (g *product) planRows(ks *kernelSet) rowsPlan {
	p := rowsPlan{nr: ks.registers(g.m) * ks.lanes}
	unit := 16 * g.perWordB()
	most := max(unit, panelWords/p.nr*g.perWordB()/unit*unit)
	blocks := (g.k + most - 1) / most
	p.kc = roundUp((g.k+blocks-1)/blocks, unit)
	return p
}

// fewRows reports whether runRows is the way to compute the product.
func (g *product) fewRows() bool {
	return g.transB && g.packed == nil && !g.bf16 && g.aStep == 1 && g.m <= maxFewRows
}

// maxFewRows is the number of rows up to which reading B in the order of memory matters more than reading A once.
const maxFewRows = 64

// runRows computes a product of few rows with a B stored as (n, k), which is read once, in the order of memory: it is
// bound by that. Panel by panel, a piece of B is transposed into the first-level cache and met by all rows, while the
// rows of B behind the panel are fetched.
func (g *product) runRows(ks *kernelSet) {
	s, plan := scratches.get(), g.planRows(ks)
	defer scratches.put(s)
	size := 4 / g.perWordB()
	for j := 0; j < g.n; j += plan.nr {
		t := macroKernel{ks: ks, registers: plan.nr / ks.lanes, cols: min(plan.nr, g.n-j)}
		if !ks.masked && t.cols < plan.nr {
			t.edge = &s.edge
		}
		done := plan.nr * g.ldb * size
		for l := 0; l < g.k; l += plan.kc {
			t.k = min(plan.kc, g.k-l)
			ahead := 0
			if j+plan.nr < g.n {
				ahead = done - l*size
			}
			done += t.cols * t.k * size
			g.turnPanel(s.packedB, plan.nr, l, j, t.cols, t.k, ahead)
			t.a, t.row, t.step = g.a[l:], g.aRow, 1
			t.b, t.ldb = &s.packedB[0], plan.nr
			c := g.c[j:]
			if l == 0 {
				t.from, t.ldf, t.bias = g.initial.at(0, j)
			} else {
				t.from, t.ldf, t.bias = c, g.ldc, nil
			}
			t.run(c, g.ldc, g.m)
		}
	}
}

// turnPanel packs k elements from l on of columns j … j+cols-1 of a B stored as (n, k).
func (g *product) turnPanel(panel []float32, width, l, j, cols, k, ahead int) {
	at := j*g.ldb + l
	if g.half {
		words := k / 2
		if words == 0 || k%2 != 0 || !turnWords(panel, width, unsafe.Pointer(&g.bHalf[at]), 2*g.ldb, words, cols, ahead) {
			packHalfPanel(panel[:(k+1)/2*width], width, g.bHalf[at:], g.ldb, k, cols, true)
		}
		return
	}
	if !turnWords(panel, width, unsafe.Pointer(&g.b[at]), 4*g.ldb, k, cols, ahead) {
		packPanel(panel[:k*width], width, g.b[at:], g.ldb, k, cols, true, false)
	}
}
