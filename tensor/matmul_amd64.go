//go:build !purego

package tensor

// tile computes a product on one core: for blocks of rows and of k, panel after
// panel of columns of B, which stays in the first cache while A passes by. A is
// read where it lies, or where many panels repay the copy, from strips. B is packed into panels where it is stored the other way
// round, or where enough rows of A repay the copy.
func (g *product) tile() {
	switch active {
	case avx512:
		g.blocks(stripRows, 2, 16, wide512[:])
	case avx2:
		g.blocks(6, 2, 8, wide2[:])
	default:
		g.portable()
	}
}

// wide512 and wide2 are the registers across for products of 1, 2, … rows.
var (
	wide512 = [...]int{6, 6, 6, 6, 4, 4, 3, 3}
	wide2   = [...]int{8, 4, 4, 3}
)

// packRows is how many rows of A repay packing B.
const packRows = 192

// strip is what the rows of a panel share.
type strip struct {
	b         *float32 // the panel's first element, rows at distance ldb
	ldb       int
	k         int
	registers int
	cols      int
	add       bool
	strips    []float32        // A's rows in strips, if they were packed
	edge      *[6 * 64]float32 // where C's columns do not fill the registers
}

func (g *product) blocks(tileRows, registers, lanes int, wide []int) {
	if g.m <= len(wide) {
		registers = wide[g.m-1]
	}
	width := registers * lanes
	pack, strips := g.turned || g.m >= packRows, lanes == 16 && g.stripsPay(width)
	var s *scratch
	if pack || strips || lanes == 8 && g.n%width != 0 {
		s = scratches.get()
		defer scratches.put(s)
	}
	kc := min(g.k, blockK)
	mc := max(tileRows, blockASize/kc/tileRows*tileRows)
	for i := 0; i < g.m; i += mc {
		rows := min(mc, g.m-i)
		for l := 0; l < g.k; l += kc {
			t := strip{k: min(kc, g.k-l), registers: registers, add: g.add || l > 0}
			if strips {
				g.packStrips(s, i, l, rows, t.k)
				t.strips = s.strips[:]
			}
			for j := 0; j < g.n; j += width {
				t.cols = min(width, g.n-j)
				switch {
				case pack || lanes == 8 && t.cols < width:
					g.pack(s, l, j, t.k, t.cols, width, lanes)
					t.b, t.ldb = &s.panel[0], width
				default:
					t.b, t.ldb = &g.b[l*g.ldb+j], g.ldb
				}
				if lanes == 8 && t.cols < width {
					t.edge = &s.edge
				}
				g.strip(&t, i, l, j, rows, tileRows)
			}
		}
	}
}

// stripsPay says whether enough columns follow to repay copying A, stored the
// other way round, to strips: fewer where its rows lie so far apart that they
// keep driving each other out of the first cache.
func (g *product) stripsPay(width int) bool {
	return g.aStep != 1 && g.m >= stripRows && (g.n >= 6*width || g.aStep >= 256 && g.n >= 4*width)
}

// packStrips copies A's rows i … i+rows-1 and columns l … l+k-1 to the strips
// that strip takes them in, (k, stripRows) each.
func (g *product) packStrips(s *scratch, i, l, rows, k int) {
	tiles := (rows + stripRows - 1) / stripRows
	for n := range tiles {
		from, to := rows*n/tiles, rows*(n+1)/tiles
		columns, _ := columnMasks(to - from)
		narrowAVX512(&s.strips[n*stripRows*k], stripRows, &g.a[(i+from)*g.aRow+l*g.aStep], g.aStep, k, columns)
	}
}

// strip computes rows of C below i in the columns of a panel, in tiles of
// nearly equal heights.
func (g *product) strip(t *strip, i, l, j, rows, tileRows int) {
	tiles := (rows + tileRows - 1) / tileRows
	fetch := active == avx512 && g.add && l == 0 && g.aStep != 1
	for n := range tiles {
		from, to := rows*n/tiles, rows*(n+1)/tiles
		c := g.c[(i+from)*g.ldc+j:]
		a := &g.a[(i+from)*g.aRow+l*g.aStep]
		if fetch && to < rows {
			fetchAVX512(&g.c[(i+to)*g.ldc+j], g.ldc, min(stripRows, rows-to))
		}
		switch {
		case t.strips != nil:
			gemmAVX512(t, to-from, c, g.ldc, &t.strips[n*stripRows*t.k], 1, stripRows)
		case active == avx512:
			gemmAVX512(t, to-from, c, g.ldc, a, g.aRow, g.aStep)
		case t.edge != nil:
			g.edgeAVX2(t, to-from, c, a)
		default:
			gemmAVX2(t, to-from, &c[0], g.ldc, a, g.aRow, g.aStep)
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

// edgeAVX2 computes in a place of full width and copies the columns in use.
func (g *product) edgeAVX2(t *strip, rows int, c []float32, a *float32) {
	width := t.registers * 8
	for r := 0; t.add && r < rows; r++ {
		copy(t.edge[r*width:], c[r*g.ldc:r*g.ldc+t.cols])
	}
	gemmAVX2(t, rows, &t.edge[0], width, a, g.aRow, g.aStep)
	for r := range rows {
		copy(c[r*g.ldc:r*g.ldc+t.cols], t.edge[r*width:])
	}
}

// pack copies B's rows l … l+k-1 and columns j … j+cols-1 to the panel, whose
// rows have that width, filled up with zeros.
func (g *product) pack(s *scratch, l, j, k, cols, width, lanes int) {
	if cols < width {
		clear(s.panel[:k*width])
	}
	if !g.turned {
		for r := range k {
			from := (l+r)*g.ldb + j
			copy(s.panel[r*width:r*width+cols], g.b[from:from+cols])
		}
		return
	}
	for c := 0; c < cols; c += lanes {
		n := min(lanes, cols-c)
		from := g.b[(j+c)*g.ldb+l:]
		done := 0
		if n == lanes && k >= 4 {
			done = k &^ 3
			if lanes == 16 {
				transposeAVX512(&s.panel[c], width, &from[0], g.ldb, k/4)
			} else {
				transposeAVX2(&s.panel[c], width, &from[0], g.ldb, k/4)
			}
		}
		for r := range n {
			for q := done; q < k; q++ {
				s.panel[q*width+c+r] = from[r*g.ldb+q]
			}
		}
	}
}

// gemmAVX512 computes a tile with the kernel of its size.
func gemmAVX512(t *strip, rows int, c []float32, ldc int, a *float32, row, step int) {
	low, high := columnMasks(t.cols)
	switch rows<<4 | t.registers {
	case 1<<4 | 2:
		gemm1x2AVX512(&c[0], ldc, a, row, step, t.b, t.ldb, t.k, low, high, t.add)
	case 1<<4 | 6:
		gemm1x6AVX512(&c[0], ldc, a, row, step, t.b, t.ldb, t.k, low, high, t.add)
	case 2<<4 | 2:
		gemm2x2AVX512(&c[0], ldc, a, row, step, t.b, t.ldb, t.k, low, high, t.add)
	case 2<<4 | 6:
		gemm2x6AVX512(&c[0], ldc, a, row, step, t.b, t.ldb, t.k, low, high, t.add)
	case 3<<4 | 2:
		gemm3x2AVX512(&c[0], ldc, a, row, step, t.b, t.ldb, t.k, low, high, t.add)
	case 3<<4 | 6:
		gemm3x6AVX512(&c[0], ldc, a, row, step, t.b, t.ldb, t.k, low, high, t.add)
	case 4<<4 | 2:
		gemm4x2AVX512(&c[0], ldc, a, row, step, t.b, t.ldb, t.k, low, high, t.add)
	case 4<<4 | 6:
		gemm4x6AVX512(&c[0], ldc, a, row, step, t.b, t.ldb, t.k, low, high, t.add)
	case 5<<4 | 2:
		gemm5x2AVX512(&c[0], ldc, a, row, step, t.b, t.ldb, t.k, low, high, t.add)
	case 5<<4 | 4:
		gemm5x4AVX512(&c[0], ldc, a, row, step, t.b, t.ldb, t.k, low, high, t.add)
	case 6<<4 | 2:
		gemm6x2AVX512(&c[0], ldc, a, row, step, t.b, t.ldb, t.k, low, high, t.add)
	case 6<<4 | 4:
		gemm6x4AVX512(&c[0], ldc, a, row, step, t.b, t.ldb, t.k, low, high, t.add)
	case 7<<4 | 2:
		gemm7x2AVX512(&c[0], ldc, a, row, step, t.b, t.ldb, t.k, low, high, t.add)
	case 7<<4 | 3:
		gemm7x3AVX512(&c[0], ldc, a, row, step, t.b, t.ldb, t.k, low, high, t.add)
	case 8<<4 | 2:
		gemm8x2AVX512(&c[0], ldc, a, row, step, t.b, t.ldb, t.k, low, high, t.add)
	case 8<<4 | 3:
		gemm8x3AVX512(&c[0], ldc, a, row, step, t.b, t.ldb, t.k, low, high, t.add)
	case 9<<4 | 2:
		gemm9x2AVX512(&c[0], ldc, a, row, step, t.b, t.ldb, t.k, low, high, t.add)
	case 10<<4 | 2:
		gemm10x2AVX512(&c[0], ldc, a, row, step, t.b, t.ldb, t.k, low, high, t.add)
	case 11<<4 | 2:
		gemm11x2AVX512(&c[0], ldc, a, row, step, t.b, t.ldb, t.k, low, high, t.add)
	case 12<<4 | 2:
		gemm12x2AVX512(&c[0], ldc, a, row, step, t.b, t.ldb, t.k, low, high, t.add)
	}
}

// columnMasks has a bit for each column in use.
func columnMasks(cols int) (low, high uint64) {
	if cols >= 64 {
		return 1<<64 - 1, 1<<(cols-64) - 1
	}
	return 1<<cols - 1, 0
}

// gemmAVX2 computes a tile with the kernel of its size.
func gemmAVX2(t *strip, rows int, c *float32, ldc int, a *float32, row, step int) {
	switch rows<<4 | t.registers {
	case 1<<4 | 2:
		gemm1x2AVX2(c, ldc, a, row, step, t.b, t.ldb, t.k, t.add)
	case 1<<4 | 8:
		gemm1x8AVX2(c, ldc, a, row, step, t.b, t.ldb, t.k, t.add)
	case 2<<4 | 2:
		gemm2x2AVX2(c, ldc, a, row, step, t.b, t.ldb, t.k, t.add)
	case 2<<4 | 4:
		gemm2x4AVX2(c, ldc, a, row, step, t.b, t.ldb, t.k, t.add)
	case 3<<4 | 2:
		gemm3x2AVX2(c, ldc, a, row, step, t.b, t.ldb, t.k, t.add)
	case 3<<4 | 4:
		gemm3x4AVX2(c, ldc, a, row, step, t.b, t.ldb, t.k, t.add)
	case 4<<4 | 2:
		gemm4x2AVX2(c, ldc, a, row, step, t.b, t.ldb, t.k, t.add)
	case 4<<4 | 3:
		gemm4x3AVX2(c, ldc, a, row, step, t.b, t.ldb, t.k, t.add)
	case 5<<4 | 2:
		gemm5x2AVX2(c, ldc, a, row, step, t.b, t.ldb, t.k, t.add)
	case 6<<4 | 2:
		gemm6x2AVX2(c, ldc, a, row, step, t.b, t.ldb, t.k, t.add)
	}
}
