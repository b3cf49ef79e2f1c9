package model

import "github.com/trimtab/trimtab/tensor"

// openAIGPT is GPT-1 (Radford et al., 2018): norms of the sum with the residual stream, and none after the last block.
var openAIGPT = Family{
	Name:       "openai-gpt",
	CausalLM:   "OpenAIGPTLMHeadModel",
	Body:       "OpenAIGPTModel",
	Classifier: "OpenAIGPTForSequenceClassification",
	Prefix:     "transformer.",
	conv1D:     true,
	names: names{
		wordEmbedding:           {"transformer.tokens_embed.weight"},
		positionEmbedding:       {"transformer.positions_embed.weight"},
		qkvWeight:               {"transformer.h.%d.attn.c_attn.weight"},
		qkvBias:                 {"transformer.h.%d.attn.c_attn.bias"},
		outWeight:               {"transformer.h.%d.attn.c_proj.weight"},
		outBias:                 {"transformer.h.%d.attn.c_proj.bias"},
		attentionPostNormWeight: {"transformer.h.%d.ln_1.weight"},
		attentionPostNormBias:   {"transformer.h.%d.ln_1.bias"},
		upWeight:                {"transformer.h.%d.mlp.c_fc.weight"},
		upBias:                  {"transformer.h.%d.mlp.c_fc.bias"},
		downWeight:              {"transformer.h.%d.mlp.c_proj.weight"},
		downBias:                {"transformer.h.%d.mlp.c_proj.bias"},
		mlpPostNormWeight:       {"transformer.h.%d.ln_2.weight"},
		mlpPostNormBias:         {"transformer.h.%d.ln_2.bias"},
		headWeight:              {"lm_head.weight"},
	},
	ignored: []string{"n_special", "predict_special_tokens"},
	complete: func(c *Config) {
		c.NormAt, c.NoFinalNorm = NormAfter, true
	},
	read: func(r *ConfigReader) Config {
		c := Config{Layers: 12, Width: 768, Heads: 12, Context: 512, Vocab: 40478, NormAt: NormAfter, NoFinalNorm: true}
		readGPT(r, &c)
		switch name := r.String("afn", "gelu"); name { // here gelu is the tanh form
		case "gelu":
			c.Activation = "gelu_pytorch_tanh"
		case "relu", "silu", "swish":
			c.Activation = name
		default:
			r.fail("afn is %.80q: want gelu, relu or silu", name)
		}
		return c
	},
	write: func(c Config) map[string]any {
		a, _ := c.activation()
		name := a.String()
		if a == tensor.GeluTanh {
			name = "gelu"
		}
		return with(writeGPT(c), map[string]any{"afn": name})
	},
}

// readGPT reads what GPT-1 and GPT-2 call alike; c has the defaults.
func readGPT(r *ConfigReader, c *Config) {
	c.Layers = r.Size("n_layer", c.Layers, maxLayers)
	c.Width = r.Size("n_embd", c.Width, maxWidth)
	c.Heads = r.Size("n_head", c.Heads, maxWidth)
	c.Context = r.Size("n_positions", c.Context, maxContext)
	c.Vocab = r.Size("vocab_size", c.Vocab, maxVocab)
	c.NormEps = r.Positive("layer_norm_epsilon", 1e-5)
	c.Untied = !r.Bool("tie_word_embeddings", true)
	if c.Width%max(c.Heads, 1) != 0 {
		r.fail("n_embd: %d is not a multiple of n_head, %d", c.Width, c.Heads)
	}
}

// writeGPT writes what GPT-1 and GPT-2 call alike. Its numbers have the form of the first version, on which digests
// of stored models depend.
func writeGPT(c Config) map[string]any {
	eps := c.NormEps
	if eps == 0 {
		eps = 1e-5
	}
	return map[string]any{
		"n_layer": c.Layers, "n_embd": c.Width, "n_head": c.Heads, "n_positions": c.Context, "layer_norm_epsilon": eps,
		"attn_pdrop": 0, "embd_pdrop": 0, "resid_pdrop": 0,
	}
}
