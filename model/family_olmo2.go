package model

// olmo2 is OLMo 2 (OLMo Team, 2024): a Llama with norms of what attention and MLP give in place of what they take, and
// norms of all queries and all keys together.
var olmo2 = Family{
	Name:       "olmo2",
	CausalLM:   "Olmo2ForCausalLM",
	Body:       "Olmo2Model",
	Classifier: "Olmo2ForSequenceClassification",
	Prefix:     "model.",
	GGUF:       "olmo2",
	names: llamaNames(names{
		queryNormWeight:         inBlock("self_attn.q_norm.weight"),
		keyNormWeight:           inBlock("self_attn.k_norm.weight"),
		attentionPostNormWeight: inBlock("post_attention_layernorm.weight"),
		mlpPostNormWeight:       inBlock("post_feedforward_layernorm.weight"),
	}),
	complete: func(c *Config) {
		c.likeLlama(1e-6, "silu")
		c.NormAt, c.QKNorm = NormOutput, QKNormFull
	},
	read: func(r *ConfigReader) Config {
		c := readLlama(r, Config{
			Layers: 32, Width: 4096, Heads: 32, Inner: 11008, Context: 2048, Vocab: 50304, NormEps: 1e-5,
			Activation: "silu", Untied: true, NormAt: NormOutput, QKNorm: QKNormFull,
		})
		r.Must("mlp_bias", "an olmo2 has none", "false")
		llamaRope.readRope(r, &c)
		r.Must("sliding_window", "an olmo2 has none")
		r.oneWindow(&c)
		return c
	},
	write: func(c Config) map[string]any {
		return with(writeLlama(c), map[string]any{"attention_bias": !c.NoQKVBias})
	},
}
