package bench

import (
	"flag"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/trimtab/trimtab/tensor"
)

var (
	shapeNames = flag.String("shapes", strings.Join(Names(), ","), "the shapes to measure")
	numerics   = flag.String("numerics", string(tensor.V1), "the numeric contract our side computes under")
)

// chosen are the shapes of -shapes that have that kind of work.
func chosen(tb testing.TB, kind string) (shapes []Shape) {
	for name := range strings.SplitSeq(*shapeNames, ",") {
		s, ok := Find(name)
		if !ok {
			tb.Fatalf("-shapes: there is no shape %q, only %s", name, strings.Join(Names(), ", "))
		}
		if s.Has(kind) {
			shapes = append(shapes, s)
		}
	}
	return shapes
}

// ready is a workload under -numerics, skipped where it does not compute so.
func ready(tb testing.TB, kind string, s Shape, pool *tensor.Pool) *Workload {
	n := tensor.Numerics(*numerics)
	if !n.Valid() {
		tb.Fatalf("-numerics: there is no contract %q", n)
	}
	w, err := New(kind, s, pool, n)
	if err != nil {
		tb.Skip(err)
	}
	return w
}

func BenchmarkTrain(b *testing.B)    { benchmark(b, KindTrain) }
func BenchmarkScore(b *testing.B)    { benchmark(b, KindScore) }
func BenchmarkGenerate(b *testing.B) { benchmark(b, KindGenerate) }
func BenchmarkPPO(b *testing.B)      { benchmark(b, KindPPO) }

func benchmark(b *testing.B, kind string) {
	for _, s := range chosen(b, kind) {
		b.Run(s.Name, func(b *testing.B) {
			pool := tensor.NewPool(0)
			defer pool.Close()
			w, tokens := ready(b, kind, s, pool), 0
			run(b, w, 0)
			b.ReportAllocs()
			b.ResetTimer()
			for i := range b.N {
				tokens += run(b, w, i+1)
			}
			seconds := b.Elapsed().Seconds()
			b.ReportMetric(float64(tokens)/seconds, "tokens/s")
			b.ReportMetric(w.FLOPs*float64(b.N)/seconds/1e9, "GFLOP/s")
		})
	}
}

func run(tb testing.TB, w *Workload, number int) (tokens int) {
	tokens, err := w.Run(number)
	if err != nil {
		tb.Fatal(err)
	}
	return tokens
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

// BenchmarkPeak is fused multiply-adds from register to register.
func BenchmarkPeak(b *testing.B) {
	pool := tensor.NewPool(0)
	defer pool.Close()
	for range b.N {
		one, all := Peak(pool, tensor.Numerics(*numerics))
		b.ReportMetric(one/1e9, "GFLOP/s-of-one")
		b.ReportMetric(all/1e9, "GFLOP/s-of-all")
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
