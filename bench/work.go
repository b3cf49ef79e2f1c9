package bench

import (
	"context"
	"fmt"
	"slices"

	"github.com/trimtab/trimtab/draw"
	"github.com/trimtab/trimtab/model"
	"github.com/trimtab/trimtab/optim"
	"github.com/trimtab/trimtab/ppo"
	"github.com/trimtab/trimtab/reward"
	"github.com/trimtab/trimtab/tensor"
)

// The kinds of work, as `trimtab bench --work` takes them.
const (
	WorkTrain    = "train"
	WorkScore    = "score"
	WorkGenerate = "generate"
	WorkPPO      = "ppo"
)

// WorkNames lists the kinds of work in the order in which they are reported.
var WorkNames = []string{WorkTrain, WorkScore, WorkGenerate, WorkPPO}

// Workload is work that is ready to be run repeatedly.
type Workload struct {
	// One of WorkNames.
	Name string
	// Floating-point operations of one run, by the formula of each workload.
	FLOPs float64

	// Run does the work once and returns the number of tokens processed. run counts the
	// calls from 0.
	Run func(run int) (tokens int, err error)
}

// New prepares work of a kind, one of WorkNames, at a shape that has it.
// Models, buffers and data are made here, so that Run is the work alone.
func New(kind string, s Shape, pool *tensor.Pool, n tensor.Numerics) (*Workload, error) {
	if !s.Has(kind) {
		return nil, fmt.Errorf("bench: shape %s has no work %q", s.Name, kind)
	}
	switch kind {
	case WorkTrain:
		return Train(s, pool, n), nil
	case WorkScore:
		return Score(s, pool, n), nil
	case WorkGenerate:
		return Generate(s, pool, n), nil
	}
	return PPO(s, pool, n)
}

// steps is the number of optimizer steps that learning-rate schedules are laid
// out for.
const steps = 1000

// Train measures training steps: forward pass, cross-entropy at every position,
// backward pass, gradient clipping and AdamW. A step counts three forward
// passes with logits at every position.
func Train(s Shape, pool *tensor.Pool, n tensor.Numerics) *Workload {
	m := s.model()
	adam := optim.New(optim.Default(), len(m.Slab), m.DecayRanges())
	adam.Pool = pool
	ps := model.NewPass(pool).WithNumerics(n)
	g := m.NewGradient()
	b := model.NewBatch(s.sequences(s.Train.Batch, s.Train.Length)...)
	rows := allRows(b)
	// The gradient of the mean cross-entropy by each log-probability.
	gradient := slices.Repeat([]float32{-1 / float32(len(rows))}, len(rows))
	return &Workload{
		Name: WorkTrain, FLOPs: float64(s.Train.Batch) * trainFLOPs(s.Config, s.Train.Length, s.Train.Length),
		Run: func(run int) (tokens int, err error) {
			pool.Clear(g)
			ps.Forward(m, b)
			ps.WeightedLogProbs(m, g, rows, 1, gradient)
			ps.BackwardBody(m, g)
			adam.Step(m.Slab, m.FoldGradient(pool, g), run, steps)
			return b.Rows(), nil
		},
	}
}

// allRows asks for the log-probability of the next token at every position; the
// last position predicts the first token.
func allRows(b model.Batch) []model.HeadRow {
	rows := make([]model.HeadRow, b.Rows())
	for r := range rows {
		rows[r] = model.HeadRow{Row: r, Target: b.Tokens[(r+1)%len(b.Tokens)]}
	}
	return rows
}

// Score measures log-probabilities at every position of a batch without
// gradients: a forward pass with logits at every position.
func Score(s Shape, pool *tensor.Pool, n tensor.Numerics) *Workload {
	m := s.model()
	ps := model.NewPass(pool).WithNumerics(n)
	b := model.NewBatch(s.sequences(s.Score.Batch, s.Score.Length)...)
	rows := allRows(b)
	return &Workload{
		Name: WorkScore, FLOPs: float64(s.Score.Batch) * s.Config.ForwardFLOPs(s.Score.Length, s.Score.Length),
		Run: func(int) (tokens int, err error) {
			ps.Infer(m, b)
			ps.LogProbs(m, rows, 1)
			return b.Rows(), nil
		},
	}
}

// Generate measures sampling a response of full length to every prompt. Its
// tokens are the sampled ones. A run counts the forward pass over whole
// sequences without their last tokens, with logits for each sampled token.
func Generate(s Shape, pool *tensor.Pool, n tensor.Numerics) *Workload {
	m := s.model()
	ps := model.NewPass(pool).WithNumerics(n)
	prompts := s.sequences(s.Generate.Batch, s.Generate.Prompt)
	o := model.SampleOptions{Temperature: 1, MaxNewTokens: s.Generate.Response}
	return &Workload{
		Name: WorkGenerate, FLOPs: s.Generate.flops(s.Config),
		Run: func(run int) (tokens int, err error) {
			for _, sample := range model.Generate(ps, m, prompts, o, draw.New(uint64(run), "bench"), 0) {
				tokens += len(sample.Tokens)
			}
			return tokens, nil
		},
	}
}

// flops counts the operations of sampling. The last token of a response is not fed
// back to the model.
func (g Generation) flops(c model.Config) float64 {
	return float64(g.Batch) * c.ForwardFLOPs(g.Prompt+g.Response-1, g.Response)
}

// PPO measures whole PPO iterations: sampling, reward scores, log-probabilities
// under policy and reference, values, and then the configured epochs of
// minibatch updates of policy and value function. Its tokens are the sampled
// ones. The end-of-text token is suppressed, so that every response has its
// full length.
//
// An iteration counts the sampling, four forward passes of which two have
// logits at the response, and for each epoch one training step with logits at
// the response and one without.
func PPO(s Shape, pool *tensor.Pool, n tensor.Numerics) (*Workload, error) {
	policy, rm := s.model(), model.New(s.Config, true)
	rm.Init(draw.New(2, "bench"))
	c := ppo.Defaults()
	c.Batch, c.Episodes, c.MaxNewTokens = s.PPO.Batch, steps*s.PPO.Batch, s.PPO.Response
	c.ScoreSamples, c.ValueWarmup, c.MissingEOS = 0, 0, ppo.EOSIgnore
	in := ppo.Inputs{
		Pool:           pool,
		Numerics:       n,
		Seed:           1,
		Stage:          "bench",
		Model:          policy,
		Reference:      policy,
		Value:          rm,
		Scorer:         reward.NewScorer(model.NewPass(pool).WithNumerics(n), rm),
		StopTokens:     []int32{0},
		SuppressTokens: []int32{0},
	}
	for _, tokens := range s.sequences(4*s.PPO.Batch, s.PPO.Prompt) {
		in.Prompts = append(in.Prompts, ppo.Prompt{Tokens: tokens})
	}
	tr, err := ppo.New(c, in)
	if err != nil {
		return nil, fmt.Errorf("bench: PPO of shape %s: %w", s.Name, err)
	}
	return &Workload{
		Name: WorkPPO, FLOPs: s.PPO.flops(s.Config) + s.PPO.updateFLOPs(s.Config, c.PPOEpochs),
		Run: func(iteration int) (tokens int, err error) {
			r, err := tr.Step(context.Background(), iteration)
			for _, rollout := range r.Rollouts {
				tokens += len(rollout.Tokens)
			}
			return tokens, err
		},
	}, nil
}

// updateFLOPs counts the operations of a PPO iteration after sampling.
func (g Generation) updateFLOPs(c model.Config, epochs int) float64 {
	inputs := g.Prompt + g.Response - 1 // nothing is predicted from the last token
	score := c.ForwardFLOPs(inputs+1, 0)
	logp, value := c.ForwardFLOPs(inputs, g.Response), c.ForwardFLOPs(inputs, 0)
	epoch := trainFLOPs(c, inputs, g.Response) + trainFLOPs(c, inputs, 0)
	return float64(g.Batch) * (score + 2*logp + value + float64(epochs)*epoch)
}
