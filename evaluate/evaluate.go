// Package evaluate compares the language models of a run on held-out prompts:
// every model answers every prompt at one temperature, and a report says how
// each does by the judge, by the reward model, and in KL from the SFT model.
//
// A step is one model. Token t of the answer to prompt k is drawn from the same
// place of the same random source for every model, so two equal models give
// equal answers: sampling noise is not
// what makes two models differ.
package evaluate

import (
	"cmp"
	"context"
	"slices"

	"github.com/trimtab/trimtab"
	"github.com/trimtab/trimtab/draw"
	"github.com/trimtab/trimtab/model"
	"github.com/trimtab/trimtab/tensor"
	"github.com/trimtab/trimtab/tokenizer"
)

// Names of models with a part of their own in a report: KL is measured from the
// SFT model, never of the base model, and PPO is judged against SFT.
const (
	baseModel = "base"
	sftModel  = "sft"
	ppoModel  = "ppo"
)

// sampleBatch is how many answers are sampled at once. It bounds the memory of
// the KV cache and changes no answer.
const sampleBatch = 128

// NamedModel is a language model under the name that it has in the report.
type NamedModel struct {
	Name  string
	Model *model.Model // not changed
}

// Scorer gives a reward model's score of each sequence of prompt and answer.
type Scorer interface {
	Scores(sequences [][]int32) []float32
}

// Inputs are the models and the held-out prompts that they answer.
type Inputs struct {
	Pool     *tensor.Pool
	Numerics tensor.Numerics // of every pass; v1 if empty
	Seed     uint64
	Stage    string
	// Models are at least one, and share the tokenizer. Their order is that of the steps.
	Models    []NamedModel
	Tokenizer *tokenizer.Tokenizer
	Scorer    Scorer // the reward model; nil where the run has none
	// Prompts are held-out prompts that leave room for an answer, PromptIDs their tokens.
	Prompts   []trimtab.Prompt
	PromptIDs [][]int32
}

// Trainer is the stage at work. It trains nothing: its state is the answers
// sampled so far.
type Trainer struct {
	config  Config // as New was given it
	in      Inputs
	pass    *model.Pass
	prompts []trimtab.Prompt  // chosen
	ids     [][]int32         // tokens of prompts
	answers []model.Responses // by model; answer k is to prompts[k]
}

// New checks the config and chooses the first config.Prompts prompts of each
// test set (tag), or all. Error: invalid_config.
func New(c Config, in Inputs) (*Trainer, error) {
	if err := c.Validate(); err != nil {
		return nil, trimtab.NewError(trimtab.Invalid, "invalid_config", "", "evaluate: %w", err)
	}
	t := &Trainer{config: c, in: in, pass: model.NewPass(in.Pool).WithNumerics(cmp.Or(in.Numerics, tensor.V1))}
	chosen := map[string]int{}
	for i, p := range in.Prompts { // in their order, so that a smaller number chooses a prefix
		if c.Prompts > 0 && chosen[p.Tag] == c.Prompts {
			continue
		}
		chosen[p.Tag]++
		t.prompts, t.ids = append(t.prompts, p), append(t.ids, in.PromptIDs[i])
	}
	for range in.Models {
		t.answers = append(t.answers, model.NewResponses(len(t.prompts), c.MaxNewTokens))
	}
	return t, nil
}

// source returns the random source of one purpose within the stage.
func (t *Trainer) source(purpose string) draw.Source { return draw.New(t.in.Seed, t.in.Stage, purpose) }

// Prompts returns the number of held-out prompts that every model answers, which
// config.Prompts may make smaller than that of the inputs.
func (t *Trainer) Prompts() int { return len(t.prompts) }

// Steps returns the number of models that answer.
func (t *Trainer) Steps() int { return len(t.in.Models) }

// TokensPerStep returns the most tokens that a step samples.
func (t *Trainer) TokensPerStep() int { return len(t.prompts) * t.config.MaxNewTokens }

// State returns every model's answers so far, under the model's name.
func (t *Trainer) State() []tensor.NamedArray {
	var state []tensor.NamedArray
	for i, a := range t.answers {
		state = append(state, a.State(t.in.Models[i].Name+".")...)
	}
	return state
}

// Step samples one model's answers to all prompts.
func (t *Trainer) Step(_ context.Context, step int) (trimtab.Report, error) {
	options := model.SampleOptions{
		Temperature:    float32(t.config.Temperature),
		MaxNewTokens:   t.config.MaxNewTokens,
		StopTokens:     t.in.Tokenizer.StopTokens(),
		SuppressTokens: t.in.Tokenizer.SuppressTokens(),
	}
	for from := 0; from < len(t.ids); from += sampleBatch {
		to := min(from+sampleBatch, len(t.ids))
		prompts, m := t.ids[from:to], t.in.Models[step].Model
		err := t.answers[step].Sample(t.pass, m, prompts, options, t.source("sample"), from)
		if err != nil {
			return trimtab.Report{}, err
		}
	}
	sampled := trimtab.Metric{Name: "responses", Value: float64(len(t.ids))}
	return trimtab.Report{Metrics: []trimtab.Metric{sampled}}, nil
}

// sequences returns the answers of model i, each behind its prompt, as a reward
// model reads them.
func (t *Trainer) sequences(i int) [][]int32 {
	seqs := make([][]int32, len(t.ids))
	for k, ids := range t.ids {
		seqs[k] = slices.Concat(ids, t.answers[i].At(k))
	}
	return seqs
}
