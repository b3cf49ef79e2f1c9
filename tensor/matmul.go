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
	checkMatrix("MatMul C", c, ldc, m, n)
	checkMatrix("MatMul A", a, lda, m, k)
	checkMatrix("MatMul B", b, ldb, k, n)
	matMul(p, &product{c: c, ldc: ldc, a: a, aRow: lda, aStep: 1, b: b, ldb: ldb, m: m, n: n, k: k, add: add})
}

// MatMulNT is [MatMul] with B stored the other way round: C (+)= A·Bᵀ.
func MatMulNT(
	p *Pool,
	c []float32, ldc int, // (m, n)
	a []float32, lda int, // (m, k)
	b []float32, ldb int, // (n, k)
	m, n, k int, add bool,
) {
	checkMatrix("MatMulNT C", c, ldc, m, n)
	checkMatrix("MatMulNT A", a, lda, m, k)
	checkMatrix("MatMulNT B", b, ldb, n, k)
	matMul(p, &product{c: c, ldc: ldc, a: a, aRow: lda, aStep: 1, b: b, ldb: ldb, turned: true, m: m, n: n, k: k, add: add})
}

// MatMulTN is [MatMul] with A stored the other way round: C (+)= Aᵀ·B.
func MatMulTN(
	p *Pool,
	c []float32, ldc int, // (m, n)
	a []float32, lda int, // (k, m)
	b []float32, ldb int, // (k, n)
	m, n, k int, add bool,
) {
	checkMatrix("MatMulTN C", c, ldc, m, n)
	checkMatrix("MatMulTN A", a, lda, k, m)
	checkMatrix("MatMulTN B", b, ldb, k, n)
	matMul(p, &product{c: c, ldc: ldc, a: a, aRow: 1, aStep: lda, b: b, ldb: ldb, m: m, n: n, k: k, add: add})
}

// MatMulTNUnder is [MatMulTN] under a numeric contract. Under [V1BF16] the
// chain is one of [FlushedFMA] over operands rounded to bfloat16, and an odd k
// is filled up with a product of zeros.
func MatMulTNUnder(
	numerics Numerics,
	p *Pool,
	c []float32, ldc int, // (m, n)
	a []float32, lda int, // (k, m)
	b []float32, ldb int, // (k, n)
	m, n, k int, add bool,
) {
	checkMatrix("MatMulTN C", c, ldc, m, n)
	checkMatrix("MatMulTN A", a, lda, k, m)
	checkMatrix("MatMulTN B", b, ldb, k, n)
	matMul(p, &product{c: c, ldc: ldc, a: a, aRow: 1, aStep: lda, b: b, ldb: ldb, m: m, n: n, k: k, add: add,
		pairs: numerics == V1BF16})
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
		panic(fmt.Sprintf("tensor.%s: %d elements at row distance %d do not hold (%d, %d)", what, len(x), ld, rows, cols))
	}
}

// product is one matrix product, or a tile of one. A's element (i, l) is
// a[i*aRow + l*aStep]; B's (l, j) is b[l*ldb + j], or b[j*ldb + l] if turned.
// Of pairs, aRow is 1 and B is not turned.
type product struct {
	c, a, b               []float32
	ldc, aRow, aStep, ldb int
	m, n, k               int
	turned, add, pairs    bool
}

// portable is the reference.
func (g *product) portable() {
	for i := range g.m {
		row := g.c[i*g.ldc : i*g.ldc+g.n]
		if !g.add {
			clear(row)
		}
		if g.turned {
			g.portableTurned(i, row)
			continue
		}
		if g.pairs {
			g.portablePairs(i, row)
			continue
		}
		for l := range g.k {
			axpyPortable(row, g.a[i*g.aRow+l*g.aStep], g.b[l*g.ldb:l*g.ldb+g.n])
		}
	}
}

func (g *product) portablePairs(i int, row []float32) {
	word, b := make([]float32, 1), make([]float32, g.n)
	for l := 0; l < g.k; l += 2 {
		rows := min(2, g.k-l)
		weaveRows(word, 1, g.a[i+l*g.aStep:], g.aStep, rows, 1)
		weaveRows(b, g.n, g.b[l*g.ldb:], g.ldb, rows, g.n)
		pairsPortable(row, word[0], b)
	}
}

func (g *product) portableTurned(i int, row []float32) {
	for j := range row {
		s := row[j]
		for l, v := range g.b[j*g.ldb : j*g.ldb+g.k] {
			s = FMA(g.a[i*g.aRow+l*g.aStep], v, s)
		}
		row[j] = s
	}
}
