package model

// qwen2 is Qwen 2 and 2.5 (Yang et al., 2024): a Llama with biases of queries, keys and values.
var qwen2 = Family{
	Name:       "qwen2",
	CausalLM:   "Qwen2ForCausalLM",
	Body:       "Qwen2Model",
	Classifier: "Qwen2ForSequenceClassification",
	Prefix:     "model.",
	GGUF:       "qwen2",
	names:      llamaNames(names{}),
	complete: func(c *Config) {
		c.likeLlama(1e-6, "silu")
		c.NoQKVBias, c.NoOutBias, c.NoMLPBias = false, true, true
	},
	read: func(r *ConfigReader) Config {
		c := readLlama(r, Config{
			Layers: 32, Width: 4096, Heads: 32, KVHeads: 32, Inner: 22016, Context: 32768, Vocab: 151936, NormEps: 1e-6,
			Activation: "silu", Untied: true,
		})
		c.noBiases(r)
		c.NoQKVBias = false
		llamaRope.readRope(r, &c)
		c.qwenWindows(r)
		r.Must("use_mrope", "only text positions are supported", "false")
		return c
	},
	write: func(c Config) map[string]any { return with(writeLlama(c), qwenWindowFields(c)) },
}
