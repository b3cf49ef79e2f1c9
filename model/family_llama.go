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
	names: names{
		wordEmbedding:       {"model.embed_tokens.weight"},
		attentionNormWeight: {"model.layers.%d.input_layernorm.weight"},
		qkvWeight: {
			"model.layers.%d.self_attn.q_proj.weight", "model.layers.%d.self_attn.k_proj.weight",
			"model.layers.%d.self_attn.v_proj.weight",
		},
		qkvBias: {
			"model.layers.%d.self_attn.q_proj.bias", "model.layers.%d.self_attn.k_proj.bias",
			"model.layers.%d.self_attn.v_proj.bias",
		},
		outWeight:     {"model.layers.%d.self_attn.o_proj.weight"},
		outBias:       {"model.layers.%d.self_attn.o_proj.bias"},
		mlpNormWeight: {"model.layers.%d.post_attention_layernorm.weight"},
		upWeight:      {"model.layers.%d.mlp.gate_proj.weight", "model.layers.%d.mlp.up_proj.weight"},
		upBias:        {"model.layers.%d.mlp.gate_proj.bias", "model.layers.%d.mlp.up_proj.bias"},
		downWeight:    {"model.layers.%d.mlp.down_proj.weight"},
		downBias:      {"model.layers.%d.mlp.down_proj.bias"},

		finalNormWeight: {"model.norm.weight"},
		headWeight:      {"lm_head.weight"},
	},
	complete: func(c *Config) {
		c.RMSNorm, c.Gated, c.Positions = true, true, RotaryPositions
		if c.Activation == "" {
			c.Activation = "silu"
		}
		if c.NormEps == 0 {
			c.NormEps = 1e-6
		}
		c.NoQKVBias, c.NoOutBias, c.NoMLPBias = true, true, true
	},
}
