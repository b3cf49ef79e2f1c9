package tensor

// panelColumns is the number of columns of a panel.
const panelColumns = 32

// PackedB is a matrix B (k, n) laid out for products with it: 32 columns at a
// time, their rows end to end, so that a product reads memory in one stream.
// It pays where a weight is used by many rows, or again and again. The zero
// value is empty; Reset and Fill fill it.
type PackedB struct {
	data []float32 // (panels, k, 32), or pairs of bfloat16 (panels, ⌈k/2⌉, 32)
	k, n int
	bf16 bool
}

// Reset makes p a matrix (k, n) under a numeric contract, whose contents are
// for Fill to set. It keeps p's memory when that is large enough.
func (p *PackedB) Reset(numerics Numerics, k, n int) {
	p.k, p.n, p.bf16 = k, n, numerics == V1BF16
	size := p.panels() * p.kWords() * panelColumns
	if cap(p.data) < size {
		p.data = Slab(size)
	}
	p.data = p.data[:size]
}

// kWords is the number of words along k.
func (p *PackedB) kWords() int {
	if p.bf16 {
		return (p.k + 1) / 2
	}
	return p.k
}

func (p *PackedB) panels() int { return (p.n + panelColumns - 1) / panelColumns }

// panelsPerTask is how many panels a task of Fill takes: enough for B's memory to
// be read in pieces of a kilobyte.
const panelsPerTask = 8

// Tasks is into how many tasks Fill is divided.
func (p *PackedB) Tasks() int { return (p.panels() + panelsPerTask - 1) / panelsPerTask }

// Pack copies one task's share of B, stored as (k, n) or, if turned, as (n, k).
func (p *PackedB) Pack(task int, b []float32, turned bool) {
	sameLength("Panels.Fill", p.k*p.n, len(b))
	if p.k == 0 {
		return
	}
	size := p.kWords() * panelColumns
	for i := task * panelsPerTask; i < min(p.panels(), (task+1)*panelsPerTask); i++ {
		j := i * panelColumns
		from, ld := j, p.n
		if turned {
			from, ld = j*p.k, p.k
		}
		packPanel(p.data[i*size:(i+1)*size], panelColumns, b[from:], ld, p.k, min(panelColumns, p.n-j), turned, p.bf16)
	}
}

// packPanel copies k rows and cols columns of B, or of Bᵀ if turned, to a
// panel, filled up with zeros.
func packPanel(panel []float32, width int, b []float32, ldb, k, cols int, turned, pairs bool) {
	if cols < width {
		clear(panel)
	}
	switch {
	case turned && pairs:
		packTransposedBF16(panel, width, b, ldb, k, cols)
	case turned:
		transposePanel(panel, width, b, ldb, k, cols)
	case pairs:
		interleaveRowsBF16(panel, width, b, ldb, k, cols)
	default:
		copyKernel(panel, width, b, ldb, k, cols)
	}
}

func copyPortable(panel []float32, width int, b []float32, ldb, k, cols int) {
	for r := range k {
		copy(panel[r*width:r*width+cols], b[r*ldb:r*ldb+cols])
	}
}

// packTransposedBF16 turns rows of B (cols, k), at distance ldb, into a panel of pairs:
// rounded some words at a time, and those turned.
func packTransposedBF16(panel []float32, width int, b []float32, ldb, k, cols int) {
	s := roundedRows.get()
	defer roundedRows.put(s)
	depth := (k + 1) / 2
	part := min(depth, len(s)/width)
	for l := 0; l < depth; l += part {
		words := min(part, depth-l)
		for c := range cols {
			packRowBF16(s[c*words:(c+1)*words], b[c*ldb+2*l:c*ldb+min(k, 2*(l+words))])
		}
		transposePanel(panel[l*width:(l+words)*width], width, s[:], words, words, cols)
	}
}

// roundedRows is memory for the rows that packTransposedBF16 has rounded.
var roundedRows = freeList[[1 << 14]float32]{alloc: func() *[1 << 14]float32 { return new([1 << 14]float32) }}

// transposePortable turns columns from … k of n rows of src into rows of a panel.
func transposePortable(panel []float32, width int, src []float32, ld, from, k, n int) {
	for r := range n {
		for q := from; q < k; q++ {
			panel[q*width+r] = src[r*ld+q]
		}
	}
}
