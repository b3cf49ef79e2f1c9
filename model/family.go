package model

import (
	"fmt"
	"slices"
)

// Family is a kind of models that share a config.json, names and a way to store weights. Each has a file of its own,
// family_NAME.go, and a line in families.
type Family struct {
	Name string // model_type of config.json

	// Class names of Hugging Face: a language model, the body alone (""; if it has none), and a classifier, which with
	// one label is a reward model.
	CausalLM, Body, Classifier string
	// Prefix stands before the names of the body's arrays in CausalLM and Classifier, and is absent in Body's.
	Prefix string
	// GGUF is general.architecture of GGUF files, or "" if llama.cpp does not know the family.
	GGUF string

	// conv1D stores matrices of blocks as (in, out), as the Conv1D layers of GPT-1 and GPT-2 do; otherwise they are
	// (out, in).
	conv1D bool
	// PositionOffset is how many rows of a position table in files come before that of position 0, and are never used.
	PositionOffset int
	// names are the names of arrays, %d being the number of the block. A fused field that is stored in parts has a name
	// for each.
	names names
	// ignored lists fields of config.json that change nothing in this family, beside those that never do.
	ignored []string
	// complete sets what all models of the family have in common, and what a config leaves to the family's defaults.
	complete func(c *Config)
	// read makes a Config of config.json, write the fields of config.json of a Config.
	read  func(r *ConfigReader) Config
	write func(c Config) map[string]any
}

// names are the names of a family's arrays by field.
type names [fields][]string

// families lists the families that this package knows.
var families = []*Family{
	&gpt2, &openAIGPT, &llama, &mistral, &qwen2, &qwen3, &gemma, &gemma2, &gemma3, &phi3, &olmo2, &gptNeoX, &opt,
}

// FamilyOf returns the family of that model_type, of which "" is gpt2.
func FamilyOf(name string) (*Family, bool) {
	if name == "" {
		return &gpt2, true
	}
	i := slices.IndexFunc(families, func(f *Family) bool { return f.Name == name })
	if i < 0 {
		return nil, false
	}
	return families[i], true
}

// FamilyNames lists the families that this package knows.
func FamilyNames() []string {
	list := make([]string, len(families))
	for i, f := range families {
		list[i] = f.Name
	}
	return list
}

// Complete returns c with what its family fixes: a spec names the family and the sizes, and need not say that a Llama
// has RMS norms. Fields of which zero stands for a default have the default then, but in a GPT-2, where they stay zero.
// It changes nothing in a Config that ReadConfig gave, or it itself.
func (c Config) Complete() Config {
	family, ok := FamilyOf(c.Family)
	if ok && family == &gpt2 {
		c.Family = ""
	}
	if ok && family.complete != nil {
		family.complete(&c)
	}
	return c.canonical()
}

// nameOf returns the name of a part of a field. It panics where the family has no name for it: a config that is not
// the family's own.
func (f *Family) nameOf(of field, part, layer int) string {
	list := f.names[of]
	switch {
	case len(list) == 0 && of == scoreWeight:
		return "score.weight"
	case len(list) == 0 && of == scoreBias:
		return "score.bias"
	case part >= len(list):
		panic(fmt.Sprintf("model: models of the family %s have no array for field %d", f.Name, of))
	case layer < 0:
		return list[part]
	}
	return fmt.Sprintf(list[part], layer)
}

// check returns an error if c has an array for which the family has no name. It names the field of c that asks for it.
func (f *Family) check(c Config) error {
	for of := range scoreWeight {
		if out, _ := c.widths(of); out > 0 && len(f.names[of]) == 0 {
			return fmt.Errorf("%s: models of the family %s have no such array", settingOf(of), f.Name)
		}
	}
	return nil
}

// settingOf returns the field of Config on which it depends whether a model has an array.
func settingOf(f field) string {
	switch f {
	case positionEmbedding:
		return "positions"
	case queryNormWeight, keyNormWeight:
		return "qk_norm"
	case qkvBias:
		return "no_qkv_bias"
	case outBias:
		return "no_out_bias"
	case upBias, downBias:
		return "no_mlp_bias"
	case attentionNormBias, attentionPostNormBias, mlpNormBias, mlpPostNormBias, finalNormBias:
		return "no_norm_bias"
	case finalNormWeight:
		return "no_final_norm"
	case headWeight:
		return "untied_embeddings"
	}
	return "norm_placement"
}

// StoredArray is a parameter as files hold it.
type StoredArray struct {
	Name  string
	Shape []int
	// Spare is the number of elements in front that are no part of the model: rows of a position table.
	Spare int
}

// StoredArrays lists the parameters of a model of shape c as files hold them, in slab order: those of
// Model.NamedParameters, but for rows that nothing uses. c must be valid.
func (c Config) StoredArrays(scalar bool) []StoredArray {
	family, _ := FamilyOf(c.Family)
	specs := c.arraySpecs(scalar)
	list := make([]StoredArray, len(specs))
	for i, p := range specs {
		list[i] = StoredArray{Name: p.name, Shape: p.shape}
		if p.field == positionEmbedding && family.PositionOffset > 0 {
			list[i].Spare = family.PositionOffset * c.Width
			list[i].Shape = []int{c.Context + family.PositionOffset, c.Width}
		}
	}
	return list
}

// HeadName returns the name of the output head, also in models where it is the token embedding.
func (f *Family) HeadName() string { return f.names[headWeight][0] }

// LastNormBias returns the name of the array that is added last to what a scalar head reads: the bias of the last norm.
// It is "" in models without one.
func (c Config) LastNormBias() string {
	family, _ := FamilyOf(c.Family)
	switch {
	case !c.normBias():
		return ""
	case !c.NoFinalNorm:
		return family.nameOf(finalNormBias, 0, -1)
	case c.NormAt == NormAfter:
		return family.nameOf(mlpPostNormBias, 0, c.Layers-1)
	}
	return ""
}

// Sizes are the sizes of a shape with the defaults that zero stands for.
type Sizes struct {
	KVHeads, HeadDim, Inner, RotaryDim int
	NormEps                            float64
	// LongContext is max_position_embeddings of config.json, which is above Context where the model's frequencies
	// change within it.
	LongContext int
}

// Sizes returns the sizes of c with the defaults that zero stands for.
func (c Config) Sizes() Sizes {
	eps := c.NormEps
	if eps == 0 {
		eps = 1e-5
	}
	return Sizes{
		KVHeads: c.kvHeads(), HeadDim: c.headDim(), Inner: c.inner(), RotaryDim: c.rotaryDim(), NormEps: eps,
		LongContext: c.longContext(),
	}
}

// WithScaling returns c with other scaled frequencies.
func (c Config) WithScaling(s RopeScaling) Config {
	c.RopeScaling = s
	return c
}
