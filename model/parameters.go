package model

import (
	"fmt"
	"slices"
)

// field says what an array is in the model: see fieldTable.
type field int

// The fields of a model, in the order of the slab. Those of blocks repeat for every block.
const (
	wordEmbedding field = iota
	positionEmbedding

	attentionNormWeight
	attentionNormBias
	qkvWeight // queries, keys and values, in one array or in three that lie end to end
	qkvBias
	queryNormWeight
	keyNormWeight
	outWeight
	outBias
	attentionPostNormWeight
	attentionPostNormBias
	mlpNormWeight
	mlpNormBias
	upWeight // with a gate: gate and up, in one array or in two that lie end to end
	upBias
	downWeight
	downBias
	mlpPostNormWeight
	mlpPostNormBias

	finalNormWeight
	finalNormBias
	headWeight
	scoreWeight
	scoreBias
	fields int = iota
)

// blockFields are the fields of a block.
const firstBlockField, lastBlockField = attentionNormWeight, mlpPostNormBias

// initialisation is how Model.Init sets an array.
type initialisation int

// How arrays are initialised: see Model.Init.
const (
	initNormal   initialisation = iota // N(0, 0.02²)
	initResidual                       // N(0, (0.02/√(2L))²): what writes into the residual stream
	initGain                           // one, or what makes one together with Config.NormOffset
	initZero
	initScore // N(0, 1/(C+1))
)

// fieldTable says of every field how it is initialised, and whether weight decay applies to it: to weights and
// embeddings, not to biases and norms.
var fieldTable = [fields]struct {
	init  initialisation
	decay bool
}{
	wordEmbedding:           {initNormal, true},
	positionEmbedding:       {initNormal, true},
	attentionNormWeight:     {initGain, false},
	attentionNormBias:       {initZero, false},
	qkvWeight:               {initNormal, true},
	qkvBias:                 {initZero, false},
	queryNormWeight:         {initGain, false},
	keyNormWeight:           {initGain, false},
	outWeight:               {initResidual, true},
	outBias:                 {initZero, false},
	attentionPostNormWeight: {initGain, false},
	attentionPostNormBias:   {initZero, false},
	mlpNormWeight:           {initGain, false},
	mlpNormBias:             {initZero, false},
	upWeight:                {initNormal, true},
	upBias:                  {initZero, false},
	downWeight:              {initResidual, true},
	downBias:                {initZero, false},
	mlpPostNormWeight:       {initGain, false},
	mlpPostNormBias:         {initZero, false},
	finalNormWeight:         {initGain, false},
	finalNormBias:           {initZero, false},
	headWeight:              {initNormal, true},
	scoreWeight:             {initScore, true},
	scoreBias:               {initZero, false},
}

// widths returns the sizes (out, in) of a matrix, or (n, 0) of a vector; 0, 0 where the model has no such field.
func (c Config) widths(f field) (out, in int) {
	w, d := c.Width, c.headDim()
	optional := func(has bool, n int) int {
		if has {
			return n
		}
		return 0
	}
	switch f {
	case wordEmbedding:
		return c.Vocab, w
	case positionEmbedding:
		if c.Positions == LearnedPositions {
			return c.Context, w
		}
	case attentionNormWeight, mlpNormWeight:
		return optional(c.normsBefore(), w), 0
	case attentionNormBias, mlpNormBias:
		return optional(c.normsBefore() && c.normBias(), w), 0
	case attentionPostNormWeight, mlpPostNormWeight:
		return optional(c.normsAfter(), w), 0
	case attentionPostNormBias, mlpPostNormBias:
		return optional(c.normsAfter() && c.normBias(), w), 0
	case qkvWeight:
		return c.qkvWidth(), w
	case qkvBias:
		return optional(!c.NoQKVBias, c.qkvWidth()), 0
	case queryNormWeight:
		return c.qkNormWidth(c.Heads, d), 0
	case keyNormWeight:
		return c.qkNormWidth(c.kvHeads(), d), 0
	case outWeight:
		return w, c.attentionWidth()
	case outBias:
		return optional(!c.NoOutBias, w), 0
	case upWeight:
		return c.upWidth(), w
	case upBias:
		return optional(!c.NoMLPBias, c.upWidth()), 0
	case downWeight:
		return w, c.inner()
	case downBias:
		return optional(!c.NoMLPBias, w), 0
	case finalNormWeight:
		return optional(!c.NoFinalNorm, w), 0
	case finalNormBias:
		return optional(!c.NoFinalNorm && c.normBias(), w), 0
	case headWeight:
		if c.Untied {
			return c.Vocab, w
		}
	}
	return 0, 0
}

// qkNormWidth returns the number of weights of a query or key norm over so many heads.
func (c Config) qkNormWidth(heads, d int) int {
	switch c.QKNorm {
	case QKNormHead:
		return d
	case QKNormFull:
		return heads * d
	}
	return 0
}

// arraySpec is one array of the slab: what it is, of which block (-1: of none), its name and its shape.
type arraySpec struct {
	field field
	layer int
	name  string
	shape []int
}

// size returns the number of elements.
func (p arraySpec) size() int {
	n := 1
	for _, d := range p.shape {
		n *= d
	}
	return n
}

// arraySpecs lists the arrays of the slab in their order: see the package comment.
func (c Config) arraySpecs(scalar bool) []arraySpec {
	family, ok := FamilyOf(c.Family)
	if !ok {
		panic(fmt.Sprintf("model: there is no family %q", c.Family))
	}
	var list []arraySpec
	for f := range firstBlockField {
		list = c.appendSpecs(list, family, f, -1)
	}
	for l := range c.Layers {
		for f := firstBlockField; f <= lastBlockField; f++ {
			list = c.appendSpecs(list, family, f, l)
		}
	}
	for f := lastBlockField + 1; f < scoreWeight; f++ {
		list = c.appendSpecs(list, family, f, -1)
	}
	if scalar {
		list = append(list,
			arraySpec{scoreWeight, -1, family.nameOf(scoreWeight, 0, -1), []int{1, c.Width}},
			arraySpec{scoreBias, -1, family.nameOf(scoreBias, 0, -1), []int{1}})
	}
	return list
}

// appendSpecs appends the arrays of a field: none, one, or as many as the family divides it into.
func (c Config) appendSpecs(list []arraySpec, family *Family, f field, layer int) []arraySpec {
	out, in := c.widths(f)
	if out == 0 {
		return list
	}
	outs := []int{out}
	if len(family.names[f]) > 1 {
		outs = c.parts(f)
	}
	for i, n := range outs {
		shape := []int{n}
		if in > 0 {
			shape = append(shape, in)
			if family.conv1D && f >= firstBlockField && f <= lastBlockField {
				slices.Reverse(shape)
			}
		}
		list = append(list, arraySpec{f, layer, family.nameOf(f, i, layer), shape})
	}
	return list
}

// parts returns the output features of the arrays that a fused field is divided into.
func (c Config) parts(f field) []int {
	switch f {
	case qkvWeight, qkvBias:
		kv := c.kvHeads() * c.headDim()
		return []int{c.attentionWidth(), kv, kv}
	case upWeight, upBias:
		if c.Gated {
			return []int{c.inner(), c.inner()}
		}
	}
	out, _ := c.widths(f)
	return []int{out}
}

// layerParams is the parameters, or the gradients, of one block: matrices as (out, in) or, of a family that stores
// them as Conv1D does, as (in, out). What the model does not have is empty.
type layerParams struct {
	norm1        normParams // of attention's input
	qkvw, qkvb   []float32  // (qkvWidth, C), (qkvWidth)
	queryNorm    []float32  // (D) or (H·D)
	keyNorm      []float32  // (D) or (KV·D)
	outw, outb   []float32  // (C, H·D), (C)
	postNorm1    normParams // of attention's output, or of the sum with the residual stream
	norm2        normParams // of the MLP's input
	upw, upb     []float32  // (upWidth, C), (upWidth)
	downw, downb []float32  // (C, I), (C)
	postNorm2    normParams // of the MLP's output, or of the sum
}

// normParams is the parameters of a norm (C); bias is empty where it has none.
type normParams struct{ weight, bias []float32 }

// params is views of a slab of parameters, or of gradients.
type params struct {
	wte, wpe       []float32 // (V, C), (Context, C)
	layers         []layerParams
	finalNorm      normParams
	head           []float32 // (V, C): wte itself where it is tied
	scorew, scoreb []float32 // (C), (1); empty without a scalar head
}

// arrayRange is where a field of the slab lies.
type arrayRange struct {
	field    field
	layer    int
	from, to int
}

// layout lists where the fields of the slab lie; the arrays that a field is divided into are one range.
func layout(specs []arraySpec) []arrayRange {
	var list []arrayRange
	at := 0
	for _, p := range specs {
		n := p.size()
		if k := len(list) - 1; k >= 0 && list[k].field == p.field && list[k].layer == p.layer {
			list[k].to += n
		} else {
			list = append(list, arrayRange{p.field, p.layer, at, at + n})
		}
		at += n
	}
	return list
}

// bind points the views to slab; it allocates only when the number of layers grows.
func (w *params) bind(layers int, ranges []arrayRange, slab []float32) {
	kept := w.layers
	*w = params{layers: slices.Grow(kept[:0], layers)[:layers]}
	clear(w.layers)
	for _, r := range ranges {
		*w.view(r.field, r.layer) = slab[r.from:r.to:r.to]
	}
	if w.head == nil {
		w.head = w.wte
	}
}

// view returns the view of a field.
func (w *params) view(f field, layer int) *[]float32 {
	switch f {
	case wordEmbedding:
		return &w.wte
	case positionEmbedding:
		return &w.wpe
	case finalNormWeight:
		return &w.finalNorm.weight
	case finalNormBias:
		return &w.finalNorm.bias
	case headWeight:
		return &w.head
	case scoreWeight:
		return &w.scorew
	case scoreBias:
		return &w.scoreb
	}
	return w.layers[layer].view(f)
}

// view returns the view of a field of the block.
func (p *layerParams) view(f field) *[]float32 {
	return [...]*[]float32{
		attentionNormWeight:     &p.norm1.weight,
		attentionNormBias:       &p.norm1.bias,
		qkvWeight:               &p.qkvw,
		qkvBias:                 &p.qkvb,
		queryNormWeight:         &p.queryNorm,
		keyNormWeight:           &p.keyNorm,
		outWeight:               &p.outw,
		outBias:                 &p.outb,
		attentionPostNormWeight: &p.postNorm1.weight,
		attentionPostNormBias:   &p.postNorm1.bias,
		mlpNormWeight:           &p.norm2.weight,
		mlpNormBias:             &p.norm2.bias,
		upWeight:                &p.upw,
		upBias:                  &p.upb,
		downWeight:              &p.downw,
		downBias:                &p.downb,
		mlpPostNormWeight:       &p.postNorm2.weight,
		mlpPostNormBias:         &p.postNorm2.bias,
	}[f]
}
