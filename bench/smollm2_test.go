package bench

import (
	"fmt"
	"testing"

	"github.com/trimtab/trimtab/draw"
	"github.com/trimtab/trimtab/model"
	"github.com/trimtab/trimtab/tensor"
)

// BenchmarkSmolLM2 measures scoring (8 sequences of 256 tokens, all logits) and greedy generation (64 tokens after a
// prompt of 32) at SmolLM2-135M's shape with random weights, in float32 and frozen in bfloat16, in tokens a second.
// time_transformers.py and time_llama_cpp.py of testdata measure the same with other programs.
func BenchmarkSmolLM2(b *testing.B) {
	s, _ := Find("SmolLM2-135M")
	m := s.model()
	half := make([]uint16, m.Size())
	tensor.RoundBFloat16(half, m.Slab)
	pool := tensor.NewPool(0)
	defer pool.Close()
	for name, m := range map[string]*model.Model{"float32": m, "bfloat16": model.FromBFloat16(s.Config, false, half)} {
		b.Run(name+"/score", func(b *testing.B) {
			batch := model.NewBatch(s.sequences(8, 256)...)
			rows, ps := allRows(batch), model.NewPass(pool)
			for b.Loop() {
				ps.Infer(m, batch)
				ps.LogProbs(m, rows, 1)
			}
			b.ReportMetric(float64(b.N*batch.Rows())/b.Elapsed().Seconds(), "tokens/s")
		})
		for _, n := range []int{1, 16} {
			b.Run(fmt.Sprintf("%s/generate-%d", name, n), func(b *testing.B) {
				prompts, ps := s.sequences(n, 32), model.NewPass(pool)
				for b.Loop() {
					model.Generate(ps, m, prompts, model.SampleOptions{MaxNewTokens: 64}, draw.New(1, "bench"), 0)
				}
				b.ReportMetric(float64(b.N*n*64)/b.Elapsed().Seconds(), "tokens/s")
			})
		}
	}
}
