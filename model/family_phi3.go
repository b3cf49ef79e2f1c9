package model

// phi3 is Phi 3 and Phi 4 (Abdin et al., 2024): a Llama that keeps queries, keys and values in one array, gate and
// up in another, and may rotate a part of each head.
var phi3 = Family{
	Name:       "phi3",
	CausalLM:   "Phi3ForCausalLM",
	Body:       "Phi3Model",
	Classifier: "Phi3ForSequenceClassification",
	Prefix:     "model.",
	GGUF:       "phi3",
	names: llamaNames(names{
		qkvWeight: inBlock("self_attn.qkv_proj.weight"),
		upWeight:  inBlock("mlp.gate_up_proj.weight"),
	}),
	complete: func(c *Config) { c.likeLlama(1e-5, "silu") },
	read: func(r *ConfigReader) Config {
		c := readLlama(r, Config{
			Layers: 32, Width: 3072, Heads: 32, Inner: 8192, Context: 4096, Vocab: 32064, NormEps: 1e-5,
			Activation: "silu", Untied: true,
		})
		c.noBiases(r)
		r.Must("lm_head_bias", "the head has no bias", "false")
		r.Must("full_attn_mod", "all layers have to be alike", "1")
		r.Must("interpolate_factor", "positions have to be whole", "1")
		rope := llamaRope
		rope.partly, rope.longRope = true, true
		rope.readRope(r, &c)
		r.Ignore("original_max_position_embeddings") // which only longrope reads
		c.SlidingWindow = r.window(0)
		r.oneWindow(&c)
		return c
	},
	write: func(c Config) map[string]any {
		fields := with(writeLlama(c), map[string]any{
			"sliding_window":          windowField(c),
			"max_position_embeddings": c.longContext(),
			"partial_rotary_factor":   c.partialRotation(),
			"resid_pdrop":             decimal(0), "embd_pdrop": decimal(0),
		})
		if n := c.RopeScaling.Original; n > 0 {
			fields["original_max_position_embeddings"] = n
		}
		return fields
	},
}
