package model

// gemma is Gemma (Gemma Team, 2024): a Llama whose embedding is scaled, whose norms' weights are offsets from one, and
// whose MLP is gated with GELU.
var gemma = Family{
	Name:       "gemma",
	CausalLM:   "GemmaForCausalLM",
	Body:       "GemmaModel",
	Classifier: "GemmaForSequenceClassification",
	Prefix:     "model.",
	GGUF:       "gemma",
	names:      llamaNames(names{}),
	ignored:    []string{"hidden_activation"}, // of files of version 4: transformers reads hidden_act
	complete:   (*Config).likeGemma,
	read: func(r *ConfigReader) Config {
		c := readLlama(r, Config{
			Layers: 28, Width: 3072, Heads: 16, KVHeads: 16, HeadDim: 256, Inner: 24576, Context: 8192, Vocab: 256000,
			NormEps: 1e-6, Activation: "gelu_pytorch_tanh",
		})
		if c.Activation == "gelu" { // as transformers does: what was meant from the first
			c.Activation = "gelu_pytorch_tanh"
		}
		r.Must("mlp_bias", "a gemma has none", "false")
		llamaRope.readRope(r, &c)
		r.oneWindow(&c)
		c.gemmaScales()
		return c
	},
	write: func(c Config) map[string]any {
		return with(writeLlama(c), map[string]any{"attention_bias": !c.NoQKVBias, "hidden_activation": c.Activation})
	},
}
