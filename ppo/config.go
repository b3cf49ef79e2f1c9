package ppo

import (
	"fmt"
	"slices"

	"github.com/trimtab/trimtab/optim"
)

// Version of the stage: the same version, config, inputs and seed give the
// same bytes. It is part of a stage's cache key, so a change of the arithmetic
// has to raise it.
const Version = 1

// The KL controllers: β is constant, or follows the measured KL (AdaptKLCoef).
const (
	KLFixed    = "fixed"
	KLAdaptive = "adaptive"
)

// The rules for the score of a response that is cut off before it ends.
const (
	EOSIgnore  = "ignore"  // keep the score
	EOSPenalty = "penalty" // subtract missing_eos_penalty from it
	EOSFixed   = "fixed"   // replace it by missing_eos_penalty
)

// Config holds every hyperparameter of the algorithm. The list of details in
// doc.go names the source of each.
type Config struct {
	Episodes    int `yaml:"total_episodes" json:"episodes"`      // responses sampled in all; a multiple of Batch
	Batch       int `yaml:"batch_size" json:"batch"`             // episodes of one iteration
	MiniBatches int `yaml:"num_mini_batches" json:"minibatches"` // updates of one PPO epoch; divides Batch
	PPOEpochs   int `yaml:"num_ppo_epochs" json:"inner_epochs"`  // passes over the iteration's episodes
	// ValueWarmup is the number of first iterations that update the value model only.
	ValueWarmup int `yaml:"value_warmup" json:"value_warmup"`

	MaxNewTokens int `yaml:"max_new_tokens" json:"max_tokens"` // of a response, its end-of-text token included
	// Temperature divides the logits, in sampling and in every log-probability.
	Temperature float64 `yaml:"temperature" json:"temperature"`

	KLCoef       float64 `yaml:"kl_coef" json:"kl_coef"`             // β; under KLAdaptive its first value
	KLController string  `yaml:"kl_controller" json:"kl_controller"` // KLFixed or KLAdaptive
	KLTarget     float64 `yaml:"kl_target" json:"kl_target"`         // nats an episode; KLAdaptive only
	KLHorizon    int     `yaml:"kl_horizon" json:"kl_horizon"`       // episodes; KLAdaptive only

	Gamma            float64 `yaml:"gamma" json:"gamma"`                // discount of later rewards
	Lambda           float64 `yaml:"lam" json:"lambda"`                 // of generalised advantage estimation
	ClipRange        float64 `yaml:"cliprange" json:"clip"`             // ε of the probability ratio
	ClipRangeValue   float64 `yaml:"cliprange_value" json:"value_clip"` // ε of the change of a value
	WhitenRewards    string  `yaml:"whiten_rewards" json:"whiten_rewards"`
	WhitenAdvantages string  `yaml:"whiten_advantages" json:"whiten_advantages"`

	// ScoreSamples is the number of samples of the reference whose scores give
	// the mean and the deviation to standardise by; 0 leaves scores as they are.
	ScoreSamples int    `yaml:"score_samples" json:"score_samples"`
	MissingEOS   string `yaml:"missing_eos" json:"missing_eos"` // EOSIgnore, EOSPenalty or EOSFixed
	// MissingEOSPenalty is in units of the standardised score.
	MissingEOSPenalty float64 `yaml:"missing_eos_penalty" json:"missing_eos_value"`

	PtxCoef float64 `yaml:"ptx_coef" json:"ptx_coef"` // γ of PPO-ptx; 0: no pretraining gradient
	PtxRows int     `yaml:"ptx_rows" json:"ptx_rows"` // pretraining rows per episode
	// EMADecay is the decay, at each update, of the moving average of the
	// policy's weights that is the result; with 0 the result is the policy itself.
	EMADecay float64 `yaml:"ema_decay" json:"ema_decay"`

	Policy optim.Config `yaml:"policy" json:"policy"`
	Value  optim.Config `yaml:"value" json:"value"`
}

// Defaults returns settings that suit short responses and a small model.
func Defaults() Config {
	policy := optim.Config{
		LR:          2e-4,
		Beta1:       0.9,
		Beta2:       0.95,
		Eps:         1e-8,
		WeightDecay: 0,
		Clip:        1,
		Schedule:    optim.Linear,
		Warmup:      10,
		Floor:       0.1,
		EpsStyle:    optim.Torch,
	}
	value := policy
	value.LR = 3e-4
	return Config{
		Episodes:          4096,
		Batch:             128,
		MiniBatches:       2,
		PPOEpochs:         2,
		ValueWarmup:       1,
		MaxNewTokens:      32,
		Temperature:       1,
		KLCoef:            0.12,
		KLController:      KLFixed,
		KLTarget:          6,
		KLHorizon:         10000,
		Gamma:             1,
		Lambda:            0.95,
		ClipRange:         0.2,
		ClipRangeValue:    0.2,
		WhitenRewards:     WhitenNone,
		WhitenAdvantages:  WhitenUnbiased,
		ScoreSamples:      256,
		MissingEOS:        EOSFixed,
		MissingEOSPenalty: -1,
		PtxCoef:           0,
		PtxRows:           1,
		EMADecay:          0,
		Policy:            policy,
		Value:             value,
	}
}

// Validate returns an error that names the first field out of range and the
// range, or nil.
func (c Config) Validate() error {
	for _, check := range []func() error{c.validateCounts, c.validateNumbers, c.validateNames, c.validateOptim} {
		if err := check(); err != nil {
			return err
		}
	}
	return nil
}

// validateCounts checks the whole numbers and what couples them.
func (c Config) validateCounts() error {
	for _, f := range []struct {
		name            string
		value, min, max int
	}{
		{"batch_size", c.Batch, 1, 1 << 16},
		{"total_episodes", c.Episodes, c.Batch, 1 << 40},
		{"num_mini_batches", c.MiniBatches, 1, c.Batch},
		{"num_ppo_epochs", c.PPOEpochs, 1, 100},
		{"value_warmup", c.ValueWarmup, 0, c.Episodes/max(c.Batch, 1) - 1}, // one iteration has to update the policy
		{"max_new_tokens", c.MaxNewTokens, 1, 1 << 16},
		{"kl_horizon", c.KLHorizon, 1, 1 << 40},
		{"score_samples", c.ScoreSamples, 0, 1 << 20},
		{"ptx_rows", c.PtxRows, 1, 1024},
	} {
		if f.value < f.min || f.value > f.max {
			return fmt.Errorf("%s is %d: want %d to %d", f.name, f.value, f.min, f.max)
		}
	}
	if c.Episodes%c.Batch != 0 {
		return fmt.Errorf("total_episodes is %d: want a multiple of batch_size, %d", c.Episodes, c.Batch)
	}
	if c.Batch%c.MiniBatches != 0 {
		return fmt.Errorf("num_mini_batches is %d: want a divisor of batch_size, %d", c.MiniBatches, c.Batch)
	}
	if c.MissingEOS == EOSPenalty && c.MissingEOSPenalty < 0 {
		return fmt.Errorf("missing_eos_penalty is %g: want 0 or more, since missing_eos: penalty subtracts it",
			c.MissingEOSPenalty)
	}
	if c.ScoreSamples == 1 {
		return fmt.Errorf("score_samples is 1: want 0, or at least 2 to estimate a deviation from")
	}
	return nil
}

// validateNumbers checks the real numbers.
func (c Config) validateNumbers() error {
	for _, f := range []struct {
		name            string
		value, min, max float64
	}{
		{"temperature", c.Temperature, 0.01, 100},
		{"kl_coef", c.KLCoef, 0, 1000},
		{"kl_target", c.KLTarget, 1e-6, 1e6},
		{"gamma", c.Gamma, 0, 1},
		{"lam", c.Lambda, 0, 1},
		{"cliprange", c.ClipRange, 1e-6, 1},
		{"cliprange_value", c.ClipRangeValue, 1e-6, 1e6},
		{"missing_eos_penalty", c.MissingEOSPenalty, -1e6, 1e6},
		{"ptx_coef", c.PtxCoef, 0, 1e6},
		{"ema_decay", c.EMADecay, 0, 0.999999},
	} {
		if !(f.value >= f.min && f.value <= f.max) { // negated, so that NaN fails too
			return fmt.Errorf("%s is %g: want %g to %g", f.name, f.value, f.min, f.max)
		}
	}
	return nil
}

// validateNames checks the settings that are one of several words.
func (c Config) validateNames() error {
	whitenings := []string{WhitenNone, WhitenPopulation, WhitenUnbiased}
	for _, f := range []struct {
		name, value string
		allowed     []string
	}{
		{"kl_controller", c.KLController, []string{KLFixed, KLAdaptive}},
		{"whiten_rewards", c.WhitenRewards, whitenings},
		{"whiten_advantages", c.WhitenAdvantages, whitenings},
		{"missing_eos", c.MissingEOS, []string{EOSIgnore, EOSPenalty, EOSFixed}},
	} {
		if !slices.Contains(f.allowed, f.value) {
			return fmt.Errorf("%s is %q: want one of %v", f.name, f.value, f.allowed)
		}
	}
	return nil
}

// validateOptim checks the settings of the two optimizers.
func (c Config) validateOptim() error {
	if err := c.Policy.Validate(); err != nil {
		return fmt.Errorf("policy: %w", err)
	}
	if err := c.Value.Validate(); err != nil {
		return fmt.Errorf("value: %w", err)
	}
	return nil
}
