package model

import "github.com/trimtab/trimtab/tensor"

// weightMatrix is one weight matrix in the forms that products read it in: as it lies in the slab, or packed, where
// enough rows follow to repay the copy.
type weightMatrix struct {
	w          []float32 // (in, out), or (out, in) if transposed: a view of the slab
	half       []uint16  // in place of w in a frozen model, which is read as it lies
	in, out    int
	transposed bool
	isPacked   bool
	packedW    tensor.PackedB // (in, out), if isPacked
	packedWT   tensor.PackedB // (out, in), if isPacked and a backward pass has begun
}

// packedWeights holds the weight matrices of one model for products. Every pass makes it anew, since the optimizer
// changes the weights, and only where that repays itself: copying the weights takes as long as the products of a few
// rows with them.
type packedWeights struct {
	numerics tensor.Numerics
	layers   []packedLayer
	head     weightMatrix // wte, from (C) to (V)
	readOnce bool         // the body is large and not packed: all workers should read it together, once

	jobs  []packJob // matrices that are being packed
	tasks int       // of all jobs
	run   func(task, worker int)
}

// packedLayer holds the weight matrices of one block.
type packedLayer struct{ qkv, out, up, down weightMatrix }

// packJob is one matrix to be packed.
type packJob struct {
	p     *tensor.PackedB
	w     []float32
	trans bool // w is stored the other way round
	first int  // number of its first task
}

// newPacked returns packedWeights of no model.
func newPacked() *packedWeights {
	p := new(packedWeights)
	p.run = p.packTask
	return p
}

// Rows from which packing the body repays itself. A body that stays in a core's second-level cache, or in the third,
// is packed sooner than a larger one.
const (
	packMinRows      = 256
	packMinRowsLarge = 1024
	largeBody        = 1 << 22 // parameters of the blocks from which a body is large
)

// useBody makes p hold the body of m, packed if so many rows repay that.
func (p *packedWeights) useBody(m *Model, numerics tensor.Numerics, pool *tensor.Pool, rows int) {
	large, least := m.Config.bodyWeights() > largeBody, packMinRows
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

// useAll makes p hold all weights of m, packed, for many passes: Generate's, which change no weight.
func (p *packedWeights) useAll(m *Model, numerics tensor.Numerics, pool *tensor.Pool) {
	p.useBody(m, numerics, pool, packMinRowsLarge)
	p.useHead(m, pool, packMinRowsLarge)
}

// useHead adds the output head, packed if so many rows repay that.
func (p *packedWeights) useHead(m *Model, pool *tensor.Pool, rows int) {
	p.head.set(m.w.head, m.halves.head, m.dims.width, m.dims.vocab, true, rows >= packMinRows)
	p.beginPacking()
	p.addForward(&p.head)
	p.runPacking(pool)
}

// bind points the matrices to the weights of m.
func (p *packedWeights) bind(m *Model, numerics tensor.Numerics, packed bool) {
	d, linear := &m.dims, !m.conv1D
	p.numerics = numerics
	resize(&p.layers, m.Config.Layers)
	for l := range p.layers {
		x, w, h := &p.layers[l], &m.w.layers[l], layerHalves{}
		if m.IsFrozen() {
			h = m.halves.layers[l]
		}
		x.qkv.set(w.qkvw, h.qkv, d.width, d.qkv, linear, packed)
		x.out.set(w.outw, h.out, d.attention, d.width, linear, packed)
		x.up.set(w.upw, h.up, d.width, d.up, linear, packed)
		x.down.set(w.downw, h.down, d.inner, d.width, linear, packed)
	}
}

// matrices lists the matrices of the block.
func (x *packedLayer) matrices() [4]*weightMatrix {
	return [...]*weightMatrix{&x.qkv, &x.out, &x.up, &x.down}
}

// set points x to a weight from in to out features. Its packed forms are then out of date; their memory is kept.
func (x *weightMatrix) set(w []float32, half []uint16, in, out int, transposed, packed bool) {
	x.w, x.half = w, half
	x.in, x.out = in, out
	x.transposed, x.isPacked = transposed, packed && half == nil
}

// packBodyTransposed packs the transposes of the body's matrices for a backward pass, if they are packed at all.
func (p *packedWeights) packBodyTransposed(pool *tensor.Pool) {
	p.beginPacking()
	for l := range p.layers {
		for _, x := range p.layers[l].matrices() {
			p.addTransposed(x)
		}
	}
	p.runPacking(pool)
}

// packHeadTransposed does so for the head.
func (p *packedWeights) packHeadTransposed(pool *tensor.Pool) {
	p.beginPacking()
	p.addTransposed(&p.head)
	p.runPacking(pool)
}

// beginPacking begins a list of matrices to be packed, all by one run of the pool.
func (p *packedWeights) beginPacking() { p.jobs, p.tasks = p.jobs[:0], 0 }

// addForward adds x to the list, if it is to be packed.
func (p *packedWeights) addForward(x *weightMatrix) {
	if x.isPacked {
		x.packedW.Reset(p.numerics, x.in, x.out)
		p.addJob(packJob{&x.packedW, x.w, x.transposed, p.tasks})
	}
}

// addTransposed adds the transpose of x to the list, if x is packed.
func (p *packedWeights) addTransposed(x *weightMatrix) {
	if x.isPacked {
		x.packedWT.Reset(p.numerics, x.out, x.in)
		p.addJob(packJob{&x.packedWT, x.w, !x.transposed, p.tasks})
	}
}

// addJob adds a job, whose first task is numbered by the caller.
func (p *packedWeights) addJob(j packJob) {
	p.jobs = append(p.jobs, j)
	p.tasks += j.p.Tasks()
}

// runPacking packs what is on the list.
func (p *packedWeights) runPacking(pool *tensor.Pool) { pool.Run(p.tasks, p.run) }

// packTask does one task of the list; the last job that begins at or before it owns it.
func (p *packedWeights) packTask(task, _ int) {
	i := len(p.jobs) - 1
	for p.jobs[i].first > task {
		i--
	}
	j := &p.jobs[i]
	j.p.Pack(task-j.first, j.w, j.trans)
}

// linear returns the product y (rows, out) = x (rows, in) · w; the caller adds a start value or a bias, and runs it.
func (p *packedWeights) linear(y, x []float32, w *weightMatrix, rows int) tensor.Product {
	if w.isPacked {
		return tensor.Product{M: rows, A: x, Packed: &w.packedW, C: y}
	}
	return tensor.Product{
		Numerics: p.numerics, M: rows, N: w.out, K: w.in, A: x, B: w.w, BHalf: w.half, TransB: w.transposed, C: y,
	}
}

// linearBackward computes dx (rows, in) = dy (rows, out) · wᵀ. Packed weights must have been packed by
// packBodyTransposed or packHeadTransposed since the last forward pass.
func (p *packedWeights) linearBackward(pool *tensor.Pool, dx, dy []float32, w *weightMatrix, rows int) {
	product := tensor.Product{
		Numerics: p.numerics, M: rows, N: w.in, K: w.out, A: dy, B: w.w, TransB: !w.transposed, C: dx,
	}
	if w.isPacked {
		product = tensor.Product{M: rows, A: dy, Packed: &w.packedWT, C: dx}
	}
	product.Run(pool)
}
