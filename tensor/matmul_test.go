package tensor

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
)

// form is one of the products of BLAS's gemm, under one contract.
type form struct {
	name           string
	numerics       Numerics
	transA, transB bool
}

var forms = []form{{name: "MatMul"}, {name: "MatMulNT", transB: true}, {name: "MatMulTN", transA: true}}

// bf16Forms are the products under V1BF16.
var bf16Forms = []form{
	{name: "MatMul", numerics: V1BF16},
	{name: "MatMulNT", numerics: V1BF16, transB: true},
	{name: "MatMulTN", numerics: V1BF16, transA: true},
}

// a and b are the sizes under which A and B are stored.
func (f form) a(m, _, k int) (rows, cols int) { return transposed(f.transA, m, k) }
func (f form) b(_, n, k int) (rows, cols int) { return transposed(f.transB, k, n) }

// run computes the form's product, added to C or not.
func (f form) run(p *Pool, c []float32, ldc int, a []float32, lda int, b []float32, ldb int, m, n, k int, add bool) {
	Product{
		Numerics: f.numerics, M: m, N: n, K: k, Accumulate: add,
		A: a, LDA: lda, TransA: f.transA, B: b, LDB: ldb, TransB: f.transB, C: c, LDC: ldc,
	}.Run(p)
}

// TestMatMul compares every implementation with the definition at every m and n
// round the sizes of tiles, and k round the unrolled and the blocked, under
// either contract.
func TestMatMul(t *testing.T) {
	sizes := []int{1, 2, 3, 4, 5, 6, 7, 8, 9, 11, 12, 13, 16, 17, 25, 31, 32, 33, 48, 64, 65, 70, 97, 100, 130}
	ks := []int{0, 1, 2, 3, 4, 5, 7, 8, 16, 19}
	r := rand.New(rand.NewPCG(3, 4))
	for _, forms := range [][]form{forms, bf16Forms} {
		for i, m := range sizes {
			for j, n := range sizes {
				if referenceInShort() && (i+j)%5 != 0 {
					continue
				}
				forms[(i+j)%3].check(t, r, []*Pool{nil}, m, n, ks[(i*7+j*3)%len(ks)])
			}
		}
		for _, s := range append(packedSizes, [][3]int{{1, 130, 300}, {3, 50, 513}, {13, 33, 257},
			{70, 40, 300}, {600, 33, 20}, {26, 200, 197}, {301, 130, 195}}...) {
			for _, f := range forms {
				if referenceInShort() && s[0]*s[1]*s[2] > 1e6 {
					continue
				}
				f.check(t, r, []*Pool{nil}, s[0], s[1], s[2])
			}
		}
	}
}

// TestMatMulWorkers: the number of workers changes no bit. The sizes make
// tasks enough for all of them, but for the last, which makes two.
func TestMatMulWorkers(t *testing.T) {
	var pools []*Pool
	for workers := 1; workers <= 7; workers++ {
		p := NewPool(workers)
		defer p.Close()
		pools = append(pools, p)
	}
	r := rand.New(rand.NewPCG(5, 6))
	sizes := [][3]int{{200, 450, 21}, {701, 70, 39}, {1, 3000, 620}, {1000, 7, 80}}
	if referenceInShort() {
		sizes = sizes[:1]
	}
	for _, s := range sizes {
		for _, f := range slices.Concat(forms, bf16Forms) {
			f.check(t, r, pools, s[0], s[1], s[2])
		}
	}
}

// referenceInShort says that a part will do: nothing is compared with the
// reference, and that may be in an emulator.
func referenceInShort() bool { return testing.Short() && len(Implementations()) == 1 }

// poolsFor leaves out most pools where products are slow, since the reference
// is below what spreads the work.
func poolsFor(name string, pools []*Pool) []*Pool {
	if name == "portable" && len(pools) > 2 {
		return []*Pool{pools[2], pools[len(pools)-1]}
	}
	return pools
}

// everyKernels calls f under every implementation, and for products of pairs
// under their emulation where the processor has them.
func everyKernels(t *testing.T, numerics Numerics, f func(name string)) {
	t.Helper()
	for _, name := range Implementations() {
		restore := use(t, name)
		f(name)
		restore()
	}
	if numerics == V1BF16 && hasBF16 {
		hasBF16 = false
		defer func() { hasBF16 = true }()
		defer use(t, "avx512")()
		f("avx512 emulated")
	}
}

// check compares one product, set and added, with the definition, computed
// value by value, in matrices with odd row distances inside guard words, by
// every implementation and pool.
func (f form) check(t *testing.T, r *rand.Rand, pools []*Pool, m, n, k int) {
	t.Helper()
	ar, ac := f.a(m, n, k)
	br, bc := f.b(m, n, k)
	lda, ldb, ldc := ac+r.IntN(4), bc+r.IntN(4), n+r.IntN(4)
	specials := f.numerics == V1BF16 && m < 20
	a, b, old := values(r, ar*lda, specials), values(r, br*ldb, false), values(r, m*ldc, specials)
	for _, add := range []bool{false, true} {
		want := append([]float32(nil), old...)
		f.define(want, ldc, a, lda, b, ldb, m, n, k, add)
		everyKernels(t, f.numerics, func(name string) {
			for _, p := range poolsFor(name, pools) {
				c, guards := guarded(old, r.IntN(4))
				f.run(p, c, ldc, a, lda, b, ldb, m, n, k, add)
				if !guards() {
					t.Fatalf("%s %s (%d,%d,%d): wrote beyond C", name, f.name, m, n, k)
				}
				if !sameBits(c, want) {
					t.Fatalf("%s %s (%d,%d,%d) add=%v, %d workers, differs from the definition",
						name, f.name, m, n, k, add, p.Workers())
				}
			}
		})
	}
}

// define is the contract's formula.
func (f form) define(c []float32, ldc int, a []float32, lda int, b []float32, ldb int, m, n, k int, add bool) {
	define(f.numerics, c, ldc, m, n, k, add, func(i, l int) float32 {
		if f.transA {
			return a[l*lda+i]
		}
		return a[i*lda+l]
	}, func(l, j int) float32 {
		if f.transB {
			return b[j*ldb+l]
		}
		return b[l*ldb+j]
	})
}

// TestMatMulBlocks: a product in pieces over k is the product.
func TestMatMulBlocks(t *testing.T) {
	const m, n, k = 20, 50, 90
	r := rand.New(rand.NewPCG(7, 8))
	a, b := values(r, m*k, false), values(r, k*n, false)
	under(t, func(t *testing.T) {
		whole, pieces := make([]float32, m*n), make([]float32, m*n)
		Product{M: m, N: n, K: k, A: a, B: b, C: whole}.Run(nil)
		for l := 0; l < k; {
			next := min(k, l+1+r.IntN(20))
			Product{M: m, N: n, K: next - l, A: a[l:], LDA: k, B: b[l*n:], C: pieces, Accumulate: l > 0}.Run(nil)
			l = next
		}
		if !sameBits(whole, pieces) {
			t.Error("blocks over k change the product")
		}
	})
}

// TestMatMulNeutral: rows of zeros at the end of k change nothing.
func TestMatMulNeutral(t *testing.T) {
	const m, n, k, more = 5, 40, 30, 7
	r := rand.New(rand.NewPCG(9, 10))
	a, b := values(r, m*(k+more), false), values(r, (k+more)*n, false)
	for i := range m {
		clear(a[i*(k+more)+k : (i+1)*(k+more)])
	}
	under(t, func(t *testing.T) {
		short, long := make([]float32, m*n), make([]float32, m*n)
		Product{M: m, N: n, K: k, A: a, LDA: k + more, B: b, C: short}.Run(nil)
		Product{M: m, N: n, K: k + more, A: a, B: b, C: long}.Run(nil)
		if !sameBits(short, long) {
			t.Error("zeros change the product")
		}
	})
}

func TestMatMulPanics(t *testing.T) {
	x := make([]float32, 10)
	for name, f := range map[string]func(){
		"negative": func() { Product{M: -1, N: 1, K: 1, A: x, B: x, C: x}.Run(nil) },
		"short C":  func() { Product{M: 3, N: 4, K: 1, A: x, B: x, C: x}.Run(nil) },
		"distance": func() { Product{M: 2, N: 2, K: 2, A: x, B: x, LDB: 1, TransB: true, C: x}.Run(nil) },
		"init":     func() { Product{M: 3, N: 4, K: 1, A: x, B: x, C: make([]float32, 12), Init: x}.Run(nil) },
		"bias":     func() { Product{M: 1, N: 4, K: 1, A: x, B: x, C: x, Bias: x[:3]}.Run(nil) },
		"both":     func() { Product{M: 1, N: 1, K: 1, A: x, B: x, C: x, Init: x, Accumulate: true}.Run(nil) },
		"packed":   func() { Product{M: 1, A: x, TransA: true, Packed: new(PackedB), C: x}.Run(nil) },
	} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%s: no panic", name)
				}
			}()
			f()
		}()
	}
}

func TestMatMulAllocates(t *testing.T) {
	p := NewPool(2)
	defer p.Close()
	x := make([]float32, 256*256)
	under(t, func(t *testing.T) {
		if Implementation() == "portable" {
			t.Skip("slow")
		}
		for _, f := range forms {
			for _, m := range []int{3, 200} {
				run := func() { f.run(p, x[:m*200], 200, make256[:], 200, x, 200, m, 200, 200, true) }
				run()
				if n := testing.AllocsPerRun(20, run); n >= 1 {
					t.Errorf("%s with %d rows allocates %.1f times", f.name, m, n)
				}
			}
		}
	})
}

var make256 [256 * 256]float32

// TestMatMulExact: whole numbers multiply exactly.
func TestMatMulExact(t *testing.T) {
	under(t, func(t *testing.T) {
		const n = 37
		a := make([]float32, n*n)
		for i := range a {
			a[i] = float32(i%11 - 5)
		}
		c := make([]float32, n*n)
		Product{M: n, N: n, K: n, A: a, B: a, TransB: true, C: c}.Run(nil)
		for i := range n {
			for j := range n {
				s := 0.0
				for l := range n {
					s += float64(a[i*n+l]) * float64(a[j*n+l])
				}
				if math.Abs(s-float64(c[i*n+j])) > 0 {
					t.Fatalf("(%d,%d) is %g, want %g", i, j, c[i*n+j], s)
				}
			}
		}
	})
}

// BenchmarkMatMul measures one core (and with a pool two) in GFLOP/s.
func BenchmarkMatMul(b *testing.B) {
	for _, s := range []struct {
		form    int
		m, n, k int
	}{
		{0, 512, 512, 512}, {0, 4096, 384, 128}, {0, 4096, 128, 512}, {1, 4096, 512, 128}, {2, 128, 512, 4096},
		{2, 128, 384, 4096},
		{1, 512, 512, 512}, {2, 512, 512, 512}, {1, 512, 4096, 128},
		{1, 32, 128, 32}, {0, 32, 32, 128}, {2, 128, 32, 32},
		{0, 1, 384, 128}, {0, 8, 512, 128}, {0, 16, 512, 128}, {0, 16, 128, 512}, {1, 1, 4096, 128}, {1, 8, 4096, 128},
		{1, 16, 4096, 128},
	} {
		f := forms[s.form]
		for _, name := range Implementations()[1:] {
			b.Run(fmt.Sprintf("%s/%dx%dx%d/%s", f.name, s.m, s.n, s.k, name), func(b *testing.B) {
				defer use(b, name)()
				r := rand.New(rand.NewPCG(1, 1))
				x, y := values(r, s.m*s.k, false), values(r, s.k*s.n, false)
				c := make([]float32, s.m*s.n)
				_, lda := f.a(s.m, s.n, s.k)
				_, ldb := f.b(s.m, s.n, s.k)
				for b.Loop() {
					f.run(nil, c, s.n, x, lda, y, ldb, s.m, s.n, s.k, false)
				}
				b.ReportMetric(2*float64(s.m)*float64(s.n)*float64(s.k)*float64(b.N)/b.Elapsed().Seconds()/1e9,
					"GFLOP/s")
			})
		}
	}
}
