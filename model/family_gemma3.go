package model

// gemma3 is the language model of Gemma 3 (Gemma Team, 2025): a Gemma 2 with norms of queries and keys in place of the
// cap of scores, five layers with a sliding window to one without, and rotary bases of their own for the two kinds.
var gemma3 = Family{
	Name:       "gemma3_text",
	CausalLM:   "Gemma3ForCausalLM",
	Body:       "Gemma3TextModel",
	Classifier: "Gemma3TextForSequenceClassification",
	Prefix:     "model.",
	GGUF:       "gemma3",
	names: gemmaNames(names{
		queryNormWeight: inBlock("self_attn.q_norm.weight"),
		keyNormWeight:   inBlock("self_attn.k_norm.weight"),
	}),
	// transformers reads hidden_activation and layer_types, and caps no scores.
	ignored: []string{"hidden_act", "_sliding_window_pattern", "attn_logit_softcapping"},
	complete: func(c *Config) {
		c.likeGemma()
		c.NormAt, c.QKNorm = NormBoth, QKNormHead
		c.completePattern(6)
		if c.RopeTheta == 0 {
			c.RopeTheta = 1e6
		}
		if c.RopeLocalTheta == 0 {
			c.RopeLocalTheta = 1e4
		}
	},
	read: func(r *ConfigReader) Config {
		c := readLlama(r, Config{
			Layers: 26, Width: 2304, Heads: 8, KVHeads: 4, HeadDim: 256, Inner: 9216, Context: 131072, Vocab: 262208,
			NormEps: 1e-6, Activation: "gelu_pytorch_tanh", NormAt: NormBoth, QKNorm: QKNormHead,
		})
		c.Activation = r.activation("hidden_activation", "gelu_pytorch_tanh")
		r.Must("mlp_bias", "a gemma3_text has none", "false")
		c.LogitCap = r.cap("final_logit_softcapping", 0)
		c.scaleFrom(r)
		c.patterned(r, r.Size("sliding_window_pattern", 6, maxLayers))
		c.ropesByLayer(r)
		c.gemmaScales()
		return c
	},
	write: func(c Config) map[string]any {
		return with(writeLlama(c), map[string]any{
			"attention_bias": !c.NoQKVBias, "hidden_activation": c.Activation,
			"final_logit_softcapping": capField(c.LogitCap), "query_pre_attn_scalar": c.preAttentionScalar(),
			"sliding_window": c.SlidingWindow, "layer_types": layerTypeFields(c),
			"rope_local_base_freq": decimal(c.RopeLocalTheta), "sliding_window_pattern": c.period(),
		})
	},
}

// ropesByLayer reads the rotary positions of a Gemma 3: of layers with a sliding window, and of those without, which
// alone are scaled.
func (c *Config) ropesByLayer(r *ConfigReader) {
	k := llamaRope
	k.theta = 1e6
	c.RopeLocalTheta = r.Positive("rope_local_base_freq", 1e4)
	both := r.Object("rope_parameters")
	if both == nil {
		k.readRope(r, c)
		return
	}
	if local := both.Object(slidingAttention); local != nil {
		c.RopeLocalTheta = local.Positive("rope_theta", c.RopeLocalTheta)
		for _, key := range []string{"rope_type", "type"} {
			local.Must(key, "layers with a sliding window have no scaling", `"default"`)
		}
	}
	r.Must("rope_scaling", "rope_parameters is given too: remove one")
	k.readRopeDict(r, both.Object(fullAttention), c)
}

// period returns n where every n-th layer sees all keys, which versions of transformers before layer_types read; where
// there is no such n it is what they cannot say, and layer_types says it alone.
func (c Config) period() int {
	n := 6
	if len(c.FullLayers) > 0 {
		n = c.FullLayers[0] + 1
	}
	return n
}
