// Package sft fine-tunes a language model on demonstrations (supervised
// fine-tuning). The loss is the mean over the response tokens of a batch of
// −log p(token | the prompt and the response tokens before it). The tokens of
// a prompt are context: they carry no loss.
//
// A step is one update. Demonstration k of the whole run is the (k mod N)-th of
// epoch k div N, and every epoch visits the N demonstrations in an order of its
// own; the last batch may be smaller. With pretrain_mix, a share of every batch
// is rows of pretraining text instead, of which every token but the first
// carries loss.
package sft

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

// Inputs are the initial model and the demonstrations as token ids.
type Inputs struct {
	Pool       *tensor.Pool       // nil runs on the calling goroutine
	Numerics   tensor.Numerics    // of the forward and backward passes; v1 if empty
	Seed       uint64             // of the run
	Stage      string             // name of the stage; with Seed it determines every random draw
	Model      *model.Model       // a language model; it is copied, not changed
	Examples   []dataset.Sequence // the demonstrations
	Validation []dataset.Sequence // measured after each epoch; may be empty
	Rows       [][]int32          // pretraining text, for pretrain_mix
}

// Trainer is the SFT stage; it implements train.Trainer. It is not safe for
// concurrent use.
type Trainer struct {
	config       Config
	in           Inputs
	exampleOrder dataset.EpochSampler // which demonstration comes k-th
	rowOrder     dataset.EpochSampler // which pretraining row comes k-th

	model *model.Model
	grad  []float32 // in the layout of model.NewGradient
	adam  *optim.AdamW
	pass  *model.Pass
}

// New returns a trainer that begins from a copy of the model. It returns
// invalid_config, wrong_model, no_demonstrations, no_text or context_exceeded
// if the config and the inputs do not fit together.
func New(c Config, in Inputs) (*Trainer, error) {
	if err := c.Validate(); err != nil {
		return nil, trimtab.NewError(trimtab.Invalid, "invalid_config", "", "sft: %w", err)
	}
	if err := in.check(c); err != nil {
		return nil, err
	}
	t := &Trainer{
		config:       c,
		in:           in,
		exampleOrder: dataset.EpochSampler{Source: draw.New(in.Seed, in.Stage, "order"), N: len(in.Examples)},
		rowOrder:     dataset.EpochSampler{Source: draw.New(in.Seed, in.Stage, "rows"), N: len(in.Rows)},
		model:        in.Model.Clone(),
		pass:         model.NewPass(in.Pool).WithNumerics(cmp.Or(in.Numerics, tensor.V1)),
	}
	t.grad = t.model.NewGradient()
	t.adam = optim.New(c.Optim, len(t.model.Slab), t.model.DecayRanges())
	t.adam.Pool = in.Pool
	return t, nil
}

// check returns an error unless the model can be trained on the sequences.
func (in Inputs) check(c Config) error {
	switch {
	case in.Model == nil || in.Model.Scalar:
		return trimtab.NewError(trimtab.Invalid, "wrong_model", "give a language model",
			"sft: the model has no language-model head")
	case len(in.Examples) == 0:
		return trimtab.NewError(trimtab.Invalid, "no_demonstrations", "add demonstrations and freeze the dataset",
			"sft: there are no demonstrations to learn from")
	case c.pretrainRows() > 0 && len(in.Rows) == 0:
		return trimtab.NewError(trimtab.Invalid, "no_text", "give the stage text, or set pretrain_mix to 0",
			"sft: pretrain_mix is %g, but there is no pretraining text", c.PretrainMix)
	}
	maxTokens := in.Model.Config.Context + 1 // the last token of a sequence is a target only
	for _, part := range []struct {
		name string
		seqs []dataset.Sequence
	}{{"demonstration", in.Examples}, {"validation example", in.Validation}, {"row", asSequences(in.Rows)}} {
		for i, s := range part.seqs {
			if s.PromptLen < 1 || s.PromptLen >= len(s.Tokens) || len(s.Tokens) > maxTokens {
				return trimtab.NewError(trimtab.Invalid, "context_exceeded",
					"leave it out, or use a model with a longer context",
					"sft: %s %d has %d tokens, of which %d are prompt: want at least one prompt token, at least one "+
						"token after the prompt, and at most %d tokens",
					part.name, i, len(s.Tokens), s.PromptLen, maxTokens)
			}
		}
	}
	return nil
}

// asSequence makes a row of pretraining text a sequence whose loss is over
// every token but the first.
func asSequence(row []int32) dataset.Sequence { return dataset.Sequence{Tokens: row, PromptLen: 1} }

// asSequences applies asSequence to every row.
func asSequences(rows [][]int32) []dataset.Sequence {
	seqs := make([]dataset.Sequence, len(rows))
	for i, row := range rows {
		seqs[i] = asSequence(row)
	}
	return seqs
}

// examplesPerStep is the number of demonstrations of one update.
func (t *Trainer) examplesPerStep() int { return t.config.Batch - t.config.pretrainRows() }

// totalExamples is the number of demonstrations of all epochs.
func (t *Trainer) totalExamples() int { return t.config.Epochs * len(t.in.Examples) }

// Steps returns the number of updates of all epochs.
func (t *Trainer) Steps() int {
	return (t.totalExamples() + t.examplesPerStep() - 1) / t.examplesPerStep()
}

// State returns views of the weights and of AdamW's moments.
func (t *Trainer) State() []tensor.NamedArray {
	return append(t.model.NamedParameters(), t.adam.State("adam.")...)
}

// Result returns a copy of the model in its present state.
func (t *Trainer) Result() *model.Model { return t.model.Clone() }

// Step performs the 0-based update step: it draws the batch, computes loss and
// gradient, and takes one AdamW step. After the last step of an epoch it also
// measures the validation examples.
func (t *Trainer) Step(ctx context.Context, step int) (trimtab.Report, error) {
	if err := ctx.Err(); err != nil {
		return trimtab.Report{}, fmt.Errorf("sft step %d: %w", step, err)
	}
	first := step * t.examplesPerStep()
	last := min(first+t.examplesPerStep(), t.totalExamples())

	t.in.Pool.Clear(t.grad)
	stats := forwardBackward(t.pass, t.model, t.grad, t.batch(step, first, last))
	gradNorm, lr := t.adam.Step(t.model.Slab, t.model.FoldGradient(t.in.Pool, t.grad), step, t.Steps())

	n := len(t.in.Examples)
	metrics := append(lossMetrics(stats, ""),
		trimtab.Metric{Name: "num_tokens", Value: float64(t.tokensSeen(last))},
		trimtab.Metric{Name: "grad_norm", Value: float64(gradNorm)},
		trimtab.Metric{Name: "learning_rate", Value: float64(lr)},
		trimtab.Metric{Name: "epoch", Value: float64(last) / float64(n)})
	if epochEnded := last/n > first/n; epochEnded && len(t.in.Validation) > 0 {
		metrics = append(metrics, Evaluate(t.pass, t.model, t.in.Validation)...)
	}
	return trimtab.Report{Metrics: metrics}, nil
}

// batch returns the demonstrations numbered first … last-1, followed by the
// step's pretraining rows. The order is part of the result: sums run over it.
func (t *Trainer) batch(step, first, last int) []dataset.Sequence {
	var seqs []dataset.Sequence
	for k := first; k < last; k++ {
		seqs = append(seqs, t.in.Examples[t.exampleOrder.Index(k)])
	}
	for i := range t.config.pretrainRows() {
		k := step*t.config.pretrainRows() + i
		seqs = append(seqs, asSequence(t.in.Rows[t.rowOrder.Index(k)]))
	}
	return seqs
}

// tokensSeen counts the tokens of the first k demonstrations of the run,
// prompts included: whole epochs by multiplication, the running one item by item.
func (t *Trainer) tokensSeen(k int) int {
	n := len(t.in.Examples)
	epochTokens := 0
	for _, s := range t.in.Examples {
		epochTokens += len(s.Tokens)
	}
	seen := epochTokens * (k / n)
	for i := k - k%n; i < k; i++ {
		seen += len(t.in.Examples[t.exampleOrder.Index(i)].Tokens)
	}
	return seen
}

// Evaluate returns eval_loss, eval_entropy and eval_mean_token_accuracy of m:
// means over the response tokens of seqs.
func Evaluate(ps *model.Pass, m *model.Model, seqs []dataset.Sequence) []trimtab.Metric {
	return lossMetrics(forwardBackward(ps, m, nil, seqs), "eval_")
}
