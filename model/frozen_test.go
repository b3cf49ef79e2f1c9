package model_test

import (
	"slices"
	"testing"

	"github.com/trimtab/trimtab/draw"
	"github.com/trimtab/trimtab/model"
	"github.com/trimtab/trimtab/tensor"
)

// A frozen model computes, bit for bit, what the same parameters give in float32, and writes to none of them.
func TestFrozen(t *testing.T) {
	everyKernel(t, func(t *testing.T) {
		for trial := range uint64(20) {
			s := draw.New(trial, "test", "frozen").At()
			c := randomConfig(s)
			m := loud(c, true, trial)
			half := make([]uint16, len(m.Slab))
			tensor.RoundBFloat16(half, m.Slab)
			tensor.Widen(m.Slab, half)
			before := slices.Clone(half)
			frozen := model.FromBFloat16(c, true, half)
			if !frozen.IsFrozen() || m.IsFrozen() || frozen.Size() != len(m.Slab) {
				t.Fatalf("%d parameters, want %d", frozen.Size(), len(m.Slab))
			}
			seqs := randomBatch(s, c, 1+s.IntN(9))
			b := model.NewBatch(seqs...)
			rows := nextTokens(b)
			ps, other := model.NewPass(nil), model.NewPass(nil)
			mustSameBits(t, "hidden", ps.Infer(frozen, b), other.Infer(m, b))
			mustSameBits(t, "log-probabilities", ps.LogProbs(frozen, rows, .7).LogP, other.LogProbs(m, rows, .7).LogP)
			last := []int{b.Rows() - 1}
			mustSameBits(t, "scores", ps.ScalarHead(frozen, last), other.ScalarHead(m, last))
			o := model.SampleOptions{Temperature: 1, MaxNewTokens: 1 + s.IntN(20)}
			src := draw.New(trial, "test", "frozen sample")
			samples, want := model.Generate(ps, frozen, seqs, o, src, 0), model.Generate(other, m, seqs, o, src, 0)
			for i := range want {
				if !slices.Equal(samples[i].Tokens, want[i].Tokens) || !sameBits(samples[i].LogProbs, want[i].LogProbs) {
					t.Fatalf("%+v: sample %d differs", c, i)
				}
			}
			if !slices.Equal(half, before) || !sameBits(frozen.Widen().Slab, m.Slab) {
				t.Fatal("the parameters have changed")
			}
			mustSameBits(t, "from a slab", ps.Infer(model.FromSlab(c, true, m.Slab), b), other.Infer(m, b))
		}
	})
}
