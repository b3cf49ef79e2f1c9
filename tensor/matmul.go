package tensor

import "fmt"

// Product is one matrix product with the value its accumulators start from:
//
//	C = init + op(A)·op(B)
//
// It is BLAS's gemm with alpha = 1, where op transposes a matrix that is stored the other way round, and init is
// zero, Bias, Init, or Init + Bias; Accumulate puts C in the place of Init. Each element of C is one chain of [FMA]
// over k in ascending order; see the package comment for the chain under [V1BF16].
//
// Matrices are flat slices in row order. A leading dimension (LDA, LDB, LDC, LDInit) is the distance between the
// starts of neighbouring rows, in elements; 0 means that the rows lie end to end.
//
// A Product is a description that holds no state: build one as a literal, call Run, and throw it away. Under the
// assembly kernels that allocates nothing.
type Product struct {
	// Numerics is the contract of the chains, V1 if empty. With Packed it is taken from there.
	Numerics Numerics

	// M, N and K are the sizes of op(A) (M, K), op(B) (K, N) and C (M, N). With Packed, N and K are taken from there.
	M, N, K int

	A      []float32 // (M, K), or (K, M) if TransA
	LDA    int
	TransA bool // not allowed together with Packed

	B      []float32 // (K, N), or (N, K) if TransB; not read if Packed is set
	BHalf  []uint16  // B as bfloat16, in the place of B, under V1: the result is that of B's exact float32 values
	LDB    int
	TransB bool
	Packed *PackedB // op(B) packed in advance, which pays where many products share it; nil for none

	C   []float32 // (M, N); must not overlap A or B
	LDC int

	Accumulate bool      // start from C: C += op(A)·op(B); not allowed together with Init
	Init       []float32 // (M, N), where the chains start; nil is zero. It may be C itself
	LDInit     int
	Bias       []float32 // (N), added to every row of the start value with one rounding; nil for none
}

// Run computes the product on the pool's workers; a nil pool computes it on the caller. The number of workers changes
// no bit of C. Run panics where a slice is too short for the sizes given, which is a bug of the caller.
func (p Product) Run(pool *Pool) {
	g := p.resolve()
	matMul(pool, &g)
}

// resolve checks p and fills in its defaults.
func (p *Product) resolve() product {
	if p.Packed != nil {
		p.N, p.K = p.Packed.n, p.Packed.k
		if p.TransA {
			panic("tensor.Product: a transposed A with a packed B is not supported")
		}
	}
	aRows, aCols := transposed(p.TransA, p.M, p.K)
	g := product{
		m: p.M, n: p.N, k: p.K,
		c: p.C, ldc: leading(p.LDC, p.N),
		a: p.A, aRow: leading(p.LDA, aCols), aStep: 1,
		bf16: p.Numerics == V1BF16,
	}
	checkMatrix("Product.C", len(g.c), g.ldc, p.M, p.N)
	checkMatrix("Product.A", len(g.a), g.aRow, aRows, aCols)
	if p.TransA {
		g.aRow, g.aStep = 1, g.aRow
	}
	if p.Packed != nil {
		g.packed, g.bf16, g.half = p.Packed, p.Packed.bf16, p.Packed.half
	} else {
		p.resolveB(&g)
	}
	g.initial = p.resolveInit(g.ldc)
	return g
}

// resolveB checks B, or BHalf in its place, and sets it in g.
func (p *Product) resolveB(g *product) {
	rows, cols := transposed(p.TransB, p.K, p.N)
	g.ldb, g.transB = leading(p.LDB, cols), p.TransB
	if p.BHalf == nil {
		g.b = p.B
		checkMatrix("Product.B", len(g.b), g.ldb, rows, cols)
		return
	}
	if p.B != nil || g.bf16 {
		panic("tensor.Product: BHalf stands in the place of B, under V1: it excludes B and V1BF16")
	}
	g.bHalf, g.half = p.BHalf, true
	checkMatrix("Product.BHalf", len(g.bHalf), g.ldb, rows, cols)
}

// resolveInit checks what the chains start from; ldc is the distance of C's rows.
func (p *Product) resolveInit(ldc int) accInit {
	initial := accInit{bias: p.Bias}
	switch {
	case p.Accumulate && p.Init != nil:
		panic("tensor.Product: Accumulate starts from C: it excludes Init")
	case p.Accumulate:
		initial.rows, initial.ld = p.C, ldc
	case p.Init != nil:
		initial.rows, initial.ld = p.Init, leading(p.LDInit, p.N)
		checkMatrix("Product.Init", len(initial.rows), initial.ld, p.M, p.N)
	}
	if p.Bias != nil {
		sameLength("Product.Bias", p.N, len(p.Bias))
	}
	return initial
}

// transposed returns the sizes under which a matrix (rows, cols) is stored.
func transposed(trans bool, rows, cols int) (storedRows, storedCols int) {
	if trans {
		return cols, rows
	}
	return rows, cols
}

// leading returns a leading dimension, which defaults to the number of columns.
func leading(ld, cols int) int {
	if ld == 0 {
		return cols
	}
	return ld
}

// checkMatrix panics unless rows of cols elements at distance ld lie in a slice of that length.
func checkMatrix(what string, length, ld, rows, cols int) {
	if rows < 0 || cols < 0 {
		panic(fmt.Sprintf("tensor.%s: size (%d, %d) is negative", what, rows, cols))
	}
	if rows == 0 || cols == 0 {
		return
	}
	if ld < cols || length < (rows-1)*ld+cols {
		panic(fmt.Sprintf("tensor.%s: %d elements at row distance %d do not hold (%d, %d)",
			what, length, ld, rows, cols))
	}
}

// accInit is the value that the accumulators of a product start from: rows plus bias, rounded once; only one of the
// two; or zero.
type accInit struct {
	rows []float32 // (m, n), or nil
	ld   int       // distance of its rows; 0 where one row serves all rows of C
	bias []float32 // (n), or nil
}

// tile returns s for a tile of C that begins at row i and column j.
func (s *accInit) tile(i, j int) accInit {
	t := accInit{ld: s.ld}
	if s.rows != nil {
		t.rows = s.rows[i*s.ld+j:]
	}
	if s.bias != nil {
		t.bias = s.bias[j:]
	}
	return t
}

// row sets c (n) to the start value of row i. c may be that very row.
func (s *accInit) row(c []float32, i int) {
	if s.rows == nil && s.bias == nil {
		clear(c)
		return
	}
	if s.rows == nil {
		copy(c, s.bias)
		return
	}
	copy(c, s.rows[i*s.ld:])
	if s.bias != nil {
		addPortable(c, s.bias[:len(c)])
	}
}

// product is a checked [Product], or a tile of one.
//
// The kernels see the operands as 32-bit words along k: under V1 a word is one float32, under V1BF16 it is a pair of
// neighbours along k in bfloat16. With half, only B has pairs. kWords and perWord convert between words and elements.
type product struct {
	m, n, k int // of C (m, n) and of the chains, in elements

	c   []float32
	ldc int

	// op(A)'s element (i, l) is a[i*aRow + l*aStep]. One of the two distances is 1: aStep for A as stored, aRow for a
	// transposed A.
	a           []float32
	aRow, aStep int

	// op(B)'s element (l, j) is b[l*ldb + j], or b[j*ldb + l] if transB; or it lies in packed, where this tile begins
	// with panel firstPanel.
	b          []float32
	bHalf      []uint16 // in the place of b if half, unless B is packed
	ldb        int
	transB     bool
	packed     *PackedB
	firstPanel int

	bf16    bool // words are pairs of bfloat16
	half    bool // B's words are pairs of bfloat16, A's are float32: see half.go
	initial accInit
}

// kWords is the number of 32-bit words along k, of A where B alone has pairs.
func (g *product) kWords() int {
	if g.bf16 {
		return (g.k + 1) / 2
	}
	return g.k
}

// perWord is the number of elements along k in a word, of A where B alone has pairs.
func (g *product) perWord() int {
	if g.bf16 {
		return 2
	}
	return 1
}

// perWordB is the number of elements along k in a word of B.
func (g *product) perWordB() int {
	if g.half {
		return 2
	}
	return g.perWord()
}

// wordsB is the number of words of B along k for that many of A.
func (g *product) wordsB(words int) int {
	if g.half {
		return (words + 1) / 2
	}
	return words
}

// runPortable is the reference: what every kernel must equal bit for bit. It walks along a row of C for each word of k,
// which keeps k ascending in every chain. Unlike the kernels it allocates.
func (g *product) runPortable() {
	words := g.kWords()
	a, b := make([]float32, words), make([]float32, g.n)
	for i := range g.m {
		row := g.c[i*g.ldc : i*g.ldc+g.n]
		g.initial.row(row, i)
		g.rowOfA(a, i)
		switch {
		case g.half:
			g.portableHalf(a, row)
			continue
		case g.packed != nil:
			g.portablePacked(a, row)
			continue
		case g.transB && !g.bf16:
			g.portableTransposed(a, row)
			continue
		}
		for l, x := range a {
			if g.bf16 {
				dpbf16Portable(row, x, g.rowOfB(b, l))
			} else {
				axpyPortable(row, x, g.rowOfB(b, l))
			}
		}
	}
}

// rowOfA sets a (kWords) to the words of op(A)'s row i. The last pair of an odd k is padded with zero.
func (g *product) rowOfA(a []float32, i int) {
	for l := range a {
		at := i*g.aRow + l*g.perWord()*g.aStep
		switch {
		case !g.bf16:
			a[l] = g.a[at]
		case 2*l+1 < g.k:
			a[l] = packBF16(g.a[at], g.a[at+g.aStep])
		default:
			a[l] = packBF16(g.a[at], 0)
		}
	}
}

// rowOfB returns row l of op(B) in words (n): a view of B where that has them, otherwise b, which it fills.
func (g *product) rowOfB(b []float32, l int) []float32 {
	if !g.bf16 {
		return g.b[l*g.ldb : l*g.ldb+g.n]
	}
	element := func(l, j int) float32 {
		switch {
		case l >= g.k:
			return 0
		case g.transB:
			return g.b[j*g.ldb+l]
		}
		return g.b[l*g.ldb+j]
	}
	for j := range b {
		b[j] = packBF16(element(2*l, j), element(2*l+1, j))
	}
	return b
}

// portablePacked continues the chains of one row of C with a row of op(A), a (kWords), and packed B, panel by panel.
func (g *product) portablePacked(a, row []float32) {
	size := g.packed.kWords() * panelColumns
	for j := 0; j < len(row); j += panelColumns {
		chains := row[j:min(len(row), j+panelColumns)]
		panel := g.packed.data[(g.firstPanel+j/panelColumns)*size:][:size]
		for l, x := range a {
			b := panel[l*panelColumns:][:len(chains)]
			if g.bf16 {
				dpbf16Portable(chains, x, b)
			} else {
				axpyPortable(chains, x, b)
			}
		}
	}
}

// portableTransposed continues the chains of one row of C with a (k) and B stored as (n, k). Element by element is
// faster here than row by row, and each chain still takes k in ascending order.
func (g *product) portableTransposed(a, row []float32) {
	for j := range row {
		s := row[j]
		for l, v := range g.b[j*g.ldb : j*g.ldb+g.k] {
			s = FMA(a[l], v, s)
		}
		row[j] = s
	}
}
