//go:build !purego

package tensor

// gemm is an inner loop of the matrix products, over words along k; see
// _asm/matmul.go.
type gemm func(c *float32, ldc int, a *float32, row, step int, b *float32, ldb, k int, next *float32, low, high uint64, add bool)

// kernelSet is the inner loops for one kind of word.
type kernelSet struct {
	lanes  int    // float32 in a register
	two    []gemm // by rows - 1: tiles two registers across
	wide   []gemm // the same for products of few rows only, and
	across []int  // their registers
	pairs  bool   // words are pairs of bfloat16
	masked bool   // C may be narrower than the registers
}

var (
	floats512 = kernelSet{
		lanes: 16, masked: true,
		two: []gemm{gemm1x2AVX512, gemm2x2AVX512, gemm3x2AVX512, gemm4x2AVX512, gemm5x2AVX512, gemm6x2AVX512,
			gemm7x2AVX512, gemm8x2AVX512, gemm9x2AVX512, gemm10x2AVX512, gemm11x2AVX512, gemm12x2AVX512},
		wide: []gemm{gemm1x6AVX512, gemm2x6AVX512, gemm3x6AVX512, gemm4x6AVX512, gemm5x4AVX512, gemm6x4AVX512,
			gemm7x3AVX512, gemm8x3AVX512},
		across: []int{6, 6, 6, 6, 4, 4, 3, 3},
	}
	native512 = kernelSet{
		lanes: 16, masked: true, pairs: true,
		two: []gemm{native1x2AVX512, native2x2AVX512, native3x2AVX512, native4x2AVX512, native5x2AVX512, native6x2AVX512,
			native7x2AVX512, native8x2AVX512, native9x2AVX512, native10x2AVX512, native11x2AVX512, native12x2AVX512},
	}
	pairs512 = kernelSet{
		lanes: 16, masked: true, pairs: true,
		two: []gemm{pairs1x2AVX512, pairs2x2AVX512, pairs3x2AVX512, pairs4x2AVX512, pairs5x2AVX512, pairs6x2AVX512,
			pairs7x2AVX512, pairs8x2AVX512, pairs9x2AVX512, pairs10x2AVX512, pairs11x2AVX512, pairs12x2AVX512},
	}
	floats2 = kernelSet{
		lanes:  8,
		two:    []gemm{gemm1x2AVX2, gemm2x2AVX2, gemm3x2AVX2, gemm4x2AVX2, gemm5x2AVX2, gemm6x2AVX2},
		wide:   []gemm{gemm1x8AVX2, gemm2x4AVX2, gemm3x4AVX2, gemm4x3AVX2},
		across: []int{8, 4, 4, 3},
	}
	pairs2 = kernelSet{
		lanes: 8, pairs: true,
		two: []gemm{pairs1x2AVX2, pairs2x2AVX2, pairs3x2AVX2, pairs4x2AVX2},
	}
)

// kernels is the set in use, nil for the reference.
func kernels(pairs bool) *kernelSet {
	switch {
	case active == avx512 && !pairs:
		return &floats512
	case active == avx512 && hasBF16:
		return &native512
	case active == avx512:
		return &pairs512
	case active == avx2 && !pairs:
		return &floats2
	case active == avx2:
		return &pairs2
	}
	return nil
}

// registers across a tile of a product of m rows.
func (ks *kernelSet) registers(m int) int {
	if m <= len(ks.across) {
		return ks.across[m-1]
	}
	return 2
}

func (ks *kernelSet) kernel(rows, registers int) gemm {
	if registers == 2 {
		return ks.two[rows-1]
	}
	return ks.wide[rows-1]
}

// tile computes a product on one core: for blocks of rows and of k, panel after
// panel of columns of B, which stays in the first cache while A passes by.
func (g *product) tile() {
	if ks := kernels(g.pairs); ks != nil {
		g.blocks(ks)
	} else {
		g.portable()
	}
}

// packRows is how many rows of A repay packing B where its rows lie as they
// are needed.
const packRows = 192

// strip is what the rows of a panel share.
type strip struct {
	ks        *kernelSet
	b         *float32 // the panel's first word, rows at distance ldb
	ldb       int
	k         int // in words
	registers int
	cols      int
	add       bool
	next      []float32        // the panel that follows, to be fetched meanwhile
	edge      *[6 * 64]float32 // where C's columns do not fill the registers
}

// blocks packs B into panels where it is stored the other way round, where
// enough rows of A repay the copy, and where its rows drive each other out of
// the cache. A is read where it lies, or from strips.
func (g *product) blocks(ks *kernelSet) {
	registers, unit := ks.registers(g.m), 1
	if ks.pairs {
		unit = 2
	}
	width, words := registers*ks.lanes, (g.k+unit-1)/unit
	pack := g.pairs || g.turned || g.m >= packRows || g.m >= 2*stripRows && clash(g.ldb)
	strips := g.pairs || ks.lanes == 16 && g.stripsPay(width)
	kc := min(words, blockK)
	group := width
	if pack {
		group = max(1, blockBSize/(kc*width)) * width
	}
	var s *scratch
	if pack || strips || !ks.masked && g.n%width != 0 {
		s = scratches.get()
		defer scratches.put(s)
	}
	tileRows := len(ks.two)
	mc := max(tileRows, blockASize/kc/tileRows*tileRows)
	for i := 0; i < g.m; i += mc {
		rows := min(mc, g.m-i)
		for l := 0; l < words; l += kc {
			t := strip{ks: ks, k: min(kc, words-l), registers: registers, add: g.add || l > 0}
			a, row, step := g.a[i*g.aRow+l*unit*g.aStep:], g.aRow, g.aStep
			if strips {
				g.packStrips(s, tileRows, i, l*unit, rows, min(t.k*unit, g.k-l*unit))
				a, row, step = s.a[:], 0, tileRows
			}
			for j := 0; j < g.n; j += width {
				t.cols = min(width, g.n-j)
				switch {
				case pack && j%group == 0:
					g.packPanels(s, ks, l*unit, j, min(group, g.n-j), width)
					fallthrough
				case pack:
					t.b, t.ldb = &s.panels[j%group*t.k], width
				case !ks.masked && t.cols < width:
					g.packPanels(s, ks, l*unit, j, t.cols, width)
					t.b, t.ldb = &s.panels[0], width
				default:
					t.b, t.ldb = &g.b[l*g.ldb+j], g.ldb
				}
				if !ks.masked && t.cols < width {
					t.edge = &s.edge
				}
				if g.add && l == 0 && g.aStep != 1 {
					t.fetch(g.c[i*g.ldc+j:], g.ldc, rows)
				}
				t.run(g.c[i*g.ldc+j:], g.ldc, a, row, step, rows)
			}
		}
	}
}

// clash says whether rows at that distance lie in a few sets of the first
// cache only.
func clash(ld int) bool { return ld%512 == 0 }

// stripsPay says whether enough columns follow to repay copying A, stored the
// other way round, to strips: fewer where its rows lie so far apart that they
// keep driving each other out of the first cache.
func (g *product) stripsPay(width int) bool {
	return g.aStep != 1 && g.m >= stripRows && (g.n >= 6*width || g.aStep >= 256 && g.n >= 4*width)
}

// packStrips copies A's rows i … i+rows-1 and columns l … l+k-1 to the strips
// that run takes them in: words (·, tileRows) each.
func (g *product) packStrips(s *scratch, tileRows, i, l, rows, k int) {
	words := k
	if g.pairs {
		words = (k + 1) / 2
	}
	tiles := (rows + tileRows - 1) / tileRows
	for n := range tiles {
		from, to := rows*n/tiles, rows*(n+1)/tiles
		dst, src := s.a[n*tileRows*words:], g.a[(i+from)*g.aRow+l*g.aStep:]
		if g.pairs {
			weaveRows(dst, tileRows, src, g.aStep, k, to-from)
		} else {
			columns, _ := columnMasks(to - from)
			narrowAVX512(&dst[0], tileRows, &src[0], g.aStep, k, columns)
		}
	}
}

// fetch brings the tiles of C near, which are far apart.
func (t *strip) fetch(c []float32, ldc, rows int) {
	if t.ks.lanes == 16 {
		fetchAVX512(&c[0], ldc, rows)
	}
}

// run computes rows of C in the columns of a panel, in tiles of nearly equal
// heights. With a row distance of 0, A lies in strips.
func (t *strip) run(c []float32, ldc int, a []float32, row, step, rows int) {
	tileRows := len(t.ks.two)
	tiles := (rows + tileRows - 1) / tileRows
	low, high := columnMasks(t.cols)
	for n := range tiles {
		from, to := rows*n/tiles, rows*(n+1)/tiles
		next, f := t.b, t.ks.kernel(to-from, t.registers)
		if ahead := 16 * t.k * n; ahead < len(t.next) {
			next = &t.next[ahead]
		}
		at, rowDistance := from*row, row
		if row == 0 {
			at, rowDistance = n*tileRows*t.k, 1
		}
		if t.edge != nil && t.cols < t.registers*t.ks.lanes {
			t.runEdge(f, to-from, c[from*ldc:], ldc, &a[at], rowDistance, step)
			continue
		}
		f(&c[from*ldc], ldc, &a[at], rowDistance, step, t.b, t.ldb, t.k, next, low, high, t.add)
	}
}

// runEdge computes in a place of full width and copies the columns in use.
func (t *strip) runEdge(f gemm, rows int, c []float32, ldc int, a *float32, row, step int) {
	width := t.registers * t.ks.lanes
	for r := 0; t.add && r < rows; r++ {
		copy(t.edge[r*width:], c[r*ldc:r*ldc+t.cols])
	}
	f(&t.edge[0], width, a, row, step, t.b, t.ldb, t.k, t.b, 0, 0, t.add)
	for r := range rows {
		copy(c[r*ldc:r*ldc+t.cols], t.edge[r*width:])
	}
}

// packPanels copies rows l … of a block of k and columns j … j+cols-1 of B to
// panels of that width, the last filled up with zeros.
func (g *product) packPanels(s *scratch, ks *kernelSet, l, j, cols, width int) {
	k := min(blockK, g.k-l)
	if g.pairs {
		k = min(2*blockK, g.k-l)
	}
	words := k
	if g.pairs {
		words = (k + 1) / 2
	}
	for c := 0; c < cols; c += width {
		dst, n := s.panels[c*words:(c+width)*words], min(width, cols-c)
		if g.turned {
			packTurned(ks, dst, width, g.b[(j+c)*g.ldb+l:], g.ldb, k, n)
		} else {
			packPanel(dst, width, g.b[l*g.ldb+j+c:], g.ldb, k, n, g.pairs)
		}
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

// packTurned copies B stored the other way round, (cols, k), to a panel.
func packTurned(ks *kernelSet, panel []float32, width int, b []float32, ldb, k, cols int) {
	if cols < width {
		clear(panel)
	}
	for c := 0; c < cols; c += ks.lanes {
		n, from, done := min(ks.lanes, cols-c), b[c*ldb:], 0
		if n == ks.lanes && k >= 4 {
			done = k &^ 3
			if ks.lanes == 16 {
				transposeAVX512(&panel[c], width, &from[0], ldb, k/4)
			} else {
				transposeAVX2(&panel[c], width, &from[0], ldb, k/4)
			}
		}
		turnRest(panel[c:], width, from, ldb, done, k, n)
	}
}
