// Package pretrain teaches a language model to continue text: the mean over
// the tokens of a batch of −log p(token | the tokens before it in its row).
//
// A step is one update on BatchTokens/RowTokens rows. Row k of the whole run
// is row k mod N of epoch k div N, and each epoch has its own order, so that
// a step is a function of (weights, moments, step, rows, seed) and nothing
// has to be remembered but weights and moments.
package pretrain

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

// microTokens is how many tokens go through the model at once.
const microTokens = 4096

// Inputs are the model to begin with, and the text as token ids.
type Inputs struct {
	Pool     *tensor.Pool
	Numerics tensor.Numerics // of every pass; v1 if empty
	Seed     uint64
	Stage    string
	Model    *model.Model // not changed
	Rows     [][]int32    // packed rows of RowTokens tokens; the first token of a row is not learned
}

// Trainer is the stage at work.
type Trainer struct {
	config Config
	in     Inputs
	order  draw.Source

	model *model.Model
	grad  []float32 // policy.Gradient()
	adam  *optim.AdamW
	pass  *model.Pass
	epoch int // whose order is at hand
	perm  []int
}

// New checks config and rows and copies the model.
func New(c Config, in Inputs) (*Trainer, error) {
	if err := c.Validate(); err != nil {
		return nil, trimtab.NewError(trimtab.Invalid, "invalid_config", "", "pretrain: %w", err)
	}
	if err := in.check(c); err != nil {
		return nil, err
	}
	t := &Trainer{config: c, in: in, order: draw.New(in.Seed, in.Stage, "order"),
		model: in.Model.Clone(), pass: model.NewPass(in.Pool).WithNumerics(cmp.Or(in.Numerics, tensor.V1)), epoch: -1}
	t.grad = t.model.NewGradient()
	t.adam = optim.New(c.Optim, len(t.model.Slab), t.model.DecayRanges())
	t.adam.Pool = in.Pool
	return t, nil
}

func (in Inputs) check(c Config) error {
	switch {
	case in.Model == nil || in.Model.Scalar:
		return trimtab.NewError(trimtab.Invalid, "wrong_model", "give a language model",
			"pretrain: the model has no language head")
	case len(in.Rows) == 0:
		return trimtab.NewError(trimtab.Invalid, "no_text", "give the run more text",
			"pretrain: there is not one row of %d tokens", c.RowTokens)
	case c.RowTokens-1 > in.Model.Config.Context:
		return trimtab.NewError(trimtab.Invalid, "context_exceeded", "lower row_tokens or widen the model's context",
			"pretrain: rows of %d tokens do not fit a context of %d", c.RowTokens, in.Model.Config.Context)
	}
	for i, row := range in.Rows {
		if len(row) != c.RowTokens {
			return trimtab.NewError(trimtab.Internal, "wrong_row", "", "pretrain: row %d has %d tokens, want %d", i,
				len(row), c.RowTokens)
		}
	}
	return nil
}

// rowsPerStep is the number of rows of one update.
func (t *Trainer) rowsPerStep() int { return t.config.BatchTokens / t.config.RowTokens }

// Steps is the number of updates that reach Tokens.
func (t *Trainer) Steps() int {
	return (t.config.Tokens + t.config.BatchTokens - 1) / t.config.BatchTokens
}

// State is the weights and the moments.
func (t *Trainer) State() []tensor.NamedArray {
	return append(t.model.NamedParameters(), t.adam.State("adam.")...)
}

// Result is the model as it stands.
func (t *Trainer) Result() *model.Model { return t.model.Clone() }

// Step makes update number step.
func (t *Trainer) Step(ctx context.Context, step int) (trimtab.Report, error) {
	if err := ctx.Err(); err != nil {
		return trimtab.Report{}, fmt.Errorf("pretrain step %d: %w", step, err)
	}
	t.in.Pool.Clear(t.grad)
	sums := t.forwardBackward(t.batchAt(step))
	norm, lr := t.adam.Step(t.model.Slab, t.model.FoldGradient(t.in.Pool, t.grad), step, t.Steps())
	seen := (step + 1) * t.rowsPerStep()
	n := float64(sums.tokens)
	return trimtab.Report{Metrics: []trimtab.Metric{
		{Name: "loss", Value: sums.nll / n},
		{Name: "entropy", Value: sums.entropy / n},
		{Name: "mean_token_accuracy", Value: float64(sums.correct) / n},
		{Name: "num_tokens", Value: float64(seen * t.config.RowTokens)},
		{Name: "grad_norm", Value: float64(norm)},
		{Name: "learning_rate", Value: float64(lr)},
		{Name: "epoch", Value: float64(seen) / float64(len(t.in.Rows))},
	}}, nil
}

// batchAt of update number step.
func (t *Trainer) batchAt(step int) [][]int32 {
	rows := make([][]int32, t.rowsPerStep())
	for i := range rows {
		k := step*len(rows) + i
		if e := k / len(t.in.Rows); e != t.epoch {
			t.epoch, t.perm = e, dataset.EpochOrder(t.order, len(t.in.Rows), e)
		}
		rows[i] = t.in.Rows[t.perm[k%len(t.in.Rows)]]
	}
	return rows
}

// lossStats over the learned tokens of a batch.
type lossStats struct {
	nll, entropy float64
	tokens       int
	correct      int // tokens that the model held likeliest
}

// forwardBackward adds the gradient of the mean loss of rows to grad.
func (t *Trainer) forwardBackward(rows [][]int32) lossStats {
	var s lossStats
	weight := -1 / float32(len(rows)*(t.config.RowTokens-1)) // dL/dlogp
	for size := max(1, microTokens/t.config.RowTokens); len(rows) > 0; rows = rows[min(size, len(rows)):] {
		inputs, targets := shift(rows[:min(size, len(rows))])
		t.pass.Forward(t.model, inputs)
		t.pass.LMHead(t.model, t.grad, targets, 1, func(i int, logp, entropy float32) float32 {
			s.nll -= float64(logp)
			s.entropy += float64(entropy)
			s.tokens++
			if t.pass.TargetIsArgmax(i) {
				s.correct++
			}
			return weight
		})
		t.pass.BackwardBody(t.model, t.grad)
	}
	return s
}

// shift makes each row's tokens but the last the input, and its tokens but the first the targets.
func shift(rows [][]int32) (model.Batch, []model.HeadRow) {
	inputs := make([][]int32, len(rows))
	var targets []model.HeadRow
	for i, row := range rows {
		inputs[i] = row[:len(row)-1]
		for _, id := range row[1:] {
			targets = append(targets, model.HeadRow{Row: len(targets), Target: id})
		}
	}
	return model.NewBatch(inputs...), targets
}
