package model

// gptNeoX is GPT-NeoX (Black et al., 2022) and Pythia (Biderman et al., 2023): attention and MLP read the same residual
// stream, a part of each head is rotated, and query, key and value of a head lie side by side.
var gptNeoX = Family{
	Name:       "gpt_neox",
	CausalLM:   "GPTNeoXForCausalLM",
	Body:       "GPTNeoXModel",
	Classifier: "GPTNeoXForSequenceClassification",
	Prefix:     "gpt_neox.",
	GGUF:       "gptneox",
	names: names{
		wordEmbedding:       {"gpt_neox.embed_in.weight"},
		attentionNormWeight: {"gpt_neox.layers.%d.input_layernorm.weight"},
		attentionNormBias:   {"gpt_neox.layers.%d.input_layernorm.bias"},
		qkvWeight:           {"gpt_neox.layers.%d.attention.query_key_value.weight"},
		qkvBias:             {"gpt_neox.layers.%d.attention.query_key_value.bias"},
		outWeight:           {"gpt_neox.layers.%d.attention.dense.weight"},
		outBias:             {"gpt_neox.layers.%d.attention.dense.bias"},
		mlpNormWeight:       {"gpt_neox.layers.%d.post_attention_layernorm.weight"},
		mlpNormBias:         {"gpt_neox.layers.%d.post_attention_layernorm.bias"},
		upWeight:            {"gpt_neox.layers.%d.mlp.dense_h_to_4h.weight"},
		upBias:              {"gpt_neox.layers.%d.mlp.dense_h_to_4h.bias"},
		downWeight:          {"gpt_neox.layers.%d.mlp.dense_4h_to_h.weight"},
		downBias:            {"gpt_neox.layers.%d.mlp.dense_4h_to_h.bias"},
		finalNormWeight:     {"gpt_neox.final_layer_norm.weight"},
		finalNormBias:       {"gpt_neox.final_layer_norm.bias"},
		headWeight:          {"embed_out.weight"},
	},
	complete: func(c *Config) {
		// A config that has all of it says whether the residual is parallel: some of Pythia's kin are not.
		if !(c.QKVPerHead && c.Positions == RotaryPositions && c.RopeTheta > 0 && c.Inner > 0) {
			c.ParallelResidual = true
			if c.RotaryDim == 0 {
				c.RotaryDim = max(2, c.headDim()/4)
			}
		}
		c.QKVPerHead, c.Positions = true, RotaryPositions
		if c.Activation == "" {
			c.Activation = "gelu"
		}
	},
	read: func(r *ConfigReader) Config {
		c := Config{Layers: 44, Width: 6144, Heads: 64, Inner: 24576, Context: 2048, Vocab: 50432, QKVPerHead: true}
		readSizes(r, &c)
		c.Inner = r.Size("intermediate_size", c.Inner, maxInner)
		c.NormEps = r.Positive("layer_norm_eps", 1e-5)
		c.Activation = r.activation("hidden_act", "gelu")
		c.ParallelResidual = r.Bool("use_parallel_residual", true)
		c.NoQKVBias = !r.Bool("attention_bias", true)
		c.NoOutBias = c.NoQKVBias
		c.Untied = !r.Bool("tie_word_embeddings", false)
		rope := ropeKeys{thetaKey: "rotary_emb_base", partialKey: "rotary_pct", theta: 10000, partial: 0.25,
			partly: true}
		rope.readRope(r, &c)
		return c
	},
	write: func(c Config) map[string]any {
		return map[string]any{
			"num_hidden_layers": c.Layers, "hidden_size": c.Width, "num_attention_heads": c.Heads,
			"intermediate_size": c.inner(), "max_position_embeddings": c.Context,
			"layer_norm_eps": decimal(c.NormEps), "hidden_act": c.Activation,
			"use_parallel_residual": c.ParallelResidual, "attention_bias": !c.NoQKVBias,
			"rotary_pct": c.partialRotation(), "rotary_emb_base": decimal(c.RopeTheta),
			"rope_scaling": c.RopeScaling.fields(), "attention_dropout": decimal(0), "hidden_dropout": decimal(0),
			"use_cache": true,
		}
	},
}
