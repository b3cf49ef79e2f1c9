package eval

import (
	"math"
	"slices"
	"strconv"
	"testing"

	"github.com/trimtab/trimtab/draw"
	"github.com/trimtab/trimtab/label"
	"github.com/trimtab/trimtab/model"
	"github.com/trimtab/trimtab/tensor"
	"gonum.org/v1/gonum/stat/distuv"
)

var shape = model.Config{Layers: 1, Width: 16, Heads: 2, Context: 12, Vocab: 10}

func toy(seed uint64) *model.Model {
	m := model.New(shape, false)
	m.Init(draw.New(seed, "toy"))
	tensor.Scale(m.Slab[:shape.Vocab*shape.Width], 20) // far from uniform
	return m
}

func near(t *testing.T, what string, got, want, tolerance float64) {
	t.Helper()
	if !(math.Abs(got-want) <= tolerance*max(1, math.Abs(want))) {
		t.Errorf("%s: got %.9g, want %.9g", what, got, want)
	}
}

// A model of zeros knows nothing: its perplexity is the size of the vocabulary.
func TestPerplexityOfNothing(t *testing.T) {
	l := Perplexity(model.NewPass(nil), model.New(shape, false), [][]int32{{0, 1, 2}, {3}, {4, 5}})
	if l.Tokens != 3 {
		t.Errorf("%d tokens, want 3: the first of a text is given", l.Tokens)
	}
	near(t, "nll", l.NLL, math.Log(10), 1e-6)
	near(t, "perplexity", l.Perplexity, 10, 1e-5)
}

func TestPerplexityChunksDoNotShow(t *testing.T) {
	m := toy(1)
	var texts [][]int32
	s := draw.New(1, "texts").At()
	for range 600 { // more tokens than go through at once
		text := make([]int32, 2+s.IntN(10))
		for i := range text {
			text[i] = int32(s.IntN(10))
		}
		texts = append(texts, text)
	}
	whole := Perplexity(model.NewPass(nil), m, texts)
	sum, n := 0.0, 0
	for _, text := range texts {
		l := Perplexity(model.NewPass(nil), m, [][]int32{text})
		sum += l.NLL * float64(l.Tokens)
		n += l.Tokens
	}
	if n != whole.Tokens {
		t.Errorf("%d tokens, want %d", whole.Tokens, n)
	}
	near(t, "nll", whole.NLL, sum/float64(n), 1e-9)
}

func TestMeanKL(t *testing.T) {
	policy, ref := toy(1), toy(2)
	prompts := [][]int32{{0, 1}, {0, 2}, {0, 3}}
	o := model.SampleOptions{Temperature: .8, MaxNewTokens: 6, StopTokens: []int32{9}}
	samples := model.Generate(model.NewPass(nil), policy, prompts, o, draw.New(3, "samples"), 0)
	if d := MeanKL(model.NewPass(nil), policy, policy, prompts, samples, .8); d.K1 != 0 || d.K3 != 0 ||
		d.PerToken != 0 || d.Tokens == 0 {
		t.Errorf("KL of a model to itself: %+v", d)
	}
	want, tokens := 0.0, 0
	ps := model.NewPass(nil)
	for i, s := range samples {
		for k, id := range s.Tokens {
			ps.Infer(ref, model.NewBatch(slices.Concat(prompts[i], s.Tokens[:k])))
			rows := []model.HeadRow{{Row: len(prompts[i]) + k - 1, Target: id}}
			want += (float64(s.LogProbs[k]) - float64(ps.LogProbs(ref, rows, 1/float32(.8)).LogP[0])) / 3
			tokens++
		}
	}
	d := MeanKL(model.NewPass(nil), policy, ref, prompts, samples, .8)
	near(t, "k1", d.K1, want, 1e-9)
	near(t, "per token", d.PerToken, want*3/float64(tokens), 1e-9)
	if d.Tokens != tokens || d.K3 <= 0 {
		t.Errorf("%d tokens, want %d; k3 %g", d.Tokens, tokens, d.K3)
	}
}

// Over many samples both estimators reach the true divergence of one-token responses.
func TestMeanKLIsUnbiased(t *testing.T) {
	policy, ref := toy(1), toy(2)
	prompts := make([][]int32, 4000)
	for i := range prompts {
		prompts[i] = []int32{0, 4}
	}
	p, q := distribution(policy, prompts[0]), distribution(ref, prompts[0])
	want := 0.0
	for i := range p {
		want += p[i] * math.Log(p[i]/q[i])
	}
	o := model.SampleOptions{Temperature: 1, MaxNewTokens: 1}
	samples := model.Generate(model.NewPass(nil), policy, prompts, o, draw.New(3, "samples"), 0)
	d := MeanKL(model.NewPass(nil), policy, ref, prompts, samples, 1)
	near(t, "k1", d.K1, want, .1)
	near(t, "k3", d.K3, want, .1)
}

func distribution(m *model.Model, prompt []int32) []float64 {
	ps := model.NewPass(nil)
	p := make([]float64, m.Config.Vocab)
	rows := make([]model.HeadRow, len(p))
	for i := range rows {
		rows[i] = model.HeadRow{Row: len(prompt) - 1, Target: int32(i)}
	}
	ps.Infer(m, model.NewBatch(prompt))
	for i, logp := range ps.LogProbs(m, rows, 1).LogP {
		p[i] = math.Exp(float64(logp))
	}
	return p
}

func TestSampleRepeats(t *testing.T) {
	m := toy(1)
	prompts := [][]int32{{0, 1}, {0, 2}, {0, 3}}
	o := model.SampleOptions{Temperature: 1, MaxNewTokens: 6, StopTokens: []int32{9}}
	a := model.Generate(model.NewPass(nil), m, prompts, o, draw.New(3, "s"), 0)
	b := model.Generate(model.NewPass(nil), m, prompts, o, draw.New(3, "s"), 0)
	for i := range a {
		if !slices.Equal(a[i].Tokens, b[i].Tokens) {
			t.Errorf("prompt %d: %v and %v", i, a[i].Tokens, b[i].Tokens)
		}
	}
}

// The interval of a mean of coin tosses is about that of the normal approximation, and covers the truth about 95 times
// in 100.
func TestBootstrapCovers(t *testing.T) {
	z := distuv.UnitNormal.Quantile(.975)
	const n, trials = 200, 200
	covered := 0
	for k := range trials {
		s := draw.New(uint64(k), "coin").At()
		x := make([]float64, n)
		for i := range x {
			if s.Bool(.3) {
				x[i] = 1
			}
		}
		e := Mean(draw.New(uint64(k), "bootstrap"), x)
		if e.Low <= .3 && .3 <= e.High {
			covered++
		}
		if half := z * math.Sqrt(e.Value*(1-e.Value)/n); math.Abs((e.High-e.Low)/2-half) > .2*half {
			t.Errorf("half width %g, want about %g", (e.High-e.Low)/2, half)
		}
	}
	if covered < 178 || covered > 199 {
		t.Errorf("%d of %d intervals cover, want about 190", covered, trials)
	}
	if e := Mean(draw.New(1), nil); e != (Estimate{}) {
		t.Errorf("the mean of nothing is %+v", e)
	}
	x := []float64{1, 2, 4}
	if Mean(draw.New(1), x) != Mean(draw.New(1), x) {
		t.Error("an interval does not repeat")
	}
}

// Both kinds of interval are recorded with runs: neither may move by one
// resample, by which alone they differ.
func TestIntervalsArePinned(t *testing.T) {
	var values []float64
	var groups []string
	for i := range 60 {
		values = append(values, float64(i*i%97))
		groups = append(groups, strconv.Itoa(i))
	}
	src := draw.New(1, "pin")
	want := Estimate{Value: 49.81666666666667, Low: 42.46666666666667, High: 57.55, N: 60}
	if got := Mean(src, values); got != want {
		t.Errorf("the mean is %+v, want %+v", got, want)
	}
	interval := label.Interval{Low: 42.46666666666667, High: 57.583333333333336, Groups: 60}
	if got := label.Bootstrap(groups, values, .95, 1000, src); got != interval {
		t.Errorf("the interval is %+v, want %+v", got, interval)
	}
}

func TestWinRate(t *testing.T) {
	e := WinRate(draw.New(1), []float64{1, 2, 3, 0}, []float64{0, 2, 4, -1})
	near(t, "win rate", e.Value, 2.5/4, 0)
	if e.N != 4 || !(e.Low >= 0 && e.High <= 1) {
		t.Errorf("%+v", e)
	}
}
