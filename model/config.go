package model

import (
	"fmt"
	"math"
	"reflect"
	"slices"

	"github.com/trimtab/trimtab/tensor"
)

// Config is the shape of a model. Its YAML names are those of Hugging Face; its JSON names are part of stored
// documents.
//
// The zero value of every field after Vocab is GPT-2's: a document of a GPT-2-shaped model holds the first five
// fields only, and its digest does not depend on what other families need.
type Config struct {
	Layers  int `yaml:"num_hidden_layers" json:"layers"`
	Width   int `yaml:"hidden_size" json:"width"` // C
	Heads   int `yaml:"num_attention_heads" json:"heads"`
	Context int `yaml:"max_position_embeddings" json:"context"` // longest sequence, in tokens
	Vocab   int `yaml:"vocab_size" json:"vocab"`

	// Family is the model_type of Hugging Face. It decides what arrays are called and how they are stored; "" is gpt2.
	Family string `yaml:"model_type,omitempty" json:"model_type,omitempty"`

	// KVHeads is the number of key-value heads, each shared by Heads/KVHeads query heads (Ainslie et al., 2023); 0 is
	// Heads. HeadDim is the size of a head; 0 is Width/Heads.
	KVHeads int `yaml:"num_key_value_heads,omitempty" json:"num_key_value_heads,omitempty"`
	HeadDim int `yaml:"head_dim,omitempty" json:"head_dim,omitempty"`

	// Inner is the width of the MLP; 0 is 4·Width. Activation is its function by Hugging Face's name (gelu,
	// gelu_pytorch_tanh, relu, relu2, silu); "" is gelu_pytorch_tanh. Gated multiplies it by a second projection of the
	// input (Shazeer, 2020).
	Inner      int    `yaml:"intermediate_size,omitempty" json:"intermediate_size,omitempty"`
	Activation string `yaml:"hidden_act,omitempty" json:"hidden_act,omitempty"`
	Gated      bool   `yaml:"gated_mlp,omitempty" json:"gated_mlp,omitempty"`

	// RMSNorm takes RMS norm in place of layer norm; NormOffset is added to its weights (1 in Gemma). NormEps is the
	// epsilon of all norms; 0 is 1e-5. NoNormBias leaves out the biases of layer norms, NoFinalNorm the norm after the
	// last block.
	RMSNorm     bool      `yaml:"rms_norm,omitempty" json:"rms_norm,omitempty"`
	NormOffset  float64   `yaml:"norm_offset,omitempty" json:"norm_offset,omitempty"`
	NormEps     float64   `yaml:"norm_eps,omitempty" json:"norm_eps,omitempty"`
	NormAt      NormPlace `yaml:"norm_placement,omitempty" json:"norm_placement,omitempty"`
	NoNormBias  bool      `yaml:"no_norm_bias,omitempty" json:"no_norm_bias,omitempty"`
	NoFinalNorm bool      `yaml:"no_final_norm,omitempty" json:"no_final_norm,omitempty"`

	// ParallelResidual lets the MLP read what attention reads: out = x + attention(N1(x)) + mlp(N2(x)).
	ParallelResidual bool `yaml:"parallel_residual,omitempty" json:"parallel_residual,omitempty"`

	// Positions is how a model knows where a token stands. The fields after it are for rotary positions: how many
	// elements of a head are rotated (0: all), the base of the frequencies (0: 10000), that of layers with a sliding
	// window, whose frequencies are not scaled then (0: all layers are alike), and how frequencies are scaled.
	Positions      Positions   `yaml:"positions,omitempty" json:"positions,omitempty"`
	RotaryDim      int         `yaml:"rotary_dim,omitempty" json:"rotary_dim,omitempty"`
	RopeTheta      float64     `yaml:"rope_theta,omitempty" json:"rope_theta,omitempty"`
	RopeLocalTheta float64     `yaml:"rope_local_theta,omitempty" json:"rope_local_theta,omitempty"`
	RopeScaling    RopeScaling `yaml:"rope_scaling,omitempty" json:"rope_scaling,omitzero"`

	// Biases that are left out: of queries, keys and values; of attention's output projection; of the MLP.
	NoQKVBias bool `yaml:"no_qkv_bias,omitempty" json:"no_qkv_bias,omitempty"`
	NoOutBias bool `yaml:"no_out_bias,omitempty" json:"no_out_bias,omitempty"`
	NoMLPBias bool `yaml:"no_mlp_bias,omitempty" json:"no_mlp_bias,omitempty"`

	// QKNorm is the RMS norm of queries and keys before their rotation.
	QKNorm QKNorm `yaml:"qk_norm,omitempty" json:"qk_norm,omitempty"`
	// QKVPerHead stores query, key and value of a head side by side, as GPT-NeoX does: (H, 3, D) in place of (3, H, D).
	QKVPerHead bool `yaml:"qkv_per_head,omitempty" json:"qkv_per_head,omitempty"`

	// SlidingWindow is how many keys a query sees, itself included; 0 is all. FullLayers lists the blocks, from 0, that
	// see all of them nevertheless.
	SlidingWindow int   `yaml:"sliding_window,omitempty" json:"sliding_window,omitempty"`
	FullLayers    []int `yaml:"full_attention_layers,omitempty" json:"full_attention_layers,omitempty"`

	// AttentionScale multiplies q·k; 0 is 1/√HeadDim. AttentionCap and LogitCap are the caps c of c·tanh(x/c) on
	// attention scores and logits; 0 is none. EmbeddingScale, ResidualScale and LogitScale multiply the token
	// embedding, what each half of a block adds to the residual stream, and the logits; 0 is 1.
	AttentionScale float64 `yaml:"attention_scale,omitempty" json:"attention_scale,omitempty"`
	AttentionCap   float64 `yaml:"attn_logit_softcapping,omitempty" json:"attn_logit_softcapping,omitempty"`
	LogitCap       float64 `yaml:"final_logit_softcapping,omitempty" json:"final_logit_softcapping,omitempty"`
	EmbeddingScale float64 `yaml:"embedding_scale,omitempty" json:"embedding_scale,omitempty"`
	ResidualScale  float64 `yaml:"residual_scale,omitempty" json:"residual_scale,omitempty"`
	LogitScale     float64 `yaml:"logit_scale,omitempty" json:"logit_scale,omitempty"`

	// Untied gives the output head weights of its own. Otherwise it is the token embedding.
	Untied bool `yaml:"untied_embeddings,omitempty" json:"untied_embeddings,omitempty"`
}

// NormPlace says where the norms of a block stand. With f attention or the MLP, x the residual stream and N a norm:
type NormPlace string

// The places of norms.
const (
	NormBefore NormPlace = ""       // x + f(N(x)): GPT-2, Llama
	NormAfter  NormPlace = "after"  // N(x + f(x)): GPT-1
	NormOutput NormPlace = "output" // x + N(f(x)): OLMo 2
	NormBoth   NormPlace = "both"   // x + N'(f(N(x))): Gemma 2
)

// Positions is a kind of position encoding.
type Positions string

// The kinds of position encoding.
const (
	LearnedPositions Positions = ""       // an embedding of the position is added to that of the token
	RotaryPositions  Positions = "rotary" // queries and keys are rotated (Su et al., 2021)
	NoPositions      Positions = "none"
)

// QKNorm is a kind of query-key norm.
type QKNorm string

// The kinds of query-key norm.
const (
	NoQKNorm   QKNorm = ""
	QKNormHead QKNorm = "head" // over each head: Qwen 3, Gemma 3
	QKNormFull QKNorm = "full" // over all heads together: OLMo 2
)

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
		{"max_position_embeddings", c.Context, 1, 1 << 24},
		{"vocab_size", c.Vocab, 2, 1 << 24},
		{"num_key_value_heads", c.KVHeads, 0, c.Heads},
		{"head_dim", c.HeadDim, 0, 1 << 16},
		{"intermediate_size", c.Inner, 0, 1 << 20},
		{"rotary_dim", c.RotaryDim, 0, c.headDim()},
		{"sliding_window", c.SlidingWindow, 0, math.MaxInt32},
	} {
		if f.value < f.low || f.value > f.top {
			return fmt.Errorf("%s: %d is outside %d to %d", f.name, f.value, f.low, f.top)
		}
	}
	if c.Positions != RotaryPositions && c.Context > 1<<20 {
		return fmt.Errorf("max_position_embeddings: %d is outside 1 to %d", c.Context, 1<<20)
	}
	for _, check := range []func() error{c.validateHeads, c.validateNames, c.validateNumbers, c.RopeScaling.validate} {
		if err := check(); err != nil {
			return err
		}
	}
	return nil
}

// validateHeads checks how heads divide the width.
func (c Config) validateHeads() error {
	switch {
	case c.HeadDim == 0 && c.Width%c.Heads != 0:
		return fmt.Errorf("hidden_size: %d is not a multiple of num_attention_heads, %d", c.Width, c.Heads)
	case c.Heads%c.kvHeads() != 0:
		return fmt.Errorf("num_attention_heads: %d is not a multiple of num_key_value_heads, %d", c.Heads, c.KVHeads)
	case c.QKVPerHead && c.kvHeads() != c.Heads:
		return fmt.Errorf("num_key_value_heads: %d and not num_attention_heads, which a model needs whose queries, "+
			"keys and values are stored head by head", c.KVHeads)
	case c.QKVPerHead && c.QKNorm != NoQKNorm:
		return fmt.Errorf("qk_norm: %q is not supported where queries, keys and values are stored head by head",
			c.QKNorm)
	case c.ResidualScale != 0 && c.NormAt != NormBefore:
		return fmt.Errorf("residual_scale: %g needs norms before attention and MLP only", c.ResidualScale)
	case c.ParallelResidual && c.NormAt != NormBefore:
		return fmt.Errorf("parallel_residual: needs norms before attention and MLP only")
	case c.Positions == RotaryPositions && c.rotaryDim()%2 != 0:
		return fmt.Errorf("head_dim: the %d rotated elements of a head are not pairs", c.rotaryDim())
	}
	for i, l := range c.FullLayers {
		if l < 0 || l >= c.Layers || i > 0 && l <= c.FullLayers[i-1] {
			return fmt.Errorf("full_attention_layers: %v must rise and be below num_hidden_layers, %d", c.FullLayers,
				c.Layers)
		}
	}
	return nil
}

// validateNames checks the fields that are one of several words.
func (c Config) validateNames() error {
	if _, err := c.activation(); err != nil {
		return err
	}
	for _, f := range []struct {
		name, value string
		known       []string
	}{
		{"norm_placement", string(c.NormAt), []string{"", "after", "output", "both"}},
		{"positions", string(c.Positions), []string{"", "rotary", "none"}},
		{"qk_norm", string(c.QKNorm), []string{"", "head", "full"}},
	} {
		if !slices.Contains(f.known, f.value) {
			return fmt.Errorf("%s: %q is none of %q", f.name, f.value, f.known)
		}
	}
	family, ok := FamilyOf(c.Family)
	if !ok {
		return fmt.Errorf("model_type: %q is none of %q", c.Family, FamilyNames())
	}
	return family.check(c)
}

// validateNumbers checks the fields that are real numbers.
func (c Config) validateNumbers() error {
	for _, f := range []struct {
		name      string
		value     float64
		low, high float64
	}{
		{"norm_eps", c.NormEps, 0, 1},
		{"norm_offset", c.NormOffset, 0, 1},
		{"rope_theta", c.RopeTheta, 0, 1e12},
		{"rope_local_theta", c.RopeLocalTheta, 0, 1e12},
		{"attention_scale", c.AttentionScale, 0, 1e6},
		{"attn_logit_softcapping", c.AttentionCap, 0, 1e6},
		{"final_logit_softcapping", c.LogitCap, 0, 1e6},
		{"embedding_scale", c.EmbeddingScale, 0, 1e6},
		{"residual_scale", c.ResidualScale, 0, 1e6},
		{"logit_scale", c.LogitScale, 0, 1e6},
	} {
		if !(f.value >= f.low && f.value <= f.high) {
			return fmt.Errorf("%s: %g is outside %g to %g", f.name, f.value, f.low, f.high)
		}
	}
	return nil
}

// Equal reports whether c and d are the same shape.
func (c Config) Equal(d Config) bool { return reflect.DeepEqual(c, d) }

// IsZero reports whether c is the zero value.
func (c Config) IsZero() bool { return reflect.ValueOf(c).IsZero() }

// activation returns the function of the MLP.
func (c Config) activation() (tensor.Activation, error) {
	switch c.Activation {
	case "", "gelu_pytorch_tanh", "gelu_new", "gelu_fast":
		return tensor.GeluTanh, nil
	case "gelu":
		return tensor.GeluErf, nil
	case "relu":
		return tensor.ReLU, nil
	case "relu2":
		return tensor.ReLUSquared, nil
	case "silu", "swish":
		return tensor.SiLU, nil
	}
	return 0, fmt.Errorf("hidden_act: %q is none of gelu, gelu_pytorch_tanh, relu, relu2, silu", c.Activation)
}

// headDim returns D.
func (c Config) headDim() int {
	if c.HeadDim > 0 || c.Heads == 0 {
		return c.HeadDim
	}
	return c.Width / c.Heads
}

// kvHeads returns the number of key-value heads.
func (c Config) kvHeads() int {
	if c.KVHeads > 0 {
		return c.KVHeads
	}
	return c.Heads
}

// attentionWidth returns H·D, the width of all heads' queries and of what attention gives.
func (c Config) attentionWidth() int { return c.Heads * c.headDim() }

// qkvWidth returns the width of queries, keys and values together, (H + 2·KV)·D.
func (c Config) qkvWidth() int { return (c.Heads + 2*c.kvHeads()) * c.headDim() }

// inner returns I, the width of the MLP's activations.
func (c Config) inner() int {
	if c.Inner > 0 {
		return c.Inner
	}
	return 4 * c.Width
}

// upWidth returns the width of what the MLP's first projection gives: I, or 2·I with a gate.
func (c Config) upWidth() int {
	if c.Gated {
		return 2 * c.inner()
	}
	return c.inner()
}

// eps returns the epsilon of norms.
func (c Config) eps() float32 {
	if c.NormEps > 0 {
		return float32(c.NormEps)
	}
	return 1e-5
}

// rotaryDim returns how many elements of a head are rotated.
func (c Config) rotaryDim() int {
	if c.RotaryDim > 0 {
		return c.RotaryDim
	}
	return c.headDim()
}

// attentionScale returns the factor of q·k.
func (c Config) attentionScale() float32 {
	if c.AttentionScale > 0 {
		return float32(c.AttentionScale)
	}
	return tensor.Rsqrt1(float32(c.headDim()))
}

// windowOf returns how many keys a query of block l sees, 0 for all.
func (c Config) windowOf(l int) int {
	if c.SlidingWindow == 0 || slices.Contains(c.FullLayers, l) {
		return 0
	}
	return c.SlidingWindow
}

// normBias reports whether norms have a bias.
func (c Config) normBias() bool { return !c.RMSNorm && !c.NoNormBias }

// normsBefore and normsAfter report where the norms of attention and MLP stand: before them, or after, of their
// output or of the sum with the residual stream.
func (c Config) normsBefore() bool { return c.NormAt == NormBefore || c.NormAt == NormBoth }
func (c Config) normsAfter() bool  { return c.NormAt != NormBefore }

// scaleOr1 returns a scale, of which 0 stands for 1.
func scaleOr1(x float64) float32 {
	if x == 0 {
		return 1
	}
	return float32(x)
}

// Parameters returns the number of parameters, without a scalar head.
func (c Config) Parameters() int {
	n := 0
	for _, p := range c.arraySpecs(false) {
		n += p.size()
	}
	return n
}
