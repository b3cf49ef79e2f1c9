package model_test

import (
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/trimtab/trimtab/draw"
	"github.com/trimtab/trimtab/model"
)

// distribution is the model's at the end of prompt, at a temperature.
func distribution(m *model.Model, prompt []int32, temperature float32) []float64 {
	ps := model.NewPass(nil)
	ps.Infer(m, model.NewBatch(prompt))
	rows := make([]model.HeadRow, m.Config.Vocab)
	for i := range rows {
		rows[i] = model.HeadRow{Row: len(prompt) - 1, Target: int32(i)}
	}
	p := make([]float64, len(rows))
	model.EachLogProb(ps, m, nil, rows, 1/temperature, func(i int, logp, _ float32) float32 {
		p[i] = math.Exp(float64(logp))
		return 0
	})
	return p
}

// frequencies samples one token after prompt n times.
func frequencies(m *model.Model, prompt []int32, o model.SampleOptions, n int) []float64 {
	o.MaxNewTokens = 1
	f := make([]float64, m.Config.Vocab)
	prompts := slices.Repeat([][]int32{prompt}, n)
	for _, s := range model.Generate(model.NewPass(nil), m, prompts, o, draw.New(1, "test", "frequencies"), 0) {
		f[s.Tokens[0]] += 1 / float64(n)
	}
	return f
}

// restrict zeroes all but the tokens kept and makes the rest sum to one.
func restrict(p []float64, keep func(i int) bool) []float64 {
	q, sum := slices.Clone(p), 0.
	for i := range q {
		if !keep(i) {
			q[i] = 0
		}
		sum += q[i]
	}
	for i := range q {
		q[i] /= sum
	}
	return q
}

// order is the tokens by falling probability.
func order(p []float64) []int {
	ids := make([]int, len(p))
	for i := range ids {
		ids[i] = i
	}
	slices.SortStableFunc(ids, func(a, b int) int {
		if p[a] > p[b] {
			return -1
		}
		return 1
	})
	return ids
}

// Sampled frequencies are those of the distribution that the options describe.
func TestSamplingFollowsTheDistribution(t *testing.T) {
	const n = 4000
	c := model.Config{Layers: 1, Width: 8, Heads: 2, Context: 6, Vocab: 70}
	m := loud(c, false, 9)
	prompt := []int32{3, 1, 4}
	plain := distribution(m, prompt, 1)
	ranked := order(plain)
	nucleus, mass := map[int]bool{}, 0.
	for _, id := range ranked {
		if mass < .6 {
			nucleus[id] = true
		}
		mass += plain[id]
	}
	topK := func(i int) bool { return slices.Contains(ranked[:5], i) }
	both, mass := map[int]bool{}, 0.
	for _, id := range ranked[:5] {
		if mass < .6 {
			both[id] = true
		}
		mass += restrict(plain, topK)[id]
	}
	suppressed := func(i int) bool { return i != ranked[0] && i != ranked[1] }
	for name, test := range map[string]struct {
		o    model.SampleOptions
		want []float64
	}{
		"plain":       {model.SampleOptions{Temperature: 1}, plain},
		"temperature": {model.SampleOptions{Temperature: .5}, distribution(m, prompt, .5)},
		"top-k":       {model.SampleOptions{Temperature: 1, TopK: 5}, restrict(plain, topK)},
		"top-p": {model.SampleOptions{Temperature: 1, TopP: .6},
			restrict(plain, func(i int) bool { return nucleus[i] })},
		"both": {model.SampleOptions{Temperature: 1, TopK: 5, TopP: .6},
			restrict(plain, func(i int) bool { return both[i] })},
		"suppress": {
			model.SampleOptions{Temperature: 1, SuppressTokens: []int32{int32(ranked[0]), int32(ranked[1])}},
			restrict(plain, suppressed),
		},
		"greedy": {model.SampleOptions{}, restrict(plain, func(i int) bool { return i == ranked[0] })},
		"greedy suppress": {model.SampleOptions{SuppressTokens: []int32{int32(ranked[0])}},
			restrict(plain, func(i int) bool { return i == ranked[1] })},
		"top-k 1": {model.SampleOptions{Temperature: 1, TopK: 1},
			restrict(plain, func(i int) bool { return i == ranked[0] })},
	} {
		got := frequencies(m, prompt, test.o, n)
		for i, p := range test.want {
			if p == 0 && got[i] != 0 {
				t.Errorf("%s: token %d has no probability and was sampled", name, i)
			}
			if sigma := math.Sqrt(p * (1 - p) / n); math.Abs(got[i]-p) > 5*sigma+1e-9 {
				t.Errorf("%s: token %d sampled %.4f of the time, want %.4f", name, i, got[i], p)
			}
		}
	}
}

// More prompts than places: each still gets its own sample, and prompts that
// leave no room get none.
func TestManyPrompts(t *testing.T) {
	m := loud(small, false, 6)
	s := draw.New(6, "test", "many").At()
	prompts := randomBatch(s, small, 150)
	o := model.SampleOptions{Temperature: 1, MaxNewTokens: 4, StopTokens: []int32{2, 3}}
	ps := model.NewPass(nil)
	out := model.Generate(ps, m, prompts, o, draw.New(6, "test"), 1000)
	for i, sample := range out {
		checkSample(t, m, prompts[i], sample, o)
	}
	again := model.Generate(ps, m, prompts, o, draw.New(6, "test"), 1000)
	other := model.Generate(ps, m, prompts, o, draw.New(6, "test"), 2000)
	same := 0
	for i := range out {
		if !slices.Equal(out[i].Tokens, again[i].Tokens) {
			t.Fatalf("prompt %d: another sample the second time", i)
		}
		if len(out[i].Tokens) > 1 && slices.Equal(out[i].Tokens, other[i].Tokens) {
			same++
		}
	}
	if same > 60 {
		t.Errorf("%d of 150 samples do not follow the base of their draws", same)
	}
	if len(model.Generate(ps, m, nil, o, draw.New(6, "test"), 0)) != 0 {
		t.Error("samples without prompts")
	}
}

func TestSampleOptionsValidate(t *testing.T) {
	for want, o := range map[string]model.SampleOptions{
		"temperature: -1 is outside":   {Temperature: -1, MaxNewTokens: 1},
		"temperature: NaN is outside":  {Temperature: float32(math.NaN()), MaxNewTokens: 1},
		"top_k: -1 is negative":        {TopK: -1, MaxNewTokens: 1},
		"top_p: 1.5 is outside 0 to":   {TopP: 1.5, MaxNewTokens: 1},
		"max_new_tokens: 0 is below 1": {},
	} {
		if err := o.Validate(); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("error %v, want %q…", err, want)
		}
	}
}

// A model of not-a-numbers samples something, with log-probabilities that say so.
func TestNotANumber(t *testing.T) {
	m := loud(small, false, 1)
	m.Slab[0] = float32(math.NaN())
	for _, o := range []model.SampleOptions{
		{MaxNewTokens: 2},
		{MaxNewTokens: 2, Temperature: 1},
		{MaxNewTokens: 2, Temperature: 1, TopK: 3, TopP: .5},
	} {
		o.SuppressTokens = []int32{0}
		for _, s := range model.Generate(model.NewPass(nil), m, [][]int32{{0, 1}}, o, draw.New(1), 0) {
			if !math.IsNaN(float64(s.LogProbs[0])) || s.Tokens[0] == 0 {
				t.Errorf("%+v: %+v", o, s)
			}
		}
	}
}

func TestGeneratePanics(t *testing.T) {
	m := loud(small, false, 1)
	for want, f := range map[string]func(){
		"prompt 1 is empty": func() {
			model.Generate(model.NewPass(nil), m, [][]int32{{1}, {}},
				model.SampleOptions{MaxNewTokens: 1}, draw.New(1), 0)
		},
		"max_new": func() { model.Generate(model.NewPass(nil), m, nil, model.SampleOptions{}, draw.New(1), 0) },
		"every token is suppressed": func() {
			all := []int32{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10}
			model.Generate(model.NewPass(nil), m, [][]int32{{1}},
				model.SampleOptions{MaxNewTokens: 1, SuppressTokens: all}, draw.New(1), 0)
		},
	} {
		func() {
			defer func() {
				if got, _ := recover().(string); !strings.Contains(got, want) {
					t.Errorf("panic %q, want %q", got, want)
				}
			}()
			f()
		}()
	}
}
