package model

// gpt2 is GPT-2 (Radford et al., 2019). Its Config is the zero value, its config.json is that of package checkpoint,
// which stored it before there were families.
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
}
