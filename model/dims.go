package model

import "github.com/trimtab/trimtab/tensor"

// dims are the sizes and numbers of a Config as the layers read them, with every default filled in.
type dims struct {
	width, vocab   int // C, V
	heads, kvHeads int // H, KV
	group          int // query heads of a key-value head, H/KV
	headDim        int // D
	attention, qkv int // widths H·D and (H + 2·KV)·D
	perHead        bool
	inner, up      int // widths of the MLP after its activation and before it
	gated          bool
	activation     tensor.Activation

	rms, normsBefore bool
	normAt           NormPlace
	branches         bool // what attention and the MLP give is needed by itself, for a norm or a scale
	parallel         bool
	eps, normOffset  float32

	rotaryDim      int // 0 without rotary positions
	learned        bool
	qkNorm         QKNorm
	attentionScale float32
	attentionCap   float32 // 0 is none
	logitCap       float32 // 0 is none
	logitScale     float32
	embeddingScale float32
	residualScale  float32
	tied           bool
}

// dims returns the sizes of c, which must be valid.
func (c Config) dims() dims {
	activation, err := c.activation()
	if err != nil {
		panic("model: " + err.Error())
	}
	d := dims{
		width: c.Width, vocab: c.Vocab,
		heads: c.Heads, kvHeads: c.kvHeads(), group: c.Heads / c.kvHeads(), headDim: c.headDim(),
		attention: c.attentionWidth(), qkv: c.qkvWidth(), perHead: c.QKVPerHead,
		inner: c.inner(), up: c.upWidth(), gated: c.Gated, activation: activation,
		rms: c.RMSNorm, normsBefore: c.normsBefore(), normAt: c.NormAt, parallel: c.ParallelResidual,
		eps: c.eps(), normOffset: float32(c.NormOffset),
		learned: c.Positions == LearnedPositions, qkNorm: c.QKNorm,
		attentionScale: c.attentionScale(), attentionCap: float32(c.AttentionCap), logitCap: float32(c.LogitCap),
		logitScale: scaleOr1(c.LogitScale), embeddingScale: scaleOr1(c.EmbeddingScale),
		residualScale: scaleOr1(c.ResidualScale),
		tied:          !c.Untied,
	}
	if c.Positions == RotaryPositions {
		d.rotaryDim = c.rotaryDim()
	}
	d.branches = c.normsAfter() || d.residualScale != 1
	return d
}

// query, key and value return where a head's query, key or value begins in a row of qkv: queries of all heads, then
// keys, then values; or, stored head by head, the three of the first head, then those of the next.
func (d *dims) query(head int) int { return d.qkvOffset(head, 0, head) }
func (d *dims) key(kv int) int     { return d.qkvOffset(kv, 1, d.heads+kv) }
func (d *dims) value(kv int) int   { return d.qkvOffset(kv, 2, d.heads+d.kvHeads+kv) }

// qkvOffset returns where the part of a head begins that is number place where parts lie one after the other.
func (d *dims) qkvOffset(head, part, place int) int {
	if d.perHead {
		return (3*head + part) * d.headDim
	}
	return place * d.headDim
}

// queryOrKey returns where head i of all queries and then all keys begins in a row of qkv.
func (d *dims) queryOrKey(i int) int {
	if i < d.heads {
		return d.query(i)
	}
	return d.key(i - d.heads)
}

// finishesQKV reports whether queries and keys change between their product and attention.
func (d *dims) finishesQKV() bool { return d.rotaryDim > 0 || d.qkNorm != NoQKNorm }

// rawQK returns the width of queries and keys where they are kept before their norm, otherwise 0.
func (d *dims) rawQK() int {
	if d.qkNorm == NoQKNorm {
		return 0
	}
	return (d.heads + d.kvHeads) * d.headDim
}

// queryNorms returns the number of norms of a row's queries, qkNorms that of its queries and keys.
func (d *dims) queryNorms() int {
	switch d.qkNorm {
	case QKNormHead:
		return d.heads
	case QKNormFull:
		return 1
	}
	return 0
}

func (d *dims) qkNorms() int {
	switch d.qkNorm {
	case QKNormHead:
		return d.heads + d.kvHeads
	case QKNormFull:
		return 2
	}
	return 0
}
