package model_test

import (
	"fmt"
	"math"
	"slices"
	"testing"

	"github.com/trimtab/trimtab/draw"
	"github.com/trimtab/trimtab/model"
	"github.com/trimtab/trimtab/tensor"
)

// everyKernel runs test under each implementation that the CPU has.
func everyKernel(t *testing.T, test func(t *testing.T)) {
	for _, name := range []string{"avx512", "avx2", "portable"} {
		restore, err := tensor.Use(name)
		if err != nil {
			t.Logf("%s: left out: %v", name, err)
			continue
		}
		t.Run(name, test)
		restore()
	}
}

func sameBits(a, b []float32) bool {
	return slices.EqualFunc(a, b, func(x, y float32) bool { return math.Float32bits(x) == math.Float32bits(y) })
}

func mustSameBits(t *testing.T, what string, got, want []float32) {
	t.Helper()
	if sameBits(got, want) {
		return
	}
	if len(got) != len(want) {
		t.Fatalf("%s: %d elements, want %d", what, len(got), len(want))
	}
	for i := range got {
		if math.Float32bits(got[i]) != math.Float32bits(want[i]) {
			t.Fatalf("%s: element %d of %d is %v (%08x), want %v (%08x)", what, i, len(got),
				got[i], math.Float32bits(got[i]), want[i], math.Float32bits(want[i]))
		}
	}
}

// randomConfig draws a small shape; widths and heads are often odd. Two of three are not GPT-2's.
func randomConfig(s *draw.Stream) model.Config {
	heads := 1 + s.IntN(4)
	c := model.Config{
		Layers: 1 + s.IntN(3), Heads: heads, Width: heads * (1 + s.IntN(20)),
		Context: 1 + s.IntN(80), Vocab: 2 + s.IntN(300),
	}
	if s.IntN(3) > 0 {
		return randomShape(s, c)
	}
	return c
}

// one draws one of several values.
func one[T any](s *draw.Stream, values ...T) T { return values[s.IntN(len(values))] }

// randomShape draws what other families than GPT-2 have.
func randomShape(s *draw.Stream, c model.Config) model.Config {
	c.Family = "any"
	c.KVHeads = one(s, 0, 1, c.Heads, 1+s.IntN(c.Heads))
	if c.KVHeads > 0 && c.Heads%c.KVHeads != 0 {
		c.KVHeads = 1
	}
	c.HeadDim = 2 * (1 + s.IntN(12))
	c.Inner, c.Gated = 1+s.IntN(50), s.IntN(2) == 0
	c.Activation = one(s, "", "gelu", "relu", "relu2", "silu")
	c.RMSNorm, c.NormEps, c.NormOffset = s.IntN(2) == 0, one(s, 0, 1e-6), one[float64](s, 0, 1)
	c.NoNormBias, c.NoFinalNorm = s.IntN(2) == 0, s.IntN(3) == 0
	if !c.RMSNorm {
		c.NormOffset = 0
	}
	c.NormAt = one(s, model.NormBefore, model.NormBefore, model.NormAfter, model.NormOutput, model.NormBoth)
	if c.NormAt == model.NormBefore {
		c.ParallelResidual = s.IntN(2) == 0
		c.ResidualScale = one(s, 0, .3)
	}
	c.Positions = one(s, model.LearnedPositions, model.RotaryPositions, model.RotaryPositions, model.NoPositions)
	if c.Positions == model.RotaryPositions {
		c.RotaryDim = one(s, 0, 2*(1+s.IntN(c.HeadDim/2)))
		c.RopeTheta, c.RopeLocalTheta = one[float64](s, 0, 500), one[float64](s, 0, 100)
		c.RopeScaling = one(s, model.RopeScaling{}, model.RopeScaling{Type: "linear", Factor: 3})
	}
	c.NoQKVBias, c.NoOutBias, c.NoMLPBias = s.IntN(2) == 0, s.IntN(2) == 0, s.IntN(2) == 0
	c.QKNorm = one(s, model.NoQKNorm, model.QKNormHead, model.QKNormFull)
	if c.QKNorm == model.NoQKNorm && (c.KVHeads == 0 || c.KVHeads == c.Heads) {
		c.QKVPerHead = s.IntN(2) == 0
	}
	c.SlidingWindow = one(s, 0, 1+s.IntN(40))
	if c.SlidingWindow > 0 && s.IntN(2) == 0 {
		c.FullLayers = []int{c.Layers - 1}
	}
	c.AttentionScale, c.AttentionCap, c.LogitCap = one(s, 0, .4), one[float64](s, 0, 3), one[float64](s, 0, 5)
	c.EmbeddingScale, c.LogitScale = one[float64](s, 0, 3), one(s, 0, .5)
	c.Untied = s.IntN(2) == 0
	return c
}

// loud is a model whose activations are far from zero.
func loud(c model.Config, scalar bool, seed uint64) *model.Model {
	m := model.New(c, scalar)
	src := draw.New(seed, "test", "loud")
	m.Init(src)
	s := src.At(1 << 20)
	for i := range m.Slab {
		m.Slab[i] = m.Slab[i]*5 + float32(.05*s.Normal())
	}
	return m
}

func randomTokens(s *draw.Stream, n, vocab int) []int32 {
	x := make([]int32, n)
	for i := range x {
		x[i] = int32(s.IntN(vocab))
	}
	return x
}

// randomBatch has sequences of 1 to Context tokens.
func randomBatch(s *draw.Stream, c model.Config, sequences int) [][]int32 {
	seqs := make([][]int32, sequences)
	for i := range seqs {
		seqs[i] = randomTokens(s, 1+s.IntN(c.Context), c.Vocab)
	}
	return seqs
}

// A row's bits depend on the tokens before it in its sequence alone.
func TestRowsDoNotSeeEachOther(t *testing.T) {
	everyKernel(t, func(t *testing.T) {
		for trial := range uint64(20) {
			s := draw.New(trial, "test", "rows").At()
			c := randomConfig(s)
			m := loud(c, false, trial)
			seqs := randomBatch(s, c, 1+s.IntN(6))
			ps, alone := model.NewPass(nil), model.NewPass(nil)
			b := model.NewBatch(seqs...)
			all := slices.Clone(ps.Forward(m, b))
			mustSameBits(t, "Infer", ps.Infer(m, b), all)
			for i, seq := range seqs {
				n := 1 + s.IntN(len(seq)) // a prefix: later tokens do not show either
				from := b.Starts[i] * c.Width
				mustSameBits(t, fmt.Sprintf("%+v sequence %d", c, i),
					alone.Forward(m, model.NewBatch(seq[:n])), all[from:from+n*c.Width])
			}
		}
	})
}

// Sampling with a cache gives, bit for bit, the log-probabilities that the
// language-model head computes from a full pass; and each sample is what its
// prompt gives alone.
func TestCachedEqualsFull(t *testing.T) {
	everyKernel(t, func(t *testing.T) {
		for trial := range uint64(20) {
			s := draw.New(trial, "test", "cached").At()
			c := randomConfig(s)
			m := loud(c, false, trial)
			prompts := randomBatch(s, c, 1+s.IntN(9))
			o := model.SampleOptions{
				Temperature: []float32{0, .7, 1, 1.3}[s.IntN(4)], MaxNewTokens: 1 + s.IntN(40),
				TopK: s.IntN(2) * (1 + s.IntN(20)), TopP: float32(s.IntN(2)) * .9,
				StopTokens: []int32{int32(s.IntN(c.Vocab))},
			}
			src := draw.New(trial, "test", "sample")
			ps := model.NewPass(nil)
			restore := func() {}
			if trial%2 == 1 {
				restore = model.ForceSharedDecoder()
			}
			samples := model.Generate(ps, m, prompts, o, src, 100)
			restore()
			for i, sample := range samples {
				checkSample(t, m, prompts[i], sample, o)
				alone := model.Generate(ps, m, prompts[i:i+1], o, src, 100+uint64(i))[0]
				if !slices.Equal(alone.Tokens, sample.Tokens) || !sameBits(alone.LogProbs, sample.LogProbs) {
					t.Fatalf("%+v: prompt %d alone gives another sample", c, i)
				}
			}
		}
	})
}

// checkSample compares a sample with a full pass over prompt and response.
func checkSample(t *testing.T, m *model.Model, prompt []int32, sample model.Sample, o model.SampleOptions) {
	t.Helper()
	whole := slices.Concat(prompt, sample.Tokens)
	if len(whole) > m.Config.Context || len(sample.Tokens) > o.MaxNewTokens {
		t.Fatalf("%d tokens after a prompt of %d: context %d, at most %d new",
			len(sample.Tokens), len(prompt), m.Config.Context, o.MaxNewTokens)
	}
	if want := min(o.MaxNewTokens, m.Config.Context-len(prompt)); !sample.Stopped && len(sample.Tokens) != want {
		t.Fatalf("%d tokens without a stop token, want %d", len(sample.Tokens), want)
	}
	ps := model.NewPass(nil)
	ps.Forward(m, model.NewBatch(whole))
	rows := make([]model.HeadRow, len(sample.Tokens))
	for i, token := range sample.Tokens {
		rows[i] = model.HeadRow{Row: len(prompt) + i - 1, Target: token}
		if last := i == len(sample.Tokens)-1; slices.Contains(o.StopTokens, token) != (last && sample.Stopped) {
			t.Fatalf("stop token at %d of %d, Stopped %t", i, len(sample.Tokens), sample.Stopped)
		}
	}
	full, entropies := make([]float32, len(rows)), make([]float32, len(rows))
	model.EachLogProb(ps, m, nil, rows, o.InvTemp(), func(i int, logp, entropy float32) float32 {
		full[i], entropies[i] = logp, entropy
		if !(entropy > -1e-3 && float64(entropy) < math.Log(float64(m.Config.Vocab))+1e-3) {
			t.Errorf("entropy %v of %d tokens", entropy, m.Config.Vocab)
		}
		return 0
	})
	mustSameBits(t, fmt.Sprintf("%+v log-probabilities", m.Config), sample.LogProbs, full)
	mustSameBits(t, fmt.Sprintf("%+v entropies", m.Config), sample.Entropies, entropies)
}

// gradientOf runs seqs through heads and body, splits of sequences at a time.
func gradientOf(ps *model.Pass, m *model.Model, seqs [][]int32, split int) []float32 {
	g := m.NewGradient()
	for from := 0; from < len(seqs); from += split {
		b := model.NewBatch(seqs[from:min(from+split, len(seqs))]...)
		ps.Forward(m, b)
		next := nextTokens(b)
		model.EachLogProb(ps, m, g, next, 1.25, func(i int, logp, _ float32) float32 {
			if next[i].Target%7 == 3 {
				return 0 // not learned
			}
			return -.1 + .01*logp
		})
		rows := make([]int, b.Sequences())
		for i := range rows {
			rows[i] = b.Starts[i+1] - 1
		}
		ps.ScalarBackward(m, g, rows, ps.ScalarHead(m, rows))
		ps.BackwardBody(m, g)
	}
	return m.FoldGradient(nil, g)
}

// A batch taken in micro-batches, in order, gives the same gradient bytes.
func TestMicroBatches(t *testing.T) {
	everyKernel(t, func(t *testing.T) {
		for trial := range uint64(5) {
			s := draw.New(trial, "test", "micro").At()
			c := randomConfig(s)
			c.Context += 10
			m := loud(c, true, trial)
			seqs := randomBatch(s, c, 7)
			ps := model.NewPass(nil)
			whole := slices.Clone(gradientOf(ps, m, seqs, len(seqs)))
			for _, split := range []int{1, 2, 3, 5} {
				mustSameBits(t, fmt.Sprintf("%+v by %d", c, split), gradientOf(ps, m, seqs, split), whole)
			}
		}
	})
}

// sharedDecoder is large enough to be spread over tasks everywhere.
var wide = model.Config{Layers: 2, Width: 96, Heads: 3, Context: 64, Vocab: 300}

// The number of workers does not show, in gradients or in samples; nor does
// the implementation of the kernels.
func TestWorkersAndKernels(t *testing.T) {
	s := draw.New(7, "test", "workers").At()
	m := loud(wide, true, 7)
	seqs := randomBatch(s, wide, 6)
	var first []float32
	var samples []model.Sample
	everyKernel(t, func(t *testing.T) {
		counts := []int{1, 2, 3, 5}
		if tensor.Implementation() == "portable" {
			counts = []int{3} // slow, and the same code above the kernels
		}
		for _, workers := range counts {
			pool := tensor.NewPool(workers)
			defer pool.Close()
			ps := model.NewPass(pool)
			g := gradientOf(ps, m, seqs, len(seqs))
			o := model.SampleOptions{Temperature: .9, MaxNewTokens: 12}
			out := model.Generate(ps, m, seqs, o, draw.New(7, "test"), 0)
			restore := model.ForceSharedDecoder()
			shared := model.Generate(ps, m, seqs, o, draw.New(7, "test"), 0)
			restore()
			if first == nil {
				first, samples = g, out
			}
			mustSameBits(t, fmt.Sprintf("%d workers", workers), g, first)
			for i, want := range samples {
				for _, got := range []model.Sample{out[i], shared[i]} {
					if !slices.Equal(got.Tokens, want.Tokens) || !sameBits(got.LogProbs, want.LogProbs) {
						t.Fatalf("%d workers: sample %d differs", workers, i)
					}
				}
			}
		}
	})
}

// Shapes that come again are served from the buffers of the first time.
func TestStepAllocatesNothing(t *testing.T) {
	if tensor.Implementation() == "portable" {
		t.Skip("the reference makes rows of its own for each product")
	}
	m := loud(wide, true, 3)
	s := draw.New(3, "test", "allocations").At()
	b := model.NewBatch(randomBatch(s, wide, 4)...)
	rows, last := nextTokens(b), make([]int, b.Sequences())
	for i := range last {
		last[i] = b.Starts[i+1] - 1
	}
	pool := tensor.NewPool(2)
	defer pool.Close()
	ps, g := model.NewPass(pool), m.NewGradient()
	minus := slices.Repeat([]float32{-1}, len(rows))
	step := func() {
		ps.Forward(m, b)
		ps.LogProbs(m, rows, 1)
		ps.LogProbsBackward(m, g, minus, minus)
		ps.WeightedLogProbs(m, g, rows, 1, minus)
		ps.ScalarBackward(m, g, last, ps.ScalarHead(m, last))
		ps.BackwardBody(m, g)
		m.FoldGradient(nil, g)
	}
	if n := testing.AllocsPerRun(2, step); n > 1 {
		t.Errorf("%v allocations a step, want none", n)
	}
}
