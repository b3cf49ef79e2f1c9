package tensor

import "fmt"

// MatMul computes C = A·B, or C += A·B when add is set. Each element is one
// chain of [FMA] over k in ascending order, from +0 or from C's value.
//
// ldc, lda and ldb are distances between rows, in elements; C must not overlap
// A or B. The product is spread over the pool's workers, which changes no bit.
func MatMul(
	p *Pool,
	c []float32, ldc int, // (m, n)
	a []float32, lda int, // (m, k)
	b []float32, ldb int, // (k, n)
	m, n, k int, add bool,
) {
	MatMulUnder(V1, p, c, ldc, a, lda, b, ldb, m, n, k, add)
}

// MatMulNT is [MatMul] with B stored the other way round: C (+)= A·Bᵀ.
func MatMulNT(
	p *Pool,
	c []float32, ldc int, // (m, n)
	a []float32, lda int, // (m, k)
	b []float32, ldb int, // (n, k)
	m, n, k int, add bool,
) {
	MatMulNTUnder(V1, p, c, ldc, a, lda, b, ldb, m, n, k, add)
}

// MatMulTN is [MatMul] with A stored the other way round: C (+)= Aᵀ·B.
func MatMulTN(
	p *Pool,
	c []float32, ldc int, // (m, n)
	a []float32, lda int, // (k, m)
	b []float32, ldb int, // (k, n)
	m, n, k int, add bool,
) {
	MatMulTNUnder(V1, p, c, ldc, a, lda, b, ldb, m, n, k, add)
}

// MatMulPanels is [MatMulUnder] for B in panels, under the contract that they
// were made for.
func MatMulPanels(
	p *Pool,
	c []float32, ldc int, // (m, n)
	a []float32, lda int, // (m, k)
	b *PackedB,
	m int, add bool,
) {
	checkMatrix("MatMulPanels C", c, ldc, m, b.n)
	checkMatrix("MatMulPanels A", a, lda, m, b.k)
	matMul(p, &product{c: c, ldc: ldc, a: a, aRow: lda, aStep: 1, packed: b, m: m, n: b.n, k: b.k,
		start: adding(c, ldc, add), bf16: b.bf16})
}

// MatMulUnder, MatMulNTUnder and MatMulTNUnder are the products under a
// numeric contract. Under [V1BF16] a chain is one of [FlushedFMA] over operands
// rounded to bfloat16, and an odd k is filled up with a product of zeros.
func MatMulUnder(numerics Numerics, p *Pool, c []float32, ldc int, a []float32, lda int, b []float32, ldb int, m, n,
	k int, add bool) {
	checkMatrix("MatMul C", c, ldc, m, n)
	checkMatrix("MatMul A", a, lda, m, k)
	checkMatrix("MatMul B", b, ldb, k, n)
	matMul(p, &product{c: c, ldc: ldc, a: a, aRow: lda, aStep: 1, b: b, ldb: ldb, m: m, n: n, k: k,
		start: adding(c, ldc, add),
		bf16:  numerics == V1BF16})
}

// MatMulNTUnder is [MatMulUnder] for A·Bᵀ.
func MatMulNTUnder(numerics Numerics, p *Pool, c []float32, ldc int, a []float32, lda int, b []float32, ldb int, m, n,
	k int, add bool) {
	checkMatrix("MatMulNT C", c, ldc, m, n)
	checkMatrix("MatMulNT A", a, lda, m, k)
	checkMatrix("MatMulNT B", b, ldb, n, k)
	matMul(p, &product{c: c, ldc: ldc, a: a, aRow: lda, aStep: 1, b: b, ldb: ldb, transB: true, m: m, n: n, k: k,
		start: adding(c, ldc, add),
		bf16:  numerics == V1BF16})
}

// MatMulTNUnder is [MatMulUnder] for Aᵀ·B.
func MatMulTNUnder(numerics Numerics, p *Pool, c []float32, ldc int, a []float32, lda int, b []float32, ldb int, m, n,
	k int, add bool) {
	checkMatrix("MatMulTN C", c, ldc, m, n)
	checkMatrix("MatMulTN A", a, lda, k, m)
	checkMatrix("MatMulTN B", b, ldb, k, n)
	matMul(p, &product{c: c, ldc: ldc, a: a, aRow: 1, aStep: lda, b: b, ldb: ldb, m: m, n: n, k: k,
		start: adding(c, ldc, add),
		bf16:  numerics == V1BF16})
}

// Start is in what the chains of a product begin: the rows of From, to each of
// which Bias is added, once rounded; only one of the two; or zero.
type Start struct {
	From []float32 // (m, n), or nil
	LD   int       // distance of its rows, 0 where one row serves all
	Bias []float32 // (n), or nil
}

// MatMulFrom is C = start + A·B under a numeric contract. start.From may be C.
func MatMulFrom(
	numerics Numerics,
	p *Pool,
	c []float32, ldc int, // (m, n)
	start Start,
	a []float32, lda int, // (m, k)
	b []float32, ldb int, // (k, n)
	m, n, k int,
) {
	checkMatrix("MatMulFrom C", c, ldc, m, n)
	checkMatrix("MatMulFrom A", a, lda, m, k)
	checkMatrix("MatMulFrom B", b, ldb, k, n)
	start.check(m, n)
	matMul(p, &product{c: c, ldc: ldc, a: a, aRow: lda, aStep: 1, b: b, ldb: ldb, m: m, n: n, k: k, start: start,
		bf16: numerics == V1BF16})
}

// MatMulPanelsFrom is [MatMulFrom] for B in panels.
func MatMulPanelsFrom(
	p *Pool,
	c []float32, ldc int, // (m, n)
	start Start,
	a []float32, lda int, // (m, k)
	b *PackedB,
	m int,
) {
	checkMatrix("MatMulPanelsFrom C", c, ldc, m, b.n)
	checkMatrix("MatMulPanelsFrom A", a, lda, m, b.k)
	start.check(m, b.n)
	matMul(p, &product{c: c, ldc: ldc, a: a, aRow: lda, aStep: 1, packed: b, m: m, n: b.n, k: b.k, start: start,
		bf16: b.bf16})
}

// adding begins in C itself, or in zero.
func adding(c []float32, ldc int, add bool) Start {
	if add {
		return Start{From: c, LD: ldc}
	}
	return Start{}
}

func (s *Start) check(m, n int) {
	if s.From != nil {
		rows := m
		if s.LD == 0 {
			rows = min(m, 1)
		}
		checkMatrix("Start.From", s.From, max(s.LD, n), rows, n)
		if s.LD != 0 && s.LD < n {
			panic("tensor.Start: rows overlap")
		}
	}
	if s.Bias != nil {
		sameLength("Start.Bias", n, len(s.Bias))
	}
}

// subproduct is s for a tile that begins at row i and column j.
func (s *Start) part(i, j int) Start {
	p := Start{LD: s.LD}
	if s.From != nil {
		p.From = s.From[i*s.LD+j:]
	}
	if s.Bias != nil {
		p.Bias = s.Bias[j:]
	}
	return p
}

// row sets c to what row i begins in; c may be that row.
func (s *Start) row(c []float32, i int) {
	if s.From == nil && s.Bias == nil {
		clear(c)
		return
	}
	if s.From == nil {
		copy(c, s.Bias)
		return
	}
	copy(c, s.From[i*s.LD:])
	if s.Bias != nil {
		addPortable(c, s.Bias[:len(c)])
	}
}

// checkMatrix panics unless rows of cols elements at distance ld lie in x.
func checkMatrix(what string, x []float32, ld, rows, cols int) {
	if rows < 0 || cols < 0 {
		panic(fmt.Sprintf("tensor.%s: size (%d, %d) is negative", what, rows, cols))
	}
	if rows == 0 || cols == 0 {
		return
	}
	if ld < cols || len(x) < (rows-1)*ld+cols {
		panic(fmt.Sprintf("tensor.%s: %d elements at row distance %d do not hold (%d, %d)", what, len(x), ld, rows,
			cols))
	}
}

// product is one matrix product, or a tile of one. A's element (i, l) is
// a[i*aRow + l*aStep], one of the two distances being 1; B's (l, j) is
// b[l*ldb + j], or b[j*ldb + l] if turned, or lies in panels.
type product struct {
	c, a, b               []float32
	ldc, aRow, aStep, ldb int
	packed                *PackedB
	firstPanel            int // the first of them that belongs to this tile
	m, n, k               int
	transB, bf16          bool
	start                 Start
}

// data is the number of words along k.
func (g *product) kWords() int {
	if g.bf16 {
		return (g.k + 1) / 2
	}
	return g.k
}

// perWord is the number of elements along k in a word.
func (g *product) perWord() int {
	if g.bf16 {
		return 2
	}
	return 1
}

// runPortable is the reference.
func (g *product) runPortable() {
	depth := g.kWords()
	a, b := make([]float32, depth), make([]float32, g.n)
	for i := range g.m {
		row := g.c[i*g.ldc : i*g.ldc+g.n]
		g.start.row(row, i)
		g.rowOfA(a, i)
		switch {
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

// rowOfA sets a to the words of A's row i.
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

// rowOfB is the l-th words of B's columns, in b or where they lie.
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

func (g *product) portablePacked(a, row []float32) {
	size := g.packed.kWords() * panelColumns
	for j := 0; j < len(row); j += panelColumns {
		part := row[j:min(len(row), j+panelColumns)]
		panel := g.packed.data[(g.firstPanel+j/panelColumns)*size:][:size]
		for l, x := range a {
			b := panel[l*panelColumns:][:len(part)]
			if g.bf16 {
				dpbf16Portable(part, x, b)
			} else {
				axpyPortable(part, x, b)
			}
		}
	}
}

func (g *product) portableTransposed(a, row []float32) {
	for j := range row {
		s := row[j]
		for l, v := range g.b[j*g.ldb : j*g.ldb+g.k] {
			s = FMA(a[l], v, s)
		}
		row[j] = s
	}
}
