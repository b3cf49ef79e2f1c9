package model

import "github.com/trimtab/trimtab/tensor"

// matrix is one of a model's weights as products read it: where it lies in the
// slab, or in panels, where enough rows follow to repay the copy.
type matrix struct {
	w       []float32 // (in, out), or (out, in) if turned
	in, out int
	turned  bool
	panels  bool
	ahead   tensor.Panels // (in, out), if panels
	back    tensor.Panels // (out, in), if panels and the backward pass has begun
}

// packed is the weights of one model. It is made anew by every pass: to copy
// the weights takes as long as the products of a few rows with them.
type packed struct {
	numerics tensor.Numerics
	layers   []packedLayer
	head     matrix // wte, from (C) to (V)
	far      bool   // the body is large and lies in the slab: all workers should read it once, together

	fills []filling // of the running copy
	tasks int
	run   func(task, worker int)
}

type packedLayer struct{ attn, proj, fc, out matrix }

// filling is panels to be filled from a weight.
type filling struct {
	p      *tensor.Panels
	w      []float32
	turned bool
	first  int // task
}

func newPacked() *packed {
	p := new(packed)
	p.run = p.fillTask
	return p
}

// Rows that repay the copy of the weights: of a body that stays in a core's
// second cache or in the third, and of a larger one.
const (
	nearRows  = 256
	farRows   = 1024
	nearFloat = 1 << 22
)

// use makes p the body of m, in panels if so many rows repay that.
func (p *packed) use(m *Model, numerics tensor.Numerics, pool *tensor.Pool, rows int) {
	c := m.Config.Width
	large, least := 12*c*c*m.Config.Layers > nearFloat, nearRows
	if large {
		least = farRows
	}
	p.far = large && rows < least
	p.bind(m, numerics, rows >= least)
	p.begin()
	for l := range p.layers {
		for _, x := range p.layers[l].all() {
			p.ahead(x)
		}
	}
	p.end(pool)
}

// useAll makes p the weights of m for many passes, all in panels.
func (p *packed) useAll(m *Model, numerics tensor.Numerics, pool *tensor.Pool) {
	p.use(m, numerics, pool, farRows)
	p.useHead(m, pool, farRows)
}

// useHead adds the output head for that many rows.
func (p *packed) useHead(m *Model, pool *tensor.Pool, rows int) {
	c, v := m.Config.Width, m.Config.Vocab
	p.head.set(m.w.wte, c, v, true, rows >= nearRows)
	p.begin()
	p.ahead(&p.head)
	p.end(pool)
}

func (p *packed) bind(m *Model, numerics tensor.Numerics, panels bool) {
	c := m.Config.Width
	p.numerics = numerics
	sized(&p.layers, m.Config.Layers)
	for l := range p.layers {
		x, w := &p.layers[l], &m.w.layers[l]
		x.attn.set(w.attn, c, 3*c, false, panels)
		x.proj.set(w.proj, c, c, false, panels)
		x.fc.set(w.fc, c, 4*c, false, panels)
		x.out.set(w.out, 4*c, c, false, panels)
	}
}

func (x *packedLayer) all() [4]*matrix { return [...]*matrix{&x.attn, &x.proj, &x.fc, &x.out} }

func (x *matrix) set(w []float32, in, out int, turned, panels bool) {
	x.w, x.in, x.out, x.turned, x.panels = w, in, out, turned, panels
}

// goBack makes the body's matrices ready for products with their transposes.
func (p *packed) goBack(pool *tensor.Pool) {
	p.begin()
	for l := range p.layers {
		for _, x := range p.layers[l].all() {
			p.back(x)
		}
	}
	p.end(pool)
}

// headBack is goBack for the head.
func (p *packed) headBack(pool *tensor.Pool) {
	p.begin()
	p.back(&p.head)
	p.end(pool)
}

func (p *packed) begin() { p.fills, p.tasks = p.fills[:0], 0 }

func (p *packed) ahead(x *matrix) {
	if x.panels {
		x.ahead.Reset(p.numerics, x.in, x.out)
		p.add(filling{&x.ahead, x.w, x.turned, p.tasks})
	}
}

func (p *packed) back(x *matrix) {
	if x.panels {
		x.back.Reset(p.numerics, x.out, x.in)
		p.add(filling{&x.back, x.w, !x.turned, p.tasks})
	}
}

func (p *packed) add(f filling) {
	p.fills = append(p.fills, f)
	p.tasks += f.p.Tasks()
}

func (p *packed) end(pool *tensor.Pool) { pool.Run(p.tasks, p.run) }

func (p *packed) fillTask(task, _ int) {
	i := len(p.fills) - 1
	for p.fills[i].first > task {
		i--
	}
	f := &p.fills[i]
	f.p.Fill(task-f.first, f.w, f.turned)
}

// multiply is y (rows, out) = start + x (rows, in) · w. With turned weights
// there is no start.
func (p *packed) multiply(pool *tensor.Pool, y []float32, start tensor.Start, x []float32, w *matrix, rows int) {
	switch {
	case w.panels:
		tensor.MatMulPanelsFrom(pool, y, w.out, start, x, w.in, &w.ahead, rows)
	case w.turned:
		tensor.MatMulNTUnder(p.numerics, pool, y, w.out, x, w.in, w.w, w.in, rows, w.out, w.in, false)
	default:
		tensor.MatMulFrom(p.numerics, pool, y, w.out, start, x, w.in, w.w, w.out, rows, w.out, w.in)
	}
}

// multiplyBack is dx (rows, in) = dy (rows, out) · wᵀ.
func (p *packed) multiplyBack(pool *tensor.Pool, dx, dy []float32, w *matrix, rows int) {
	switch {
	case w.panels:
		tensor.MatMulPanels(pool, dx, w.in, dy, w.out, &w.back, rows, false)
	case w.turned:
		tensor.MatMulUnder(p.numerics, pool, dx, w.in, dy, w.out, w.w, w.in, rows, w.in, w.out, false)
	default:
		tensor.MatMulNTUnder(p.numerics, pool, dx, w.in, dy, w.out, w.w, w.out, rows, w.in, w.out, false)
	}
}
