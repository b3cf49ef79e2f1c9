// Package pretrain trains a language model on plain text. The loss is the mean
// over the target tokens of a batch of −log p(token | the tokens before it in
// its row).
//
// A step is one update on BatchTokens/BlockSize rows. Row k of the whole run
// is the (k mod N)-th of epoch k div N, and every epoch visits the N rows in an
// order of its own. A step is therefore a function of (weights, moments, step,
// rows, seed): the weights and the optimizer's moments are all that has to be
// saved between steps.
package pretrain

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

// Inputs are the initial model and the text as token ids.
type Inputs struct {
	Pool     *tensor.Pool    // nil runs on the calling goroutine
	Numerics tensor.Numerics // of the forward and backward passes; v1 if empty
	Seed     uint64          // of the run
	Stage    string          // name of the stage; with Seed it determines every random draw
	Model    *model.Model    // a language model; it is copied, not changed
	Rows     [][]int32       // packed rows of BlockSize tokens each; the first token of a row is no target
}

// Trainer is the pretraining stage; it implements train.Trainer. It is not
// safe for concurrent use.
type Trainer struct {
	config   Config
	in       Inputs
	rowOrder dataset.EpochSampler // which row comes k-th

	model *model.Model
	grad  []float32 // in the layout of model.NewGradient
	adam  *optim.AdamW
	pass  *model.Pass
}

// New returns a trainer that begins from a copy of the model. It returns
// invalid_config, wrong_model, no_text, context_exceeded or wrong_row if the
// config and the inputs do not fit together.
func New(c Config, in Inputs) (*Trainer, error) {
	if err := c.Validate(); err != nil {
		return nil, trimtab.NewError(trimtab.Invalid, "invalid_config", "", "pretrain: %w", err)
	}
	if err := in.check(c); err != nil {
		return nil, err
	}
	t := &Trainer{
		config:   c,
		in:       in,
		rowOrder: dataset.EpochSampler{Source: draw.New(in.Seed, in.Stage, "order"), N: len(in.Rows)},
		model:    in.Model.Clone(),
		pass:     model.NewPass(in.Pool).WithNumerics(cmp.Or(in.Numerics, tensor.V1)),
	}
	t.grad = t.model.NewGradient()
	t.adam = optim.New(c.Optim, len(t.model.Slab), t.model.DecayRanges())
	t.adam.Pool = in.Pool
	return t, nil
}

// check returns an error unless the model can be trained on the rows.
func (in Inputs) check(c Config) error {
	switch {
	case in.Model == nil || in.Model.Scalar:
		return trimtab.NewError(trimtab.Invalid, "wrong_model", "give a language model",
			"pretrain: the model has no language-model head")
	case len(in.Rows) == 0:
		return trimtab.NewError(trimtab.Invalid, "no_text", "give the run more text",
			"pretrain: the text does not fill one row of %d tokens", c.BlockSize)
	case c.BlockSize-1 > in.Model.Config.Context: // the last token of a row is a target only
		return trimtab.NewError(trimtab.Invalid, "context_exceeded",
			"lower block_size or use a model with a longer context",
			"pretrain: rows of %d tokens do not fit into the model's context of %d",
			c.BlockSize, in.Model.Config.Context)
	}
	for i, row := range in.Rows {
		if len(row) != c.BlockSize {
			return trimtab.NewError(trimtab.Internal, "wrong_row", "",
				"pretrain: row %d has %d tokens, want %d", i, len(row), c.BlockSize)
		}
	}
	return nil
}

// rowsPerStep is the number of rows of one update.
func (t *Trainer) rowsPerStep() int { return t.config.BatchTokens / t.config.BlockSize }

// Steps returns the number of updates that it takes to read Tokens tokens.
func (t *Trainer) Steps() int {
	return (t.config.Tokens + t.config.BatchTokens - 1) / t.config.BatchTokens
}

// State returns views of the weights and of AdamW's moments.
func (t *Trainer) State() []tensor.NamedArray {
	return append(t.model.NamedParameters(), t.adam.State("adam.")...)
}

// Result returns a copy of the model in its present state.
func (t *Trainer) Result() *model.Model { return t.model.Clone() }

// Step performs the 0-based update step: it draws the batch, computes loss and
// gradient, and takes one AdamW step. The metrics are means over the target
// tokens of the batch.
func (t *Trainer) Step(ctx context.Context, step int) (trimtab.Report, error) {
	if err := ctx.Err(); err != nil {
		return trimtab.Report{}, fmt.Errorf("pretrain step %d: %w", step, err)
	}
	// FoldGradient adds up the two parts of the token embedding's gradient: one
	// from the input and one from the output head, which share their weights.
	t.in.Pool.Clear(t.grad)
	stats := t.forwardBackward(t.batchAt(step))
	gradNorm, lr := t.adam.Step(t.model.Slab, t.model.FoldGradient(t.in.Pool, t.grad), step, t.Steps())

	rowsSeen := (step + 1) * t.rowsPerStep()
	n := float64(stats.Tokens)
	return trimtab.Report{Metrics: []trimtab.Metric{
		{Name: "loss", Value: stats.NLL / n},
		{Name: "entropy", Value: stats.Entropy / n},
		{Name: "mean_token_accuracy", Value: float64(stats.Correct) / n},
		{Name: "num_tokens", Value: float64(rowsSeen * t.config.BlockSize)},
		{Name: "grad_norm", Value: float64(gradNorm)},
		{Name: "learning_rate", Value: float64(lr)},
		{Name: "epoch", Value: float64(rowsSeen) / float64(len(t.in.Rows))},
	}}, nil
}

// batchAt returns the rows of an update, as views of the inputs. Batches run on
// across the ends of epochs, so every update has the same number of rows.
func (t *Trainer) batchAt(step int) [][]int32 {
	rows := make([][]int32, t.rowsPerStep())
	for i := range rows {
		rows[i] = t.in.Rows[t.rowOrder.Index(step*len(rows)+i)]
	}
	return rows
}

// forwardBackward adds the gradient of the mean loss over the targets of rows
// to t.grad, which the caller has cleared. The rows pass through the model in
// micro-batches: each is a forward pass, the head with its gradient, and the
// backward pass of the body. The gradient accumulates in the order of the rows.
func (t *Trainer) forwardBackward(rows [][]int32) model.TargetSums {
	var stats model.TargetSums
	targetsPerRow := t.config.BlockSize - 1
	dlogp := -1 / float32(len(rows)*targetsPerRow) // dL/dlogp, the same for every target
	rowTokens := func(row []int32) int { return len(row) }
	for micro := range dataset.MicroBatches(rows, dataset.MicroBatchTokens, rowTokens) {
		inputs, targets := model.NextTokens(micro, nil)
		t.pass.Forward(t.model, inputs)
		stats.Add(t.pass.WeightedLogProbs(t.model, t.grad, targets, 1, slices.Repeat([]float32{dlogp}, len(targets))))
		t.pass.BackwardBody(t.model, t.grad)
	}
	return stats
}
