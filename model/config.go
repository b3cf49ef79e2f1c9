package model

import "fmt"

// Config is the shape of a model. Its YAML names are those of Hugging Face; its JSON names are part of stored
// documents.
type Config struct {
	Layers  int `yaml:"num_hidden_layers" json:"layers"`
	Width   int `yaml:"hidden_size" json:"width"` // C, a multiple of heads
	Heads   int `yaml:"num_attention_heads" json:"heads"`
	Context int `yaml:"max_position_embeddings" json:"context"` // longest sequence, in tokens
	Vocab   int `yaml:"vocab_size" json:"vocab"`
}

// Validate returns an error that names the first field out of its range.
func (c Config) Validate() error {
	for _, f := range []struct {
		name     string
		value    int
		low, top int
	}{
		{"num_hidden_layers", c.Layers, 1, 1024},
		{"hidden_size", c.Width, 1, 1 << 16},
		{"num_attention_heads", c.Heads, 1, 1 << 16},
		{"max_position_embeddings", c.Context, 1, 1 << 20},
		{"vocab_size", c.Vocab, 2, 1 << 24},
	} {
		if f.value < f.low || f.value > f.top {
			return fmt.Errorf("%s: %d is outside %d to %d", f.name, f.value, f.low, f.top)
		}
	}
	if c.Width%c.Heads != 0 {
		return fmt.Errorf("hidden_size: %d is not a multiple of num_attention_heads, %d", c.Width, c.Heads)
	}
	return nil
}

// Parameters returns the number of parameters, without a scalar head.
func (c Config) Parameters() int {
	n := 0
	for _, p := range c.arraySpecs(false) {
		n += p.size()
	}
	return n
}

// arraySpec is the name and the shape of one array of the slab.
type arraySpec struct {
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
	w := c.Width
	ps := []arraySpec{
		{"transformer.wte.weight", []int{c.Vocab, w}},
		{"transformer.wpe.weight", []int{c.Context, w}},
	}
	for l := range c.Layers {
		h := fmt.Sprintf("transformer.h.%d.", l)
		ps = append(ps,
			arraySpec{h + "ln_1.weight", []int{w}}, arraySpec{h + "ln_1.bias", []int{w}},
			arraySpec{h + "attn.c_attn.weight", []int{w, 3 * w}}, arraySpec{h + "attn.c_attn.bias", []int{3 * w}},
			arraySpec{h + "attn.c_proj.weight", []int{w, w}}, arraySpec{h + "attn.c_proj.bias", []int{w}},
			arraySpec{h + "ln_2.weight", []int{w}}, arraySpec{h + "ln_2.bias", []int{w}},
			arraySpec{h + "mlp.c_fc.weight", []int{w, 4 * w}}, arraySpec{h + "mlp.c_fc.bias", []int{4 * w}},
			arraySpec{h + "mlp.c_proj.weight", []int{4 * w, w}}, arraySpec{h + "mlp.c_proj.bias", []int{w}},
		)
	}
	ps = append(ps, arraySpec{"transformer.ln_f.weight", []int{w}}, arraySpec{"transformer.ln_f.bias", []int{w}})
	if scalar {
		ps = append(ps, arraySpec{"score.weight", []int{1, w}}, arraySpec{"score.bias", []int{1}})
	}
	return ps
}
