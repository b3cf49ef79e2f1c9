// Package sft teaches a language model to answer as demonstrations do: the
// mean over the response tokens of a batch of −log p(token | prompt and the
// tokens before it). The tokens of a prompt are read and not learned.
//
// A step is one update. Demonstration k of the whole run is number k mod N of
// epoch k div N in that epoch's own order; the last batch may be smaller. With
// pretrain_mix a share of every batch is rows of pretraining text instead,
// learned whole.
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

// microTokens is about how many tokens go through the model at once.
const microTokens = 4096

// Inputs are the model to begin with, and the demonstrations as token ids.
type Inputs struct {
	Pool       *tensor.Pool
	Numerics   tensor.Numerics // of every pass; v1 if empty
	Seed       uint64
	Stage      string
	Model      *model.Model       // not changed
	Examples   []dataset.Sequence // demonstrations
	Validation []dataset.Sequence // may be empty; measured after each epoch
	Rows       [][]int32          // pretraining text, for pretrain_mix
}

// Trainer is the stage at work.
type Trainer struct {
	config       Config
	in           Inputs
	exampleOrder dataset.EpochSampler
	rowOrder     dataset.EpochSampler

	model *model.Model
	grad  []float32 // policy.Gradient()
	adam  *optim.AdamW
	pass  *model.Pass
}

// New checks config and data and copies the model.
func New(c Config, in Inputs) (*Trainer, error) {
	if err := c.Validate(); err != nil {
		return nil, trimtab.NewError(trimtab.Invalid, "invalid_config", "", "sft: %w", err)
	}
	if err := in.check(c); err != nil {
		return nil, err
	}
	t := &Trainer{config: c, in: in,
		exampleOrder: dataset.EpochSampler{Source: draw.New(in.Seed, in.Stage, "order"), N: len(in.Examples)},
		rowOrder:     dataset.EpochSampler{Source: draw.New(in.Seed, in.Stage, "rows"), N: len(in.Rows)},
		model:        in.Model.Clone(), pass: model.NewPass(in.Pool).WithNumerics(cmp.Or(in.Numerics, tensor.V1))}
	t.grad = t.model.NewGradient()
	t.adam = optim.New(c.Optim, len(t.model.Slab), t.model.DecayRanges())
	t.adam.Pool = in.Pool
	return t, nil
}

func (in Inputs) check(c Config) error {
	switch {
	case in.Model == nil || in.Model.Scalar:
		return trimtab.NewError(trimtab.Invalid, "wrong_model", "give a language model",
			"sft: the model has no language head")
	case len(in.Examples) == 0:
		return trimtab.NewError(trimtab.Invalid, "no_demonstrations", "add demonstrations and freeze the dataset",
			"sft: there is no demonstration to learn from")
	case c.pretrainRows() > 0 && len(in.Rows) == 0:
		return trimtab.NewError(trimtab.Invalid, "no_text", "give the stage text, or set pretrain_mix to 0",
			"sft: pretrain_mix is %g and there is no pretraining text", c.PretrainMix)
	}
	for _, part := range []struct {
		name string
		seqs []dataset.Sequence
	}{{"demonstration", in.Examples}, {"validation example", in.Validation}, {"row", asSequences(in.Rows)}} {
		for i, s := range part.seqs {
			if s.PromptLen < 1 || s.PromptLen >= len(s.Tokens) || len(s.Tokens)-1 > in.Model.Config.Context {
				return trimtab.NewError(trimtab.Invalid, "context_exceeded",
					"leave it out, or widen the model's context",
					"sft: %s %d has %d prompt tokens of %d: want at least 1, at least one after them, and no more "+
						"than %d in all",
					part.name, i, s.PromptLen, len(s.Tokens), in.Model.Config.Context+1)
			}
		}
	}
	return nil
}

// asSequences makes every token of a row but the first one to learn.
func asSequences(rows [][]int32) []dataset.Sequence {
	seqs := make([]dataset.Sequence, len(rows))
	for i, row := range rows {
		seqs[i] = dataset.Sequence{Tokens: row, PromptLen: 1}
	}
	return seqs
}

// examplesPerStep is the number of demonstrations of one update.
func (t *Trainer) examplesPerStep() int { return t.config.Batch - t.config.pretrainRows() }

// totalExamples is the number of demonstrations of all epochs.
func (t *Trainer) totalExamples() int { return t.config.Epochs * len(t.in.Examples) }

// Steps is the number of updates of all epochs.
func (t *Trainer) Steps() int {
	return (t.totalExamples() + t.examplesPerStep() - 1) / t.examplesPerStep()
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
		return trimtab.Report{}, fmt.Errorf("sft step %d: %w", step, err)
	}
	first := step * t.examplesPerStep()
	last := min(first+t.examplesPerStep(), t.totalExamples())
	t.in.Pool.Clear(t.grad)
	sums := forwardBackward(t.pass, t.model, t.grad, t.batch(step, first, last))
	norm, lr := t.adam.Step(t.model.Slab, t.model.FoldGradient(t.in.Pool, t.grad), step, t.Steps())
	metrics := append(sums.metrics(""),
		trimtab.Metric{Name: "num_tokens", Value: float64(t.tokensSeen(last))},
		trimtab.Metric{Name: "grad_norm", Value: float64(norm)},
		trimtab.Metric{Name: "learning_rate", Value: float64(lr)},
		trimtab.Metric{Name: "epoch", Value: float64(last) / float64(len(t.in.Examples))})
	if n := len(t.in.Examples); len(t.in.Validation) > 0 && last/n > first/n {
		metrics = append(metrics, Evaluate(t.pass, t.model, t.in.Validation)...)
	}
	return trimtab.Report{Metrics: metrics}, nil
}

// batch is demonstrations first to last, then the step's pretraining rows.
func (t *Trainer) batch(step, first, last int) []dataset.Sequence {
	var seqs []dataset.Sequence
	for k := first; k < last; k++ {
		seqs = append(seqs, t.in.Examples[t.exampleOrder.Index(k)])
	}
	for i := range t.config.pretrainRows() {
		row := t.in.Rows[t.rowOrder.Index(step*t.config.pretrainRows()+i)]
		seqs = append(seqs, dataset.Sequence{Tokens: row, PromptLen: 1})
	}
	return seqs
}

// tokensSeen of the first k demonstrations, prompts included.
func (t *Trainer) tokensSeen(k int) int {
	n := len(t.in.Examples)
	sum := 0
	for _, s := range t.in.Examples {
		sum += len(s.Tokens)
	}
	sum *= k / n
	for i := k - k%n; i < k; i++ {
		sum += len(t.in.Examples[t.exampleOrder.Index(i)].Tokens)
	}
	return sum
}

// Evaluate measures eval_loss, eval_entropy and eval_mean_token_accuracy over the response tokens of seqs.
func Evaluate(ps *model.Pass, m *model.Model, seqs []dataset.Sequence) []trimtab.Metric {
	return forwardBackward(ps, m, nil, seqs).metrics("eval_")
}
