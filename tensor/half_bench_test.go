package tensor

import (
	"fmt"
	"math/rand/v2"
	"testing"
)

// decodeShapes are (k, n) of weights stored (n, k): those of SmolLM2-135M, and one of a model of 1 B parameters.
var decodeShapes = [][2]int{{576, 960}, {576, 3072}, {1536, 576}, {576, 49152}, {2048, 8192}}

// coldBytes is how much weight memory a benchmark passes through before it meets the same weight again: far more than
// the caches hold, as in a model.
const coldBytes = 512 << 20

// BenchmarkDecode measures products of few and of many rows with weights that come from memory, in gigabytes of
// weights a second and in GFLOP/s:
//
//	float32, half      weights as stored (n, k)
//	packed, packedhalf the same, packed in advance
func BenchmarkDecode(b *testing.B) {
	pool := NewPool(2)
	defer pool.Close()
	for _, name := range Implementations()[1:] {
		for _, s := range decodeShapes {
			for _, form := range []string{"float32", "packed", "half", "packedhalf"} {
				w := newDecodeWeights(form, s[0], s[1])
				for _, m := range []int{1, 2, 4, 8, 16, 32, 64, 128, 512} {
					for workers, p := range []*Pool{nil, pool} {
						b.Run(fmt.Sprintf("%s/%dx%d/%s/rows=%d/workers=%d", name, s[0], s[1], form, m, workers+1),
							func(b *testing.B) {
								defer use(b, name)()
								w.measure(b, p, m)
							})
					}
				}
			}
		}
	}
}

// decodeWeights are copies of one weight.
type decodeWeights struct {
	form   string
	k, n   int
	copies int
	float  []float32
	half   []uint16
	packed []PackedB
}

func newDecodeWeights(form string, k, n int) *decodeWeights {
	w := &decodeWeights{form: form, k: k, n: n}
	bytes := 4
	if form == "half" || form == "packedhalf" {
		bytes = 2
	}
	w.copies = max(2, coldBytes/(k*n*bytes))
	r := rand.New(rand.NewPCG(1, 1))
	one := values(r, k*n, false)
	half := make([]uint16, k*n)
	RoundBFloat16(half, one)
	switch form {
	case "float32":
		w.float = Slab(w.copies * k * n)
		for i := range w.copies {
			copy(w.float[i*k*n:], one)
		}
	case "half":
		w.half = make([]uint16, w.copies*k*n)
		for i := range w.copies {
			copy(w.half[i*k*n:], half)
		}
	default:
		w.packed = make([]PackedB, w.copies)
		for i := range w.packed {
			p := &w.packed[i]
			if form == "packed" {
				p.Reset(V1, k, n)
			} else {
				p.ResetHalf(k, n)
			}
			for task := range p.Tasks() {
				if form == "packed" {
					p.Pack(task, one, true)
				} else {
					p.PackHalf(task, half, true)
				}
			}
		}
	}
	return w
}

func (w *decodeWeights) measure(b *testing.B, pool *Pool, m int) {
	r := rand.New(rand.NewPCG(1, 2))
	x, y := values(r, m*w.k, false), make([]float32, m*w.n)
	size, i := w.k*w.n, 0
	for b.Loop() {
		p := Product{M: m, N: w.n, K: w.k, A: x, TransB: true, C: y}
		switch w.form {
		case "float32":
			p.B = w.float[i*size : (i+1)*size]
		case "half":
			p.BHalf = w.half[i*size : (i+1)*size]
		default:
			p.TransB = false
			p.Packed = &w.packed[i]
		}
		p.Run(pool)
		if i++; i == w.copies {
			i = 0
		}
	}
	bytes := 4.0
	if w.form == "half" || w.form == "packedhalf" {
		bytes = 2
	}
	seconds := b.Elapsed().Seconds() / float64(b.N)
	b.ReportMetric(bytes*float64(size)/seconds/1e9, "GB/s")
	b.ReportMetric(2*float64(m)*float64(size)/seconds/1e9, "GFLOP/s")
}
