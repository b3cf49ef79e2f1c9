package model

import (
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/trimtab/trimtab/draw"
	"github.com/trimtab/trimtab/tensor"
)

// Model is a shape and its parameters. Slab holds every parameter in the order of the package comment; change its
// contents, never the slice, of which the model keeps views.
type Model struct {
	Config Config
	Scalar bool // has a scalar head
	Slab   []float32

	w params // views of Slab
}

// layerParams is the parameters, or the gradients, of one block.
type layerParams struct {
	ln1w, ln1b         []float32 // (C)
	qkvw, qkvb         []float32 // (C, 3C), (3C)
	attprojw, attprojb []float32 // (C, C), (C)
	ln2w, ln2b         []float32 // (C)
	fcw, fcb           []float32 // (C, 4C), (4C)
	fcprojw, fcprojb   []float32 // (4C, C), (C)
}

// params is views of a slab of parameters, or of gradients.
type params struct {
	wte, wpe       []float32 // (V, C), (Context, C)
	layers         []layerParams
	lnfw, lnfb     []float32 // (C)
	scorew, scoreb []float32 // (C), (1); empty without a scalar head
}

// New returns a model of zeros, but for LayerNorm gains of one. It panics when c is not valid.
func New(c Config, scalar bool) *Model {
	if err := c.Validate(); err != nil {
		panic("model.New: " + err.Error())
	}
	m := &Model{Config: c, Scalar: scalar}
	n := c.Parameters()
	if scalar {
		n += c.Width + 1
	}
	m.Slab = tensor.Slab(n)
	m.w.bind(c, scalar, m.Slab)
	for _, l := range m.w.layers {
		fill(l.ln1w, 1)
		fill(l.ln2w, 1)
	}
	fill(m.w.lnfw, 1)
	return m
}

// bind points the views to slab; it allocates only when the number of layers grows.
func (w *params) bind(c Config, scalar bool, slab []float32) {
	rest := slab
	take := func(n int) []float32 {
		part := rest[:n:n]
		rest = rest[n:]
		return part
	}
	d := c.Width
	w.wte, w.wpe = take(c.Vocab*d), take(c.Context*d)
	w.layers = slices.Grow(w.layers[:0], c.Layers)[:c.Layers]
	for i := range w.layers {
		w.layers[i] = layerParams{
			ln1w: take(d), ln1b: take(d),
			qkvw: take(3 * d * d), qkvb: take(3 * d),
			attprojw: take(d * d), attprojb: take(d),
			ln2w: take(d), ln2b: take(d),
			fcw: take(4 * d * d), fcb: take(4 * d),
			fcprojw: take(4 * d * d), fcprojb: take(d),
		}
	}
	w.lnfw, w.lnfb = take(d), take(d)
	w.scorew, w.scoreb = nil, nil
	if scalar {
		w.scorew, w.scoreb = take(d), take(1)
	}
}

// Init draws the parameters as GPT-2 does (Radford et al., 2019): weights and embeddings from N(0, 0.02²), the two
// projections of each block that write into the residual stream from N(0, (0.02/√(2L))²), a scalar head from N(0,
// 1/(C+1)); biases are zero, LayerNorm gains one. Array i of NamedParameters draws from src.At(i).
func (m *Model) Init(src draw.Source) {
	residual := .02 / math.Sqrt(float64(2*m.Config.Layers))
	for i, p := range m.NamedParameters() {
		std := .02
		switch {
		case strings.HasSuffix(p.Name, ".bias"):
			fill(p.Data, 0)
			continue
		case strings.Contains(p.Name, ".ln_"):
			fill(p.Data, 1)
			continue
		case strings.HasSuffix(p.Name, ".c_proj.weight"):
			std = residual
		case p.Name == "score.weight":
			std = 1 / math.Sqrt(float64(m.Config.Width+1))
		}
		fillNormal(p.Data, std, src.At(uint64(i)))
	}
}

// fillNormal draws x from the normal distribution with that standard deviation, element by element.
func fillNormal(x []float32, std float64, s *draw.Stream) {
	for i := range x {
		x[i] = float32(std * s.Normal())
	}
}

// fill sets all of x to v.
func fill(x []float32, v float32) {
	for i := range x {
		x[i] = v
	}
}

// Clone returns a copy that shares nothing with m.
func (m *Model) Clone() *Model {
	c := New(m.Config, m.Scalar)
	copy(c.Slab, m.Slab)
	return c
}

// ToScalar returns a copy of m's body under a new scalar head, drawn from N(0, 1/(C+1)), with bias 0 (Huang, Liu &
// von Werra, "The N Implementation Details of RLHF with PPO", 2023: the heads of reward and value models). m's own
// scalar head, if it has one, is left behind.
func (m *Model) ToScalar(src draw.Source) *Model {
	s := New(m.Config, true)
	copy(s.Slab[:m.Config.Parameters()], m.Slab)
	fillNormal(s.w.scorew, 1/math.Sqrt(float64(m.Config.Width+1)), src.At(0))
	return s
}

// ScoreHead returns the weight (C) and the bias (1) of the scalar head as views, which are empty without one.
func (m *Model) ScoreHead() (weight, bias []float32) { return m.w.scorew, m.w.scoreb }

// NamedParameters lists views of all parameters in slab order.
func (m *Model) NamedParameters() []tensor.NamedArray { return m.viewsOf(m.Slab) }

// NamedViews lists views of x, a slab of m's layout such as gradients, moments or an average, with prefix before
// every name.
func (m *Model) NamedViews(x []float32, prefix string) []tensor.NamedArray {
	named := m.viewsOf(x)
	for i := range named {
		named[i].Name = prefix + named[i].Name
	}
	return named
}

// viewsOf lists views of x, a slab of m's layout; a longer one is cut off.
func (m *Model) viewsOf(x []float32) []tensor.NamedArray {
	if len(x) < len(m.Slab) {
		panic(fmt.Sprintf("model: a slab of %d floats for a model of %d", len(x), len(m.Slab)))
	}
	parts := m.Config.arraySpecs(m.Scalar)
	named := make([]tensor.NamedArray, len(parts))
	for i, p := range parts {
		n := p.size()
		named[i] = tensor.NamedArray{Name: p.name, Shape: p.shape, Data: x[:n:n]}
		x = x[n:]
	}
	return named
}

// DecayRanges lists the half-open ranges of the slab that weight decay applies to: the arrays of two dimensions, not
// biases and LayerNorm parameters. Neighbouring ranges are merged.
func (m *Model) DecayRanges() [][2]int {
	var ranges [][2]int
	at := 0
	for _, p := range m.Config.arraySpecs(m.Scalar) {
		n := p.size()
		if len(p.shape) == 2 {
			if k := len(ranges) - 1; k >= 0 && ranges[k][1] == at {
				ranges[k][1] += n
			} else {
				ranges = append(ranges, [2]int{at, at + n})
			}
		}
		at += n
	}
	return ranges
}

// NewGradient returns a zeroed gradient slab: the layout of Slab, followed by the token embedding's own share of
// wte's gradient (V, C).
//
// The tied head adds to wte's gradient when the loss is taken, and the embedding at the end of the backward pass.
// Kept apart until FoldGradient, both are chains over rows in order, so that a batch divided into micro-batches gives
// the same bytes. A plain slab of len(Slab) is accepted everywhere; it gives the same sums, but for wte in an order,
// and so with a rounding, that depends on the division.
func (m *Model) NewGradient() []float32 { return tensor.Slab(len(m.Slab) + len(m.w.wte)) }

// FoldGradient adds the embedding's share to wte's gradient, clears the share, and returns the gradient in the layout
// of Slab: a view of g. It leaves a plain slab as it is. Call it once after the last micro-batch of a step.
func (m *Model) FoldGradient(pool *tensor.Pool, g []float32) []float32 {
	if len(g) == len(m.Slab) {
		return g
	}
	tail := m.embeddingGradient(g)
	pool.AddAndClear(tail, g[:len(tail)])
	return g[:len(m.Slab)]
}

// embeddingGradient returns where the embedding's gradient of wte (V, C) is accumulated in g: apart, or, in a plain
// slab, in wte's own place. It panics when g is neither.
func (m *Model) embeddingGradient(g []float32) []float32 {
	switch len(g) {
	case len(m.Slab):
		return g[:len(m.w.wte)]
	case len(m.Slab) + len(m.w.wte):
		return g[len(m.Slab):]
	}
	panic(fmt.Sprintf("model: a gradient slab of %d floats for a model of %d: make it with Model.NewGradient", len(g),
		len(m.Slab)))
}
