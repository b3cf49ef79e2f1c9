package ppo

import (
	"cmp"
	"context"
	"fmt"

	"github.com/trimtab/trimtab"
	"github.com/trimtab/trimtab/dataset"
	"github.com/trimtab/trimtab/draw"
	"github.com/trimtab/trimtab/model"
	"github.com/trimtab/trimtab/optim"
	"github.com/trimtab/trimtab/tensor"
)

// Prompt is a question, as text for the record and as the tokens that the policy continues.
type Prompt struct {
	Text   string
	Tokens []int32
}

// Inputs are the models, the scorer and the prompts. No model is changed.
type Inputs struct {
	Pool     *tensor.Pool
	Numerics tensor.Numerics // of every pass; v1 if empty
	Seed     uint64
	Stage    string

	Model     *model.Model // what the policy begins as
	Reference *model.Model // what KL is measured against; it is given, and never taken from the policy
	Value     *model.Model // what the value model begins as: the reward model
	Scorer    Scorer

	Prompts        []Prompt
	Pretrain       [][]int32                // rows of text, for ptx_coef
	StopTokens     []int32                  // tokens of which any ends a response
	SuppressTokens []int32                  // tokens that are never sampled, for example padding
	Decode         func(ids []int32) []byte // fills Rollout.Bytes; may be nil
}

// network is a model in training.
type network struct {
	model *model.Model
	grad  []float32 // m.Gradient()
	adam  *optim.AdamW
}

func newNetwork(pool *tensor.Pool, m *model.Model, c optim.Config) *network {
	n := &network{model: m, grad: m.NewGradient(), adam: optim.New(c, len(m.Slab), m.DecayRanges())}
	n.adam.Pool = pool
	return n
}

func (n *network) step(number, of int) (norm, lr float32) {
	return n.adam.Step(n.model.Slab, n.model.FoldGradient(n.adam.Pool, n.grad), number, of)
}

// Trainer is the stage at work. What the next step depends on is in State.
type Trainer struct {
	config      Config
	in          Inputs
	pass        *model.Pass
	microTokens int // tokens that go through a model at once

	policy, value *network
	ema           *model.Model // nil without ema_decay
	beta          []float32    // (1) the KL coefficient
	scoreScale    scoreScale   // (2)

	promptOrder, ptxOrder         dataset.EpochSampler
	samplingSource, shuffleSource draw.Source
}

// New checks config and inputs and copies the models.
func New(c Config, in Inputs) (*Trainer, error) {
	if err := c.Validate(); err != nil {
		return nil, trimtab.NewError(trimtab.Invalid, "invalid_config", "", "ppo: %w", err)
	}
	if err := in.check(c); err != nil {
		return nil, err
	}
	source := func(purpose string) draw.Source { return draw.New(in.Seed, in.Stage, purpose) }
	t := &Trainer{
		config: c, in: in, pass: model.NewPass(in.Pool).WithNumerics(cmp.Or(in.Numerics, tensor.V1)),
		microTokens: microTokens,
		policy:      newNetwork(in.Pool, in.Model.Clone(), c.Policy),
		value:       newNetwork(in.Pool, in.Value.Clone(), c.Value),
		beta:        []float32{float32(c.KLCoef)}, scoreScale: scoreScale{0, 1},
		promptOrder:    dataset.EpochSampler{Source: source("prompts"), N: len(in.Prompts)},
		ptxOrder:       dataset.EpochSampler{Source: source("pretrain"), N: len(in.Pretrain)},
		samplingSource: source("sample"), shuffleSource: source("minibatch"),
	}
	if c.EMADecay > 0 {
		t.ema = in.Model.Clone()
		t.policy.adam.Average, t.policy.adam.AverageDecay = t.ema.Slab, float32(c.EMADecay)
	}
	return t, nil
}

func (in Inputs) check(c Config) error {
	invalid := func(typ, remedy, format string, args ...any) error {
		return trimtab.NewError(trimtab.Invalid, typ, remedy, "ppo: "+format, args...)
	}
	switch {
	case in.Model == nil || in.Model.Scalar || in.Reference == nil || in.Reference.Scalar:
		return invalid("wrong_model", "give the stage two language models", "policy and reference need a language head")
	case in.Value == nil || !in.Value.Scalar:
		return invalid("wrong_model", "give the stage a reward model",
			"the value model begins as a model with a scalar head")
	case in.Model.Config != in.Reference.Config || in.Value.Config.Vocab != in.Model.Config.Vocab:
		return invalid("wrong_model", "use models of one chain",
			"policy %+v, reference %+v and value model %+v do not go together", in.Model.Config, in.Reference.Config,
			in.Value.Config)
	case in.Scorer == nil:
		return trimtab.NewError(trimtab.Internal, "no_scorer", "", "ppo: no scorer is given")
	case len(in.Prompts) == 0:
		return invalid("no_prompts", "add prompts and freeze the dataset", "there is no prompt to answer")
	case c.PtxCoef > 0 && len(in.Pretrain) == 0:
		return invalid("no_text", "give the stage text, or set ptx_coef to 0",
			"ptx_coef is %g and there is no pretraining text", c.PtxCoef)
	}
	context := min(in.Model.Config.Context, in.Value.Config.Context)
	for i, p := range in.Prompts {
		if len(p.Tokens) == 0 || len(p.Tokens)+c.MaxTokens > context {
			return invalid("context_exceeded", "lower max_tokens or leave out long prompts",
				"prompt %d has %d tokens: with a response of %d it does not fit a context of %d", i, len(p.Tokens),
				c.MaxTokens, context)
		}
	}
	for i, row := range in.Pretrain {
		if len(row) < 2 || len(row)-1 > in.Model.Config.Context {
			return invalid("context_exceeded", "pack shorter rows",
				"row %d of pretraining text has %d tokens, want 2 to %d", i, len(row), in.Model.Config.Context+1)
		}
	}
	return nil
}

// Steps is the number of iterations.
func (t *Trainer) Steps() int { return t.config.Episodes / t.config.Batch }

// updatesPerIteration is the number of updates of one iteration.
func (t *Trainer) updatesPerIteration() int { return t.config.InnerEpochs * t.config.Minibatches }

// State is everything that one iteration hands to the next: both networks
// with their moments, the average, the KL coefficient, and the scale of
// scores. Reference and scorer are inputs and not here.
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
		tensor.NamedArray{Name: "kl_coef", Shape: []int{1}, Data: t.beta},
		tensor.NamedArray{Name: "score_scale", Shape: []int{2}, Data: t.scoreScale})
}

// Result is the average of the policies if one is kept, else the policy.
func (t *Trainer) Result() *model.Model {
	if t.ema != nil {
		return t.ema.Clone()
	}
	return t.policy.model.Clone()
}

// ValueModel is the value model as it stands.
func (t *Trainer) ValueModel() *model.Model { return t.value.model.Clone() }

// Step makes one iteration: sample, score, compare with the reference, value,
// then all inner epochs. Nothing half used is left behind; after an error the
// state has to be restored.
func (t *Trainer) Step(ctx context.Context, step int) (trimtab.Report, error) {
	return t.StepWithShards(ctx, step, nil)
}

// StepWithShards is Step with rollouts that others made of the same state. Episodes
// that no shard holds are made here. Error wrong_rollouts for a shard that is
// not of this step.
func (t *Trainer) StepWithShards(ctx context.Context, step int, shards []Shard) (trimtab.Report, error) {
	report, err := t.iterate(ctx, step, shards)
	if err != nil {
		return trimtab.Report{}, fmt.Errorf("ppo iteration %d: %w", step, err)
	}
	return report, nil
}

func (t *Trainer) iterate(ctx context.Context, step int, shards []Shard) (trimtab.Report, error) {
	if err := ctx.Err(); err != nil {
		return trimtab.Report{}, err
	}
	if step == 0 {
		if err := t.estimateScoreScale(); err != nil {
			return trimtab.Report{}, err
		}
	}
	episodes, err := t.collectRollouts(ctx, step, shards)
	if err != nil {
		return trimtab.Report{}, err
	}
	t.standardizeScores(episodes)
	t.computeAdvantages(episodes)
	sum, err := t.trainEpochs(ctx, step, episodes)
	if err != nil {
		return trimtab.Report{}, err
	}
	beta := float64(t.beta[0])
	if t.config.KLController == KLAdaptive {
		t.beta[0] = float32(AdaptKLCoef(beta, meanKL(episodes), t.config.KLTarget, len(episodes), t.config.KLHorizon))
	}
	return trimtab.Report{Metrics: t.metrics(step, beta, episodes, sum), Rollouts: t.rolloutFacts(episodes)}, nil
}

// rolloutFacts is the episodes as facts.
func (t *Trainer) rolloutFacts(episodes []*episode) []trimtab.Rollout {
	rollouts := make([]trimtab.Rollout, len(episodes))
	for i, e := range episodes {
		r := trimtab.Rollout{
			Index: i, Prompt: t.in.Prompts[e.prompt].Text, PromptIDs: e.tokens[:e.promptLen:e.promptLen],
			Tokens: e.response(),
			Score:  e.score, RawScore: e.rawScore, Ended: e.ended,
			LogProbs: e.logprobs, RefLogProb: e.refLogprobs, KL: make([]float32, len(e.logprobs)),
			Values: e.values, Rewards: e.rewards, Advantages: e.advantages, Returns: e.returns,
		}
		for k := range r.KL {
			r.KL[k] = e.logprobs[k] - e.refLogprobs[k]
		}
		if t.in.Decode != nil {
			r.Bytes = t.in.Decode(r.Tokens)
		}
		rollouts[i] = r
	}
	return rollouts
}
