package model

// qwen3 is Qwen 3 (Yang et al., 2025): a Llama with a norm of each head's query and key.
var qwen3 = Family{
	Name:       "qwen3",
	CausalLM:   "Qwen3ForCausalLM",
	Body:       "Qwen3Model",
	Classifier: "Qwen3ForSequenceClassification",
	Prefix:     "model.",
	GGUF:       "qwen3",
	names: llamaNames(names{
		queryNormWeight: inBlock("self_attn.q_norm.weight"),
		keyNormWeight:   inBlock("self_attn.k_norm.weight"),
	}),
	complete: func(c *Config) {
		c.likeLlama(1e-6, "silu")
		c.QKNorm = QKNormHead
	},
	read: func(r *ConfigReader) Config {
		c := readLlama(r, Config{
			Layers: 32, Width: 4096, Heads: 32, KVHeads: 32, HeadDim: 128, Inner: 22016, Context: 32768, Vocab: 151936,
			NormEps: 1e-6, Activation: "silu", Untied: true, QKNorm: QKNormHead,
		})
		r.Must("mlp_bias", "a qwen3 has none", "false")
		llamaRope.readRope(r, &c)
		c.qwenWindows(r)
		return c
	},
	write: func(c Config) map[string]any {
		return with(with(writeLlama(c), qwenWindowFields(c)), map[string]any{"attention_bias": !c.NoQKVBias})
	},
}
