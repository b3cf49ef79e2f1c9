package model

import "github.com/trimtab/trimtab/tensor"

// panelWidth is the number of columns of a panel.
const panelWidth = 96

// panels are the weights laid out for sampling, where a product has few rows
// and is bound by reading the weights: columns 96 at a time, each panel's rows
// end to end, so that memory is read in one stream.
type panels struct {
	slab   []float32
	layers []panelLayer
	head   panelMatrix // (C, V): wte turned
}

type panelLayer struct{ attn, proj, fc, out panelMatrix }

// panelMatrix is a matrix (in, out); panel p holds columns from p·96 on.
type panelMatrix struct {
	data    []float32
	in, out int
}

// pack copies the weights of m.
func (p *panels) pack(m *Model, pool *tensor.Pool) {
	c, v, layers := m.Config.Width, m.Config.Vocab, m.Config.Layers
	sized(&p.slab, layers*12*c*c+c*v)
	sized(&p.layers, layers)
	rest := p.slab
	take := func(in, out int) panelMatrix {
		x := panelMatrix{data: rest[:in*out], in: in, out: out}
		rest = rest[in*out:]
		return x
	}
	for l := range p.layers {
		p.layers[l] = panelLayer{take(c, 3*c), take(c, c), take(c, 4*c), take(4*c, c)}
	}
	p.head = take(c, v)
	pool.Run(layers, func(l, _ int) {
		x, w := &p.layers[l], &m.w.layers[l]
		x.attn.fill(w.attn)
		x.proj.fill(w.proj)
		x.fc.fill(w.fc)
		x.out.fill(w.out)
	})
	pool.Run(p.head.count(), func(i, _ int) { p.head.turn(m.w.wte, i) })
}

func (x *panelMatrix) count() int { return (x.out + panelWidth - 1) / panelWidth }

// panel is the columns and the memory of one panel.
func (x *panelMatrix) panel(i int) (from, to int, data []float32) {
	from, to = i*panelWidth, min(x.out, (i+1)*panelWidth)
	return from, to, x.data[from*x.in : to*x.in]
}

func (x *panelMatrix) fill(w []float32 /* (in, out) */) {
	for i := range x.count() {
		from, to, data := x.panel(i)
		for k := range x.in {
			copy(data[k*(to-from):(k+1)*(to-from)], w[k*x.out+from:k*x.out+to])
		}
	}
}

// turn fills panel i from w (out, in).
func (x *panelMatrix) turn(w []float32, i int) {
	from, to, data := x.panel(i)
	n := to - from
	for c := range n {
		row := w[(from+c)*x.in : (from+c+1)*x.in]
		for k, v := range row {
			data[k*n+c] = v
		}
	}
}

// panelProduct is y (rows, out) (+)= x (rows, in) · w: a task for each panel.
type panelProduct struct {
	y, x []float32
	w    *panelMatrix
	rows int
	add  bool
}

func (p *panelProduct) task(i, _ int) {
	from, to, data := p.w.panel(i)
	tensor.MatMul(nil, p.y[from:], p.w.out, p.x, p.w.in, data, to-from, p.rows, to-from, p.w.in, p.add)
}

func (ln *lane) multiply(y, x []float32, w *panelMatrix, rows int, add bool) {
	if rows == 0 {
		return
	}
	ln.now = panelProduct{y: y, x: x, w: w, rows: rows, add: add}
	ln.ps.pool.Run(w.count(), ln.product)
}

// step feeds the last token of every active sequence and samples the next. It
// runs the chains of Pass.Forward for those rows.
func (ln *lane) step() {
	ps, m := ln.ps, ln.j.m
	c, w := m.Config.Width, &m.w
	ln.tokens, ln.keep = ln.tokens[:0], ln.keep[:0]
	for r, s := range ln.active {
		ln.tokens = append(ln.tokens, s.token)
		ln.keep = append(ln.keep, r)
	}
	n := len(ln.active)
	ps.prepareStep(m, ln.tokens)
	for r, s := range ln.active {
		ps.offset[r] = int32(s.length)
	}
	ps.embed(0, 0, n)
	for l := range m.Config.Layers {
		ps.l = l
		ln.block(&w.layers[l], &ln.j.w.layers[l], n, c)
	}
	ps.finalNorm(0, 0, n)
	for r := range ln.active {
		ln.active[r].length++
	}
	ln.choose(0)
}

// block is attentionIn, attention over the cache, and blockOut for n rows.
func (ln *lane) block(w *layer, p *panelLayer, n, c int) {
	ps, a := ln.ps, ln.ps.acts(ln.ps.l)
	norm(ps.ln1, a.mean1, a.rstd1, ps.x, w.ln1, w.ln1b, 0, n, c)
	spread(a.qkv, w.attnb, n)
	ln.multiply(a.qkv, ps.ln1, &p.attn, n, true)
	ps.pool.Run(n, ln.attend)
	tensor.AddBias(ps.x, w.projb, n, c)
	ln.multiply(ps.x, a.att, &p.proj, n, true)
	norm(ps.ln2, a.mean2, a.rstd2, ps.x, w.ln2, w.ln2b, 0, n, c)
	spread(a.fc, w.fcb, n)
	ln.multiply(a.fc, ps.ln2, &p.fc, n, true)
	tensor.Gelu(ps.act, a.fc)
	tensor.AddBias(ps.x, w.outb, n, c)
	ln.multiply(ps.x, ps.act, &p.out, n, true)
}

// attendRow caches the key and value of one row and runs its attention.
func (ln *lane) attendRow(r, worker int) {
	ps, s, c := ln.ps, &ln.active[r], ln.j.m.Config.Width
	a := ps.acts(ps.l)
	qkv := a.qkv[r*3*c : (r+1)*3*c]
	ln.cache.store(ps.l, s.slot, s.length, qkv)
	ln.cache.attend(ps.l, s.slot, s.length+1, qkv, a.att[r*c:(r+1)*c], ln.work[worker].scores)
}
