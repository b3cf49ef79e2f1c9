package model

// gemma2 is Gemma 2 (Gemma Team, 2024): a Gemma with norms before and after attention and MLP, caps of scores and
// logits, and a sliding window in every other layer.
var gemma2 = Family{
	Name:       "gemma2",
	CausalLM:   "Gemma2ForCausalLM",
	Body:       "Gemma2Model",
	Classifier: "Gemma2ForSequenceClassification",
	Prefix:     "model.",
	GGUF:       "gemma2",
	names:      gemmaNames(names{}),
	ignored:    []string{"hidden_act"}, // transformers reads hidden_activation
	complete: func(c *Config) {
		if !c.isWhole() && c.AttentionCap == 0 && c.LogitCap == 0 {
			c.AttentionCap, c.LogitCap = 50, 30
		}
		c.likeGemma()
		c.NormAt = NormBoth
		c.completePattern(2)
	},
	read: func(r *ConfigReader) Config {
		c := readLlama(r, Config{
			Layers: 26, Width: 2304, Heads: 8, KVHeads: 4, HeadDim: 256, Inner: 9216, Context: 8192, Vocab: 256000,
			NormEps: 1e-6, Activation: "gelu_pytorch_tanh", NormAt: NormBoth,
		})
		c.Activation = r.activation("hidden_activation", "gelu_pytorch_tanh")
		r.Must("mlp_bias", "a gemma2 has none", "false")
		llamaRope.readRope(r, &c)
		c.AttentionCap, c.LogitCap = r.cap("attn_logit_softcapping", 50), r.cap("final_logit_softcapping", 30)
		c.scaleFrom(r)
		c.patterned(r, 2)
		c.gemmaScales()
		return c
	},
	write: func(c Config) map[string]any {
		return with(writeLlama(c), map[string]any{
			"attention_bias": !c.NoQKVBias, "hidden_activation": c.Activation,
			"attn_logit_softcapping": capField(c.AttentionCap), "final_logit_softcapping": capField(c.LogitCap),
			"query_pre_attn_scalar": c.preAttentionScalar(), "sliding_window": c.SlidingWindow,
			"layer_types": layerTypeFields(c),
		})
	},
}
