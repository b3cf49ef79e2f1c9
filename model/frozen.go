package model

import (
	"fmt"

	"github.com/trimtab/trimtab/tensor"
)

// A frozen model only computes: references, reward models, models that answer. Its parameters may be memory that is
// never written, such as a mapped file, and bfloat16, in half the memory of float32. It computes, bit for bit, what the
// model with the same parameters in float32 computes.

// FromSlab returns a model whose parameters are slab, in the order of the package comment, without copying it: a file
// that is mapped to be read serves a model that is not trained. It panics when c is not valid or the length is another.
func FromSlab(c Config, scalar bool, slab []float32) *Model {
	m := describe(c, scalar)
	m.mustHaveSize(len(slab))
	m.Slab = slab
	m.w.bind(c.Layers, m.ranges, slab)
	return m
}

// FromBFloat16 returns a frozen model whose parameters are bfloat16, in the order of the package comment. The matrices
// stay as they are and are read from half; biases, norms and learned positions are widened into a copy. Such a model
// has no Slab and no backward pass; see Widen.
func FromBFloat16(c Config, scalar bool, half []uint16) *Model {
	m := describe(c, scalar)
	m.mustHaveSize(len(half))
	m.half = half
	n := 0
	for _, r := range m.ranges {
		if !staysHalf(r.field) {
			n += r.to - r.from
		}
	}
	rest := tensor.Slab(n)
	m.w.layers, m.halves.layers = make([]layerParams, c.Layers), make([]layerHalves, c.Layers)
	for _, r := range m.ranges {
		if staysHalf(r.field) {
			*m.halves.view(r.field, r.layer) = half[r.from:r.to:r.to]
			continue
		}
		size := r.to - r.from
		tensor.Widen(rest[:size], half[r.from:r.to])
		*m.w.view(r.field, r.layer) = rest[:size:size]
		rest = rest[size:]
	}
	if m.halves.head == nil {
		m.halves.head = m.halves.wte
	}
	return m
}

// staysHalf reports whether a field is read as bfloat16 in a frozen model: matrices and the token embedding.
func staysHalf(f field) bool {
	switch f {
	case wordEmbedding, headWeight, qkvWeight, outWeight, upWeight, downWeight:
		return true
	}
	return false
}

// halves are the matrices of a frozen model in bfloat16.
type halves struct {
	wte, head []uint16 // (V, C)
	layers    []layerHalves
}

// layerHalves are those of one block; see layerParams.
type layerHalves struct{ qkv, out, up, down []uint16 }

// view returns the view of a field.
func (h *halves) view(f field, layer int) *[]uint16 {
	switch f {
	case wordEmbedding:
		return &h.wte
	case headWeight:
		return &h.head
	case qkvWeight:
		return &h.layers[layer].qkv
	case outWeight:
		return &h.layers[layer].out
	case upWeight:
		return &h.layers[layer].up
	}
	return &h.layers[layer].down
}

// IsFrozen reports whether m is a model of FromBFloat16.
func (m *Model) IsFrozen() bool { return m.half != nil }

// Size returns the number of parameters, those of a scalar head among them.
func (m *Model) Size() int { return m.ranges[len(m.ranges)-1].to }

// Widen returns a copy of m in float32, which shares nothing with it.
func (m *Model) Widen() *Model {
	if !m.IsFrozen() {
		return m.Clone()
	}
	c := New(m.Config, m.Scalar)
	tensor.Widen(c.Slab, m.half)
	return c
}

// mustHaveSize panics unless n is the number of parameters.
func (m *Model) mustHaveSize(n int) {
	if n != m.Size() {
		panic(fmt.Sprintf("model: %d parameters for a model of %d", n, m.Size()))
	}
}
