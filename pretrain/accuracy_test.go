package pretrain

import (
	"testing"

	"github.com/trimtab/trimtab/model"
	"github.com/trimtab/trimtab/tensor"
)

// The count equals that of looking at every logit.
func TestGuesses(t *testing.T) {
	in := inputs()
	tensor.Scale(in.Model.Slab[:shape.Vocab*shape.Width], 8) // some rows sure, some not
	ps := model.NewPass(nil)
	tokens := []int32{0, 3, 9, 2, 4, 4, 7}
	hidden := ps.Infer(in.Model, model.NewBatch(tokens))
	rows := make([]model.HeadRow, len(tokens)*shape.Vocab)
	for i := range rows {
		rows[i] = model.HeadRow{Row: i / shape.Vocab, Target: int32(i % shape.Vocab)}
	}
	var q guesses
	ps.LMHead(in.Model, nil, rows, 1, func(i int, logp, entropy float32) float32 {
		q.add(rows[i], logp, entropy)
		return 0
	})
	if n := len(q.open); n == 0 || n == len(rows) {
		t.Fatalf("%d of %d rows are open: the test needs some", n, len(rows))
	}
	if q.settle(nil, in.Model, hidden); q.right != len(tokens) {
		t.Errorf("%d rows have a likeliest token, want %d", q.right, len(tokens))
	}
}
