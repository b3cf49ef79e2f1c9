package reward

import (
	_ "embed"
	"encoding/json"
	"math"
	"testing"

	"gonum.org/v1/gonum/diff/fd"
)

//go:embed testdata/golden.json
var goldenJSON []byte

// goldenCase is what testdata/gen_golden.py wrote.
type goldenCase struct {
	Scores, Gradient []float64
	Ranks            []int
	Loss, Margin     float64
	Pairs, Right     int
}

func narrow(x []float64) []float32 {
	y := make([]float32, len(x))
	for i, v := range x {
		y[i] = float32(v)
	}
	return y
}

func near(t *testing.T, what string, got, want, tolerance float64) {
	t.Helper()
	if !(math.Abs(got-want) <= tolerance*max(1, math.Abs(want))) {
		t.Errorf("%s: got %.9g, want %.9g", what, got, want)
	}
}

func TestRankingLossGolden(t *testing.T) {
	var cases []goldenCase
	if err := json.Unmarshal(goldenJSON, &cases); err != nil {
		t.Fatal(err)
	}
	for _, c := range cases {
		d := make([]float32, len(c.Scores))
		o := RankingLoss(d, narrow(c.Scores), c.Ranks)
		near(t, "loss", o.Loss, c.Loss, 1e-6)
		near(t, "margin", o.Margin, c.Margin, 1e-5)
		if o.Pairs != c.Pairs || o.Correct != c.Right {
			t.Errorf("ranks %v: %d pairs, %d right; want %d, %d", c.Ranks, o.Pairs, o.Correct, c.Pairs,
				c.Right)
		}
		sum := 0.0
		for i := range d {
			near(t, "gradient", float64(d[i]), c.Gradient[i], 1e-6)
			sum += float64(d[i])
		}
		near(t, "sum of gradients", sum, 0, 1e-6)
	}
}

func TestRankingLossOracles(t *testing.T) {
	for _, c := range []struct {
		scores []float32
		loss   float64
		grad   []float64
	}{
		{[]float32{1, 0}, .313262, nil},
		{[]float32{-1, 0}, 1.313262, nil},
		{[]float32{0, 0, 0, 0}, .693147, []float64{-.25, -.083333, .083333, .25}},
		{[]float32{2, 1, 0, -1}, .207038, []float64{-.072595, -.019867, .019867, .072595}},
		{[]float32{3, 2.5, 2, 1, 0, -1, -1.5, -2, -4}, .141767, nil},
	} {
		ranks, d := make([]int, len(c.scores)), make([]float32, len(c.scores))
		for i := range ranks {
			ranks[i] = i + 1
		}
		o := RankingLoss(d, c.scores, ranks)
		near(t, "loss", o.Loss, c.loss, 2e-6)
		for i, g := range c.grad {
			near(t, "gradient", float64(d[i]), g, 2e-6)
		}
	}
}

func TestRankingLossTies(t *testing.T) {
	d := []float32{9, 9, 9}
	if o := RankingLoss(d, []float32{3, 1, 2}, []int{1, 1, 1}); o != (PairStats{}) || d[0] != 0 || d[1] != 0 ||
		d[2] != 0 {
		t.Errorf("all tied: outcome %+v, gradient %v; want none", o, d)
	}
	tied, plain := make([]float32, 3), make([]float32, 2)
	a := RankingLoss(tied, []float32{1, .5, 0}, []int{1, 2, 2})
	b := RankingLoss(plain, []float32{1, .5}, []int{1, 2})
	c := RankingLoss(nil, []float32{1, 0}, []int{1, 2})
	near(t, "loss with a tie", a.Loss, (b.Loss+c.Loss)/2, 1e-9)
	near(t, "gradient with a tie", float64(tied[1]), float64(plain[1])/2, 1e-7)
}

func TestRankingLossGradient(t *testing.T) {
	ranks := []int{2, 1, 3, 2, 4}
	x := []float64{.3, -.2, 1.1, .4, -.9}
	d := make([]float32, len(x))
	RankingLoss(d, narrow(x), ranks)
	numeric := fd.Gradient(nil, func(x []float64) float64 { return RankingLoss(nil, narrow(x), ranks).Loss }, x,
		&fd.Settings{Formula: fd.Central, Step: 1.0 / 256})
	for i := range d {
		near(t, "gradient", float64(d[i]), numeric[i], 1e-4)
	}
}

// The pairs of a ranking weigh as much together as one: neither K nor the order of presentation matters.
func TestRankingLossPermutation(t *testing.T) {
	a := RankingLoss(nil, []float32{2, 1, 0, -1}, []int{1, 2, 3, 4})
	b := RankingLoss(nil, []float32{0, 2, -1, 1}, []int{3, 1, 4, 2})
	near(t, "loss", a.Loss, b.Loss, 1e-12)
	if a.Correct != 6 || b.Correct != 6 || a.Pairs != 6 {
		t.Errorf("%d and %d right of %d pairs, want 6", a.Correct, b.Correct, a.Pairs)
	}
}
