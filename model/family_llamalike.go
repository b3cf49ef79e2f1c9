package model

import (
	"fmt"
	"maps"
	"math"
	"slices"
)

// What the families after Llama share: names, defaults, and the fields of config.json. A family's own file says in what
// it differs.

// llamaNames returns the names that Llama and the families after it give to arrays, with those of its own.
func llamaNames(own names) names {
	n := names{
		wordEmbedding:       {"model.embed_tokens.weight"},
		attentionNormWeight: {"model.layers.%d.input_layernorm.weight"},
		qkvWeight:           inBlock("self_attn.q_proj.weight", "self_attn.k_proj.weight", "self_attn.v_proj.weight"),
		qkvBias:             inBlock("self_attn.q_proj.bias", "self_attn.k_proj.bias", "self_attn.v_proj.bias"),
		outWeight:           inBlock("self_attn.o_proj.weight"),
		outBias:             inBlock("self_attn.o_proj.bias"),
		mlpNormWeight:       inBlock("post_attention_layernorm.weight"),
		upWeight:            inBlock("mlp.gate_proj.weight", "mlp.up_proj.weight"),
		upBias:              inBlock("mlp.gate_proj.bias", "mlp.up_proj.bias"),
		downWeight:          inBlock("mlp.down_proj.weight"),
		downBias:            inBlock("mlp.down_proj.bias"),
		finalNormWeight:     {"model.norm.weight"},
		headWeight:          {"lm_head.weight"},
	}
	for f, list := range own {
		if list != nil {
			n[f] = list
		}
	}
	return n
}

// inBlock returns names of arrays in a block of Llama.
func inBlock(list ...string) []string {
	for i, name := range list {
		list[i] = "model.layers.%d." + name
	}
	return list
}

// isWhole reports whether c says all that a Llama has, as the config of a model does that was read, and not a spec. It
// then says also which biases and caps there are.
func (c *Config) isWhole() bool {
	return c.RMSNorm && c.Gated && c.Positions == RotaryPositions && c.NormEps > 0 && c.Activation != "" &&
		c.RopeTheta > 0 && c.KVHeads > 0 && c.HeadDim > 0 && c.Inner > 0
}

// likeLlama sets what all models have whose blocks are Llama's: RMS norms, a gated MLP, rotary positions and, where
// c is not whole, no biases.
func (c *Config) likeLlama(eps float64, activation string) {
	whole := c.isWhole()
	c.RMSNorm, c.Gated, c.Positions = true, true, RotaryPositions
	if c.NormEps == 0 {
		c.NormEps = eps
	}
	if c.Activation == "" {
		c.Activation = activation
	}
	if !whole {
		c.NoQKVBias, c.NoOutBias, c.NoMLPBias = true, true, true
	}
}

// readLlama reads the fields that Llama and the families after it share; d has the family's defaults, and what its
// models have in common.
func readLlama(r *ConfigReader, d Config) Config {
	c := d
	c.RMSNorm, c.Gated = true, true
	readSizes(r, &c)
	readHeads(r, &c)
	c.NormEps = r.Positive("rms_norm_eps", d.NormEps)
	c.Activation = r.activation("hidden_act", d.Activation)
	attention, mlp := r.Bool("attention_bias", false), r.Bool("mlp_bias", false)
	c.NoQKVBias, c.NoOutBias, c.NoMLPBias = !attention, !attention, !mlp
	c.Untied = !r.Bool("tie_word_embeddings", !d.Untied)
	return c
}

// noBiases refuses biases in a family that has none.
func (c *Config) noBiases(r *ConfigReader) {
	for _, key := range []string{"attention_bias", "mlp_bias"} {
		r.Must(key, "a "+r.family+" has no such biases", "false")
	}
}

// Bounds of sizes in config.json: those of Config.Validate, checked before anything is made of that size.
const (
	maxLayers  = 1024
	maxWidth   = 1 << 16
	maxInner   = 1 << 20
	maxContext = 1 << 24
	maxVocab   = 1 << 24
	maxWindow  = math.MaxInt32
)

// readSizes reads the sizes under the names of the families after Llama; c has the defaults.
func readSizes(r *ConfigReader, c *Config) {
	c.Layers = r.Size("num_hidden_layers", c.Layers, maxLayers)
	c.Width = r.Size("hidden_size", c.Width, maxWidth)
	c.Heads = r.Size("num_attention_heads", c.Heads, maxWidth)
	c.Context = r.Size("max_position_embeddings", c.Context, maxContext)
	c.Vocab = r.Size("vocab_size", c.Vocab, maxVocab)
	if c.Width%max(c.Heads, 1) != 0 {
		r.fail("hidden_size: %d is not a multiple of num_attention_heads, %d", c.Width, c.Heads)
	}
}

// readHeads reads the other sizes of the families after Llama; c has the defaults.
func readHeads(r *ConfigReader, c *Config) {
	if r.Null("num_key_value_heads") {
		c.KVHeads = 0
	}
	c.KVHeads = r.Size("num_key_value_heads", c.KVHeads, maxWidth)
	c.HeadDim = r.Size("head_dim", c.HeadDim, maxWidth)
	c.Inner = r.Size("intermediate_size", c.Inner, maxInner)
}

// activation reads the function of an MLP.
func (r *ConfigReader) activation(key, absent string) string {
	name := r.String(key, absent)
	if name == "gelu_python" {
		name = "gelu"
	}
	if _, err := (Config{Activation: name}).activation(); err != nil || name == "" {
		r.fail("%s is %.80q: want gelu, gelu_pytorch_tanh, relu, relu2 or silu", key, name)
		return absent
	}
	return name
}

// writeLlama writes the fields that readLlama reads, but for biases, of which the families that have them write
// attention_bias and mlp_bias.
func writeLlama(c Config) map[string]any {
	fields := map[string]any{
		"num_hidden_layers":       c.Layers,
		"hidden_size":             c.Width,
		"num_attention_heads":     c.Heads,
		"num_key_value_heads":     c.kvHeads(),
		"head_dim":                c.headDim(),
		"intermediate_size":       c.inner(),
		"max_position_embeddings": c.Context,
		"rms_norm_eps":            decimal(c.NormEps),
		"hidden_act":              c.Activation,
		"attention_dropout":       decimal(0),
		"use_cache":               true,
	}
	maps.Copy(fields, ropeFields(c))
	return fields
}

// with returns the fields together with more.
func with(fields, more map[string]any) map[string]any {
	maps.Copy(fields, more)
	return fields
}

// gemmaNames returns the names of Llama with the four norms of a block in Gemma 2 and 3.
func gemmaNames(own names) names {
	own[attentionPostNormWeight] = inBlock("post_attention_layernorm.weight")
	own[mlpNormWeight] = inBlock("pre_feedforward_layernorm.weight")
	own[mlpPostNormWeight] = inBlock("post_feedforward_layernorm.weight")
	return llamaNames(own)
}

// likeGemma sets what all Gemmas have: Llama's blocks, norms whose weights are offsets from one, and the embedding
// times the root of the width, which transformers rounds to float32.
func (c *Config) likeGemma() {
	c.likeLlama(1e-6, "gelu_pytorch_tanh")
	c.gemmaScales()
}

// gemmaScales sets what of a Gemma is not Llama's.
func (c *Config) gemmaScales() {
	c.NormOffset = 1
	c.EmbeddingScale = float64(float32(math.Sqrt(float64(c.Width))))
}

// scaleFrom reads query_pre_attn_scalar, n, of which the attention scale is n^(-1/2).
func (c *Config) scaleFrom(r *ConfigReader) {
	c.AttentionScale = 1 / math.Sqrt(r.Positive("query_pre_attn_scalar", 256))
}

// preAttentionScalar returns n such that 1/√n is the attention scale: a whole number wherever there is one.
func (c Config) preAttentionScalar() any {
	n := 1 / (c.AttentionScale * c.AttentionScale)
	if whole := math.Round(n); 1/math.Sqrt(whole) == c.AttentionScale && whole < 1<<53 {
		return int64(whole)
	}
	return decimal(n)
}

// cap reads a cap of scores or logits; null is none.
func (r *ConfigReader) cap(key string, absent float64) float64 {
	if r.Null(key) {
		absent = 0
	}
	return r.Positive(key, absent)
}

// capField writes a cap of scores or logits.
func capField(x float64) any {
	if x == 0 {
		return nil
	}
	return decimal(x)
}

// window reads sliding_window; null is none.
func (r *ConfigReader) window(absent int) int {
	if r.Null("sliding_window") {
		absent = 0
	}
	return r.Size("sliding_window", absent, maxWindow)
}

// windowField writes sliding_window.
func windowField(c Config) any {
	if c.SlidingWindow == 0 {
		return nil
	}
	return c.SlidingWindow
}

// The words of layer_types.
const (
	fullAttention    = "full_attention"
	slidingAttention = "sliding_attention"
)

// layerTypes reads which of so many layers see all keys, and reports false where the file does not say.
func (r *ConfigReader) layerTypes(layers int) (full []int, ok bool) {
	list := r.Strings("layer_types")
	if list == nil {
		return nil, false
	}
	if len(list) != layers {
		r.fail("layer_types names %d layers of %d", len(list), layers)
		return nil, false
	}
	for l, word := range list {
		switch word {
		case fullAttention:
			full = append(full, l)
		case slidingAttention:
		default:
			r.fail("layer_types: %.80q is neither %s nor %s", word, fullAttention, slidingAttention)
			return nil, false
		}
	}
	return full, true
}

// layerTypeFields writes which layers see all keys.
func layerTypeFields(c Config) []string {
	list := make([]string, c.Layers)
	for l := range list {
		list[l] = fullAttention
		if c.windowOf(l) > 0 {
			list[l] = slidingAttention
		}
	}
	return list
}

// oneWindow refuses layer_types that differ, or differ from what the window says, in families whose layers are alike.
func (r *ConfigReader) oneWindow(c *Config) {
	full, ok := r.layerTypes(c.Layers)
	if ok && (len(full) == 0) != (c.SlidingWindow > 0) || len(full) > 0 && len(full) < c.Layers {
		r.fail("layer_types says that layers differ, or differ from sliding_window: in a %s they are alike", r.family)
	}
}

// fullEvery returns the layers that see all keys where every n-th does: n-1, 2n-1, …
func fullEvery(n, layers int) []int {
	var full []int
	for l := n - 1; l < layers; l += n {
		full = append(full, l)
	}
	return full
}

// patterned reads the window and the full layers of a Gemma, every n-th where the file does not say which.
func (c *Config) patterned(r *ConfigReader, n int) {
	c.SlidingWindow = r.Size("sliding_window", 4096, maxWindow)
	var ok bool
	if c.FullLayers, ok = r.layerTypes(c.Layers); !ok {
		c.FullLayers = fullEvery(n, c.Layers)
	}
	if len(c.FullLayers) == 0 && c.Layers >= n {
		r.fail("layer_types: all layers slide, and every %s of a %s sees all keys", ordinal(n), r.family)
	}
}

// completePattern sets the window and the full layers of a Gemma, where a spec does not say.
func (c *Config) completePattern(n int) {
	if c.SlidingWindow == 0 {
		c.SlidingWindow = 4096
	}
	if len(c.FullLayers) == 0 {
		c.FullLayers = fullEvery(n, c.Layers)
	}
	if c.AttentionScale == 0 && c.headDim() > 0 {
		c.AttentionScale = 1 / math.Sqrt(float64(c.headDim()))
	}
}

// ordinal writes 2 as 2nd, and so on.
func ordinal(n int) string {
	if n == 2 {
		return "2nd"
	}
	return fmt.Sprintf("%dth", n)
}

// qwenWindows reads which layers of a Qwen slide: with use_sliding_window, those from max_window_layers on, or those
// that layer_types names.
func (c *Config) qwenWindows(r *ConfigReader) {
	use := r.Bool("use_sliding_window", false)
	c.SlidingWindow = r.window(4096)
	first := r.Int("max_window_layers", 28)
	full, ok := r.layerTypes(c.Layers)
	if !use {
		if ok && len(full) < c.Layers {
			r.fail("layer_types has %s, and use_sliding_window is false: set one of them right", slidingAttention)
		}
		c.SlidingWindow = 0
		return
	}
	if !ok {
		for l := range min(max(first, 0), c.Layers) {
			full = append(full, l)
		}
	}
	if c.FullLayers = full; len(full) == c.Layers {
		c.SlidingWindow, c.FullLayers = 0, nil
	}
}

// qwenWindowFields writes which layers of a Qwen slide.
func qwenWindowFields(c Config) map[string]any {
	first := c.Layers
	if c.SlidingWindow > 0 {
		types := layerTypeFields(c)
		first = max(slices.Index(types, slidingAttention), 0)
	}
	return map[string]any{
		"use_sliding_window": c.SlidingWindow > 0,
		"sliding_window":     windowField(c),
		"max_window_layers":  first,
		"layer_types":        layerTypeFields(c),
	}
}
