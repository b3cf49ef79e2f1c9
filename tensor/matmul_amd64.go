//go:build !purego

package tensor

// gemm is an inner loop of the matrix products, over words along k; see
// _asm/matmul.go.
type gemm func(c *float32, ldc int, from *float32, ldf int, bias *float32, a *float32, row, step int, b *float32, ldb,
	k int, next *float32, low, high uint64)

// kernelSet is the inner loops for one kind of word.
type kernelSet struct {
	lanes         int    // float32 in a register
	narrow        []gemm // by rows - 1: tiles two registers across
	wide          []gemm // the same for products of few rows only, and
	wideRegisters []int  // their registers
	bf16          bool   // words are pairs of bfloat16
	masked        bool   // C may be narrower than the registers
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
			native6x2AVX512,
			native7x2AVX512, native8x2AVX512, native9x2AVX512, native10x2AVX512, native11x2AVX512, native12x2AVX512},
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

// kernels is the set in use, nil for the reference.
func kernels(pairs bool) *kernelSet {
	switch {
	case active == avx512 && !pairs:
		return &f32AVX512
	case active == avx512 && hasBF16:
		return &bf16AVX512
	case active == avx512:
		return &emulatedBF16AVX512
	case active == avx2 && !pairs:
		return &f32AVX2
	case active == avx2:
		return &emulatedBF16AVX2
	}
	return nil
}

// registers across a tile of a product of m rows.
func (ks *kernelSet) registers(m int) int {
	if m <= len(ks.wideRegisters) {
		return ks.wideRegisters[m-1]
	}
	return 2
}

func (ks *kernelSet) kernel(rows, registers int) gemm {
	if registers == 2 {
		return ks.narrow[rows-1]
	}
	return ks.wide[rows-1]
}

// runSerial computes a product on one core.
func (g *product) runSerial() {
	if ks := kernels(g.bf16); ks != nil {
		g.runBlocked(ks)
	} else {
		g.runPortable()
	}
}

// macroKernel is what the rows of a panel share.
type macroKernel struct {
	ks        *kernelSet
	a         []float32 // rows at distance row, words at distance step; in strips if row is 0
	row, step int
	b         *float32 // the panel's first word, rows at distance ldb
	ldb       int
	k         int // in words
	registers int
	cols      int
	from      []float32 // in which the chains begin, from the panel's first column on, at distance ldf; may be nil
	ldf       int
	bias      []float32        // added to it, or nil
	next      []float32        // the panel that follows, to be fetched meanwhile
	edge      *[6 * 64]float32 // where C's columns do not fill the registers
}

// operandPlan says from where a product on one core takes its operands.
type operandPlan struct {
	packB  bool // B is packed into panels: stored the other way round, rounded, or of enough rows of A to repay it
	packA  bool // A, stored the other way round, is copied to strips
	stageA bool // A is copied to rows that lie together: rounded, or since they drive each other out of the cache
	nr     int  // columns of a panel
	nc     int  // columns packed at once
	kc     int  // words along k of a block
	mc     int  // rows of a block
}

func (g *product) planOperands(ks *kernelSet) operandPlan {
	s := operandPlan{nr: panelColumns, kc: min(g.kWords(), maxKC)}
	s.mc = max(len(ks.narrow), packedAWords/s.kc/len(ks.narrow)*len(ks.narrow))
	s.stageA = g.aStep == 1 && (g.bf16 || cacheConflict(g.aRow) && g.k >= g.stagingMinK() && g.m > len(ks.narrow))
	if g.packed != nil {
		s.nr = 2 * ks.lanes
		return s
	}
	s.nr = ks.registers(g.m) * ks.lanes
	s.packB = g.bf16 || g.transB || g.m >= packBMinRows
	s.packA = g.aStep != 1 && (g.bf16 || ks.lanes == 16 && g.packAPays(s.nr))
	s.nc = max(1, packedBWords/(s.kc*s.nr)) * s.nr
	return s
}

// runBlocked runs over blocks of rows and of k, and panel after panel, which stays
// in the near caches while A passes by.
func (g *product) runBlocked(ks *kernelSet) {
	src, words, unit := g.planOperands(ks), g.kWords(), g.perWord()
	var s *scratch
	if src.packB || src.packA || src.stageA || !ks.masked && g.n%src.nr != 0 {
		s = scratches.get()
		defer scratches.put(s)
	}
	for i := 0; i < g.m; i += src.mc {
		rows := min(src.mc, g.m-i)
		for l := 0; l < words; l += src.kc {
			t := macroKernel{ks: ks, k: min(src.kc, words-l), registers: src.nr / ks.lanes}
			t.a, t.row, t.step = g.a[i*g.aRow+l*unit*g.aStep:], g.aRow, g.aStep
			k := min(t.k*unit, g.k-l*unit)
			switch {
			case src.packA:
				g.packA(s, len(ks.narrow), i, l*unit, rows, k)
				t.a, t.row, t.step = s.packedA, 0, len(ks.narrow)
			case src.stageA:
				g.stageA(s, i, l*unit, rows, k)
				t.a, t.row = s.packedA, t.k
			}
			for j := 0; j < g.n; j += src.nr {
				t.cols = min(src.nr, g.n-j)
				g.panelAt(&t, &src, s, l, j, k)
				if !ks.masked && t.cols < src.nr {
					t.edge = &s.edge
				}
				c := g.c[i*g.ldc+j:]
				if t.from, t.ldf, t.bias = c, g.ldc, nil; l == 0 {
					t.from, t.ldf, t.bias = g.start.at(i, j)
				}
				if l == 0 && g.aStep != 1 && t.from != nil && ks.lanes == 16 {
					fetchAVX512(&c[0], g.ldc, rows)
				}
				t.run(c, g.ldc, rows)
			}
		}
	}
}

// panelAt points t to words l … of B's columns from j on.
func (g *product) panelAt(t *macroKernel, src *operandPlan, s *scratch, l, j, k int) {
	switch {
	case g.packed != nil:
		p := g.firstPanel + j/panelColumns
		t.b, t.ldb = &g.packed.data[(p*g.packed.kWords()+l)*panelColumns+j%panelColumns], panelColumns
		t.next = nil
		if j%panelColumns == 0 {
			t.next = g.nextBlock(p, l, src.kc)
		}
	case src.packB:
		if j%src.nc == 0 {
			g.packB(s.packedB, src.nr, l*g.perWord(), j, min(src.nc, g.n-j), k)
		}
		t.b, t.ldb = &s.packedB[j%src.nc*t.k], src.nr
	case !t.ks.masked && t.cols < src.nr:
		g.packB(s.packedB, src.nr, l*g.perWord(), j, t.cols, k)
		t.b, t.ldb = &s.packedB[0], src.nr
	default:
		t.b, t.ldb = &g.b[l*g.ldb+j], g.ldb
	}
}

// nextBlock is the block of a panel that comes after block l of panel p.
func (g *product) nextBlock(p, l, kc int) []float32 {
	depth, end := g.packed.kWords(), g.firstPanel+(g.n+panelColumns-1)/panelColumns
	switch {
	case p+1 < end:
		p++
	case l+kc < depth:
		p, l = g.firstPanel, l+kc
	default:
		return nil
	}
	return g.packed.data[(p*depth+l)*panelColumns : (p*depth+min(depth, l+kc))*panelColumns]
}

// stageA copies A's rows i … i+rows-1 from column l on, as words.
func (g *product) stageA(s *scratch, i, l, rows, k int) {
	words := (k + g.perWord() - 1) / g.perWord()
	for r := range rows {
		to, a := s.packedA[r*words:(r+1)*words], g.a[(i+r)*g.aRow+l:]
		if g.bf16 {
			packRowBF16(to, a[:k])
		} else {
			copy(to, a)
		}
	}
}

// stagingMinK is how long A's rows have to be for their clashes to repay a copy: with
// B in panels, whose memory is read in one stream, they cost less.
func (g *product) stagingMinK() int {
	if g.packed != nil {
		return 2048
	}
	return 1024
}

// cacheConflict says whether rows at that distance lie in a few sets of the first
// cache only.
func cacheConflict(ld int) bool { return ld%512 == 0 }

// packAPays says whether enough columns follow to repay copying A, stored the
// other way round, to strips: fewer where its rows lie so far apart that they
// keep driving each other out of the first cache.
func (g *product) packAPays(width int) bool {
	return g.aStep != 1 && g.m >= maxMR && (g.n >= 6*width || g.aStep >= 256 && g.n >= 4*width)
}

// packA copies A's rows i … i+rows-1 and columns l … l+k-1 to the strips
// that run takes them in: words (·, tileRows) each.
func (g *product) packA(s *scratch, tileRows, i, l, rows, k int) {
	words := k
	if g.bf16 {
		words = (k + 1) / 2
	}
	tiles := (rows + tileRows - 1) / tileRows
	for n := range tiles {
		from := n*(rows/tiles) + min(n, rows%tiles)
		to := (n+1)*(rows/tiles) + min(n+1, rows%tiles)
		dst, src := s.packedA[n*tileRows*words:], g.a[(i+from)*g.aRow+l*g.aStep:]
		if g.bf16 {
			interleaveRowsBF16(dst, tileRows, src, g.aStep, k, to-from)
		} else {
			columns, _ := columnMasks(to - from)
			narrowAVX512(&dst[0], tileRows, &src[0], g.aStep, k, columns)
		}
	}
}

// run computes rows of C in the columns of a panel, in tiles of nearly equal
// heights.
func (t *macroKernel) run(c []float32, ldc, rows int) {
	tileRows := len(t.ks.narrow)
	tiles := (rows + tileRows - 1) / tileRows
	height, taller := rows/tiles, rows%tiles
	low, high := columnMasks(t.cols)
	var bias *float32
	if t.bias != nil {
		bias = &t.bias[0]
	}
	for n, from := 0, 0; n < tiles; n++ {
		h := height
		if n < taller {
			h++
		}
		next, f := t.b, t.ks.kernel(h, t.registers)
		if ahead := 16 * t.k * n; ahead < len(t.next) {
			next = &t.next[ahead]
		}
		a, row := from*t.row, t.row
		if row == 0 {
			a, row = n*tileRows*t.k, 1
		}
		if t.edge != nil && t.cols < t.registers*t.ks.lanes {
			t.runEdge(f, from, h, c[from*ldc:], ldc, &t.a[a], row)
			from += h
			continue
		}
		var start *float32
		if t.from != nil {
			start = &t.from[from*t.ldf]
		}
		f(&c[from*ldc], ldc, start, t.ldf, bias, &t.a[a], row, t.step, t.b, t.ldb, t.k, next, low, high)
		from += h
	}
}

// at is s from row i and column j on, as the kernels take it: a bias alone is a
// row that serves all.
func (s *Start) at(i, j int) (from []float32, ld int, bias []float32) {
	switch {
	case s.From == nil && s.Bias == nil:
		return nil, 0, nil
	case s.From == nil:
		return s.Bias[j:], 0, nil
	case s.Bias == nil:
		return s.From[i*s.LD+j:], s.LD, nil
	}
	return s.From[i*s.LD+j:], s.LD, s.Bias[j:]
}

// runEdge computes in a place of full width and copies the columns in use.
func (t *macroKernel) runEdge(f gemm, from, rows int, c []float32, ldc int, a *float32, row int) {
	width := t.registers * t.ks.lanes
	start := Start{From: t.from, LD: t.ldf, Bias: t.bias}
	for r := range rows {
		start.row(t.edge[r*width:r*width+t.cols], from+r)
	}
	f(&t.edge[0], width, &t.edge[0], width, nil, a, row, t.step, t.b, t.ldb, t.k, t.b, 0, 0)
	for r := range rows {
		copy(c[r*ldc:r*ldc+t.cols], t.edge[r*width:])
	}
}

// packB copies k rows of B from l on and columns j … j+cols-1 to panels of
// that width, the last filled up with zeros.
func (g *product) packB(dst []float32, width, l, j, cols, k int) {
	words := (k + g.perWord() - 1) / g.perWord()
	for c := 0; c < cols; c += width {
		from := l*g.ldb + j + c
		if g.transB {
			from = (j+c)*g.ldb + l
		}
		packPanel(dst[c*words:(c+width)*words], width, g.b[from:], g.ldb, k, min(width, cols-c), g.transB, g.bf16)
	}
}

// Peak runs fused multiply-adds that read no memory and returns how many
// floating-point operations they are: what a core can do at most. It is 0 where
// there is no kernel to compare with.
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

// PeakBF16 is [Peak] for products of pairs of bfloat16, 0 where the processor
// has no instruction for them.
func PeakBF16(steps int) (operations float64) {
	if steps <= 0 || active != avx512 || !hasBF16 {
		return 0
	}
	peakNativeAVX512(steps)
	return float64(steps) * 24 * 16 * 4
}

// columnMasks has a bit for each column in use.
func columnMasks(cols int) (low, high uint64) {
	if cols >= 64 {
		return 1<<64 - 1, 1<<(cols-64) - 1
	}
	return 1<<cols - 1, 0
}
