package model

// mistral is Mistral 7B (Jiang et al., 2023): a Llama all of whose layers may have a sliding window.
var mistral = Family{
	Name:       "mistral",
	CausalLM:   "MistralForCausalLM",
	Body:       "MistralModel",
	Classifier: "MistralForSequenceClassification",
	Prefix:     "model.",
	GGUF:       "llama",
	names:      llamaNames(names{}),
	complete:   func(c *Config) { c.likeLlama(1e-6, "silu") },
	read: func(r *ConfigReader) Config {
		c := readLlama(r, Config{
			Layers: 32, Width: 4096, Heads: 32, KVHeads: 8, Inner: 14336, Context: 131072, Vocab: 32000, NormEps: 1e-6,
			Activation: "silu", Untied: true,
		})
		c.noBiases(r)
		llamaRope.readRope(r, &c)
		c.SlidingWindow = r.window(4096)
		r.oneWindow(&c)
		return c
	},
	write: func(c Config) map[string]any {
		return with(writeLlama(c), map[string]any{"sliding_window": windowField(c)})
	},
}
