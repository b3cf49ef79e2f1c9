package bench

import (
	"fmt"
	"testing"
	"time"

	"github.com/trimtab/trimtab/draw"
	"github.com/trimtab/trimtab/model"
	"github.com/trimtab/trimtab/optim"
	"github.com/trimtab/trimtab/tensor"
)

// shape is a model and the work it is measured at.
type shape struct {
	name             string
	config           model.Config
	batch, row       int // training: sequences and their length
	samples          int // generation
	prompt, response int

	episodes, ppoPrompt, ppoResponse int // one PPO iteration
}

var shapes = []shape{
	{"0.9M", model.Config{Layers: 4, Width: 128, Heads: 4, Context: 128, Vocab: 1024}, 32, 128, 64, 32, 64, 128, 16, 32},
	{"13.9M", model.Config{Layers: 6, Width: 384, Heads: 6, Context: 256, Vocab: 8192}, 8, 256, 64, 64, 64, 64, 64, 64},
}

// starterRows is training as the default run does it.
var starterRows = shape{name: "0.9M-16x64", config: shapes[0].config, batch: 16, row: 64}

// flops is the floating-point work of one training step: 6 a parameter and
// token but for position embeddings, and 12·L·C·T a token for attention.
func (s shape) flops() float64 {
	c, tokens := s.config, float64(s.batch*s.row)
	body := 6 * float64(c.Parameters()-c.Context*c.Width)
	return tokens * (body + 12*float64(c.Layers*c.Width*s.row))
}

func (s shape) model() *model.Model {
	m := model.New(s.config, false)
	m.Init(draw.New(1, "bench"))
	return m
}

func (s shape) sequences(n, length int) [][]int32 {
	seqs := make([][]int32, n)
	for i := range seqs {
		d := draw.New(1, "bench", "tokens").At(uint64(i))
		seqs[i] = make([]int32, length)
		for t := range seqs[i] {
			seqs[i][t] = int32(d.IntN(s.config.Vocab))
		}
	}
	return seqs
}

// trainer returns one training step: forward, cross-entropy at every position,
// backward, clipping and AdamW.
func (s shape) trainer(pool *tensor.Pool) func(step int) (loss float64) {
	m := s.model()
	a := optim.New(optim.Default(), len(m.Slab), m.Decay())
	a.Pool = pool
	ps, g, b := model.NewPass(pool), m.Gradient(), model.NewBatch(s.sequences(s.batch, s.row)...)
	rows := make([]model.HeadRow, b.Rows())
	for r := range rows {
		rows[r] = model.HeadRow{Row: r, Target: b.Tokens[(r+1)%len(b.Tokens)]}
	}
	return func(step int) (loss float64) {
		pool.Clear(g)
		ps.Forward(m, b)
		ps.LMHead(m, g, rows, 1, func(_ int, logp, _ float32) float32 {
			loss -= float64(logp)
			return -1 / float32(len(rows))
		})
		ps.BackwardBody(m, g)
		a.Step(m.Slab, m.Fold(g), step, 1000)
		return loss / float64(len(rows))
	}
}

// generator returns one sampling of every prompt to the full length.
func (s shape) generator(pool *tensor.Pool) func(run int) (tokens int) {
	m, ps, prompts := s.model(), model.NewPass(pool), s.sequences(s.samples, s.prompt)
	o := model.SampleOptions{Temperature: 1, MaxNew: s.response}
	return func(run int) (tokens int) {
		for _, sample := range model.Generate(ps, m, prompts, o, draw.New(uint64(run), "bench"), 0) {
			tokens += len(sample.Tokens)
		}
		return tokens
	}
}

func BenchmarkTrain(b *testing.B) {
	for _, s := range append(shapes, starterRows) {
		b.Run(s.name, func(b *testing.B) {
			pool := tensor.NewPool(0)
			defer pool.Close()
			step := s.trainer(pool)
			step(0)
			b.ReportAllocs()
			b.ResetTimer()
			for i := range b.N {
				step(i + 1)
			}
			seconds := b.Elapsed().Seconds() / float64(b.N)
			b.ReportMetric(float64(s.batch*s.row)/seconds, "tokens/s")
			b.ReportMetric(s.flops()/seconds/1e9, "GFLOP/s")
		})
	}
}

func BenchmarkGenerate(b *testing.B) {
	for _, s := range shapes {
		b.Run(s.name, func(b *testing.B) {
			pool := tensor.NewPool(0)
			defer pool.Close()
			run, tokens := s.generator(pool), 0
			run(0)
			b.ResetTimer()
			for i := range b.N {
				tokens += run(i + 1)
			}
			b.ReportMetric(float64(tokens)/b.Elapsed().Seconds(), "tokens/s")
		})
	}
}

// BenchmarkMatMul is products of the models' own shapes.
func BenchmarkMatMul(b *testing.B) {
	pool := tensor.NewPool(0)
	defer pool.Close()
	for _, n := range [][3]int{{4096, 384, 128}, {4096, 512, 128}, {2048, 1536, 384}, {512, 768, 768}} {
		b.Run(fmt.Sprintf("%dx%dx%d", n[0], n[1], n[2]), func(b *testing.B) {
			seconds := productSeconds(pool, n[0], n[1], n[2], b.N)
			b.ReportMetric(2*float64(n[0]*n[1]*n[2])/seconds/1e9, "GFLOP/s")
		})
	}
}

// BenchmarkShareOfPeak is one core's product of 512 x 768 x 768 beside fused
// multiply-adds from register to register.
func BenchmarkShareOfPeak(b *testing.B) {
	for range b.N {
		share, peak := shareOfPeak()
		b.ReportMetric(peak, "peak-GFLOP/s")
		b.ReportMetric(100*share, "%-of-peak")
	}
}

// shareOfPeak is the best of many of each, in turns, so that both see the same
// machine.
func shareOfPeak() (share, peak float64) {
	const m, n, k = 512, 768, 768
	x, y, z := make([]float32, m*k), make([]float32, k*n), make([]float32, m*n)
	product := 0.
	for range 100 {
		start := time.Now()
		operations := tensor.Peak(400_000)
		peak = max(peak, operations/time.Since(start).Seconds())
		start = time.Now()
		tensor.MatMul(nil, z, n, x, k, y, n, m, n, k, false)
		product = max(product, 2*m*n*k/time.Since(start).Seconds())
	}
	return product / peak, peak / 1e9
}

func productSeconds(pool *tensor.Pool, m, n, k, times int) float64 {
	x, y, z := make([]float32, m*k), make([]float32, k*n), make([]float32, m*n)
	tensor.MatMul(pool, z, n, x, k, y, n, m, n, k, false)
	start := time.Now()
	for range times {
		tensor.MatMul(pool, z, n, x, k, y, n, m, n, k, false)
	}
	return time.Since(start).Seconds() / float64(times)
}
