package model

import (
	"fmt"
	"math"

	"github.com/trimtab/trimtab/draw"
	"github.com/trimtab/trimtab/tensor"
)

// Model is a shape and its parameters. Slab holds every parameter in the order of the package comment; change its
// contents, never the slice, of which the model keeps views.
type Model struct {
	Config Config
	Scalar bool // has a scalar head
	Slab   []float32

	ranges  []arrayRange // where the fields of Slab lie
	dims    dims
	conv1D  bool     // matrices of blocks lie as (in, out)
	windows []int    // of every block: how many keys a query sees, 0 for all
	w       params   // views of Slab
	half    []uint16 // of a frozen model, in place of Slab
	halves  halves   // views of half
}

// New returns a model of zeros, but for the weights of norms, which are as Init sets them. It panics when c is not
// valid.
func New(c Config, scalar bool) *Model {
	m := describe(c, scalar)
	m.Slab = tensor.Slab(m.Size())
	m.w.bind(c.Layers, m.ranges, m.Slab)
	for _, r := range m.ranges {
		if fieldTable[r.field].init == initGain {
			fill(m.Slab[r.from:r.to], c.gain())
		}
	}
	return m
}

// describe returns a model without parameters. It panics when c is not valid.
func describe(c Config, scalar bool) *Model {
	if err := c.Validate(); err != nil {
		panic("model: " + err.Error())
	}
	family, _ := FamilyOf(c.Family)
	m := &Model{
		Config: c, Scalar: scalar, ranges: layout(c.arraySpecs(scalar)), dims: c.dims(), conv1D: family.conv1D,
	}
	for l := range c.Layers {
		m.windows = append(m.windows, c.windowOf(l))
	}
	return m
}

// gain returns the weight of a norm that changes nothing.
func (c Config) gain() float32 { return 1 - float32(c.NormOffset) }

// Init draws the parameters as GPT-2 does (Radford et al., 2019): weights and embeddings from N(0, 0.02²), the two
// projections of each block that write into the residual stream from N(0, (0.02/√(2L))²), a scalar head from N(0,
// 1/(C+1)); biases are zero, norms' weights one. Array i of NamedParameters draws from src.At(i).
func (m *Model) Init(src draw.Source) {
	at := 0
	for i, p := range m.Config.arraySpecs(m.Scalar) {
		x := m.Slab[at : at+p.size()]
		at += len(x)
		switch fieldTable[p.field].init {
		case initZero:
			fill(x, 0)
		case initGain:
			fill(x, m.Config.gain())
		case initNormal:
			fillNormal(x, .02, src.At(uint64(i)))
		case initResidual:
			fillNormal(x, .02/math.Sqrt(float64(2*m.Config.Layers)), src.At(uint64(i)))
		case initScore:
			fillNormal(x, 1/math.Sqrt(float64(m.Config.Width+1)), src.At(uint64(i)))
		}
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
	c := m.Config
	c.Untied = false // a scalar model has no language head
	s := New(c, true)
	for _, r := range s.ranges {
		for _, from := range m.ranges {
			if from.field == r.field && from.layer == r.layer && r.field < scoreWeight {
				copy(s.Slab[r.from:r.to], m.Slab[from.from:from.to])
			}
		}
	}
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

// DecayRanges lists the half-open ranges of the slab that weight decay applies to: weights and embeddings, not biases
// and norms. Neighbouring ranges are merged.
func (m *Model) DecayRanges() [][2]int {
	var ranges [][2]int
	for _, r := range m.ranges {
		if !fieldTable[r.field].decay {
			continue
		}
		if k := len(ranges) - 1; k >= 0 && ranges[k][1] == r.from {
			ranges[k][1] = r.to
		} else {
			ranges = append(ranges, [2]int{r.from, r.to})
		}
	}
	return ranges
}

// NewGradient returns a zeroed gradient slab: the layout of Slab, followed by the token embedding's own share of
// wte's gradient (V, C).
//
// The tied head adds to wte's gradient when the loss is taken, and the embedding at the end of the backward pass.
// Kept apart until FoldGradient, both are chains over rows in order, so that a batch divided into micro-batches gives
// the same bytes. With a head of its own there is no such share. A plain slab of len(Slab) is accepted everywhere; it
// gives the same sums, but for wte in an order,
// and so with a rounding, that depends on the division.
func (m *Model) NewGradient() []float32 {
	if m.Config.Untied {
		return tensor.Slab(len(m.Slab))
	}
	return tensor.Slab(len(m.Slab) + len(m.w.wte))
}

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

// headGradient returns where the gradient of the output head (V, C) is accumulated in g: in that of the token
// embedding, if they are one.
func (m *Model) headGradient(g []float32) []float32 {
	for _, r := range m.ranges {
		if r.field == headWeight || r.field == wordEmbedding && m.dims.tied {
			return g[r.from:r.to]
		}
	}
	panic("model: no output head") // unreachable: every model has a token embedding
}
