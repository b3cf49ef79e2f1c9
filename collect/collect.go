// Package collect gathers preference data: it samples K responses to each of a
// set of prompts and has simulated labellers rank them. The result is the
// rankings that a reward model is trained on, and held-out ones to measure it.
//
// A step is one batch of prompts. K is drawn for each prompt between
// min_responses and max_responses; response i of the whole stage draws its
// tokens by its own number i, so the batch size changes no response. When all
// are sampled, duplicates and empty texts are dropped, the starter world's
// labellers rank what is left of each prompt, and prompts with fewer than two
// different responses, or with nothing but ties, give no ranking. The
// labellers see texts alone; their opinion of them comes from the world's
// rubric, blurred until two of them agree as often as the config asks.
package collect

import (
	"cmp"
	"context"

	"github.com/trimtab/trimtab"
	"github.com/trimtab/trimtab/dataset"
	"github.com/trimtab/trimtab/draw"
	"github.com/trimtab/trimtab/model"
	"github.com/trimtab/trimtab/starter"
	"github.com/trimtab/trimtab/tensor"
	"github.com/trimtab/trimtab/tokenizer"
)

// Inputs are the model to sample from and the prompts to choose from.
type Inputs struct {
	Pool      *tensor.Pool
	Numerics  tensor.Numerics // of every pass; v1 if empty
	Seed      uint64
	Stage     string
	Model     *model.Model   // not changed
	Digest    trimtab.Digest // of Model; recorded with every response
	Tokenizer *tokenizer.Tokenizer
	Prompts   []trimtab.Prompt // training prompts, at least Config.Prompts + Config.HeldOut
}

// Trainer is the stage at work. It trains nothing: its state is the responses
// sampled so far.
type Trainer struct {
	config    Config
	in        Inputs
	pass      *model.Pass
	prompts   []trimtab.Prompt // the chosen ones, in sampling order; the last HeldOut are for measuring
	starts    []int            // responses starts[i] to starts[i+1]-1 answer prompt i
	fit       trimtab.Fit
	responses model.Responses
}

// New checks the config, chooses the prompts and draws how many responses each
// gets. Errors: invalid_config, too_few_prompts.
func New(c Config, in Inputs) (*Trainer, error) {
	if err := c.Validate(); err != nil {
		return nil, trimtab.NewError(trimtab.Invalid, "invalid_config", "", "collect: %w", err)
	}
	n := c.Prompts + c.HeldOut
	if len(in.Prompts) < n {
		return nil, trimtab.NewError(trimtab.Invalid, "too_few_prompts", "lower prompts or held_out, or add prompts",
			"collect needs %d prompts and %d held-out ones, the dataset has %d", c.Prompts, c.HeldOut, len(in.Prompts))
	}
	t := &Trainer{
		config: c,
		in:     in,
		pass:   model.NewPass(in.Pool).WithNumerics(cmp.Or(in.Numerics, tensor.V1)),
		starts: []int{0},
		fit:    trimtab.Fit{Items: "prompts"},
	}
	counts := t.source("responses").At(0)
	// The first n of a random order, so that asking for more prompts only adds some.
	for _, i := range dataset.EpochOrder(t.source("prompts"), len(in.Prompts), 0)[:n] {
		t.prompts = append(t.prompts, in.Prompts[i])
		t.countFit(in.Prompts[i])
		k := c.MinResponses + counts.IntN(c.MaxResponses-c.MinResponses+1)
		t.starts = append(t.starts, t.starts[len(t.starts)-1]+k)
	}
	t.responses = model.NewResponses(t.starts[n], c.MaxNewTokens)
	return t, nil
}

// source returns the random source of one purpose within the stage. Purposes are
// independent of each other.
func (t *Trainer) source(purpose string) draw.Source { return draw.New(t.in.Seed, t.in.Stage, purpose) }

// countFit counts a prompt by the room that the model's context leaves for its
// responses. A response ends where the context is full.
func (t *Trainer) countFit(p trimtab.Prompt) {
	switch room := t.in.Model.Config.Context - len(dataset.EncodePrompt(t.in.Tokenizer, p.Text)); {
	case room <= 0:
		t.fit.LeftOut++
	case room < t.config.MaxNewTokens:
		t.fit.Cut++
		t.fit.Kept++
	default:
		t.fit.Kept++
	}
}

// Fit returns how many prompts are answered whole, cut short, or not at all.
func (t *Trainer) Fit() trimtab.Fit { return t.fit }

// Steps returns the number of batches of prompts.
func (t *Trainer) Steps() int { return (len(t.prompts) + t.config.Batch - 1) / t.config.Batch }

// State returns the responses sampled so far.
func (t *Trainer) State() []tensor.NamedArray { return t.responses.State("samples.") }

// Responses returns the buffer of responses, which it shares with the trainer;
// those of later steps are empty.
func (t *Trainer) Responses() model.Responses { return t.responses }

// TokensPerStep returns the most tokens that a step samples, averaged over the
// steps, since K differs from prompt to prompt.
func (t *Trainer) TokensPerStep() int {
	return t.responses.MaxTokens() * t.responses.Len() / max(1, t.Steps())
}

// Step samples the responses to one batch of prompts. A prompt is encoded once and
// answered K times.
func (t *Trainer) Step(_ context.Context, step int) (trimtab.Report, error) {
	from := step * t.config.Batch
	to := min(from+t.config.Batch, len(t.prompts))
	var prompts [][]int32
	// Response starts[from] is the first of the batch; they are sampled in order of prompt.
	for i := from; i < to; i++ {
		ids := dataset.EncodePrompt(t.in.Tokenizer, t.prompts[i].Text)
		for range t.starts[i+1] - t.starts[i] {
			prompts = append(prompts, ids)
		}
	}
	options := model.SampleOptions{
		Temperature:    float32(t.config.Temperature),
		MaxNewTokens:   t.config.MaxNewTokens,
		StopTokens:     t.in.Tokenizer.StopTokens(),
		SuppressTokens: t.in.Tokenizer.SuppressTokens(),
	}
	err := t.responses.Sample(t.pass, t.in.Model, prompts, options, t.source("sample"), t.starts[from])
	sampled := trimtab.Metric{Name: "responses", Value: float64(t.starts[to])}
	return trimtab.Report{Metrics: []trimtab.Metric{sampled}}, err
}

// promptResponses is a prompt's different responses, with the judge's verdict on each.
type promptResponses struct {
	prompt    int // index in Trainer.prompts
	responses []trimtab.Response
	verdicts  []starter.Verdict
}
