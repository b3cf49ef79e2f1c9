package tensor

// panelColumns is the number of columns of a panel.
const panelColumns = 32

// Panels is a matrix B (k, n) laid out for products with it: 32 columns at a
// time, their rows end to end, so that a product reads memory in one stream.
// It pays where a weight is used by many rows, or again and again. The zero
// value is empty; Reset and Fill fill it.
type Panels struct {
	words []float32 // (panels, k, 32), or pairs of bfloat16 (panels, ⌈k/2⌉, 32)
	k, n  int
	pairs bool
}

// Reset makes p a matrix (k, n) under a numeric contract, whose contents are
// for Fill to set. It keeps p's memory when that is large enough.
func (p *Panels) Reset(numerics Numerics, k, n int) {
	p.k, p.n, p.pairs = k, n, numerics == V1BF16
	size := p.count() * p.depth() * panelColumns
	if cap(p.words) < size {
		p.words = make([]float32, size)
	}
	p.words = p.words[:size]
}

// Size is the shape (k, n) of the matrix.
func (p *Panels) Size() (k, n int) { return p.k, p.n }

// depth is the number of words along k.
func (p *Panels) depth() int {
	if p.pairs {
		return (p.k + 1) / 2
	}
	return p.k
}

func (p *Panels) count() int { return (p.n + panelColumns - 1) / panelColumns }

// fillPanels is how many panels a task of Fill takes: enough for B's memory to
// be read in pieces of a kilobyte.
const fillPanels = 8

// Tasks is into how many tasks Fill is divided.
func (p *Panels) Tasks() int { return (p.count() + fillPanels - 1) / fillPanels }

// Fill copies one task's share of B, stored as (k, n) or, if turned, as (n, k).
func (p *Panels) Fill(task int, b []float32, turned bool) {
	sameLength("Panels.Fill", p.k*p.n, len(b))
	size := p.depth() * panelColumns
	for i := task * fillPanels; i < min(p.count(), (task+1)*fillPanels); i++ {
		j := i * panelColumns
		panel, cols := p.words[i*size:(i+1)*size], min(panelColumns, p.n-j)
		switch {
		case !turned:
			packPanel(panel, panelColumns, b[j:], p.n, p.k, cols, p.pairs)
		case p.pairs:
			p.fillTurnedPairs(panel, b[j*p.k:], cols)
		default:
			turnPanel(panel, b[j*p.k:], p.k, p.k, cols)
		}
	}
}

// packPanel copies B's k rows of cols columns to a panel, filled up with zeros.
func packPanel(panel []float32, width int, b []float32, ldb, k, cols int, pairs bool) {
	if cols < width {
		clear(panel)
	}
	if pairs {
		weaveRows(panel, width, b, ldb, k, cols)
		return
	}
	for r := range k {
		copy(panel[r*width:r*width+cols], b[r*ldb:r*ldb+cols])
	}
}

// fillTurnedPairs rounds some of B's rows (·, k) at a time and turns the pairs.
func (p *Panels) fillTurnedPairs(panel, b []float32, cols int) {
	s := scratches.get()
	defer scratches.put(s)
	part := min(p.depth(), len(s.a)/panelColumns)
	for l := 0; l < p.depth(); l += part {
		words := min(part, p.depth()-l)
		for c := range cols {
			roundRow(s.a[c*words:(c+1)*words], b[c*p.k+2*l:c*p.k+min(p.k, 2*(l+words))])
		}
		turnPanel(panel[l*panelColumns:(l+words)*panelColumns], s.a[:], words, words, cols)
	}
}

// turnRest turns columns from … k of n rows of src into rows of a panel.
func turnRest(panel []float32, width int, src []float32, ld, from, k, n int) {
	for r := range n {
		for q := from; q < k; q++ {
			panel[q*width+r] = src[r*ld+q]
		}
	}
}

// MatMulPanels computes C = A·B, or C += A·B when add is set, for B in panels:
// [MatMul] under V1. Under [V1BF16] an element is a chain of [FlushedFMA] over
// operands rounded to bfloat16, and an odd k is filled up with a product of
// zeros.
func MatMulPanels(
	p *Pool,
	c []float32, ldc int, // (m, n)
	a []float32, lda int, // (m, k)
	b *Panels,
	m int, add bool,
) {
	checkMatrix("MatMulPanels C", c, ldc, m, b.n)
	checkMatrix("MatMulPanels A", a, lda, m, b.k)
	if m == 0 || b.n == 0 {
		return
	}
	if b.k == 0 {
		(&product{c: c, ldc: ldc, m: m, n: b.n, add: add}).nothing()
		return
	}
	g := panelProduct{c: c, ldc: ldc, a: a, lda: lda, b: b, m: m, to: b.count(), add: add}
	tasks := min(4*p.Workers(), m*b.n*b.k/taskWork)
	if p.Workers() == 1 || tasks <= 1 {
		g.tile()
		return
	}
	j := panelJobs.get()
	j.panelProduct = g
	tasks -= tasks % min(tasks, p.Workers()) // all end together
	j.across = min(tasks, b.count())
	down := max(1, min(tasks/j.across, m/96))
	j.rows = roundUp((m+down-1)/down, stripRows)
	p.Run((m+j.rows-1)/j.rows*j.across, j.run)
	j.panelProduct = panelProduct{}
	panelJobs.put(j)
}

// panelProduct is a product with panels from … to of B.
type panelProduct struct {
	c, a     []float32
	ldc, lda int
	b        *Panels
	m        int
	from, to int
	add      bool
}

// panelJob is a product in work: a grid of tiles, one task each.
type panelJob struct {
	panelProduct
	rows, across int
	run          func(task, worker int)
}

var panelJobs = freeList[panelJob]{fresh: func() *panelJob {
	j := new(panelJob)
	j.run = j.task
	return j
}}

func (j *panelJob) task(task, _ int) {
	t, i, part := j.panelProduct, task/j.across*j.rows, task%j.across
	t.m = min(j.rows, j.m-i)
	t.c, t.a = j.c[i*j.ldc:], j.a[i*j.lda:]
	t.from, t.to = j.to*part/j.across, j.to*(part+1)/j.across
	t.tile()
}

// portable is the reference.
func (g *panelProduct) portable() {
	depth := g.b.depth()
	words := make([]float32, depth)
	for i := range g.m {
		a := g.a[i*g.lda : i*g.lda+g.b.k]
		if g.b.pairs {
			roundRow(words, a)
			a = words
		}
		for p := g.from; p < g.to; p++ {
			j := p * panelColumns
			row := g.c[i*g.ldc+j : i*g.ldc+min(g.b.n, j+panelColumns)]
			if !g.add {
				clear(row)
			}
			for l, x := range a {
				b := g.b.words[(p*depth+l)*panelColumns:][:len(row)]
				if g.b.pairs {
					pairsPortable(row, x, b)
				} else {
					axpyPortable(row, x, b)
				}
			}
		}
	}
}
