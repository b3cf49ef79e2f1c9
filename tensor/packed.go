package tensor

// panelColumns is the number of columns of a panel of packed B: two registers of AVX-512, four of AVX2.
const panelColumns = 32

// PackedB is a matrix B (k, n) packed for products with it: panels of 32 columns, in each of which the rows lie end to
// end, so that a product reads memory in one stream. Packing pays where a weight meets many rows, or meets rows again
// and again.
//
// The zero value is empty. Reset it and call Pack for every task, which may run in parallel; then use it in any number
// of products at once. A packed matrix is a copy: it does not follow later changes of B.
type PackedB struct {
	data []float32 // (panels, k, 32), or pairs of bfloat16 (panels, ⌈k/2⌉, 32); short panels end in zeros
	k, n int
	bf16 bool
	half bool // pairs of bfloat16 in the order of half.go, for products under V1
}

// Reset makes p a matrix (k, n) for products under a numeric contract. The contents are unspecified until Pack has set
// them. p's memory is reused when it is large enough.
func (p *PackedB) Reset(numerics Numerics, k, n int) {
	p.k, p.n = k, n
	p.bf16, p.half = numerics == V1BF16, false
	p.resize()
}

// resize makes room for the panels.
func (p *PackedB) resize() {
	size := p.panels() * p.kWords() * panelColumns
	if cap(p.data) < size {
		p.data = Slab(size)
	}
	p.data = p.data[:size]
}

// kWords is the number of 32-bit words along k: see product.
func (p *PackedB) kWords() int {
	if p.bf16 || p.half {
		return (p.k + 1) / 2
	}
	return p.k
}

// panels is the number of panels; the last may be short.
func (p *PackedB) panels() int { return (p.n + panelColumns - 1) / panelColumns }

// panelsPerTask is how many panels a task of Pack fills: enough for B to be read in pieces of a kilobyte.
const panelsPerTask = 8

// Tasks returns the number of tasks that packing is divided into.
func (p *PackedB) Tasks() int { return (p.panels() + panelsPerTask - 1) / panelsPerTask }

// Pack copies one task's share of B, which is stored as (k, n), or as (n, k) if trans is set. Tasks are numbered from 0
// and write to separate panels. Under [V1BF16] the copy is rounded.
func (p *PackedB) Pack(task int, b []float32, trans bool) {
	if p.half {
		panic("tensor.PackedB.Pack: the matrix was made by ResetHalf, which is for bfloat16: call Reset before")
	}
	sameLength("PackedB.Pack", p.k*p.n, len(b))
	if p.k == 0 {
		return
	}
	size := p.kWords() * panelColumns
	for i := task * panelsPerTask; i < min(p.panels(), (task+1)*panelsPerTask); i++ {
		j := i * panelColumns
		from, ld := j, p.n
		if trans {
			from, ld = j*p.k, p.k
		}
		packPanel(p.data[i*size:(i+1)*size], panelColumns, b[from:], ld, p.k, min(panelColumns, p.n-j), trans, p.bf16)
	}
}

// packPanel copies k rows and cols columns of op(B) to a panel (words, width), whose further columns become zeros. b
// begins at the panel's first element and is stored transposed if trans is set.
func packPanel(panel []float32, width int, b []float32, ldb, k, cols int, trans, bf16 bool) {
	if cols < width {
		clear(panel)
	}
	switch {
	case trans && bf16:
		packTransposedBF16(panel, width, b, ldb, k, cols)
	case trans:
		transposePanel(panel, width, b, ldb, k, cols)
	case bf16:
		interleaveRowsBF16(panel, width, b, ldb, k, cols)
	default:
		copyKernel(panel, width, b, ldb, k, cols)
	}
}

// copyPortable copies k rows of cols columns to a panel (k, width).
func copyPortable(panel []float32, width int, b []float32, ldb, k, cols int) {
	for r := range k {
		copy(panel[r*width:r*width+cols], b[r*ldb:r*ldb+cols])
	}
}

// packTransposedBF16 packs B (cols, k), whose rows are ldb apart, into a panel (⌈k/2⌉, width) of bfloat16 pairs. It
// rounds some words of every row at a time and transposes those, so that the intermediate copy stays in the cache.
func packTransposedBF16(panel []float32, width int, b []float32, ldb, k, cols int) {
	s := roundedRows.get()
	defer roundedRows.put(s)
	total := (k + 1) / 2
	chunk := min(total, len(s)/width)
	for l := 0; l < total; l += chunk {
		words := min(chunk, total-l)
		for c := range cols {
			packRowBF16(s[c*words:(c+1)*words], b[c*ldb+2*l:c*ldb+min(k, 2*(l+words))])
		}
		transposePanel(panel[l*width:(l+words)*width], width, s[:], words, words, cols)
	}
}

// roundedRows is scratch memory for the rounded rows of packTransposedBF16.
var roundedRows = freeList[[1 << 14]float32]{alloc: func() *[1 << 14]float32 { return new([1 << 14]float32) }}

// transposePortable sets panel[q*width + r] = src[r*ld + q] for r < n and from <= q < k.
func transposePortable(panel []float32, width int, src []float32, ld, from, k, n int) {
	for r := range n {
		for q := from; q < k; q++ {
			panel[q*width+r] = src[r*ld+q]
		}
	}
}
