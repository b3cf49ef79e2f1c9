package model

import "math"

// ropeKeys says under which names, and with which defaults, a family has the settings of rotary positions outside of
// rope_parameters.
type ropeKeys struct {
	thetaKey, partialKey string
	theta, partial       float64
	// partly allows to rotate a part of each head; longRope has original_max_position_embeddings beside
	// max_position_embeddings.
	partly, longRope bool
}

// llamaRope is what most families have.
var llamaRope = ropeKeys{thetaKey: "rope_theta", partialKey: "partial_rotary_factor", theta: 10000, partial: 1}

// readRope reads rotary positions: rope_parameters, or the older rope_theta and rope_scaling.
func (k ropeKeys) readRope(r *ConfigReader, c *Config) {
	dict := r.Object("rope_parameters")
	if old := r.Object("rope_scaling"); old != nil {
		if dict != nil {
			r.fail("rope_scaling and rope_parameters are both given: remove one")
		}
		dict = old
	}
	k.readRopeDict(r, dict, c)
}

// readRopeDict reads rotary positions of which dict, which may be nil, is what rope_parameters says.
func (k ropeKeys) readRopeDict(r, dict *ConfigReader, c *Config) {
	c.Positions = RotaryPositions
	theta, partial := r.Positive(k.thetaKey, k.theta), r.Positive(k.partialKey, k.partial)
	if dict != nil {
		theta = dict.Positive("rope_theta", theta)
		partial = dict.Positive("partial_rotary_factor", partial)
	}
	c.RopeTheta = theta
	switch {
	case !k.partly && partial != 1:
		r.fail("%s is %g: a %s rotates all of a head", k.partialKey, partial, r.family)
	case !(partial <= 1):
		r.fail("%s is %g: want at most 1", k.partialKey, partial)
	case partial < 1:
		if c.RotaryDim = int(float64(c.headDim()) * partial); c.RotaryDim == 0 {
			r.fail("%s is %g: that is nothing of a head of %d", k.partialKey, partial, c.headDim())
		}
	}
	if dict != nil {
		k.readScaling(r, dict, c)
	}
}

// readScaling reads how frequencies are scaled.
func (k ropeKeys) readScaling(r, dict *ConfigReader, c *Config) {
	kind := dict.String("type", "default")
	kind = dict.String("rope_type", kind)
	if k.longRope && (kind == "su" || kind == "yarn") { // what Phi 3 called it first
		kind = "longrope"
	}
	s := RopeScaling{Type: kind}
	switch {
	case kind == "default":
		dict.Ignore("original_max_position_embeddings", "factor")
		return
	case k.longRope != (kind == "longrope"):
		r.fail("%srope_type is %.80q: a %s does not have it", dict.within, kind, r.family)
	case kind == "linear" || kind == "dynamic":
		s.Factor = dict.need("factor")
		dict.Ignore("original_max_position_embeddings")
	case kind == "llama3":
		s.readLlama3(dict, c)
	case kind == "yarn":
		s.readYarn(dict, c)
	case kind == "longrope":
		s.readLongRope(r, dict, c)
	default:
		r.fail("%srope_type: %.80q is none of default, linear, dynamic, llama3, yarn, longrope", dict.within, kind)
	}
	c.RopeScaling = s
}

// need reads a number that has to be there.
func (r *ConfigReader) need(key string) float64 {
	if !r.Has(key) {
		r.fail("%s%s is absent", r.within, key)
	}
	return r.Positive(key, 1)
}

// readLlama3 reads the settings of rope_type llama3.
func (s *RopeScaling) readLlama3(dict *ConfigReader, c *Config) {
	s.Factor = dict.need("factor")
	s.LowFreqFactor, s.HighFreqFactor = dict.need("low_freq_factor"), dict.need("high_freq_factor")
	s.Original = dict.Size("original_max_position_embeddings", c.Context, maxContext)
	if s.HighFreqFactor <= s.LowFreqFactor {
		dict.fail("%shigh_freq_factor: %g is not above low_freq_factor, %g", dict.within, s.HighFreqFactor,
			s.LowFreqFactor)
	}
}

// readYarn reads the settings of rope_type yarn.
func (s *RopeScaling) readYarn(dict *ConfigReader, c *Config) {
	s.Original = dict.Size("original_max_position_embeddings", c.Context, maxContext)
	s.Factor = dict.Positive("factor", float64(c.Context)/float64(max(s.Original, 1)))
	s.BetaFast, s.BetaSlow = dict.Float("beta_fast", 0), dict.Float("beta_slow", 0)
	s.MScale, s.MScaleAllDim = dict.Float("mscale", 0), dict.Float("mscale_all_dim", 0)
	if s.MScale == 0 || s.MScaleAllDim == 0 { // one alone says nothing
		s.MScale, s.MScaleAllDim = 0, 0
	}
	s.NoTruncate = !dict.Bool("truncate", true)
	s.AttentionFactor = dict.Positive("attention_factor", 0)
}

// readLongRope reads the settings of rope_type longrope. Sequences that cross original_max_position_embeddings would
// mix frequencies, so that is the longest sequence.
func (s *RopeScaling) readLongRope(r, dict *ConfigReader, c *Config) {
	s.Original = r.Size("original_max_position_embeddings", 4096, maxContext)
	if inside := dict.Int("original_max_position_embeddings", s.Original); inside != s.Original {
		r.fail("%soriginal_max_position_embeddings is %d, that of the file itself %d: make them the same", dict.within,
			inside, s.Original)
	}
	s.Factor = dict.Positive("factor", float64(c.Context)/float64(s.Original))
	s.AttentionFactor = dict.Positive("attention_factor", 0)
	s.ShortFactor, s.LongFactor = dict.Floats("short_factor"), dict.Floats("long_factor")
	for _, list := range [][]float64{s.ShortFactor, s.LongFactor} {
		if len(list) != c.rotaryDim()/2 {
			r.fail("%sshort_factor and long_factor have %d and %d numbers, and must have %d each", dict.within,
				len(s.ShortFactor), len(s.LongFactor), c.rotaryDim()/2)
		}
	}
	if c.Context > s.Original {
		c.Context = s.Original
		r.note("the longest sequence is original_max_position_embeddings, %d tokens: beyond it the model changes the "+
			"rotary frequencies of all positions", c.Context)
	}
}

// ropeFields writes rotary positions in the older spelling, which all versions of transformers read.
func ropeFields(c Config) map[string]any {
	return map[string]any{"rope_theta": decimal(c.RopeTheta), "rope_scaling": c.RopeScaling.fields()}
}

// fields writes how frequencies are scaled: nil where they are not.
func (s RopeScaling) fields() any {
	if s.Type == "" {
		return nil
	}
	f := map[string]any{"rope_type": s.Type}
	number := func(key string, x float64) {
		if x != 0 {
			f[key] = decimal(x)
		}
	}
	number("factor", s.Factor)
	number("low_freq_factor", s.LowFreqFactor)
	number("high_freq_factor", s.HighFreqFactor)
	number("beta_fast", s.BetaFast)
	number("beta_slow", s.BetaSlow)
	number("mscale", s.MScale)
	number("mscale_all_dim", s.MScaleAllDim)
	number("attention_factor", s.AttentionFactor)
	if s.Original > 0 {
		f["original_max_position_embeddings"] = s.Original
	}
	if s.NoTruncate {
		f["truncate"] = false
	}
	if s.Type == "longrope" {
		f["short_factor"], f["long_factor"] = decimals(s.ShortFactor), decimals(s.LongFactor)
	}
	return f
}

// partialRotation writes which part of a head is rotated: a fraction of which times the size of a head, rounded down as
// transformers does, gives that many elements.
func (c Config) partialRotation() decimal {
	n, d := c.rotaryDim(), c.headDim()
	part := float64(n) / float64(d)
	for int(part*float64(d)) < n {
		part = math.Nextafter(part, 2)
	}
	return decimal(part)
}

// longContext returns max_position_embeddings of a model whose context ends where its factors change.
func (c Config) longContext() int {
	if s := c.RopeScaling; s.Type == "longrope" && s.Factor > 1 {
		return int(math.Round(s.Factor * float64(s.Original)))
	}
	return c.Context
}

// decimals converts a list.
func decimals(list []float64) []decimal {
	out := make([]decimal, len(list))
	for i, x := range list {
		out[i] = decimal(x)
	}
	return out
}
