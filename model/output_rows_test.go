package model_test

import (
	"fmt"
	"slices"
	"testing"

	"github.com/trimtab/trimtab/draw"
	"github.com/trimtab/trimtab/model"
	"github.com/trimtab/trimtab/tensor"
)

// What is computed for the selected rows alone is, bit for bit, what all rows
// give: results, log-probabilities, scores and every gradient.
func TestOutputRows(t *testing.T) {
	pool := tensor.NewPool(3)
	defer pool.Close()
	for _, numerics := range []tensor.Numerics{tensor.V1, tensor.V1BF16} {
		for trial := range uint64(40) {
			s := draw.New(trial, "test", "wanted").At()
			c := randomConfig(s)
			m := loud(c, true, trial)
			b := model.NewBatch(randomBatch(s, c, 1+s.IntN(40))...)
			var rows []model.HeadRow
			for r := range b.Rows() {
				if s.IntN(4) == 0 {
					rows = append(rows, model.HeadRow{Row: r, Target: int32(s.IntN(c.Vocab))})
				}
			}
			if len(rows) == 0 {
				rows = []model.HeadRow{{Row: b.Rows() - 1}}
			}
			ps := model.NewPass(nil).WithNumerics(numerics)
			if trial%2 == 0 {
				ps = model.NewPass(pool).WithNumerics(numerics)
			}
			what := fmt.Sprintf("%s %+v, %d of %d rows", numerics, c, len(rows), b.Rows())
			all := heads(ps, m, b, rows)
			for _, r := range rows {
				b.OutputRows = append(b.OutputRows, r.Row)
			}
			some := heads(ps, m, b, rows)
			mustSameBits(t, what+": log-probabilities", some.logp, all.logp)
			mustSameBits(t, what+": scores", some.scores, all.scores)
			mustSameBits(t, what+": gradient", some.gradient, all.gradient)
			for i, r := range rows {
				mustSameBits(t, what+": hidden", some.hidden[i*c.Width:(i+1)*c.Width],
					all.hidden[r.Row*c.Width:(r.Row+1)*c.Width])
			}
			mustSameBits(t, what+": Infer", ps.Infer(m, b), some.hidden)
		}
	}
}

type outcome struct{ hidden, logp, scores, gradient []float32 }

// headTask runs both heads at rows and goes back.
func heads(ps *model.Pass, m *model.Model, b model.Batch, rows []model.HeadRow) (o outcome) {
	o.hidden = slices.Clone(ps.Forward(m, b))
	o.gradient = m.NewGradient()
	at := make([]int, len(rows))
	for i, r := range rows {
		at[i] = r.Row
	}
	o.scores = slices.Clone(ps.ScalarHead(m, at))
	ps.ScalarBackward(m, o.gradient, at, o.scores)
	model.EachLogProb(ps, m, o.gradient, rows, 1, func(_ int, logp, _ float32) float32 {
		o.logp = append(o.logp, logp)
		return logp / 10
	})
	ps.BackwardBody(m, o.gradient)
	return o
}

// A head that asks for a row that was not selected is a bug of the caller.
func TestUnselectedRow(t *testing.T) {
	m := loud(small, true, 1)
	b := model.NewBatch([]int32{1, 2, 3})
	b.OutputRows = []int{2}
	ps := model.NewPass(nil)
	ps.Forward(m, b)
	defer func() {
		if recover() == nil {
			t.Error("no panic")
		}
	}()
	ps.ScalarHead(m, []int{1})
}
