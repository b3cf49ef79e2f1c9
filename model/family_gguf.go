package model

import (
	"fmt"
	"slices"
)

// GGUFArray is a parameter as GGUF files of llama.cpp hold it: under another name, and in some families with its
// elements in another order or its values shifted. Matrices are (out, in).
type GGUFArray struct {
	Name  string
	Shape []int
	form  ggufForm
	heads int // of ggufPairs and ggufPerHead
}

// ggufForm says how elements in a GGUF file differ from those of Hugging Face.
type ggufForm int

// The forms of arrays in GGUF files.
const (
	ggufSame       ggufForm = iota
	ggufTransposed          // Conv1D's (in, out) is stored as (out, in)
	ggufPairs               // rows of a head are (D/2, 2) in place of (2, D/2): pairs of the rotation lie side by side
	ggufPerHead             // rows are (3, H, D) in place of (H, 3, D)
	ggufShifted             // values have NormOffset added
)

// ggufNames are the names of fields in GGUF files. The parts of a divided field have the names of ggufParts.
var ggufNames = map[field]string{
	wordEmbedding:           "token_embd.weight",
	positionEmbedding:       "position_embd.weight",
	attentionNormWeight:     "blk.%d.attn_norm.weight",
	attentionNormBias:       "blk.%d.attn_norm.bias",
	qkvWeight:               "blk.%d.attn_qkv.weight",
	qkvBias:                 "blk.%d.attn_qkv.bias",
	queryNormWeight:         "blk.%d.attn_q_norm.weight",
	keyNormWeight:           "blk.%d.attn_k_norm.weight",
	outWeight:               "blk.%d.attn_output.weight",
	outBias:                 "blk.%d.attn_output.bias",
	attentionPostNormWeight: "blk.%d.post_attention_norm.weight",
	mlpNormWeight:           "blk.%d.ffn_norm.weight",
	mlpNormBias:             "blk.%d.ffn_norm.bias",
	upWeight:                "blk.%d.ffn_up.weight",
	upBias:                  "blk.%d.ffn_up.bias",
	downWeight:              "blk.%d.ffn_down.weight",
	downBias:                "blk.%d.ffn_down.bias",
	mlpPostNormWeight:       "blk.%d.post_ffw_norm.weight",
	finalNormWeight:         "output_norm.weight",
	finalNormBias:           "output_norm.bias",
	headWeight:              "output.weight",
}

// ggufParts are the names of fields that are divided.
var ggufParts = map[field][]string{
	qkvWeight: {"blk.%d.attn_q.weight", "blk.%d.attn_k.weight", "blk.%d.attn_v.weight"},
	qkvBias:   {"blk.%d.attn_q.bias", "blk.%d.attn_k.bias", "blk.%d.attn_v.bias"},
	upWeight:  {"blk.%d.ffn_gate.weight", "blk.%d.ffn_up.weight"},
	upBias:    {"blk.%d.ffn_gate.bias", "blk.%d.ffn_up.bias"},
}

// GGUFArrays lists the parameters of a model of shape c as GGUF files hold them, in slab order. c must be valid, and of
// a family that llama.cpp knows.
func (c Config) GGUFArrays() []GGUFArray {
	family, _ := FamilyOf(c.Family)
	var list []GGUFArray
	part := 0
	specs := c.arraySpecs(false)
	for i, p := range specs {
		if part++; i == 0 || specs[i-1].field != p.field || specs[i-1].layer != p.layer {
			part = 0
		}
		name := ggufNames[p.field]
		if parts := ggufParts[p.field]; len(family.names[p.field]) > 1 {
			name = parts[part]
		}
		if p.layer >= 0 {
			name = fmt.Sprintf(name, p.layer)
		}
		a := GGUFArray{Name: name, Shape: slices.Clone(p.shape)}
		a.form, a.heads = c.ggufForm(family, p.field, part, len(p.shape) == 2)
		if a.form == ggufTransposed {
			slices.Reverse(a.Shape)
		}
		list = append(list, a)
	}
	return list
}

// ggufForm returns the form of a part of a field.
func (c Config) ggufForm(family *Family, f field, part int, matrix bool) (form ggufForm, heads int) {
	switch {
	case family.conv1D && matrix && f >= firstBlockField && f <= lastBlockField:
		return ggufTransposed, 0
	case family.GGUF == "llama" && (f == qkvWeight || f == qkvBias) && part == 0:
		return ggufPairs, c.Heads
	case family.GGUF == "llama" && (f == qkvWeight || f == qkvBias) && part == 1:
		return ggufPairs, c.kvHeads()
	case c.QKVPerHead && (f == qkvWeight || f == qkvBias):
		return ggufPerHead, c.Heads
	case c.NormOffset != 0 && fieldTable[f].init == initGain:
		return ggufShifted, 0
	}
	return ggufSame, 0
}

// FromGGUF writes the elements src of a GGUF file into dst, in the order of Hugging Face.
func (a GGUFArray) FromGGUF(dst, src []float32) { a.convert(dst, src, true) }

// ToGGUF writes the elements src, in the order of Hugging Face, into dst, as a GGUF file has them.
func (a GGUFArray) ToGGUF(dst, src []float32) { a.convert(dst, src, false) }

// convert converts between the two, which must not overlap. With o the outer, m and n the middle axes and k the
// elements of a row, every reordering exchanges m and n.
func (a GGUFArray) convert(dst, src []float32, from bool) {
	rows := a.Shape[0]
	k := len(src) / max(rows, 1)
	o := 1
	var m, n int // the axes of dst are (o, m, n, k), those of src (o, n, m, k)
	switch a.form {
	case ggufShifted:
		for i, v := range src {
			if from {
				dst[i] = v - 1
			} else {
				dst[i] = v + 1
			}
		}
		return
	case ggufTransposed: // src (out, in) from a file, (in, out) to one
		m, n, k = k, rows, 1
		if !from {
			m, n = n, m
		}
	case ggufPairs:
		o, m, n = a.heads, 2, rows/a.heads/2
		if !from {
			m, n = n, m
		}
	case ggufPerHead:
		m, n, k = a.heads, 3, len(src)/(3*a.heads)
		if !from {
			m, n = n, m
		}
	default:
		copy(dst, src)
		return
	}
	for x := range o {
		for i := range m {
			for j := range n {
				to, at := ((x*m+i)*n+j)*k, ((x*n+j)*m+i)*k
				copy(dst[to:to+k], src[at:at+k])
			}
		}
	}
}

// Reorders reports whether FromGGUF does more than copy.
func (a GGUFArray) Reorders() bool { return a.form != ggufSame }

// FamilyOfGGUF returns the family of which general.architecture is that, the first where several share one.
func FamilyOfGGUF(architecture string) (*Family, bool) {
	i := slices.IndexFunc(families, func(f *Family) bool { return f.GGUF == architecture && architecture != "" })
	if i < 0 {
		return nil, false
	}
	return families[i], true
}

// GGUFArchitectures lists the values of general.architecture that FamilyOfGGUF knows.
func GGUFArchitectures() []string {
	var list []string
	for _, f := range families {
		if f.GGUF != "" && !slices.Contains(list, f.GGUF) {
			list = append(list, f.GGUF)
		}
	}
	return list
}
