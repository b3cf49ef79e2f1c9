package pretrain

import (
	"testing"

	"github.com/trimtab/trimtab/draw"
	"github.com/trimtab/trimtab/model"
	"github.com/trimtab/trimtab/tensor"
)

// A step of the default settings, 512 tokens, on a model of 4 layers of 128.
func BenchmarkStep(b *testing.B) {
	m := model.New(model.Config{Layers: 4, Width: 128, Heads: 4, Context: 128, Vocab: 1024}, false)
	m.Init(draw.New(1, "bench"))
	in := Inputs{Pool: tensor.NewPool(0), Stage: "bench", Model: m}
	s := draw.New(2, "rows").At()
	for range 200 {
		row := make([]int32, 64)
		for i := range row[1:] {
			row[i+1] = int32(1 + s.IntN(1+s.IntN(1023)))
		}
		in.Rows = append(in.Rows, row)
	}
	tr, err := New(Defaults(), in)
	if err != nil {
		b.Fatal(err)
	}
	b.SetBytes(512) // so that MB/s reads as million tokens a second
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		if _, err := tr.Step(b.Context(), i%tr.Steps()); err != nil {
			b.Fatal(err)
		}
	}
}
