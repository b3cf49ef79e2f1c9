package ppo

import (
	"math"
	"testing"

	"github.com/trimtab/trimtab/draw"
	"github.com/trimtab/trimtab/model"
)

// slope checks gradient, the derivative of loss by m's parameters, along itself
// and along random directions, by central differences of h. Where a loss has
// edges, h must be so short that few tokens cross one.
func slope(t *testing.T, h float64, m *model.Model, gradient []float32, loss func() float64) {
	t.Helper()
	src := draw.New(3, "directions")
	for k := range 4 {
		direction := make([]float64, len(m.Slab))
		s := src.At(uint64(k))
		for i := range direction {
			direction[i] = s.Normal()
			if k == 0 {
				direction[i] = float64(gradient[i])
			}
		}
		norm := 0.0
		for _, d := range direction {
			norm += d * d
		}
		scale := 1 / math.Sqrt(norm)
		want := 0.0
		for i := range direction {
			direction[i] *= scale
			want += direction[i] * float64(gradient[i])
		}
		before := append([]float32(nil), m.Slab...)
		at := func(x float64) float64 {
			for i := range m.Slab {
				m.Slab[i] = float32(float64(before[i]) + x*direction[i])
			}
			return loss()
		}
		got := (8*(at(h)-at(-h)) - at(2*h) + at(-2*h)) / (12 * h)
		copy(m.Slab, before)
		if math.Abs(got-want) > 2e-3*math.Abs(want)+3e-4 {
			t.Errorf("direction %d: differences say %.6g, the gradient %.6g", k, got, want)
		}
	}
}

// apart is a trainer whose networks have moved away from what the episodes were sampled and valued with.
func apart(t *testing.T, c Config) (*Trainer, []*episode) {
	tr := newToy(t, c, toyInputs())
	if err := tr.fitScoreScale(); err != nil {
		t.Fatal(err)
	}
	episodes := iteration0(t, tr)
	for k, m := range []*model.Model{tr.policy.model, tr.value.model} {
		s := draw.New(9, "away").At(uint64(k))
		for i := range m.Slab {
			m.Slab[i] += float32(.03 * s.Normal())
		}
	}
	return tr, episodes
}

func TestPolicyGradient(t *testing.T) {
	c := toyConfig()
	c.Temperature, c.ClipRange = 1.3, .05
	tr, episodes := apart(t, c)
	var sum updateStats
	tr.policyGradient(&sum, episodes)
	gradient := append([]float32(nil), tr.policy.model.FoldGradient(nil, tr.policy.grad)...)
	if sum.policyClipped == 0 || sum.policyClipped == sum.policyTokens {
		t.Fatalf("%d of %d tokens are clipped: the test needs some", sum.policyClipped, sum.policyTokens)
	}
	if mean := sum.entropy / float64(sum.policyTokens); !(mean > 1 && mean <= math.Log(toyVocab)+1e-6) {
		t.Errorf("entropy is %g a token, want at most ln %d", mean, toyVocab)
	}
	slope(t, 1.0/1024, tr.policy.model, gradient, func() float64 {
		var s updateStats
		tr.policyGradient(&s, episodes)
		return s.policyLoss / float64(s.policyTokens)
	})
}

func TestValueGradient(t *testing.T) {
	tr, episodes := apart(t, toyConfig())
	var sum updateStats
	tr.valueGradient(&sum, episodes)
	gradient := append([]float32(nil), tr.value.model.FoldGradient(nil, tr.value.grad)...)
	slope(t, 1.0/256, tr.value.model, gradient, func() float64 {
		var s updateStats
		tr.valueGradient(&s, episodes)
		return s.valueLoss / float64(s.valueTokens)
	})
}

// The pretraining gradient is γ times that of the mean loss, and adds to what is there.
func TestPretrainGradient(t *testing.T) {
	c := toyConfig()
	c.PtxCoef, c.PtxRows, c.ClipRange = 27.8, 2, 1
	tr, episodes := apart(t, c)
	tr.policyGradient(new(updateStats), episodes)
	tr.ptxGradient(new(updateStats), 0, 3)
	gradient := append([]float32(nil), tr.policy.model.FoldGradient(nil, tr.policy.grad)...)
	slope(t, 1.0/128, tr.policy.model, gradient, func() float64 {
		var s updateStats
		tr.policyGradient(&s, episodes)
		tr.ptxGradient(&s, 0, 3)
		return s.policyLoss/float64(s.policyTokens) + c.PtxCoef*s.ptxLoss/float64(s.ptxTokens)
	})
}

// What is known of an episode does not depend on its neighbours.
func TestEpisodesDoNotSeeEachOther(t *testing.T) {
	tr, episodes := apart(t, toyConfig())
	together := make([][]float32, len(episodes))
	tr.computeRefLogprobsAndValues(episodes)
	for i, e := range episodes {
		together[i] = append([]float32(nil), e.refLogprobs...)
	}
	for i, e := range episodes {
		clear(e.refLogprobs)
		tr.computeRefLogprobsAndValues(episodes[i : i+1])
		if !sameBits(together[i], e.refLogprobs) {
			t.Errorf("episode %d has other log-probabilities alone", i)
		}
	}
}
