package ppo

import (
	"testing"

	"github.com/trimtab/trimtab/draw"
	"github.com/trimtab/trimtab/model"
	"github.com/trimtab/trimtab/tensor"
)

// An iteration of the default settings on a model of 4 layers of 128: 128
// responses of 32 tokens, 4 updates of both networks.
func BenchmarkIteration(b *testing.B) {
	shape := model.Config{Layers: 4, Width: 128, Heads: 4, Context: 128, Vocab: 1024}
	sft, rm := model.New(shape, false), model.New(shape, true)
	sft.Init(draw.New(1, "bench"))
	rm.Init(draw.New(2, "bench"))
	c := Defaults()
	c.ScoreSamples, c.ValueWarmup = 0, 0
	in := Inputs{Pool: tensor.NewPool(0), Model: sft, Reference: sft, Value: rm, Scorer: &likesA{},
		StopTokens: []int32{0}}
	for i := range 400 {
		in.Prompts = append(in.Prompts, Prompt{Tokens: []int32{0, int32(2 + i), 40, 41, 42, 43, 44, 45, 46,
			toyNewline}})
	}
	tr, err := New(c, in)
	if err != nil {
		b.Fatal(err)
	}
	for i := 0; b.Loop(); i++ {
		if _, err := tr.Step(b.Context(), i%tr.Steps()); err != nil {
			b.Fatal(err)
		}
	}
}
