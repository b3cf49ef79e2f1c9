package model

// llama is Llama 1 to 3 (Touvron et al., 2023; Grattafiori et al., 2024) and what has its shape, as SmolLM and
// TinyLlama.
var llama = Family{
	Name:       "llama",
	CausalLM:   "LlamaForCausalLM",
	Body:       "LlamaModel",
	Classifier: "LlamaForSequenceClassification",
	Prefix:     "model.",
	GGUF:       "llama",
	names:      llamaNames(names{}),
	ignored:    []string{"is_llama_config", "max_sequence_length"},
	complete:   func(c *Config) { c.likeLlama(1e-6, "silu") },
	read: func(r *ConfigReader) Config {
		c := readLlama(r, Config{
			Layers: 32, Width: 4096, Heads: 32, Inner: 11008, Context: 2048, Vocab: 32000, NormEps: 1e-6,
			Activation: "silu", Untied: true,
		})
		llamaRope.readRope(r, &c)
		r.Must("sliding_window", "a llama has none")
		r.Must("rope_interleaved", "pairs of a rotation have to be half a head apart", "false")
		r.oneWindow(&c)
		return c
	},
	write: func(c Config) map[string]any {
		return with(writeLlama(c), map[string]any{"attention_bias": !c.NoQKVBias, "mlp_bias": !c.NoMLPBias})
	},
}
