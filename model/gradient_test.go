package model_test

import (
	"fmt"
	"math"
	"strings"
	"testing"

	"gonum.org/v1/gonum/diff/fd"

	"github.com/trimtab/trimtab/draw"
	"github.com/trimtab/trimtab/model"
	"github.com/trimtab/trimtab/tensor"
)

// Finite differences see float32 results: with a step of 1/256 a central
// difference errs by about (step)²/6 times the third derivative and by the
// rounding of the loss, some 1e-6, over the step: together below 1e-2 of the
// largest entry here, which a wrong term exceeds by far. The goldens are the
// finer test.
const (
	differenceStep      = 1. / 256
	differenceTolerance = 1e-2
)

// checkGradient compares g with central differences of loss over every entry
// of every named array of m.
func checkGradient(t *testing.T, m *model.Model, g []float32, loss func() float64) {
	t.Helper()
	settings := &fd.Settings{Formula: fd.Central, Step: differenceStep}
	names := m.NamedParameters()
	for i, p := range m.NamedViews(g, "") {
		w := names[i].Data
		at := make([]float64, len(w))
		for j := range w {
			at[j] = float64(w[j])
		}
		want := make([]float64, len(w))
		fd.Gradient(want, func(x []float64) float64 {
			for j := range x {
				w[j] = float32(x[j])
			}
			return loss()
		}, at, settings)
		for j := range w {
			w[j] = float32(at[j])
		}
		top := 0.
		for j := range want {
			top = max(top, math.Abs(want[j]))
		}
		for j := range want {
			if d := math.Abs(float64(p.Data[j]) - want[j]); !(d <= differenceTolerance*max(top, .05)) {
				t.Errorf("%s[%d]: gradient %g, by differences %g", p.Name, j, p.Data[j], want[j])
				break
			}
		}
	}
}

var tiny = model.Config{Layers: 1, Width: 6, Heads: 2, Context: 7, Vocab: 5}

// Every layer's backward, through both heads, against finite differences.
func TestDifferences(t *testing.T) {
	for _, c := range []model.Config{tiny, {Layers: 2, Width: 4, Heads: 1, Context: 5, Vocab: 3}} {
		t.Run(fmt.Sprintf("%+v", c), func(t *testing.T) {
			s := draw.New(11, "test", "differences").At()
			m := model.New(c, true)
			for i := range m.Slab {
				m.Slab[i] += float32(.3 * s.Normal())
			}
			b := model.NewBatch(randomBatch(s, c, 4)...)
			rows, all := nextTokens(b), make([]int, b.Rows())
			for i := range all {
				all[i] = i
			}
			ps := model.NewPass(nil)
			run := func(g []float32) (loss float64) {
				ps.Forward(m, b)
				model.EachLogProb(ps, m, g, rows, .8, func(i int, logp, _ float32) float32 {
					weight := float32(1 + i%3)
					loss += float64(weight * logp)
					return weight
				})
				scores := ps.ScalarHead(m, all)
				for _, v := range scores {
					loss += float64(v) * float64(v) / 2
				}
				if g != nil {
					ps.ScalarBackward(m, g, all, scores)
					ps.BackwardBody(m, g)
				}
				return loss
			}
			g := m.NewGradient()
			run(g)
			checkGradient(t, m, m.FoldGradient(nil, g), func() float64 { return run(nil) })
		})
	}
}

// Every shape's backward against finite differences.
func TestDifferencesOfShapes(t *testing.T) {
	for trial := range uint64(60) {
		s := draw.New(trial, "test", "shapes").At()
		c := randomShape(s, model.Config{
			Layers: 1 + s.IntN(2), Heads: 2, Width: 2 * (1 + s.IntN(3)), Context: 2 + s.IntN(6), Vocab: 2 + s.IntN(4),
		})
		c.HeadDim, c.Inner = 2*(1+s.IntN(2)), 1+s.IntN(4)
		c.RotaryDim = min(c.RotaryDim, c.HeadDim)
		c.NormEps = .1                               // norms of small numbers bend too much for a step of 1/256
		if strings.HasPrefix(c.Activation, "relu") { // a kink spoils differences
			c.Activation = "silu"
		}
		t.Run(fmt.Sprint(trial), func(t *testing.T) { checkShape(t, s, c) })
		if t.Failed() {
			t.Fatalf("%+v", c)
		}
	}
}

// checkShape compares the gradients of log-probabilities and entropies of some rows with finite differences.
func checkShape(t *testing.T, s *draw.Stream, c model.Config) {
	m := model.New(c, false)
	for i := range m.Slab {
		m.Slab[i] += float32(.3 * s.Normal())
	}
	b := model.NewBatch(randomBatch(s, c, 3)...)
	rows := nextTokens(b)
	if s.IntN(2) == 0 && len(rows) > 2 {
		rows = rows[1 : len(rows)-1]
		b = b.ForHeads(rows)
	}
	dlogp, dentropy := make([]float32, len(rows)), make([]float32, len(rows))
	for i := range rows {
		dlogp[i], dentropy[i] = float32(s.Normal()), float32(s.Normal())
	}
	ps := model.NewPass(nil)
	loss := func() (sum float64) {
		ps.Forward(m, b)
		head := ps.LogProbs(m, rows, .8)
		for i := range rows {
			sum += float64(dlogp[i])*float64(head.LogP[i]) + float64(dentropy[i])*float64(head.Entropy[i])
		}
		return sum
	}
	loss()
	g := m.NewGradient()
	ps.LogProbsBackward(m, g, dlogp, dentropy)
	ps.BackwardBody(m, g)
	checkGradient(t, m, m.FoldGradient(nil, g), loss)
}

// A scalar model made of a model with a head of its own computes the same hidden rows.
func TestToScalarLeavesHead(t *testing.T) {
	s := draw.New(5, "test", "scalar").At()
	c := tiny
	c.Untied, c.Family = true, "any"
	m := loud(c, false, 7)
	scalar := m.ToScalar(draw.New(1, "head"))
	if scalar.Config.Untied || scalar.Size() != m.Size()-c.Vocab*c.Width+c.Width+1 {
		t.Fatalf("%d parameters", scalar.Size())
	}
	b := model.NewBatch(randomBatch(s, c, 3)...)
	mustSameBits(t, "hidden", model.NewPass(nil).Infer(scalar, b), model.NewPass(nil).Infer(m, b))
}

// Backward with a gradient of the hidden rows given directly.
func TestDifferencesOfBody(t *testing.T) {
	s := draw.New(13, "test", "body").At()
	m := model.New(tiny, false)
	for i := range m.Slab {
		m.Slab[i] += float32(.3 * s.Normal())
	}
	b := model.NewBatch(randomBatch(s, tiny, 3)...)
	dhidden := make([]float32, b.Rows()*tiny.Width)
	for i := range dhidden {
		dhidden[i] = float32(s.Normal())
	}
	ps, g := model.NewPass(nil), m.NewGradient()
	ps.Forward(m, b)
	ps.Backward(m, g, dhidden)
	checkGradient(t, m, m.FoldGradient(nil, g), func() float64 {
		loss := 0.
		for i, v := range ps.Infer(m, b) {
			loss += float64(v) * float64(dhidden[i])
		}
		return loss
	})
}

// The entropy of the head is that of its distribution.
func TestEntropy(t *testing.T) {
	m := loud(tiny, false, 5)
	ps := model.NewPass(nil)
	b := model.NewBatch([]int32{1, 2, 3})
	hidden := ps.Infer(m, b)
	const invTemp = 1 / .7
	wte, want := m.NamedParameters()[0].Data, 0.
	logits := make([]float32, tiny.Vocab)
	for j := range logits {
		logits[j] = tensor.Dot(hidden[2*tiny.Width:], wte[j*tiny.Width:(j+1)*tiny.Width])
	}
	tensor.Softmax(logits, invTemp)
	for _, p := range logits {
		want -= float64(p) * math.Log(float64(p))
	}
	model.EachLogProb(ps, m, nil, []model.HeadRow{{Row: 2, Target: 4}}, invTemp, func(_ int, logp, entropy float32) float32 {
		if math.Abs(float64(entropy)-want) > 1e-5 || math.Abs(float64(logp)-math.Log(float64(logits[4]))) > 1e-5 {
			t.Errorf("entropy %v, log-probability %v; want %v, %v", entropy, logp, want, math.Log(float64(logits[4])))
		}
		return 0
	})
}
