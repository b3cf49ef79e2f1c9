package model

import (
	"fmt"
	"slices"
)

// RopeScaling says how the frequencies of rotary positions are scaled for sequences longer than those a model was
// pretrained on. The zero value is no scaling. Its names are those of Hugging Face's rope_scaling.
type RopeScaling struct {
	// Type is linear (Chen et al., 2023), dynamic, llama3 (Grattafiori et al., 2024), yarn (Peng et al., 2023) or
	// longrope (Ding et al., 2024). Dynamic changes nothing up to max_position_embeddings, beyond which no sequence
	// goes here.
	Type   string  `yaml:"rope_type,omitempty" json:"rope_type,omitempty"`
	Factor float64 `yaml:"factor,omitempty" json:"factor,omitempty"`

	// Original is the context that a model was pretrained on.
	Original int `yaml:"original_max_position_embeddings,omitempty" json:"original_max_position_embeddings,omitempty"`

	LowFreqFactor  float64 `yaml:"low_freq_factor,omitempty" json:"low_freq_factor,omitempty"`   // llama3
	HighFreqFactor float64 `yaml:"high_freq_factor,omitempty" json:"high_freq_factor,omitempty"` // llama3

	BetaFast     float64 `yaml:"beta_fast,omitempty" json:"beta_fast,omitempty"`           // yarn; 0 is 32
	BetaSlow     float64 `yaml:"beta_slow,omitempty" json:"beta_slow,omitempty"`           // yarn; 0 is 1
	MScale       float64 `yaml:"mscale,omitempty" json:"mscale,omitempty"`                 // yarn
	MScaleAllDim float64 `yaml:"mscale_all_dim,omitempty" json:"mscale_all_dim,omitempty"` // yarn
	NoTruncate   bool    `yaml:"no_truncate,omitempty" json:"no_truncate,omitempty"`       // yarn

	// AttentionFactor multiplies cosine and sine; 0 is what the type takes by default. For yarn and longrope.
	AttentionFactor float64 `yaml:"attention_factor,omitempty" json:"attention_factor,omitempty"`

	// ShortFactor and LongFactor divide each frequency, in models whose context is within Original and beyond it. For
	// longrope.
	ShortFactor []float64 `yaml:"short_factor,omitempty" json:"short_factor,omitempty"`
	LongFactor  []float64 `yaml:"long_factor,omitempty" json:"long_factor,omitempty"`
}

// validate returns an error that names the first field out of its range.
func (s RopeScaling) validate() error {
	if !slices.Contains([]string{"", "linear", "dynamic", "llama3", "yarn", "longrope"}, s.Type) {
		return fmt.Errorf("rope_scaling: %q is none of linear, dynamic, llama3, yarn, longrope", s.Type)
	}
	for _, f := range []struct {
		name  string
		value float64
	}{
		{"factor", s.Factor}, {"low_freq_factor", s.LowFreqFactor}, {"high_freq_factor", s.HighFreqFactor},
		{"beta_fast", s.BetaFast}, {"beta_slow", s.BetaSlow}, {"mscale", s.MScale},
		{"mscale_all_dim", s.MScaleAllDim}, {"attention_factor", s.AttentionFactor},
		{"original_max_position_embeddings", float64(s.Original)},
	} {
		if !(f.value >= 0 && f.value <= 1e9) {
			return fmt.Errorf("rope_scaling.%s: %g is outside 0 to 1e9", f.name, f.value)
		}
	}
	for _, x := range slices.Concat(s.ShortFactor, s.LongFactor) {
		if !(x > 0 && x <= 1e9) {
			return fmt.Errorf("rope_scaling: the factor %g is outside 0 to 1e9", x)
		}
	}
	if s.Type != "" && s.Type != "longrope" && s.Factor < 1 {
		return fmt.Errorf("rope_scaling.factor: %g is below 1", s.Factor)
	}
	return nil
}
