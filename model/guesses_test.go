package model

import (
	"testing"

	"github.com/trimtab/trimtab/draw"
	"github.com/trimtab/trimtab/tensor"
)

// The count equals that of looking at every logit.
func TestGuesses(t *testing.T) {
	shape := Config{Layers: 1, Width: 16, Heads: 2, Context: 16, Vocab: 12}
	m := New(shape, false)
	m.Init(draw.New(1, "guesses"))
	tensor.Scale(m.w.wte, 8) // some rows sure, some not
	ps := NewPass(nil)
	tokens := []int32{0, 3, 9, 2, 4, 4, 7}
	hidden := ps.Infer(m, NewBatch(tokens))
	rows := make([]HeadRow, len(tokens)*shape.Vocab)
	for i := range rows {
		rows[i] = HeadRow{Row: i / shape.Vocab, Target: int32(i % shape.Vocab)}
	}
	var q Guesses
	ps.LMHead(m, nil, rows, 1, func(i int, logp, entropy float32) float32 {
		q.Add(rows[i], logp, entropy)
		return 0
	})
	if n := len(q.open); n == 0 || n == len(rows) {
		t.Fatalf("%d of %d rows are open: the test needs some", n, len(rows))
	}
	if q.Settle(nil, m, hidden); q.Right != len(tokens) {
		t.Errorf("%d rows have a likeliest token, want %d", q.Right, len(tokens))
	}
}
