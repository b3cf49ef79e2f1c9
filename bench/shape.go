package bench

import (
	"slices"

	"github.com/trimtab/trimtab/draw"
	"github.com/trimtab/trimtab/model"
)

// Shape is a model and the sizes of the work it is measured at. Work of size
// zero is not measured.
type Shape struct {
	Name     string
	Config   model.Config
	Train    Rows
	Score    Rows
	Generate Generation
	PPO      Generation // the episodes of an iteration
}

// Rows is a batch of sequences of one length.
type Rows struct{ Batch, Length int }

// Generation is prompts of one length, each continued by a response of another.
type Generation struct{ Batch, Prompt, Response int }

// Shapes are those that are measured: two small ones, the first again with the
// rows that the default run trains on, and GPT-2's smallest with short rows.
var Shapes = []Shape{
	{
		Name: "0.9M", Config: model.Config{Layers: 4, Width: 128, Heads: 4, Context: 128, Vocab: 1024},
		Train: Rows{32, 128}, Score: Rows{32, 128}, Generate: Generation{64, 32, 64}, PPO: Generation{128, 16, 32},
	},
	{
		Name: "0.9M-16x64", Config: model.Config{Layers: 4, Width: 128, Heads: 4, Context: 128, Vocab: 1024},
		Train: Rows{16, 64}, Score: Rows{16, 64},
	},
	{
		Name: "13.9M", Config: model.Config{Layers: 6, Width: 384, Heads: 6, Context: 256, Vocab: 8192},
		Train: Rows{8, 256}, Score: Rows{8, 256}, Generate: Generation{64, 64, 64}, PPO: Generation{64, 64, 64},
	},
	{
		Name: "124M", Config: model.Config{Layers: 12, Width: 768, Heads: 12, Context: 64, Vocab: 50257},
		Train: Rows{4, 64}, Score: Rows{4, 64}, Generate: Generation{8, 16, 16},
	},
}

// Find is the shape of that name.
func Find(name string) (s Shape, ok bool) {
	i := slices.IndexFunc(Shapes, func(s Shape) bool { return s.Name == name })
	if i < 0 {
		return Shape{}, false
	}
	return Shapes[i], true
}

// Names are those of Shapes.
func Names() []string {
	names := make([]string, len(Shapes))
	for i, s := range Shapes {
		names[i] = s.Name
	}
	return names
}

// Has says whether that kind of work is measured at s.
func (s Shape) Has(kind string) bool {
	switch kind {
	case WorkTrain:
		return s.Train.Batch > 0
	case WorkScore:
		return s.Score.Batch > 0
	case WorkGenerate:
		return s.Generate.Batch > 0
	case WorkPPO:
		return s.PPO.Batch > 0
	}
	return false
}

// model is a language model of that shape.
func (s Shape) model() *model.Model {
	m := model.New(s.Config, false)
	m.Init(draw.New(1, "bench"))
	return m
}

// sequences are n of random tokens.
func (s Shape) sequences(n, length int) [][]int32 {
	seqs := make([][]int32, n)
	for i := range seqs {
		d := draw.New(1, "bench", "tokens").At(uint64(i))
		seqs[i] = make([]int32, length)
		for t := range seqs[i] {
			seqs[i][t] = int32(d.IntN(s.Config.Vocab))
		}
	}
	return seqs
}

// forwardFLOPs is the floating-point work of the forward pass of one sequence
// of that length, with logits taken at some of its positions. With L blocks of
// width C, a vocabulary of V and T tokens it is 2 for each weight and token
// that are multiplied, and 2 for each value of a head's scores and of what they
// weigh, up to the token itself:
//
//	2·12·L·C²·T + 4·L·C·T(T+1)/2 + 2·C·V·logits
//
// Embeddings, biases, LayerNorm, GELU and softmax are not counted, nor is what
// a backward pass computes again. Sampling with cached keys and values does the
// same work for all tokens but the last.
func forwardFLOPs(c model.Config, length, logits int) float64 {
	l, w, t := float64(c.Layers), float64(c.Width), float64(length)
	return 24*l*w*w*t + 2*l*w*t*(t+1) + 2*w*float64(c.Vocab*logits)
}

// trainFLOPs is forwardFLOPs with the backward pass, which is twice as much.
func trainFLOPs(c model.Config, length, logits int) float64 {
	return 3 * forwardFLOPs(c, length, logits)
}
