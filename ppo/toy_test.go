package ppo

import (
	"context"
	"math"
	"slices"
	"testing"

	"github.com/trimtab/trimtab"
	"github.com/trimtab/trimtab/draw"
	"github.com/trimtab/trimtab/model"
)

// The toy world: end-of-text, a newline, and six letters.
const (
	toyEnd, toyNewline, toyA = 0, 1, 2
	toyVocab                 = 8
)

var toyShape = model.Config{Layers: 2, Width: 16, Heads: 2, Context: 16, Vocab: toyVocab}

// likesA scores a response by the share of the letter A in it, and wants it to end.
type likesA struct{ seen [][]int32 }

func (l *likesA) Scores(seqs [][]int32) []float32 {
	l.seen = append(l.seen, seqs...)
	scores := make([]float32, len(seqs))
	for i, s := range seqs {
		for _, id := range s[slices.Index(s, toyNewline)+1:] {
			if id == toyA {
				scores[i] += 1.0 / 4
			}
		}
	}
	return scores
}

func toyModel(seed uint64, scalar bool) *model.Model {
	m := model.New(toyShape, scalar)
	m.Init(draw.New(seed, "toy"))
	return m
}

func toyPrompts() []Prompt {
	var prompts []Prompt
	for id := int32(2); id < toyVocab; id++ {
		prompts = append(prompts, Prompt{Text: string('a' + id), Tokens: []int32{toyEnd, id, toyNewline}})
	}
	return prompts
}

func toyConfig() Config {
	c := Defaults()
	c.Episodes, c.Batch, c.MiniBatches, c.PPOEpochs, c.ValueWarmup = 48, 12, 2, 2, 0
	c.MaxNewTokens, c.ScoreSamples = 5, 16
	c.Policy.LR, c.Value.LR, c.Policy.Warmup, c.Value.Warmup = 3e-3, 3e-3, 0, 0
	return c
}

func toyInputs() Inputs {
	sft := toyModel(1, false)
	return Inputs{Seed: 7, Stage: "ppo", Model: sft, Reference: sft.Clone(), Value: toyModel(2, true),
		Scorer:  &likesA{},
		Prompts: toyPrompts(), Pretrain: [][]int32{{0, 2, 3, 4}, {0, 5, 6, 7}, {0, 2, 2, 3}},
		StopTokens: []int32{toyEnd}, SuppressTokens: []int32{toyNewline}}
}

func newToy(t *testing.T, c Config, in Inputs) *Trainer {
	t.Helper()
	tr, err := New(c, in)
	if err != nil {
		t.Fatal(err)
	}
	return tr
}

func step(t *testing.T, tr *Trainer, i int) trimtab.Report {
	t.Helper()
	r, err := tr.Step(context.Background(), i)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// iteration0 is the first iteration's episodes as the updates get them.
func iteration0(t *testing.T, tr *Trainer) []*episode {
	t.Helper()
	episodes, err := tr.collectRollouts(context.Background(), 0, nil)
	if err != nil {
		t.Fatal(err)
	}
	c := tr.config
	tr.computeScores(episodes)
	computeRewards(episodes, float64(tr.klCoef[0]))
	whitenAcross(episodes, c.WhitenRewards, true, func(e *episode) []float32 { return e.rewards })
	computeAdvantages(episodes, c.Gamma, c.Lambda)
	whitenAcross(episodes, c.WhitenAdvantages, false, func(e *episode) []float32 { return e.whitened })
	return episodes
}

func value(t *testing.T, r trimtab.Report, name string) float64 {
	t.Helper()
	v, ok := r.Value(name)
	if !ok {
		t.Fatalf("no metric %s", name)
	}
	return v
}

// stateOf is a copy of a trainer's state, end to end.
func stateOf(tr *Trainer) []float32 {
	var all []float32
	for _, n := range tr.State() {
		all = append(all, n.Data...)
	}
	return all
}

func restore(tr *Trainer, state []float32) {
	for _, n := range tr.State() {
		state = state[copy(n.Data, state):]
	}
}

func sameBits(a, b []float32) bool {
	return slices.EqualFunc(a, b, func(x, y float32) bool { return math.Float32bits(x) == math.Float32bits(y) })
}

// fullConfig switches on everything that has state.
func fullConfig() Config {
	c := toyConfig()
	c.ValueWarmup, c.KLController, c.KLTarget, c.KLHorizon = 1, KLAdaptive, .01, 100
	c.PtxCoef, c.PtxRows, c.EMADecay, c.WhitenRewards = .5, 2, .9, WhitenPopulation
	return c
}
