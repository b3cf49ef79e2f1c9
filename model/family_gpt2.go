package model

// gpt2 is GPT-2 (Radford et al., 2019), to which the zero value of Config belongs.
var gpt2 = Family{
	Name:       "gpt2",
	CausalLM:   "GPT2LMHeadModel",
	Body:       "GPT2Model",
	Classifier: "GPT2ForSequenceClassification",
	Prefix:     "transformer.",
	GGUF:       "gpt2",
	conv1D:     true,
	names: names{
		wordEmbedding:       {"transformer.wte.weight"},
		positionEmbedding:   {"transformer.wpe.weight"},
		attentionNormWeight: {"transformer.h.%d.ln_1.weight"},
		attentionNormBias:   {"transformer.h.%d.ln_1.bias"},
		qkvWeight:           {"transformer.h.%d.attn.c_attn.weight"},
		qkvBias:             {"transformer.h.%d.attn.c_attn.bias"},
		outWeight:           {"transformer.h.%d.attn.c_proj.weight"},
		outBias:             {"transformer.h.%d.attn.c_proj.bias"},
		mlpNormWeight:       {"transformer.h.%d.ln_2.weight"},
		mlpNormBias:         {"transformer.h.%d.ln_2.bias"},
		upWeight:            {"transformer.h.%d.mlp.c_fc.weight"},
		upBias:              {"transformer.h.%d.mlp.c_fc.bias"},
		downWeight:          {"transformer.h.%d.mlp.c_proj.weight"},
		downBias:            {"transformer.h.%d.mlp.c_proj.bias"},
		finalNormWeight:     {"transformer.ln_f.weight"},
		finalNormBias:       {"transformer.ln_f.bias"},
		headWeight:          {"lm_head.weight"},
	},
	read: func(r *ConfigReader) Config {
		c := Config{Layers: 12, Width: 768, Heads: 12, Context: 1024, Vocab: 50257}
		readGPT(r, &c)
		c.Inner = r.Size("n_inner", 4*c.Width, maxInner)
		c.Activation = r.activation("activation_function", "gelu_new")
		const own = "only GPT-2's own attention is supported"
		r.Must("scale_attn_weights", own, "true")
		r.Must("scale_attn_by_inverse_layer_idx", own, "false")
		return c
	},
	write: func(c Config) map[string]any {
		fields := with(writeGPT(c), map[string]any{
			"activation_function": "gelu_new", "n_inner": nil, "scale_attn_by_inverse_layer_idx": false,
			"scale_attn_weights": true,
		})
		if c.Activation != "" {
			fields["activation_function"] = c.Activation
		}
		if c.Inner != 0 {
			fields["n_inner"] = c.Inner
		}
		return fields
	},
}
