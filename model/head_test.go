package model

import (
	"testing"

	"github.com/trimtab/trimtab/draw"
	"github.com/trimtab/trimtab/tensor"
)

// Exactly one token of each row is the argmax, at any temperature.
func TestTargetIsArgmax(t *testing.T) {
	shape := Config{Layers: 1, Width: 16, Heads: 2, Context: 16, Vocab: 700}
	m := New(shape, false)
	m.Init(draw.New(1, "likeliest"))
	tensor.Scale(m.w.wte, 8)
	ps := NewPass(nil)
	tokens := []int32{0, 3, 9, 2, 4, 4, 7}
	hidden := ps.Infer(m, NewBatch(tokens))
	rows := make([]HeadRow, len(tokens)*shape.Vocab) // more than a chunk
	for i := range rows {
		rows[i] = HeadRow{Row: i / shape.Vocab, Target: int32(i % shape.Vocab)}
	}
	for _, invTemp := range []float32{1, 1 / .7} {
		right := make([]int, len(tokens))
		EachLogProb(ps, m, nil, rows, invTemp, func(i int, _, _ float32) float32 {
			z := make([]float32, shape.Vocab)
			if ps.head.IsArgmax[i] {
				tensor.Product{
					M: 1, N: shape.Vocab, K: 16, A: hidden[rows[i].Row*16:], B: m.w.wte, TransB: true, C: z,
				}.Run(nil)
				if z[rows[i].Target] != tensor.Max(z) {
					t.Errorf("token %d is not the argmax of row %d", rows[i].Target, rows[i].Row)
				}
				right[rows[i].Row]++
			}
			return 0
		})
		for r, n := range right {
			if n != 1 {
				t.Errorf("%d tokens are the argmax of row %d", n, r)
			}
		}
	}
}
