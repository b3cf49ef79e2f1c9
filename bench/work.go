package bench

import (
	"context"
	"fmt"

	"github.com/trimtab/trimtab/draw"
	"github.com/trimtab/trimtab/model"
	"github.com/trimtab/trimtab/optim"
	"github.com/trimtab/trimtab/ppo"
	"github.com/trimtab/trimtab/reward"
	"github.com/trimtab/trimtab/tensor"
)

// The kinds of work.
const (
	WorkTrain    = "train"
	WorkScore    = "score"
	WorkGenerate = "generate"
	WorkPPO      = "ppo"
)

// WorkNames are all of them, in the order in which they are reported.
var WorkNames = []string{WorkTrain, WorkScore, WorkGenerate, WorkPPO}

// Workload is work made ready to be repeated.
type Workload struct {
	Name  string
	FLOPs float64 // floating-point operations of a run; see each workload

	// Run does the work once, runs counting from 0, and returns how many
	// tokens it has done.
	Run func(run int) (tokens int, err error)
}

// New makes work of that kind ready. The shape must have it.
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

// steps is how many updates the schedules of learning rates are laid out for.
const steps = 1000

// Train is training steps: forward, cross-entropy at every position, backward,
// clipping and AdamW. A step takes three times the forward work with logits at
// every position.
func Train(s Shape, pool *tensor.Pool, n tensor.Numerics) *Workload {
	m := s.model()
	a := optim.New(optim.Default(), len(m.Slab), m.DecayRanges())
	a.Pool = pool
	ps, g, b := model.NewPass(pool).WithNumerics(n), m.NewGradient(), model.NewBatch(s.sequences(s.Train.Batch,
		s.Train.Length)...)
	rows := allRows(b)
	learn := func(int, float32, float32) float32 { return -1 / float32(len(rows)) }
	return &Workload{
		Name: WorkTrain, FLOPs: float64(s.Train.Batch) * trainFLOPs(s.Config, s.Train.Length, s.Train.Length),
		Run: func(run int) (tokens int, err error) {
			pool.Clear(g)
			ps.Forward(m, b)
			ps.LMHead(m, g, rows, 1, learn)
			ps.BackwardBody(m, g)
			a.Step(m.Slab, m.FoldGradient(pool, g), run, steps)
			return b.Rows(), nil
		},
	}
}

// allRows asks for the log-probability of the next token after every row, and
// of the first after the last.
func allRows(b model.Batch) []model.HeadRow {
	rows := make([]model.HeadRow, b.Rows())
	for r := range rows {
		rows[r] = model.HeadRow{Row: r, Target: b.Tokens[(r+1)%len(b.Tokens)]}
	}
	return rows
}

// Score is log-probabilities at every position of a batch, without gradients:
// the forward work with logits at every position.
func Score(s Shape, pool *tensor.Pool, n tensor.Numerics) *Workload {
	m, ps, b := s.model(), model.NewPass(pool).WithNumerics(n), model.NewBatch(s.sequences(s.Score.Batch,
		s.Score.Length)...)
	rows := allRows(b)
	logp := make([]float32, len(rows))
	keep := func(i int, of, _ float32) float32 {
		logp[i] = of
		return 0
	}
	return &Workload{
		Name: WorkScore, FLOPs: float64(s.Score.Batch) * forwardFLOPs(s.Config, s.Score.Length, s.Score.Length),
		Run: func(int) (tokens int, err error) {
			ps.Infer(m, b)
			ps.LMHead(m, nil, rows, 1, keep)
			return b.Rows(), nil
		},
	}
}

// Generate is sampling every prompt to the full length; its tokens are those
// sampled. A run is the forward work of whole sequences but their last tokens,
// with logits for each token sampled.
func Generate(s Shape, pool *tensor.Pool, n tensor.Numerics) *Workload {
	m, ps, prompts := s.model(), model.NewPass(pool).WithNumerics(n), s.sequences(s.Generate.Batch, s.Generate.Prompt)
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

func (g Generation) flops(c model.Config) float64 {
	return float64(g.Batch) * forwardFLOPs(c, g.Prompt+g.Response-1, g.Response)
}

// PPO is whole iterations: sampling, scores, log-probabilities under the policy
// and the reference, values, then 2 epochs of 2 minibatches of policy and
// value. Its tokens are those sampled. The end of text is banned, so that every
// response has its full length. An iteration is the work of sampling, four
// forward passes, two of them with logits at the response, and in each epoch a
// training step with logits at the response and one without.
func PPO(s Shape, pool *tensor.Pool, n tensor.Numerics) (*Workload, error) {
	policy, rm := s.model(), model.New(s.Config, true)
	rm.Init(draw.New(2, "bench"))
	c := ppo.Defaults()
	c.Batch, c.Episodes, c.MaxTokens = s.PPO.Batch, steps*s.PPO.Batch, s.PPO.Response
	c.ScoreSamples, c.ValueWarmup, c.MissingEOS = 0, 0, ppo.EOSIgnore
	in := ppo.Inputs{Pool: pool, Numerics: n, Seed: 1, Stage: "bench", Model: policy, Reference: policy, Value: rm,
		Scorer: reward.NewScorer(model.NewPass(pool).WithNumerics(n), rm), StopTokens: []int32{0},
		SuppressTokens: []int32{0}}
	for _, tokens := range s.sequences(4*s.PPO.Batch, s.PPO.Prompt) {
		in.Prompts = append(in.Prompts, ppo.Prompt{Tokens: tokens})
	}
	tr, err := ppo.New(c, in)
	if err != nil {
		return nil, fmt.Errorf("bench: PPO of shape %s: %w", s.Name, err)
	}
	return &Workload{
		Name: WorkPPO, FLOPs: s.PPO.flops(s.Config) + s.PPO.updateFLOPs(s.Config, c.InnerEpochs),
		Run: func(iteration int) (tokens int, err error) {
			r, err := tr.Step(context.Background(), iteration)
			for _, x := range r.Rollouts {
				tokens += len(x.Tokens)
			}
			return tokens, err
		},
	}, nil
}

// updateFLOPs is the work of a PPO iteration after sampling.
func (g Generation) updateFLOPs(c model.Config, epochs int) float64 {
	inputs := g.Prompt + g.Response - 1 // nothing is predicted after the last
	score := forwardFLOPs(c, inputs+1, 0)
	logp, value := forwardFLOPs(c, inputs, g.Response), forwardFLOPs(c, inputs, 0)
	epoch := trainFLOPs(c, inputs, g.Response) + trainFLOPs(c, inputs, 0)
	return float64(g.Batch) * (score + 2*logp + value + float64(epochs)*epoch)
}
