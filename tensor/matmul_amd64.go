//go:build !purego

package tensor

// gemm is a micro-kernel of the matrix products: it continues the chains of a tile of C over k words. The shapes are
// in its name, gemmRxV for R rows and V registers of columns; _asm/matmul.go generates it.
//
// from is nil (chains start at zero) or points to the tile's start rows, ldf apart; bias is nil or points to what is
// added to each of them. A's words are row apart down and step apart along k. low and high have a bit for each column
// in use, which only AVX-512 honours. next is prefetched, a cache line for each word of k.
type gemm func(
	c *float32, ldc int,
	from *float32, ldf int, bias *float32,
	a *float32, row, step int,
	b *float32, ldb int,
	k int, next *float32, low, high uint64,
)

// kernelSet holds the micro-kernels for one kind of word under one instruction set.
type kernelSet struct {
	lanes         int    // float32 in a register
	narrow        []gemm // tiles two registers across, by rows - 1: the usual ones
	wide          []gemm // for products of so few rows that a narrow tile would have too few chains, by rows - 1
	wideRegisters []int  // registers across of each of wide
	bf16          bool   // words are pairs of bfloat16
	half          bool   // words of B are pairs of bfloat16: see half.go
	masked        bool   // kernels honour low and high: C may be narrower than the registers
}

var (
	f32AVX512 = kernelSet{
		lanes: 16, masked: true,
		narrow: []gemm{gemm1x2AVX512, gemm2x2AVX512, gemm3x2AVX512, gemm4x2AVX512, gemm5x2AVX512, gemm6x2AVX512,
			gemm7x2AVX512, gemm8x2AVX512, gemm9x2AVX512, gemm10x2AVX512, gemm11x2AVX512, gemm12x2AVX512},
		wide: []gemm{gemm1x6AVX512, gemm2x6AVX512, gemm3x6AVX512, gemm4x6AVX512, gemm5x4AVX512, gemm6x4AVX512,
			gemm7x3AVX512, gemm8x3AVX512},
		wideRegisters: []int{6, 6, 6, 6, 4, 4, 3, 3},
	}
	bf16AVX512 = kernelSet{
		lanes: 16, masked: true, bf16: true,
		narrow: []gemm{native1x2AVX512, native2x2AVX512, native3x2AVX512, native4x2AVX512, native5x2AVX512,
			native6x2AVX512, native7x2AVX512, native8x2AVX512, native9x2AVX512, native10x2AVX512, native11x2AVX512,
			native12x2AVX512},
	}
	emulatedBF16AVX512 = kernelSet{
		lanes: 16, masked: true, bf16: true,
		narrow: []gemm{pairs1x2AVX512, pairs2x2AVX512, pairs3x2AVX512, pairs4x2AVX512, pairs5x2AVX512, pairs6x2AVX512,
			pairs7x2AVX512, pairs8x2AVX512, pairs9x2AVX512, pairs10x2AVX512, pairs11x2AVX512, pairs12x2AVX512},
	}
	f32AVX2 = kernelSet{
		lanes:         8,
		narrow:        []gemm{gemm1x2AVX2, gemm2x2AVX2, gemm3x2AVX2, gemm4x2AVX2, gemm5x2AVX2, gemm6x2AVX2},
		wide:          []gemm{gemm1x8AVX2, gemm2x4AVX2, gemm3x4AVX2, gemm4x3AVX2},
		wideRegisters: []int{8, 4, 4, 3},
	}
	emulatedBF16AVX2 = kernelSet{
		lanes: 8, bf16: true,
		narrow: []gemm{pairs1x2AVX2, pairs2x2AVX2, pairs3x2AVX2, pairs4x2AVX2},
	}
)

// kernels returns the kernels in use for that kind of word, or nil when the reference is in use.
func kernels(bf16 bool) *kernelSet {
	switch {
	case active == avx512 && !bf16:
		return &f32AVX512
	case active == avx512 && hasBF16:
		return &bf16AVX512
	case active == avx512:
		return &emulatedBF16AVX512
	case active == avx2 && !bf16:
		return &f32AVX2
	case active == avx2:
		return &emulatedBF16AVX2
	}
	return nil
}

// registers returns how many registers across the tiles of a product of m rows are.
func (ks *kernelSet) registers(m int) int {
	if m <= len(ks.wideRegisters) {
		return ks.wideRegisters[m-1]
	}
	return 2
}

// kernel returns the micro-kernel for a tile of that size.
func (ks *kernelSet) kernel(rows, registers int) gemm {
	if registers == 2 {
		return ks.narrow[rows-1]
	}
	return ks.wide[rows-1]
}

// runSerial computes the product on the calling goroutine, which may be a worker.
func (g *product) runSerial() {
	switch ks := g.kernels(); {
	case ks == nil:
		g.runPortable()
	case g.inRows() && g.m <= len(g.streams().kernels):
		g.runStream(ks)
	case g.inRows():
		g.runRows(ks)
	default:
		g.runBlocked(ks)
	}
}

// macroKernel runs micro-kernels down one panel of B: everything that the tiles of the panel share.
type macroKernel struct {
	ks        *kernelSet
	a         []float32 // block of A: rows at distance row, words at distance step; packed micro-panels if row is 0
	row, step int
	b         *float32 // the panel's first word, rows at distance ldb
	ldb       int
	k         int // words of this block along k
	registers int // of the panel's columns
	cols      int // columns in use

	from []float32 // start rows from the panel's first column on, at distance ldf (0: one row for all); nil is zero
	ldf  int
	bias []float32 // added to them; nil for none

	next []float32        // the panel that follows, to be prefetched meanwhile; nil for none
	edge *[6 * 64]float32 // set where C's columns do not fill the registers and kernels have no masks
}

// operandPlan says how a product on one core reads its operands, and in what blocks.
type operandPlan struct {
	packB  bool // pack B into panels: it is stored transposed, or must be rounded, or has enough rows of A to repay it
	packA  bool // pack A, which is stored transposed, into micro-panels
	stageA bool // copy A's rows end to end: they must be rounded, or conflict in the cache
	nr     int  // NR: columns of a panel
	nc     int  // NC: columns of B packed at once
	kc     int  // KC: words along k of a block
	mc     int  // MC: rows of a block of A
}

// planOperands decides from the sizes alone; no choice changes a bit.
func (g *product) planOperands(ks *kernelSet) operandPlan {
	mr := len(ks.narrow)
	s := operandPlan{nr: panelColumns, kc: min(g.kWords(), maxKC)}
	s.mc = max(mr, packedAWords/s.kc/mr*mr)
	s.stageA = g.aStep == 1 && (g.bf16 || cacheConflict(g.aRow) && g.k >= g.stagingMinK() && g.m > mr)
	if g.packed != nil {
		s.nr = 2 * ks.lanes
		return s
	}
	s.nr = ks.registers(g.m) * ks.lanes
	s.packB = g.bf16 || g.half || g.transB || g.m >= packBMinRows
	s.packA = g.aStep != 1 && (g.bf16 || ks.lanes == 16 && g.packAPays(s.nr))
	s.nc = max(1, packedBWords/(s.kc*s.nr)) * s.nr
	return s
}

// runBlocked loops over blocks of rows, then blocks of k in ascending order, then panels of B. A panel stays in the
// nearest caches while the block of A passes by, and the block of A in the second-level cache from panel to panel.
func (g *product) runBlocked(ks *kernelSet) {
	plan, words, perWord := g.planOperands(ks), g.kWords(), g.perWord()
	var s *scratch
	if plan.packB || plan.packA || plan.stageA || !ks.masked && g.n%plan.nr != 0 {
		s = scratches.get()
		defer scratches.put(s)
	}
	for i := 0; i < g.m; i += plan.mc {
		rows := min(plan.mc, g.m-i)
		for l := 0; l < words; l += plan.kc {
			t := macroKernel{ks: ks, k: min(plan.kc, words-l), registers: plan.nr / ks.lanes}
			t.a, t.row, t.step = g.a[i*g.aRow+l*perWord*g.aStep:], g.aRow, g.aStep
			k := min(t.k*perWord, g.k-l*perWord) // of the block, in elements
			switch {
			case plan.packA:
				g.packA(s, len(ks.narrow), i, l*perWord, rows, k)
				t.a, t.row, t.step = s.packedA, 0, len(ks.narrow)
			case plan.stageA:
				g.stageA(s, i, l*perWord, rows, k)
				t.a, t.row = s.packedA, t.k
			}
			for j := 0; j < g.n; j += plan.nr {
				t.cols = min(plan.nr, g.n-j)
				g.panelAt(&t, &plan, s, l, j, k)
				if !ks.masked && t.cols < plan.nr {
					t.edge = &s.edge
				}
				c := g.c[i*g.ldc+j:]
				if l == 0 {
					t.from, t.ldf, t.bias = g.initial.at(i, j)
				} else { // the chains continue from what the block before left in C
					t.from, t.ldf, t.bias = c, g.ldc, nil
				}
				if l == 0 && g.aStep != 1 && t.from != nil && ks.lanes == 16 {
					fetchAVX512(&c[0], g.ldc, rows) // most likely a weight's gradient, last touched a pass ago
				}
				t.run(c, g.ldc, rows)
			}
		}
	}
}

// panelAt points t to the panel of B that begins at word l and column j and is k elements deep, and packs it first
// where the plan says so.
func (g *product) panelAt(t *macroKernel, plan *operandPlan, s *scratch, l, j, k int) {
	switch {
	case g.packed != nil:
		panel := g.firstPanel + j/panelColumns
		t.b = &g.packed.data[(panel*g.packed.kWords()+g.wordsB(l))*panelColumns+j%panelColumns]
		t.ldb = panelColumns
		t.next = nil
		if j%panelColumns == 0 { // AVX2 takes a panel in two halves, and fetches during the first
			t.next = g.nextBlock(panel, l, plan.kc)
		}
	case plan.packB:
		if j%plan.nc == 0 {
			g.packB(s.packedB, plan.nr, l*g.perWord(), j, min(plan.nc, g.n-j), k)
		}
		t.b, t.ldb = &s.packedB[j%plan.nc*g.wordsB(t.k)], plan.nr
	case !t.ks.masked && t.cols < plan.nr: // a kernel without masks reads whole registers
		g.packB(s.packedB, plan.nr, l*g.perWord(), j, t.cols, k)
		t.b, t.ldb = &s.packedB[0], plan.nr
	default:
		t.b, t.ldb = &g.b[l*g.ldb+j], g.ldb
	}
}

// nextBlock returns the block of packed B that runBlocked reads after the block of panel that begins at word l, or nil
// after the last.
func (g *product) nextBlock(panel, l, kc int) []float32 {
	words, end := g.packed.kWords(), g.firstPanel+(g.n+panelColumns-1)/panelColumns
	l, kc = g.wordsB(l), g.wordsB(kc)
	switch {
	case panel+1 < end:
		panel++
	case l+kc < words:
		panel, l = g.firstPanel, l+kc
	default:
		return nil
	}
	return g.packed.data[(panel*words+l)*panelColumns : (panel*words+min(words, l+kc))*panelColumns]
}

// stageA copies rows i … i+rows-1 of A and k elements from l on to s.packedA, row after row, as words.
func (g *product) stageA(s *scratch, i, l, rows, k int) {
	words := (k + g.perWord() - 1) / g.perWord()
	for r := range rows {
		dst, src := s.packedA[r*words:(r+1)*words], g.a[(i+r)*g.aRow+l:]
		if g.bf16 {
			packRowBF16(dst, src[:k])
		} else {
			copy(dst, src)
		}
	}
}

// stagingMinK is the length of A's rows from which cache conflicts between them cost more than a copy. They cost less
// beside packed B, whose memory is read in one stream.
func (g *product) stagingMinK() int {
	if g.packed != nil {
		return 2048
	}
	return 1024
}

// cacheConflict reports whether rows at distance ld fall on a few sets of the first-level cache: multiples of 2 KB do.
func cacheConflict(ld int) bool { return ld%512 == 0 }

// packAPays reports whether enough panels follow to repay packing A, which is stored transposed: fewer where its rows
// are at least a kilobyte apart and keep evicting each other.
func (g *product) packAPays(nr int) bool {
	return g.aStep != 1 && g.m >= maxMR && (g.n >= 6*nr || g.aStep >= 256 && g.n >= 4*nr)
}

// packA copies rows i … i+rows-1 and elements l … l+k-1 of a transposed A to micro-panels (words, mr), one for each of
// the tiles that run makes of these rows.
func (g *product) packA(s *scratch, mr, i, l, rows, k int) {
	words := k
	if g.bf16 {
		words = (k + 1) / 2
	}
	tiles := (rows + mr - 1) / mr
	for n := range tiles {
		from := n*(rows/tiles) + min(n, rows%tiles)
		to := (n+1)*(rows/tiles) + min(n+1, rows%tiles)
		dst, src := s.packedA[n*mr*words:], g.a[(i+from)*g.aRow+l*g.aStep:]
		if g.bf16 {
			interleaveRowsBF16(dst, mr, src, g.aStep, k, to-from)
		} else {
			columns, _ := columnMasks(to - from)
			narrowAVX512(&dst[0], mr, &src[0], g.aStep, k, columns)
		}
	}
}

// run computes rows of C, which begins with the panel's first column, in tiles of nearly equal heights: the first
// rows%tiles of them are one row taller, as in packA.
func (t *macroKernel) run(c []float32, ldc, rows int) {
	mr := len(t.ks.narrow)
	tiles := (rows + mr - 1) / mr
	height, taller := rows/tiles, rows%tiles
	low, high := columnMasks(t.cols)
	var bias *float32
	if t.bias != nil {
		bias = &t.bias[0]
	}
	for n, i := 0, 0; n < tiles; n++ {
		h := height
		if n < taller {
			h++
		}
		next, kernel := t.b, t.ks.kernel(h, t.registers)
		if ahead := 16 * t.fetched() * n; ahead < len(t.next) { // each tile prefetches its share
			next = &t.next[ahead]
		}
		a, row := i*t.row, t.row
		if row == 0 {
			a, row = n*mr*t.k, 1
		}
		if t.edge != nil && t.cols < t.registers*t.ks.lanes {
			t.runEdge(kernel, i, h, c[i*ldc:], ldc, &t.a[a], row)
			i += h
			continue
		}
		var from *float32
		if t.from != nil {
			from = &t.from[i*t.ldf]
		}
		kernel(&c[i*ldc], ldc, from, t.ldf, bias, &t.a[a], row, t.step, t.b, t.ldb, t.k, next, low, high)
		i += h
	}
}

// fetched is the number of cache lines that a micro-kernel prefetches: one for each word of B.
func (t *macroKernel) fetched() int {
	if t.ks.half {
		return t.k / 2
	}
	return t.k
}

// at returns s from row i and column j on in the form of the kernels' arguments: a bias alone is a start row at
// distance 0, which serves every row.
func (s *accInit) at(i, j int) (from []float32, ld int, bias []float32) {
	switch {
	case s.rows == nil && s.bias == nil:
		return nil, 0, nil
	case s.rows == nil:
		return s.bias[j:], 0, nil
	case s.bias == nil:
		return s.rows[i*s.ld+j:], s.ld, nil
	}
	return s.rows[i*s.ld+j:], s.ld, s.bias[j:]
}

// runEdge computes a tile whose columns do not fill the registers, beginning at row i of the block: in t.edge at full
// width, from which it copies the columns in use, so that nothing beyond C's columns is read or written.
func (t *macroKernel) runEdge(kernel gemm, i, rows int, c []float32, ldc int, a *float32, row int) {
	width := t.registers * t.ks.lanes
	initial := accInit{rows: t.from, ld: t.ldf, bias: t.bias}
	for r := range rows {
		initial.row(t.edge[r*width:r*width+t.cols], i+r)
	}
	kernel(&t.edge[0], width, &t.edge[0], width, nil, a, row, t.step, t.b, t.ldb, t.k, t.b, 0, 0)
	for r := range rows {
		copy(c[r*ldc:r*ldc+t.cols], t.edge[r*width:])
	}
}

// packB copies k elements from l on of columns j … j+cols-1 of op(B) to panels (words, width) one after the other, the
// last padded with zeros.
func (g *product) packB(dst []float32, width, l, j, cols, k int) {
	words := (k + g.perWordB() - 1) / g.perWordB()
	for c := 0; c < cols; c += width {
		from := l*g.ldb + j + c
		if g.transB {
			from = (j+c)*g.ldb + l
		}
		if g.half {
			packHalfPanel(dst[c*words:(c+width)*words], width, g.bHalf[from:], g.ldb, k, min(width, cols-c), g.transB)
			continue
		}
		packPanel(dst[c*words:(c+width)*words], width, g.b[from:], g.ldb, k, min(width, cols-c), g.transB, g.bf16)
	}
}

// Peak runs steps of fused multiply-adds in registers, without memory, and returns how many floating-point operations
// those are: timed, that is the most one core can do. It returns 0 where no kernel is in use.
func Peak(steps int) (operations float64) {
	switch {
	case steps <= 0:
	case active == avx512:
		peakAVX512(steps)
		return float64(steps) * 24 * 16 * 2
	case active == avx2:
		peakAVX2(steps)
		return float64(steps) * 12 * 8 * 2
	}
	return 0
}

// PeakBF16 is [Peak] for the products of [V1BF16]. It returns 0 where the CPU has no instruction for them.
func PeakBF16(steps int) (operations float64) {
	if steps <= 0 || active != avx512 || !hasBF16 {
		return 0
	}
	peakNativeAVX512(steps)
	return float64(steps) * 24 * 16 * 4
}

// columnMasks returns a bit for each column in use, the first 64 in low.
func columnMasks(cols int) (low, high uint64) {
	if cols >= 64 {
		return 1<<64 - 1, 1<<(cols-64) - 1
	}
	return 1<<cols - 1, 0
}
