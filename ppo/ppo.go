package ppo

import (
	"cmp"

	"github.com/trimtab/trimtab"
	"github.com/trimtab/trimtab/dataset"
	"github.com/trimtab/trimtab/draw"
	"github.com/trimtab/trimtab/model"
	"github.com/trimtab/trimtab/tensor"
)

// Prompt is a query: its text for the record, and the tokens that the policy
// continues.
type Prompt struct {
	Text   string
	Tokens []int32
}

// Inputs are the models, the scorer and the prompts. Models are copied or read,
// never changed.
type Inputs struct {
	Pool     *tensor.Pool    // nil runs on the calling goroutine
	Numerics tensor.Numerics // of the forward and backward passes; v1 if empty
	Seed     uint64          // of the run
	Stage    string          // name of the stage; with Seed it determines every random draw

	Model *model.Model // the policy's initial weights: the SFT model
	// Reference is the model that the KL penalty is measured against. It is never
	// taken from the policy, so a resumed run is held to the same model.
	Reference *model.Model
	Value     *model.Model // the value model's initial weights: the reward model
	Scorer    Scorer

	Prompts        []Prompt
	Pretrain       [][]int32                // rows of text, for ptx_coef
	StopTokens     []int32                  // any of them ends a response
	SuppressTokens []int32                  // never sampled, for example padding
	Decode         func(ids []int32) []byte // fills Rollout.Bytes; may be nil
}

// Trainer is the PPO stage; it implements train.Trainer. It is not safe for
// concurrent use.
type Trainer struct {
	config      Config
	in          Inputs
	pass        *model.Pass
	microTokens int // tokens of a micro-batch; changes no bit of the result

	policy     *network
	value      *network
	ema        *model.Model // moving average of the policy; nil without ema_decay
	klCoef     []float32    // (1) β
	scoreScale scoreScale   // (2)

	promptOrder    dataset.EpochSampler // which prompt the k-th episode answers
	ptxOrder       dataset.EpochSampler // which row of pretraining text comes k-th
	samplingSource draw.Source          // At(episode, token)
	shuffleSource  draw.Source          // At(iteration, PPO epoch)
}

// New returns a trainer that begins from copies of the models. It returns
// invalid_config, wrong_model, no_scorer, no_prompts, no_text or
// context_exceeded if the config and the inputs do not fit together.
func New(c Config, in Inputs) (*Trainer, error) {
	if err := c.Validate(); err != nil {
		return nil, trimtab.NewError(trimtab.Invalid, "invalid_config", "", "ppo: %w", err)
	}
	if err := in.check(c); err != nil {
		return nil, err
	}
	source := func(purpose string) draw.Source { return draw.New(in.Seed, in.Stage, purpose) }
	t := &Trainer{
		config:         c,
		in:             in,
		pass:           model.NewPass(in.Pool).WithNumerics(cmp.Or(in.Numerics, tensor.V1)),
		microTokens:    dataset.MicroBatchTokens,
		policy:         newNetwork(in.Pool, in.Model.Clone(), c.Policy),
		value:          newNetwork(in.Pool, in.Value.Clone(), c.Value),
		klCoef:         []float32{float32(c.KLCoef)},
		scoreScale:     scoreScale{0, 1},
		promptOrder:    dataset.EpochSampler{Source: source("prompts"), N: len(in.Prompts)},
		ptxOrder:       dataset.EpochSampler{Source: source("pretrain"), N: len(in.Pretrain)},
		samplingSource: source("sample"),
		shuffleSource:  source("minibatch"),
	}
	if c.EMADecay > 0 {
		t.ema = in.Model.Clone()
		t.policy.adam.Average = t.ema.Slab
		t.policy.adam.AverageDecay = float32(c.EMADecay)
	}
	return t, nil
}

// check returns an error unless the models fit together and everything fits
// into their contexts.
func (in Inputs) check(c Config) error {
	invalid := func(typ, remedy, format string, args ...any) error {
		return trimtab.NewError(trimtab.Invalid, typ, remedy, "ppo: "+format, args...)
	}
	switch {
	case in.Model == nil || in.Model.Scalar || in.Reference == nil || in.Reference.Scalar:
		return invalid("wrong_model", "give the stage two language models",
			"policy and reference need a language-model head")
	case in.Value == nil || !in.Value.Scalar:
		return invalid("wrong_model", "give the stage a reward model",
			"the value model must begin as a model with a scalar head")
	case !in.Model.Config.Equal(in.Reference.Config) || in.Value.Config.Vocab != in.Model.Config.Vocab:
		return invalid("wrong_model", "use models of one chain",
			"policy %+v, reference %+v and value model %+v do not fit together: want policy and reference of one "+
				"shape, and one vocabulary for all", in.Model.Config, in.Reference.Config, in.Value.Config)
	case in.Scorer == nil:
		return trimtab.NewError(trimtab.Internal, "no_scorer", "", "ppo: no scorer was given")
	case len(in.Prompts) == 0:
		return invalid("no_prompts", "add prompts and freeze the dataset", "there are no prompts to respond to")
	case c.PtxCoef > 0 && len(in.Pretrain) == 0:
		return invalid("no_text", "give the stage text, or set ptx_coef to 0",
			"ptx_coef is %g, but there is no pretraining text", c.PtxCoef)
	}
	context := min(in.Model.Config.Context, in.Value.Config.Context)
	for i, p := range in.Prompts {
		if len(p.Tokens) == 0 || len(p.Tokens)+c.MaxNewTokens > context {
			return invalid("context_exceeded", "lower max_new_tokens or leave out long prompts",
				"prompt %d has %d tokens: want at least 1, and room for a response of %d in a context of %d",
				i, len(p.Tokens), c.MaxNewTokens, context)
		}
	}
	maxRow := in.Model.Config.Context + 1 // the last token of a row is a target only
	for i, row := range in.Pretrain {
		if len(row) < 2 || len(row) > maxRow {
			return invalid("context_exceeded", "pack shorter rows",
				"row %d of the pretraining text has %d tokens, want 2 to %d", i, len(row), maxRow)
		}
	}
	return nil
}

// Steps returns the number of iterations.
func (t *Trainer) Steps() int { return t.config.Episodes / t.config.Batch }

// updatesPerIteration is the number of updates of each network in an iteration.
func (t *Trainer) updatesPerIteration() int { return t.config.PPOEpochs * t.config.MiniBatches }

// totalUpdates is the number of updates of the value model in the whole run.
func (t *Trainer) totalUpdates() int { return t.Steps() * t.updatesPerIteration() }

// State returns views of everything that one iteration hands to the next: both
// networks' weights and AdamW moments, the moving average, the KL coefficient,
// and the scale of scores. Reference and scorer are inputs, and not part of it.
func (t *Trainer) State() []tensor.NamedArray {
	var state []tensor.NamedArray
	for _, n := range []struct {
		name string
		*network
	}{{"policy.", t.policy}, {"value.", t.value}} {
		state = append(state, n.model.NamedViews(n.model.Slab, n.name)...)
		state = append(state, n.adam.State(n.name+"adam.")...)
	}
	if t.ema != nil {
		state = append(state, t.ema.NamedViews(t.ema.Slab, "ema.")...)
	}
	return append(state,
		tensor.NamedArray{Name: "kl_coef", Shape: []int{1}, Data: t.klCoef},
		tensor.NamedArray{Name: "score_scale", Shape: []int{2}, Data: t.scoreScale})
}

// Result returns a copy of the policy in its present state, or of its moving
// average if one is kept.
func (t *Trainer) Result() *model.Model {
	if t.ema != nil {
		return t.ema.Clone()
	}
	return t.policy.model.Clone()
}
