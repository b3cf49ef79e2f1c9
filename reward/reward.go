// Package reward trains a model to score responses as people rank them.
//
// The model reads prompt and response and gives one number, read at the last
// token. A training item is one ranking of K responses: K forward passes, and
// all its untied pairs in one batch element with weight one over their number
// (loss.go), so that a prompt with many responses weighs no more than another
// and no response is overfitted by meeting it in C(K,2) separate rows.
//
// A step is one update on Batch rankings. After the last step the head's bias
// is set so that the demonstrations score 0 on average (InstructGPT C.2).
package reward

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	"github.com/trimtab/trimtab"
	"github.com/trimtab/trimtab/dataset"
	"github.com/trimtab/trimtab/draw"
	"github.com/trimtab/trimtab/model"
	"github.com/trimtab/trimtab/optim"
	"github.com/trimtab/trimtab/tensor"
)

// Ranking is one order of K responses to one prompt.
type Ranking struct {
	Sequences [][]int32 // prompt and response, as the policy would have it
	Ranks     []int     // 1 is best; equal ranks are tied
}

// pairs counts those that are not tied.
func (r Ranking) pairs() int {
	n := 0
	for i := range r.Ranks {
		for j := range i {
			if r.Ranks[i] != r.Ranks[j] {
				n++
			}
		}
	}
	return n
}

// Inputs are the model to begin with, and the rankings as token ids.
type Inputs struct {
	Pool           *tensor.Pool
	Numerics       tensor.Numerics // of every pass; v1 if empty
	Seed           uint64
	Stage          string
	Model          *model.Model // a language model, whose body gets a new scalar head, or a scalar model; not changed
	Rankings       []Ranking
	Validation     []Ranking // may be empty; measured after each epoch
	Demonstrations [][]int32 // prompt and response; they score 0 on average in the result. May be empty
}

// Trainer is the stage at work.
type Trainer struct {
	config Config
	in     Inputs
	order  draw.Source
	epoch  int // whose order is at hand
	perm   []int

	model *model.Model
	grad  []float32 // scorer.Gradient()
	adam  *optim.AdamW
	pass  *model.Pass
}

// New checks config and rankings and copies the model.
func New(c Config, in Inputs) (*Trainer, error) {
	if err := c.Validate(); err != nil {
		return nil, trimtab.NewError(trimtab.Invalid, "invalid_config", "", "reward: %w", err)
	}
	if in.Model == nil {
		return nil, trimtab.NewError(trimtab.Internal, "wrong_model", "", "reward: no model is given")
	}
	in.Rankings = slices.DeleteFunc(slices.Clone(in.Rankings), func(r Ranking) bool { return r.pairs() == 0 })
	if err := in.check(); err != nil {
		return nil, err
	}
	t := &Trainer{config: c, in: in, order: draw.New(in.Seed, in.Stage, "order"), epoch: -1,
		pass: model.NewPass(in.Pool).WithNumerics(cmp.Or(in.Numerics, tensor.V1))}
	if in.Model.Scalar {
		t.model = in.Model.Clone()
	} else {
		t.model = in.Model.ToScalar(draw.New(in.Seed, in.Stage, "head"))
	}
	t.grad = t.model.NewGradient()
	t.adam = optim.New(c.Optim, len(t.model.Slab), t.model.DecayRanges())
	t.adam.Pool = in.Pool
	return t, nil
}

func (in Inputs) check() error {
	if len(in.Rankings) == 0 {
		return trimtab.NewError(trimtab.Invalid, "no_rankings", "collect rankings in which not every response is tied",
			"reward: there is no pair of responses to learn from")
	}
	for i, r := range slices.Concat(in.Rankings, in.Validation) {
		if len(r.Sequences) != len(r.Ranks) {
			return trimtab.NewError(trimtab.Invalid, "wrong_ranking", "give one rank a response",
				"reward: ranking %d has %d responses and %d ranks", i, len(r.Sequences), len(r.Ranks))
		}
		if err := in.checkLengths("ranking", i, r.Sequences); err != nil {
			return err
		}
	}
	return in.checkLengths("demonstrations, set", 0, in.Demonstrations)
}

func (in Inputs) checkLengths(what string, i int, seqs [][]int32) error {
	for j, s := range seqs {
		if len(s) == 0 || len(s) > in.Model.Config.Context {
			return trimtab.NewError(trimtab.Invalid, "context_exceeded", "leave it out, or widen the model's context",
				"reward: %s %d: sequence %d has %d tokens, want 1 to %d", what, i, j, len(s), in.Model.Config.Context)
		}
	}
	return nil
}

// Steps is the number of updates of all epochs.
func (t *Trainer) Steps() int {
	return (t.config.Epochs*len(t.in.Rankings) + t.config.Batch - 1) / t.config.Batch
}

// State is the weights and the moments.
func (t *Trainer) State() []tensor.NamedArray {
	return append(t.model.NamedParameters(), t.adam.State("adam.")...)
}

// Result is the model as it stands, its bias moved so that the demonstrations score 0 on average.
func (t *Trainer) Result() *model.Model {
	m := t.model.Clone()
	Center(t.pass, m, t.in.Demonstrations)
	return m
}

// Center subtracts the mean score of seqs from the bias of m's head.
func Center(ps *model.Pass, m *model.Model, seqs [][]int32) {
	if len(seqs) == 0 {
		return
	}
	mean := 0.0
	for _, s := range NewScorer(ps, m).Scores(seqs) {
		mean += float64(s)
	}
	mean /= float64(len(seqs))
	_, bias := m.ScoreHead()
	bias[0] = float32(float64(bias[0]) - mean)
}

// Step makes update number step.
func (t *Trainer) Step(ctx context.Context, step int) (trimtab.Report, error) {
	if err := ctx.Err(); err != nil {
		return trimtab.Report{}, fmt.Errorf("reward step %d: %w", step, err)
	}
	n := len(t.in.Rankings)
	first := step * t.config.Batch
	last := min(first+t.config.Batch, t.config.Epochs*n)
	t.in.Pool.Clear(t.grad)
	tally := forwardBackward(t.pass, t.model, t.grad, t.batch(first, last))
	norm, lr := t.adam.Step(t.model.Slab, t.model.FoldGradient(t.in.Pool, t.grad), step, t.Steps())
	metrics := append(tally.metrics(""),
		trimtab.Metric{Name: "num_tokens", Value: float64(t.tokensSeen(last))},
		trimtab.Metric{Name: "grad_norm", Value: float64(norm)},
		trimtab.Metric{Name: "learning_rate", Value: float64(lr)},
		trimtab.Metric{Name: "epoch", Value: float64(last) / float64(n)})
	if len(t.in.Validation) > 0 && last/n > first/n {
		metrics = append(metrics, Evaluate(t.pass, t.model, t.in.Validation).metrics("eval_")...)
	}
	return trimtab.Report{Metrics: metrics}, nil
}

// rankingAt is the index of ranking k of the whole run.
func (t *Trainer) rankingAt(k int) int {
	n := len(t.in.Rankings)
	if e := k / n; e != t.epoch {
		t.epoch, t.perm = e, dataset.EpochOrder(t.order, n, e)
	}
	return t.perm[k%n]
}

func (t *Trainer) batch(first, last int) []Ranking {
	var batch []Ranking
	for k := first; k < last; k++ {
		batch = append(batch, t.in.Rankings[t.rankingAt(k)])
	}
	return batch
}

// tokensSeen of the first k rankings.
func (t *Trainer) tokensSeen(k int) int {
	n := len(t.in.Rankings)
	sum := 0
	for _, r := range t.in.Rankings {
		sum += r.tokens()
	}
	sum *= k / n
	for i := k - k%n; i < k; i++ {
		sum += t.in.Rankings[t.rankingAt(i)].tokens()
	}
	return sum
}

func (r Ranking) tokens() int {
	n := 0
	for _, s := range r.Sequences {
		n += len(s)
	}
	return n
}
