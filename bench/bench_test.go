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

func BenchmarkTrain(b *testing.B)    { benchmark(b, WorkTrain) }
func BenchmarkScore(b *testing.B)    { benchmark(b, WorkScore) }
func BenchmarkGenerate(b *testing.B) { benchmark(b, WorkGenerate) }
func BenchmarkPPO(b *testing.B)      { benchmark(b, WorkPPO) }

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

// BenchmarkMatMul is products of the models' own shapes and of others at least
// as large as 512 x 768 x 768: on one core beside the peak, and on all beside one.
func BenchmarkMatMul(b *testing.B) {
	pool := tensor.NewPool(0)
	defer pool.Close()
	for _, n := range [][3]int{{4096, 384, 128}, {4096, 512, 128}, {2048, 1536, 384}, {512, 768, 768},
		{1024, 1024, 1024}, {2048, 768, 3072}} {
		b.Run(fmt.Sprintf("%dx%dx%d", n[0], n[1], n[2]), func(b *testing.B) {
			var peak, one, all float64
			for range b.N {
				peak = max(peak, peakRate())
				one = max(one, productRate(nil, n))
				all = max(all, productRate(pool, n))
			}
			b.ReportMetric(one/1e9, "GFLOP/s-of-one")
			b.ReportMetric(100*one/peak, "%-of-peak")
			b.ReportMetric(all/one, "x-of-all")
		})
	}
}

// productRate is the best rate of some products C = A·B.
func productRate(pool *tensor.Pool, n [3]int) (best float64) {
	x, y, z := tensor.Slab(n[0]*n[2]), tensor.Slab(n[2]*n[1]), tensor.Slab(n[0]*n[1])
	for range 10 {
		start := time.Now()
		tensor.Product{M: n[0], N: n[1], K: n[2], A: x, B: y, C: z}.Run(pool)
		best = max(best, 2*float64(n[0])*float64(n[1])*float64(n[2])/time.Since(start).Seconds())
	}
	return best
}

func peakRate() float64 {
	start := time.Now()
	operations := tensor.Peak(400_000)
	return operations / time.Since(start).Seconds()
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

// shareOfPeak is one core's product of 512 x 768 x 768 beside fused
// multiply-adds from register to register: the best of many of each, in turns,
// so that both see the same machine.
func shareOfPeak() (share, peak float64) {
	product := 0.
	for range 10 {
		peak = max(peak, peakRate())
		product = max(product, productRate(nil, [3]int{512, 768, 768}))
	}
	return product / peak, peak / 1e9
}
