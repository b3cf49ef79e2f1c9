package tensor

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

// form is one of the three products, under one contract.
type form struct {
	name     string
	numerics Numerics
	run      product3
	a, b     func(m, n, k int) (rows, cols int)
}

type product3 func(p *Pool, c []float32, ldc int, a []float32, lda int, b []float32, ldb int, m, n, k int, add bool)

func mk(m, _, k int) (int, int) { return m, k }
func km(m, _, k int) (int, int) { return k, m }
func kn(_, n, k int) (int, int) { return k, n }
func nk(_, n, k int) (int, int) { return n, k }

var forms = []form{{"MatMul", V1, MatMul, mk, kn}, {"MatMulNT", V1, MatMulNT, mk, nk},
	{"MatMulTN", V1, MatMulTN, km, kn}}

// pairForms are the products under V1BF16.
var pairForms = []form{{"MatMulUnder", V1BF16, ofPairs(MatMulUnder), mk, kn},
	{"MatMulNTUnder", V1BF16, ofPairs(MatMulNTUnder), mk, nk},
	{"MatMulTNUnder", V1BF16, ofPairs(MatMulTNUnder), km, kn}}

func ofPairs(f func(numerics Numerics, p *Pool, c []float32, ldc int, a []float32, lda int, b []float32, ldb int, m, n,
	k int, add bool)) product3 {
	return func(p *Pool, c []float32, ldc int, a []float32, lda int, b []float32, ldb int, m, n, k int, add bool) {
		f(V1BF16, p, c, ldc, a, lda, b, ldb, m, n, k, add)
	}
}

// TestMatMul compares every implementation with the definition at every m and n
// round the sizes of tiles, and k round the unrolled and the blocked, under
// either contract.
func TestMatMul(t *testing.T) {
	sizes := []int{1, 2, 3, 4, 5, 6, 7, 8, 9, 11, 12, 13, 16, 17, 25, 31, 32, 33, 48, 64, 65, 70, 97, 100, 130}
	ks := []int{0, 1, 2, 3, 4, 5, 7, 8, 16, 19}
	r := rand.New(rand.NewPCG(3, 4))
	for _, forms := range [][]form{forms, pairForms} {
		for i, m := range sizes {
			for j, n := range sizes {
				if referenceInShort() && (i+j)%5 != 0 {
					continue
				}
				forms[(i+j)%3].check(t, r, []*Pool{nil}, m, n, ks[(i*7+j*3)%len(ks)])
			}
		}
		for _, s := range append(panelSizes, [][3]int{{1, 130, 300}, {3, 50, 513}, {13, 33, 257}, {70, 40, 300},
			{600, 33, 20}, {26, 200, 197}, {301, 130, 195}}...) {
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
		for _, f := range slices.Concat(forms, pairForms) {
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
		if strings.Contains(f.name, "TN") {
			return a[l*lda+i]
		}
		return a[i*lda+l]
	}, func(l, j int) float32 {
		if strings.Contains(f.name, "NT") {
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
		MatMul(nil, whole, n, a, k, b, n, m, n, k, false)
		for l, next := 0, 0; l < k; l = next {
			next = min(k, l+1+r.IntN(20))
			MatMul(nil, pieces, n, a[l:], k, b[l*n:], n, m, n, next-l, l > 0)
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
		MatMul(nil, short, n, a, k+more, b, n, m, n, k, false)
		MatMul(nil, long, n, a, k+more, b, n, m, n, k+more, false)
		if !sameBits(short, long) {
			t.Error("zeros change the product")
		}
	})
}

func TestMatMulPanics(t *testing.T) {
	x := make([]float32, 10)
	for name, f := range map[string]func(){
		"negative": func() { MatMul(nil, x, 1, x, 1, x, 1, -1, 1, 1, false) },
		"short C":  func() { MatMul(nil, x, 4, x, 1, x, 4, 3, 4, 1, false) },
		"distance": func() { MatMulNT(nil, x, 2, x, 2, x, 1, 2, 2, 2, false) },
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
		MatMulNT(nil, c, n, a, n, a, n, n, n, n, false)
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
