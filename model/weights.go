package model

import "github.com/trimtab/trimtab/tensor"

// weightMatrix is one of a model's weights as products read it: where it lies in the
// slab, or in panels, where enough rows follow to repay the copy.
type weightMatrix struct {
	w          []float32 // (in, out), or (out, in) if turned
	in, out    int
	transposed bool
	isPacked   bool
	packedW    tensor.PackedB // (in, out), if panels
	packedWT   tensor.PackedB // (out, in), if panels and the backward pass has begun
}

// packedWeights is the weights of one model. It is made anew by every pass: to copy
// the weights takes as long as the products of a few rows with them.
type packedWeights struct {
	numerics tensor.Numerics
	layers   []packedLayer
	head     weightMatrix // wte, from (C) to (V)
	readOnce bool         // the body is large and lies in the slab: all workers should read it once, together

	jobs  []packJob // of the running copy
	tasks int
	run   func(task, worker int)
}

type packedLayer struct{ qkv, attproj, fc, fcproj weightMatrix }

// packJob is panels to be filled from a weight.
type packJob struct {
	p          *tensor.PackedB
	w          []float32
	transposed bool
	first      int // task
}

func newPacked() *packedWeights {
	p := new(packedWeights)
	p.run = p.packTask
	return p
}

// Rows that repay the copy of the weights: of a body that stays in a core's
// second cache or in the third, and of a larger one.
const (
	packMinRows      = 256
	packMinRowsLarge = 1024
	largeBody        = 1 << 22
)

// useBody makes p the body of m, in panels if so many rows repay that.
func (p *packedWeights) useBody(m *Model, numerics tensor.Numerics, pool *tensor.Pool, rows int) {
	c := m.Config.Width
	large, least := 12*c*c*m.Config.Layers > largeBody, packMinRows
	if large {
		least = packMinRowsLarge
	}
	p.readOnce = large && rows < least
	p.bind(m, numerics, rows >= least)
	p.beginPacking()
	for l := range p.layers {
		for _, x := range p.layers[l].matrices() {
			p.addForward(x)
		}
	}
	p.runPacking(pool)
}

// useAll makes p the weights of m for many passes, all in panels.
func (p *packedWeights) useAll(m *Model, numerics tensor.Numerics, pool *tensor.Pool) {
	p.useBody(m, numerics, pool, packMinRowsLarge)
	p.useHead(m, pool, packMinRowsLarge)
}

// useHead adds the output head for that many rows.
func (p *packedWeights) useHead(m *Model, pool *tensor.Pool, rows int) {
	c, v := m.Config.Width, m.Config.Vocab
	p.head.set(m.w.wte, c, v, true, rows >= packMinRows)
	p.beginPacking()
	p.addForward(&p.head)
	p.runPacking(pool)
}

func (p *packedWeights) bind(m *Model, numerics tensor.Numerics, panels bool) {
	c := m.Config.Width
	p.numerics = numerics
	resize(&p.layers, m.Config.Layers)
	for l := range p.layers {
		x, w := &p.layers[l], &m.w.layers[l]
		x.qkv.set(w.qkvw, c, 3*c, false, panels)
		x.attproj.set(w.attprojw, c, c, false, panels)
		x.fc.set(w.fcw, c, 4*c, false, panels)
		x.fcproj.set(w.fcprojw, 4*c, c, false, panels)
	}
}

func (x *packedLayer) matrices() [4]*weightMatrix {
	return [...]*weightMatrix{&x.qkv, &x.attproj, &x.fc, &x.fcproj}
}

func (x *weightMatrix) set(w []float32, in, out int, turned, panels bool) {
	x.w, x.in, x.out, x.transposed, x.isPacked = w, in, out, turned, panels
}

// packBodyTransposed makes the body's matrices ready for products with their transposes.
func (p *packedWeights) packBodyTransposed(pool *tensor.Pool) {
	p.beginPacking()
	for l := range p.layers {
		for _, x := range p.layers[l].matrices() {
			p.addTransposed(x)
		}
	}
	p.runPacking(pool)
}

// packHeadTransposed is packBodyTransposed for the head.
func (p *packedWeights) packHeadTransposed(pool *tensor.Pool) {
	p.beginPacking()
	p.addTransposed(&p.head)
	p.runPacking(pool)
}

func (p *packedWeights) beginPacking() { p.jobs, p.tasks = p.jobs[:0], 0 }

func (p *packedWeights) addForward(x *weightMatrix) {
	if x.isPacked {
		x.packedW.Reset(p.numerics, x.in, x.out)
		p.addJob(packJob{&x.packedW, x.w, x.transposed, p.tasks})
	}
}

func (p *packedWeights) addTransposed(x *weightMatrix) {
	if x.isPacked {
		x.packedWT.Reset(p.numerics, x.out, x.in)
		p.addJob(packJob{&x.packedWT, x.w, !x.transposed, p.tasks})
	}
}

func (p *packedWeights) addJob(f packJob) {
	p.jobs = append(p.jobs, f)
	p.tasks += f.p.Tasks()
}

func (p *packedWeights) runPacking(pool *tensor.Pool) { pool.Run(p.tasks, p.run) }

func (p *packedWeights) packTask(task, _ int) {
	i := len(p.jobs) - 1
	for p.jobs[i].first > task {
		i--
	}
	f := &p.jobs[i]
	f.p.Pack(task-f.first, f.w, f.transposed)
}

// linear is y (rows, out) = start + x (rows, in) · w. With turned weights
// there is no start.
func (p *packedWeights) linear(pool *tensor.Pool, y []float32, start tensor.Start, x []float32, w *weightMatrix,
	rows int) {
	switch {
	case w.isPacked:
		tensor.MatMulPanelsFrom(pool, y, w.out, start, x, w.in, &w.packedW, rows)
	case w.transposed:
		tensor.MatMulNTUnder(p.numerics, pool, y, w.out, x, w.in, w.w, w.in, rows, w.out, w.in, false)
	default:
		tensor.MatMulFrom(p.numerics, pool, y, w.out, start, x, w.in, w.w, w.out, rows, w.out, w.in)
	}
}

// linearBackward is dx (rows, in) = dy (rows, out) · wᵀ.
func (p *packedWeights) linearBackward(pool *tensor.Pool, dx, dy []float32, w *weightMatrix, rows int) {
	switch {
	case w.isPacked:
		tensor.MatMulPanels(pool, dx, w.in, dy, w.out, &w.packedWT, rows, false)
	case w.transposed:
		tensor.MatMulUnder(p.numerics, pool, dx, w.in, dy, w.out, w.w, w.in, rows, w.in, w.out, false)
	default:
		tensor.MatMulNTUnder(p.numerics, pool, dx, w.in, dy, w.out, w.w, w.out, rows, w.in, w.out, false)
	}
}
