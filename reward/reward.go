// Package reward trains a model to score responses as people rank them.
//
// The model reads prompt and response and returns one number, read at the last
// token. A training item is one ranking of K responses. It takes K forward
// passes, and all its untied pairs are in one batch element, each weighted by
// one over their number (see RankingLoss). So a prompt with many responses
// weighs no more than another, and no response is overfitted because it occurs
// in several of the C(K,2) pairs (InstructGPT, 2203.02155, section 3.5).
//
// A step is one update on Batch rankings. After the last step, the head's bias
// is shifted so that the demonstrations score 0 on average (same section).
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

// Ranking is one labeller's order of K responses to one prompt.
type Ranking struct {
	Sequences [][]int32 // (K) prompt and response together, as the policy would have produced them
	Ranks     []int     // (K) 1 is best; equal ranks are tied
}

// pairs counts the pairs of responses that are not tied.
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

// tokens counts the tokens of all K sequences; the prompt counts K times.
func (r Ranking) tokens() int {
	n := 0
	for _, s := range r.Sequences {
		n += len(s)
	}
	return n
}

// Inputs are the initial model and the rankings as token ids.
type Inputs struct {
	Pool     *tensor.Pool    // nil runs on the calling goroutine
	Numerics tensor.Numerics // of the forward and backward passes; v1 if empty
	Seed     uint64          // of the run
	Stage    string          // name of the stage; with Seed it determines every random draw

	// Model is copied, not changed. The body of a language model gets a new
	// scalar head; a scalar model is trained further.
	Model          *model.Model
	Rankings       []Ranking
	Validation     []Ranking // measured after each epoch; may be empty
	Demonstrations [][]int32 // prompt and response; the result scores them 0 on average. May be empty
}

// Trainer is the reward-model stage; it implements train.Trainer. It is not
// safe for concurrent use.
type Trainer struct {
	config       Config
	in           Inputs               // Rankings without those in which all responses are tied
	rankingOrder dataset.EpochSampler // which ranking comes k-th

	model *model.Model
	grad  []float32 // in the layout of model.NewGradient
	adam  *optim.AdamW
	pass  *model.Pass
}

// New returns a trainer that begins from a copy of the model. Rankings in which
// all responses are tied are left out. It returns invalid_config, wrong_model,
// no_rankings, wrong_ranking or context_exceeded if the config and the inputs
// do not fit together.
func New(c Config, in Inputs) (*Trainer, error) {
	if err := c.Validate(); err != nil {
		return nil, trimtab.NewError(trimtab.Invalid, "invalid_config", "", "reward: %w", err)
	}
	if in.Model == nil {
		return nil, trimtab.NewError(trimtab.Internal, "wrong_model", "", "reward: no model was given")
	}
	in.Rankings = slices.DeleteFunc(slices.Clone(in.Rankings), func(r Ranking) bool { return r.pairs() == 0 })
	if err := in.check(); err != nil {
		return nil, err
	}
	t := &Trainer{
		config:       c,
		in:           in,
		rankingOrder: dataset.EpochSampler{Source: draw.New(in.Seed, in.Stage, "order"), N: len(in.Rankings)},
		pass:         model.NewPass(in.Pool).WithNumerics(cmp.Or(in.Numerics, tensor.V1)),
	}
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

// check returns an error unless there are rankings and all sequences fit into
// the model's context.
func (in Inputs) check() error {
	if len(in.Rankings) == 0 {
		return trimtab.NewError(trimtab.Invalid, "no_rankings",
			"collect rankings in which not every response is tied",
			"reward: there is no pair of responses to learn from")
	}
	for i, r := range slices.Concat(in.Rankings, in.Validation) {
		if len(r.Sequences) != len(r.Ranks) {
			return trimtab.NewError(trimtab.Invalid, "wrong_ranking", "give each response one rank",
				"reward: ranking %d has %d responses but %d ranks", i, len(r.Sequences), len(r.Ranks))
		}
		if err := in.checkLengths(fmt.Sprintf("ranking %d", i), r.Sequences); err != nil {
			return err
		}
	}
	return in.checkLengths("demonstrations", in.Demonstrations)
}

// checkLengths returns context_exceeded for the first sequence that is empty or
// too long. The string where names the item that the sequences belong to.
func (in Inputs) checkLengths(where string, seqs [][]int32) error {
	for j, s := range seqs {
		if len(s) == 0 || len(s) > in.Model.Config.Context {
			return trimtab.NewError(trimtab.Invalid, "context_exceeded",
				"leave it out, or use a model with a longer context",
				"reward: %s: sequence %d has %d tokens, want 1 to %d", where, j, len(s), in.Model.Config.Context)
		}
	}
	return nil
}

// totalRankings is the number of rankings of all epochs.
func (t *Trainer) totalRankings() int { return t.config.Epochs * len(t.in.Rankings) }

// Steps returns the number of updates of all epochs.
func (t *Trainer) Steps() int {
	return (t.totalRankings() + t.config.Batch - 1) / t.config.Batch
}

// State returns views of the weights and of AdamW's moments.
func (t *Trainer) State() []tensor.NamedArray {
	return append(t.model.NamedParameters(), t.adam.State("adam.")...)
}

// Result returns a copy of the model in its present state, centred on the
// demonstrations. The state does not change.
func (t *Trainer) Result() *model.Model {
	m := t.model.Clone()
	Center(t.pass, m, t.in.Demonstrations)
	return m
}

// Step performs the 0-based update step: it draws the batch, computes loss and
// gradient, and takes one AdamW step. After the last step of an epoch it also
// measures the validation rankings.
func (t *Trainer) Step(ctx context.Context, step int) (trimtab.Report, error) {
	if err := ctx.Err(); err != nil {
		return trimtab.Report{}, fmt.Errorf("reward step %d: %w", step, err)
	}
	first := step * t.config.Batch
	last := min(first+t.config.Batch, t.totalRankings())

	t.in.Pool.Clear(t.grad)
	stats := forwardBackward(t.pass, t.model, t.grad, t.batch(first, last))
	gradNorm, lr := t.adam.Step(t.model.Slab, t.model.FoldGradient(t.in.Pool, t.grad), step, t.Steps())

	n := len(t.in.Rankings)
	metrics := append(stats.metrics(""),
		trimtab.Metric{Name: "num_tokens", Value: float64(t.tokensSeen(last))},
		trimtab.Metric{Name: "grad_norm", Value: float64(gradNorm)},
		trimtab.Metric{Name: "learning_rate", Value: float64(lr)},
		trimtab.Metric{Name: "epoch", Value: float64(last) / float64(n)})
	if epochEnded := last/n > first/n; epochEnded && len(t.in.Validation) > 0 {
		metrics = append(metrics, Evaluate(t.pass, t.model, t.in.Validation).metrics("eval_")...)
	}
	return trimtab.Report{Metrics: metrics}, nil
}

// batch returns the rankings numbered first … last-1 of the run. Batches run on
// across the ends of epochs; only the very last one may be smaller.
func (t *Trainer) batch(first, last int) []Ranking {
	var batch []Ranking
	for k := first; k < last; k++ {
		batch = append(batch, t.in.Rankings[t.rankingOrder.Index(k)])
	}
	return batch
}

// tokensSeen counts the tokens of the first k rankings of the run: whole epochs
// by multiplication, the running one item by item.
func (t *Trainer) tokensSeen(k int) int {
	n := len(t.in.Rankings)
	epochTokens := 0
	for _, r := range t.in.Rankings {
		epochTokens += r.tokens()
	}
	seen := epochTokens * (k / n)
	for i := k - k%n; i < k; i++ {
		seen += t.in.Rankings[t.rankingOrder.Index(i)].tokens()
	}
	return seen
}
