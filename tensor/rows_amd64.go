//go:build !purego

package tensor

import "unsafe"

// Products of few rows with a B stored as (n, k), as the weights of most language models are, take two ways, both of
// which read B once and in the order of memory: that is what bounds them.
//
//	runStream    up to 8 rows (AVX2: 2): B is transposed in registers on its way to the multipliers
//	runRows      more: B is transposed, piece by piece, into a panel that stays in the first-level cache
//
// Meanwhile they fetch the rows of B behind those in use.

// Sizes from which products go these ways, and in what blocks. They decide only speed.
const (
	maxFewRows = 64      // rows up to which even a small B is read in the order of memory
	rowsWords  = 1 << 19 // words of the rows of A that pass by every panel: two megabytes
	panelWords = 6144    // words of a panel: with the rows of A that meet it, it stays in the first-level cache
)

// inRows reports whether the product goes one of these ways.
func (g *product) inRows() bool {
	if !g.transB || g.packed != nil || g.bf16 || g.aStep != 1 {
		return false
	}
	return g.m <= maxFewRows || g.half || g.n*g.k >= largeB
}

// streamKernel is a kernel of _asm/stream.go. Its arguments are those of gemm but for B: its rows are ld bytes apart,
// k is counted in blocks of 16 words, and ahead is how many bytes after b lies what is fetched.
type streamKernel func(
	c *float32, ldc int,
	from *float32, ldf int, bias *float32,
	a *float32, row int,
	b *float32, ld, blocks, ahead int,
	low, high uint64,
)

// streamSet holds the kernels for one kind of B, by rows - 1, and how many registers of columns they take.
type streamSet struct {
	kernels   []streamKernel
	registers []int
}

var (
	f32StreamsAVX512 = streamSet{
		kernels: []streamKernel{stream1AVX512, stream2AVX512, stream3AVX512, stream4AVX512, stream5AVX512,
			stream6AVX512, stream7AVX512, stream8AVX512},
		registers: []int{2, 2, 2, 2, 2, 2, 2, 2},
	}
	halfStreamsAVX512 = streamSet{
		kernels: []streamKernel{streamHalf1AVX512, streamHalf2AVX512, streamHalf3AVX512, streamHalf4AVX512,
			streamHalf5AVX512, streamHalf6AVX512, streamHalf7AVX512, streamHalf8AVX512},
		registers: []int{4, 4, 2, 2, 2, 2, 2, 2},
	}
	f32StreamsAVX2  = streamSet{kernels: []streamKernel{stream1AVX2, stream2AVX2}, registers: []int{4, 2}}
	halfStreamsAVX2 = streamSet{kernels: []streamKernel{streamHalf1AVX2, streamHalf2AVX2}, registers: []int{4, 2}}
)

// streams returns the kernels in use, which are not the portable ones.
func (g *product) streams() *streamSet {
	switch {
	case active == avx512 && g.half:
		return &halfStreamsAVX512
	case active == avx512:
		return &f32StreamsAVX512
	case g.half:
		return &halfStreamsAVX2
	}
	return &f32StreamsAVX2
}

// runStream computes a product of so few rows that B passes through registers only. Columns that do not fill the
// kernel's registers, and the end of k that fills no block, go the way of runRows.
func (g *product) runStream(ks *kernelSet) {
	set := g.streams()
	kernel, width := set.kernels[g.m-1], set.registers[g.m-1]*ks.lanes
	unit, size := 16*g.perWordB(), 4/g.perWordB()
	n, k := g.n/width*width, g.k/unit*unit
	if n == 0 || k == 0 {
		g.runRows(ks)
		return
	}
	s := scratches.get()
	defer scratches.put(s)
	g.spreadRows(s)
	const all = 1<<64 - 1
	ld, ahead := g.ldb*size, width*g.ldb*size
	for j := 0; j < n; j += width {
		if j+width >= g.n {
			ahead = 0 // nothing follows
		}
		from, ldf, bias := g.initial.pointers(j)
		b := (*float32)(g.placeB(j * g.ldb))
		kernel(&g.c[j], g.ldc, from, ldf, bias, &g.a[0], g.aRow, b, ld, k/unit, ahead, all, all)
	}
	if k < g.k {
		rest := g.tile(0, 0, g.m, n)
		rest.continueAt(k)
		rest.runRows(ks)
	}
	if n < g.n {
		rest := g.tile(0, n, g.m, g.n-n)
		rest.runRows(ks)
	}
}

// spreadRows copies A's rows to s, a cache line further apart, where they conflict in the cache with each other and
// with the rows of B.
func (g *product) spreadRows(s *scratch) {
	distance := g.k + 16
	if g.m <= 4 || !cacheConflict(g.aRow) || g.m*distance > len(s.packedA) {
		return
	}
	for i := range g.m {
		copy(s.packedA[i*distance:i*distance+g.k], g.a[i*g.aRow:])
	}
	g.a, g.aRow = s.packedA, distance
}

// continueAt makes g the product over the elements of k from l on, whose chains continue from what C holds. B is not
// packed.
func (g *product) continueAt(l int) {
	step := g.ldb
	if g.transB {
		step = 1
	}
	g.a, g.k = g.a[l*g.aStep:], g.k-l
	if g.half {
		g.bHalf = g.bHalf[l*step:]
	} else {
		g.b = g.b[l*step:]
	}
	g.initial = accInit{rows: g.c, ld: g.ldc}
}

// placeB returns the place of an element of B, which is not packed.
func (g *product) placeB(at int) unsafe.Pointer {
	if g.half {
		return unsafe.Pointer(&g.bHalf[at])
	}
	return unsafe.Pointer(&g.b[at])
}

// pointers is at for the first row, in the form of the kernels' arguments.
func (s *accInit) pointers(j int) (from *float32, ld int, bias *float32) {
	rows, ld, sum := s.at(0, j)
	if rows != nil {
		from = &rows[0]
	}
	if sum != nil {
		bias = &sum[0]
	}
	return from, ld, bias
}

// planRows returns the columns of runRows's panels, and their depth along k: nearly equal, in whole blocks of turn.
func (g *product) planRows(ks *kernelSet) (nr, kc int) {
	nr = ks.registers(g.m) * ks.lanes
	unit := 16 * g.perWordB()
	most := max(unit, panelWords/nr*g.perWordB()/unit*unit)
	blocks := (g.k + most - 1) / most
	return nr, roundUp((g.k+blocks-1)/blocks, unit)
}

// runRows cuts A into blocks of rows that the second-level cache, or nearly, holds.
func (g *product) runRows(ks *kernelSet) {
	s := scratches.get()
	defer scratches.put(s)
	most := max(maxFewRows, rowsWords/g.k)
	blocks := (g.m + most - 1) / most
	rows := roundUp((g.m+blocks-1)/blocks, maxMR)
	for i := 0; i < g.m; i += rows {
		t := g.tile(i, 0, rows, g.n)
		t.runPanels(ks, s)
	}
}

// runPanels loops over panels of B, and within each over pieces of k.
func (g *product) runPanels(ks *kernelSet, s *scratch) {
	nr, kc := g.planRows(ks)
	for j := 0; j < g.n; j += nr {
		t := macroKernel{ks: ks, registers: nr / ks.lanes, cols: min(nr, g.n-j), row: g.aRow, step: 1}
		t.b, t.ldb = &s.packedB[0], nr
		if !ks.masked && t.cols < nr {
			t.edge = &s.edge
		}
		fetch := (j + nr) * g.ldb // the element of B that is fetched next
		c := g.c[j:]
		for l := 0; l < g.k; l += kc {
			t.a, t.k = g.a[l:], min(kc, g.k-l)
			g.turnPanel(&t, s.packedB, l, j, fetch)
			fetch += t.k * t.cols
			t.from, t.ldf, t.bias = c, g.ldc, nil
			if l == 0 {
				t.from, t.ldf, t.bias = g.initial.at(0, j)
			}
			t.run(c, g.ldc, g.m)
		}
	}
}

// turnPanel packs t.k elements from l on of the t.cols columns from j on. As much of B is to be fetched, from an
// element on: by the micro-kernels, a cache line for each word along k, and what exceeds those by turn.
func (g *product) turnPanel(t *macroKernel, panel []float32, l, j, fetch int) {
	t.next = nil
	at, words, cols := j*g.ldb+l, t.k/g.perWordB(), t.cols
	if words < 16 || cols < t.ks.lanes || t.k%g.perWordB() != 0 {
		g.packB(panel, t.ldb, l, j, cols, t.k)
		return
	}
	size := 4 / g.perWordB()
	early, ahead := 0, 0 // columns during which turn fetches
	if end := (g.n-1)*g.ldb + g.k; fetch < end && cols == t.ldb {
		tiles := (g.m + len(t.ks.narrow) - 1) / len(t.ks.narrow)
		early = min(cols, roundUp(max(0, 4*cols-64*tiles), 4*t.ks.lanes)/4) / t.ks.lanes * t.ks.lanes
		ahead = (fetch - at) * size
		if from := fetch + early*t.k; from < end {
			t.next = unsafe.Slice((*float32)(g.placeB(from)), min(cols*t.k, end-from)*size/4)
		}
	}
	if early > 0 {
		turnWords(panel, t.ldb, g.placeB(at), g.ldb*size, words, early, ahead)
	}
	if early < cols {
		turnWords(panel[early:], t.ldb, g.placeB(at+early*g.ldb), g.ldb*size, words, cols-early, 0)
	}
}
