package model

import (
	"math"

	"github.com/trimtab/trimtab/tensor"
)

// Rotary positions (Su et al., "RoFormer", 2021): pair i of a query or a key at position t, its elements i and i + R/2
// of the R that are rotated, turns by the angle t·f_i, with
//
//	f_i = θ^(-2i/R), scaled by RopeScaling

// rotate turns the queries and keys of row r of block l, or takes their gradients back, by Rotate or RotateBack of
// package tensor.
func (ps *Pass) rotate(l, r int, row []float32, turn func(x, cos, sin []float32)) {
	d := &ps.m.dims
	cos, sin := ps.rotary.of(ps.m.windows[l]).at(int(ps.positions[r]))
	for h := range d.heads + d.kvHeads {
		at := d.queryOrKey(h)
		turn(row[at:at+d.rotaryDim], cos, sin)
	}
}

// rotaryTable holds the cosines and sines of the positions from 0 on.
type rotaryTable struct {
	half      int       // R/2
	cos, sin  []float32 // (positions, R/2)
	frequency []float32 // (R/2)
	factor    float32   // of cosine and sine
}

// rotaryTables are those of a model: the layers with a sliding window may have a base of their own.
type rotaryTables struct {
	model         *Model
	global, local rotaryTable
	separate      bool // local is not global
}

// prepare makes the tables of m for so many positions.
func (t *rotaryTables) prepare(m *Model, positions int) {
	if m.dims.rotaryDim == 0 {
		return
	}
	if t.model != m {
		c := m.Config
		frequency, factor := c.ropeFrequencies(c.ropeTheta(), c.RopeScaling)
		t.global = rotaryTable{half: m.dims.rotaryDim / 2, frequency: frequency, factor: factor}
		if t.separate = c.RopeLocalTheta > 0; t.separate {
			frequency, factor = c.ropeFrequencies(c.RopeLocalTheta, RopeScaling{})
			t.local = rotaryTable{half: m.dims.rotaryDim / 2, frequency: frequency, factor: factor}
		}
		t.model = m
	}
	t.global.extend(positions)
	if t.separate {
		t.local.extend(positions)
	}
}

// of returns the table of a layer whose queries see so many keys (0: all).
func (t *rotaryTables) of(window int) *rotaryTable {
	if t.separate && window > 0 {
		return &t.local
	}
	return &t.global
}

// extend computes the positions that are missing, in powers of two.
func (t *rotaryTable) extend(positions int) {
	have := len(t.cos) / max(1, t.half)
	if have >= positions {
		return
	}
	want := max(64, have)
	for want < positions {
		want *= 2
	}
	cos, sin := tensor.Slab(want*t.half), tensor.Slab(want*t.half)
	copy(cos, t.cos)
	copy(sin, t.sin)
	for p := have; p < want; p++ {
		tensor.RotaryAngles(cos[p*t.half:(p+1)*t.half], sin[p*t.half:(p+1)*t.half], t.frequency, p, t.factor)
	}
	t.cos, t.sin = cos, sin
}

// at returns cosines and sines (R/2) of a position.
func (t *rotaryTable) at(position int) (cos, sin []float32) {
	return t.cos[position*t.half : (position+1)*t.half], t.sin[position*t.half : (position+1)*t.half]
}

// ropeTheta returns the base of the frequencies.
func (c Config) ropeTheta() float64 {
	if c.RopeTheta > 0 {
		return c.RopeTheta
	}
	return 10000
}

// ropeFrequencies returns the frequencies of the rotated pairs and the factor of cosine and sine. Steps that torch does
// in float32 are rounded to float32 here.
func (c Config) ropeFrequencies(theta float64, s RopeScaling) (frequency []float32, factor float32) {
	r := c.rotaryDim()
	frequency = make([]float32, r/2)
	for i := range frequency {
		exponent := float32(2*i) / float32(r)
		frequency[i] = 1 / float32(tensor.Pow64(theta, float64(exponent)))
	}
	factor = 1
	switch s.Type {
	case "linear":
		for i := range frequency {
			frequency[i] /= float32(s.Factor)
		}
	case "llama3":
		s.scaleLlama3(frequency)
	case "yarn":
		s.scaleYarn(frequency, c.Context, theta, r)
		factor = s.yarnFactor()
	case "longrope":
		factors := s.ShortFactor
		if c.Context > s.Original && len(s.LongFactor) > 0 {
			factors = s.LongFactor
		}
		for i := range frequency {
			exponent := float32(2*i) / float32(r)
			frequency[i] = 1 / (float32(factors[i]) * float32(tensor.Pow64(theta, float64(exponent))))
		}
		factor = s.longRopeFactor()
	}
	return frequency, factor
}

// scaleLlama3 divides low frequencies by Factor, leaves high ones, and interpolates between (Grattafiori et al., 2024).
func (s RopeScaling) scaleLlama3(frequency []float32) {
	lowest := float64(s.Original) / s.LowFreqFactor // wavelengths
	highest := float64(s.Original) / s.HighFreqFactor
	for i, f := range frequency {
		wavelength := 2 * math.Pi / float64(f)
		switch {
		case wavelength > lowest:
			frequency[i] = f / float32(s.Factor)
		case wavelength >= highest:
			smooth := (float64(s.Original)/wavelength - s.LowFreqFactor) / (s.HighFreqFactor - s.LowFreqFactor)
			frequency[i] = float32(float64((1-smooth)*float64(f)/s.Factor) + float64(smooth*float64(f)))
		}
	}
}

// scaleYarn interpolates frequencies that turn less than BetaSlow times over the original context, leaves those that
// turn more than BetaFast times, and ramps between (Peng et al., "YaRN", 2023, section 3.2).
func (s RopeScaling) scaleYarn(frequency []float32, context int, theta float64, r int) {
	original := float64(s.original(context))
	fast, slow := s.BetaFast, s.BetaSlow
	if fast == 0 {
		fast = 32
	}
	if slow == 0 {
		slow = 1
	}
	pair := func(turns float64) float64 { // the pair that turns so many times
		return float64(r) * tensor.Log64(original/(turns*2*math.Pi)) / (2 * tensor.Log64(theta))
	}
	low, high := pair(fast), pair(slow)
	if !s.NoTruncate {
		low, high = math.Floor(low), math.Ceil(high)
	}
	low, high = max(low, 0), min(high, float64(r-1))
	if low == high {
		high += .001
	}
	for i, f := range frequency {
		ramp := min(max((float64(i)-low)/(high-low), 0), 1)
		keep := float32(1 - ramp)
		frequency[i] = float32(f/float32(s.Factor)*(1-keep)) + float32(f*keep)
	}
}

// original returns the context that a model was pretrained on, for models that do not say.
func (s RopeScaling) original(context int) int {
	if s.Original > 0 {
		return s.Original
	}
	return context
}

// yarnFactor returns the factor of cosine and sine under YaRN: 0.1·ln(factor) + 1 by default.
func (s RopeScaling) yarnFactor() float32 {
	if s.AttentionFactor > 0 {
		return float32(s.AttentionFactor)
	}
	mscale := func(m float64) float64 {
		if s.Factor <= 1 {
			return 1
		}
		return float64(.1*m*tensor.Log64(s.Factor)) + 1
	}
	if s.MScale > 0 && s.MScaleAllDim > 0 {
		return float32(mscale(s.MScale) / mscale(s.MScaleAllDim))
	}
	return float32(mscale(1))
}

// longRopeFactor returns the factor of cosine and sine under LongRoPE, √(1 + ln s / ln original), where s is how much
// the context was extended.
func (s RopeScaling) longRopeFactor() float32 {
	if s.AttentionFactor > 0 {
		return float32(s.AttentionFactor)
	}
	if s.Factor <= 1 {
		return 1
	}
	return float32(math.Sqrt(1 + tensor.Log64(s.Factor)/tensor.Log64(float64(s.Original))))
}
