package model

// opt is OPT (Zhang et al., 2022): a GPT-2 with ReLU; norms before attention and MLP or, in the smaller models, of the
// sum with the residual stream.
var opt = Family{
	Name:           "opt",
	CausalLM:       "OPTForCausalLM",
	Body:           "OPTModel",
	Classifier:     "OPTForSequenceClassification",
	Prefix:         "model.",
	PositionOffset: 2,
	names: names{
		wordEmbedding:       {"model.decoder.embed_tokens.weight"},
		positionEmbedding:   {"model.decoder.embed_positions.weight"},
		attentionNormWeight: {"model.decoder.layers.%d.self_attn_layer_norm.weight"},
		attentionNormBias:   {"model.decoder.layers.%d.self_attn_layer_norm.bias"},
		qkvWeight: {
			"model.decoder.layers.%d.self_attn.q_proj.weight", "model.decoder.layers.%d.self_attn.k_proj.weight",
			"model.decoder.layers.%d.self_attn.v_proj.weight",
		},
		qkvBias: {
			"model.decoder.layers.%d.self_attn.q_proj.bias", "model.decoder.layers.%d.self_attn.k_proj.bias",
			"model.decoder.layers.%d.self_attn.v_proj.bias",
		},
		outWeight:               {"model.decoder.layers.%d.self_attn.out_proj.weight"},
		outBias:                 {"model.decoder.layers.%d.self_attn.out_proj.bias"},
		attentionPostNormWeight: {"model.decoder.layers.%d.self_attn_layer_norm.weight"},
		attentionPostNormBias:   {"model.decoder.layers.%d.self_attn_layer_norm.bias"},
		mlpNormWeight:           {"model.decoder.layers.%d.final_layer_norm.weight"},
		mlpNormBias:             {"model.decoder.layers.%d.final_layer_norm.bias"},
		upWeight:                {"model.decoder.layers.%d.fc1.weight"},
		upBias:                  {"model.decoder.layers.%d.fc1.bias"},
		downWeight:              {"model.decoder.layers.%d.fc2.weight"},
		downBias:                {"model.decoder.layers.%d.fc2.bias"},
		mlpPostNormWeight:       {"model.decoder.layers.%d.final_layer_norm.weight"},
		mlpPostNormBias:         {"model.decoder.layers.%d.final_layer_norm.bias"},
		finalNormWeight:         {"model.decoder.final_layer_norm.weight"},
		finalNormBias:           {"model.decoder.final_layer_norm.bias"},
		headWeight:              {"lm_head.weight"},
	},
	complete: func(c *Config) {
		if c.Activation == "" {
			c.Activation = "relu"
		}
		c.NoFinalNorm = c.NoFinalNorm || c.NormAt == NormAfter
	},
	read: func(r *ConfigReader) Config {
		c := Config{Layers: 12, Width: 768, Heads: 12, Context: 2048, Vocab: 50272}
		readSizes(r, &c)
		c.Inner = r.Size("ffn_dim", 3072, maxInner)
		c.Activation = r.activation("activation_function", "relu")
		if !r.Bool("do_layer_norm_before", true) {
			c.NormAt, c.NoFinalNorm = NormAfter, true
		}
		c.NoFinalNorm = r.Bool("_remove_final_layer_norm", false) || c.NoFinalNorm
		c.NoQKVBias = !r.Bool("enable_bias", true)
		c.NoOutBias, c.NoMLPBias = c.NoQKVBias, c.NoQKVBias
		c.Untied = !r.Bool("tie_word_embeddings", true)
		if n := r.Int("word_embed_proj_dim", c.Width); n != c.Width {
			r.fail("word_embed_proj_dim is %d and hidden_size %d: an embedding of another width is not supported", n,
				c.Width)
		}
		r.Must("layer_norm_elementwise_affine", "norms need weights", "true")
		return c
	},
	write: func(c Config) map[string]any {
		return map[string]any{
			"num_hidden_layers": c.Layers, "hidden_size": c.Width, "num_attention_heads": c.Heads, "ffn_dim": c.inner(),
			"max_position_embeddings": c.Context, "activation_function": c.Activation,
			"do_layer_norm_before": c.NormAt == NormBefore, "enable_bias": !c.NoQKVBias,
			"_remove_final_layer_norm": c.NoFinalNorm && c.NormAt == NormBefore, "word_embed_proj_dim": c.Width,
			"layer_norm_elementwise_affine": true, "attention_dropout": decimal(0), "dropout": decimal(0),
			"layerdrop": decimal(0), "use_cache": true,
		}
	},
}
