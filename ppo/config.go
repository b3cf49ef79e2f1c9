package ppo

import (
	"fmt"
	"slices"

	"github.com/trimtab/trimtab/optim"
)

// Version of the stage: the same version, config, inputs and seed give the same bytes.
const Version = 1

// The names of a KL controller.
const (
	KLFixed    = "fixed"
	KLAdaptive = "adaptive"
)

// What becomes of the score of a response that does not end.
const (
	EOSIgnore  = "ignore"  // the score stands
	EOSPenalty = "penalty" // missing_eos_value is subtracted from it
	EOSFixed   = "fixed"   // missing_eos_value replaces it
)

// Config holds every number of the algorithm; doc.go says where each comes from.
type Config struct {
	Episodes    int `yaml:"episodes" json:"episodes"`         // prompts answered in all; a multiple of Batch
	Batch       int `yaml:"batch" json:"batch"`               // episodes of one iteration
	Minibatches int `yaml:"minibatches" json:"minibatches"`   // updates of one inner epoch; divides Batch
	InnerEpochs int `yaml:"inner_epochs" json:"inner_epochs"` // passes over the iteration's episodes
	ValueWarmup int `yaml:"value_warmup" json:"value_warmup"` // first iterations, which teach the value model only

	MaxTokens int `yaml:"max_tokens" json:"max_tokens"` // of a response, its end-of-text token included
	// divides the logits in sampling and in every log-probability
	Temperature float64 `yaml:"temperature" json:"temperature"`

	KLCoef       float64 `yaml:"kl_coef" json:"kl_coef"`             // β, or its first value
	KLController string  `yaml:"kl_controller" json:"kl_controller"` // fixed or adaptive
	KLTarget     float64 `yaml:"kl_target" json:"kl_target"`         // nats an episode; adaptive only
	KLHorizon    int     `yaml:"kl_horizon" json:"kl_horizon"`       // episodes; adaptive only

	Gamma            float64 `yaml:"gamma" json:"gamma"`
	Lambda           float64 `yaml:"lambda" json:"lambda"`
	Clip             float64 `yaml:"clip" json:"clip"`             // of the ratio
	ValueClip        float64 `yaml:"value_clip" json:"value_clip"` // of the change of a value
	WhitenRewards    string  `yaml:"whiten_rewards" json:"whiten_rewards"`
	WhitenAdvantages string  `yaml:"whiten_advantages" json:"whiten_advantages"`

	// of the reference, to standardise scores by; 0: scores as they come
	ScoreSamples    int     `yaml:"score_samples" json:"score_samples"`
	MissingEOS      string  `yaml:"missing_eos" json:"missing_eos"`             // ignore, penalty or fixed
	MissingEOSValue float64 `yaml:"missing_eos_value" json:"missing_eos_value"` // in units of the standardised score

	PtxCoef  float64 `yaml:"ptx_coef" json:"ptx_coef"`   // γ of PPO-ptx; 0: no pretraining gradient
	PtxRows  int     `yaml:"ptx_rows" json:"ptx_rows"`   // pretraining rows an episode
	EMADecay float64 `yaml:"ema_decay" json:"ema_decay"` // of the policy, an update; 0: the result is the policy itself

	Policy optim.Config `yaml:"policy" json:"policy"`
	Value  optim.Config `yaml:"value" json:"value"`
}

// Defaults are the settings that suited short responses and a small model.
func Defaults() Config {
	policy := optim.Default()
	policy.LR, policy.Beta1, policy.Beta2, policy.Eps, policy.WeightDecay, policy.Clip = 2e-4, 0.9, 0.95, 1e-8, 0, 1
	policy.Schedule, policy.Warmup, policy.Floor = "linear", 10, 0.1
	value := policy
	value.LR = 3e-4
	return Config{
		Episodes: 4096, Batch: 128, Minibatches: 2, InnerEpochs: 2, ValueWarmup: 1,
		MaxTokens: 32, Temperature: 1,
		KLCoef: 0.12, KLController: KLFixed, KLTarget: 6, KLHorizon: 10000,
		Gamma: 1, Lambda: 0.95, Clip: 0.2, ValueClip: 0.2,
		WhitenRewards: WhitenNone, WhitenAdvantages: WhitenUnbiased,
		ScoreSamples: 256, MissingEOS: EOSFixed, MissingEOSValue: -1,
		PtxCoef: 0, PtxRows: 1, EMADecay: 0,
		Policy: policy, Value: value,
	}
}

// Validate names the first field that is out of range.
func (c Config) Validate() error {
	for _, check := range []func() error{c.validateCounts, c.validateNumbers, c.validateNames, c.validateOptim} {
		if err := check(); err != nil {
			return err
		}
	}
	return nil
}

func (c Config) validateCounts() error {
	for _, f := range []struct {
		name           string
		v, least, most int
	}{
		{"batch", c.Batch, 1, 1 << 16},
		{"episodes", c.Episodes, c.Batch, 1 << 40},
		{"minibatches", c.Minibatches, 1, c.Batch},
		{"inner_epochs", c.InnerEpochs, 1, 100},
		{"value_warmup", c.ValueWarmup, 0, c.Episodes/max(c.Batch, 1) - 1},
		{"max_tokens", c.MaxTokens, 1, 1 << 16},
		{"kl_horizon", c.KLHorizon, 1, 1 << 40},
		{"score_samples", c.ScoreSamples, 0, 1 << 20},
		{"ptx_rows", c.PtxRows, 1, 1024},
	} {
		if f.v < f.least || f.v > f.most {
			return fmt.Errorf("%s is %d: want %d to %d", f.name, f.v, f.least, f.most)
		}
	}
	if c.Episodes%c.Batch != 0 {
		return fmt.Errorf("episodes is %d: want a multiple of batch, %d", c.Episodes, c.Batch)
	}
	if c.Batch%c.Minibatches != 0 {
		return fmt.Errorf("minibatches is %d: want a divisor of batch, %d", c.Minibatches, c.Batch)
	}
	if c.MissingEOS == EOSPenalty && c.MissingEOSValue < 0 {
		return fmt.Errorf("missing_eos_value is %g: want 0 or more, since missing_eos: penalty subtracts it",
			c.MissingEOSValue)
	}
	if c.ScoreSamples == 1 {
		return fmt.Errorf("score_samples is 1: want 0, or at least 2 to take a deviation from")
	}
	return nil
}

func (c Config) validateNumbers() error {
	for _, f := range []struct {
		name           string
		v, least, most float64
	}{
		{"temperature", c.Temperature, 0.01, 100},
		{"kl_coef", c.KLCoef, 0, 1000},
		{"kl_target", c.KLTarget, 1e-6, 1e6},
		{"gamma", c.Gamma, 0, 1},
		{"lambda", c.Lambda, 0, 1},
		{"clip", c.Clip, 1e-6, 1},
		{"value_clip", c.ValueClip, 1e-6, 1e6},
		{"missing_eos_value", c.MissingEOSValue, -1e6, 1e6},
		{"ptx_coef", c.PtxCoef, 0, 1e6},
		{"ema_decay", c.EMADecay, 0, 0.999999},
	} {
		if !(f.v >= f.least && f.v <= f.most) { // so that not-a-number fails too
			return fmt.Errorf("%s is %g: want %g to %g", f.name, f.v, f.least, f.most)
		}
	}
	return nil
}

func (c Config) validateNames() error {
	whitenings := []string{WhitenNone, WhitenPopulation, WhitenUnbiased}
	for _, f := range []struct {
		name, v string
		allowed []string
	}{
		{"kl_controller", c.KLController, []string{KLFixed, KLAdaptive}},
		{"whiten_rewards", c.WhitenRewards, whitenings},
		{"whiten_advantages", c.WhitenAdvantages, whitenings},
		{"missing_eos", c.MissingEOS, []string{EOSIgnore, EOSPenalty, EOSFixed}},
	} {
		if !slices.Contains(f.allowed, f.v) {
			return fmt.Errorf("%s is %q: want one of %v", f.name, f.v, f.allowed)
		}
	}
	return nil
}

func (c Config) validateOptim() error {
	if err := c.Policy.Validate(); err != nil {
		return fmt.Errorf("policy: %w", err)
	}
	if err := c.Value.Validate(); err != nil {
		return fmt.Errorf("value: %w", err)
	}
	return nil
}
