package bench

import (
	"slices"

	"github.com/trimtab/trimtab/draw"
	"github.com/trimtab/trimtab/model"
)

// Shape is a model size with the batch sizes that it is measured at. Work with
// a batch of zero is not measured.
type Shape struct {
	Name   string
	Config model.Config
	// Training batch.
	Train Rows
	// Batch of which log-probabilities are computed.
	Score Rows
	// Prompts and responses for sampling.
	Generate Generation
	// Episodes of one PPO iteration.
	PPO Generation
}

// Rows is a batch of sequences of one length, in tokens.
type Rows struct{ Batch, Length int }

// Generation is a batch of prompts of one length, each continued by a response
// of another, in tokens.
type Generation struct{ Batch, Prompt, Response int }

// Shapes are the shapes that are measured: two small models, the first one
// again with the batch that the default run trains on, GPT-2's smallest with
// short sequences, and a published model of Llama's family.
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
	{
		Name: "SmolLM2-135M", Config: model.Config{
			Family: "llama", Layers: 30, Width: 576, Heads: 9, KVHeads: 3, Inner: 1536, Context: 8192, Vocab: 49152,
			RopeTheta: 100000, NormEps: 1e-5,
		}.Complete(),
		Train: Rows{2, 256}, Score: Rows{8, 256}, Generate: Generation{16, 32, 64},
	},
}

// Find returns the shape of that name.
func Find(name string) (s Shape, ok bool) {
	i := slices.IndexFunc(Shapes, func(s Shape) bool { return s.Name == name })
	if i < 0 {
		return Shape{}, false
	}
	return Shapes[i], true
}

// Names returns the names of Shapes, in their order.
func Names() []string {
	names := make([]string, len(Shapes))
	for i, s := range Shapes {
		names[i] = s.Name
	}
	return names
}

// Has reports whether a kind of work, one of WorkNames, is measured at s.
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

// model returns a randomly initialized language model of the shape, the same at
// every call.
func (s Shape) model() *model.Model {
	m := model.New(s.Config, false)
	m.Init(draw.New(1, "bench"))
	return m
}

// sequences returns n sequences of uniformly random tokens, the same at every
// call.
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

// trainFLOPs is ForwardFLOPs for a forward and a backward pass. The backward
// pass takes twice the operations: each product has two gradients.
func trainFLOPs(c model.Config, length, logits int) float64 {
	return 3 * c.ForwardFLOPs(length, logits)
}
