package tensor

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"
)

// halves returns n bfloat16: most of normal numbers, some special if asked for.
func halves(r *rand.Rand, n int, specials bool) []uint16 {
	x := make([]uint16, n)
	RoundBFloat16(x, values(r, n, specials))
	if specials {
		for i := range x {
			if r.IntN(16) == 0 {
				x[i] = uint16(r.IntN(2)<<15 | r.IntN(128)) // zeros and subnormals
			}
		}
	}
	return x
}

// guardedHalves is guarded for bfloat16: what lies around them is NaN, which would show in every chain that read it.
func guardedHalves(values []uint16, off int) []uint16 {
	all := make([]uint16, len(values)+64+off)
	for i := range all {
		all[i] = 0x7fc1
	}
	x := all[32+off : 32+off+len(values) : 32+off+len(values)]
	copy(x, values)
	return x
}

// start says what the chains of a product begin with.
type start int

const (
	fromZero start = iota
	fromC
	fromBias
	fromInit
	fromInitAndBias
	starts
)

// halfCase is a product with a B of bfloat16.
type halfCase struct {
	m, n, k        int
	transA, transB bool
	specials       bool
	start          start
}

// halfProduct holds a case's operands.
type halfProduct struct {
	halfCase
	lda, ldb, ldc, ldi int
	a, old, init, bias []float32
	b                  []uint16
}

func (h halfCase) operands(r *rand.Rand) halfProduct {
	p := halfProduct{halfCase: h}
	ar, ac := transposed(h.transA, h.m, h.k)
	br, bc := transposed(h.transB, h.k, h.n)
	p.lda, p.ldb, p.ldc, p.ldi = ac+r.IntN(4), bc+r.IntN(4), h.n+r.IntN(4), h.n+r.IntN(4)
	p.a, p.old = values(r, ar*p.lda, h.specials), values(r, h.m*p.ldc, h.specials)
	p.init, p.bias = values(r, h.m*p.ldi, h.specials), values(r, h.n, h.specials)
	p.b = guardedHalves(halves(r, br*p.ldb, h.specials), r.IntN(4))
	return p
}

// product describes the product without its B.
func (p *halfProduct) product(c []float32) Product {
	g := Product{M: p.m, N: p.n, K: p.k, A: p.a, LDA: p.lda, TransA: p.transA, C: c, LDC: p.ldc}
	switch p.start {
	case fromC:
		g.Accumulate = true
	case fromBias:
		g.Bias = p.bias
	case fromInit:
		g.Init, g.LDInit = p.init, p.ldi
	case fromInitAndBias:
		g.Init, g.LDInit, g.Bias = p.init, p.ldi, p.bias
	}
	return g
}

// want is the product as the contract defines it: the portable product with the values of B as float32, each made
// from the bits.
func (p *halfProduct) want(t *testing.T) []float32 {
	defer use(t, "portable")()
	c := slices.Clone(p.old)
	g := p.product(c)
	g.B, g.LDB, g.TransB = p.float(), p.ldb, p.transB
	g.Run(nil)
	return c
}

// float returns the values of B as float32, between NaN, which would show in every chain that read them.
func (p *halfProduct) float() []float32 {
	all := make([]float32, len(p.b)+64)
	for i := range all {
		all[i] = float32(math.NaN())
	}
	b := all[32 : 32+len(p.b) : 32+len(p.b)]
	for i, v := range p.b {
		b[i] = math.Float32frombits(uint32(v) * 0x10000)
	}
	return b
}

// packed packs B, which must have no gaps between its rows.
func (p *halfProduct) packed() *PackedB {
	rows, cols := transposed(p.transB, p.k, p.n)
	var whole []uint16
	for i := range rows {
		whole = append(whole, p.b[i*p.ldb:i*p.ldb+cols]...)
	}
	var packed PackedB
	packed.ResetHalf(p.k, p.n)
	whole = guardedHalves(whole, 1)
	for task := range packed.Tasks() {
		packed.PackHalf(task, whole, p.transB)
	}
	return &packed
}

// check compares the case under every implementation and pool with the definition, B as it is, packed, and as
// float32.
func (h halfCase) check(t *testing.T, r *rand.Rand, pools []*Pool) {
	t.Helper()
	p := h.operands(r)
	want := p.want(t)
	for _, name := range Implementations() {
		restore := use(t, name)
		for _, pool := range poolsFor(name, pools) {
			for _, form := range []string{"half", "packed", "float32"} {
				if form == "packed" && h.transA {
					continue
				}
				c, guards := guarded(p.old, r.IntN(4))
				g := p.product(c)
				switch g.LDB, g.TransB = p.ldb, p.transB; form {
				case "half":
					g.BHalf = p.b
				case "packed":
					g.Packed = p.packed()
				default:
					g.B = p.float()
				}
				g.Run(pool)
				if !guards() {
					t.Fatalf("%s %+v %s: wrote beyond C", name, h, form)
				}
				if i := firstDifference(c, want); i >= 0 {
					t.Fatalf("%s %+v %s, %d workers: (%d,%d) is %x, want %x", name, h, form, pool.Workers(),
						i/p.ldc, i%p.ldc, math.Float32bits(c[i]), math.Float32bits(want[i]))
				}
			}
		}
		restore()
	}
}

// TestHalf compares products with a B of bfloat16 with those of its float32 values, at sizes round those of tiles,
// registers and blocks.
func TestHalf(t *testing.T) {
	r := rand.New(rand.NewPCG(31, 32))
	ms := []int{1, 2, 3, 4, 5, 6, 7, 8, 9, 11, 12, 13, 16, 17, 25, 33, 64, 65}
	ns := []int{1, 7, 8, 15, 16, 17, 31, 32, 33, 48, 63, 64, 65, 96, 97, 130, 200}
	ks := []int{0, 1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 32, 33, 63, 64, 65, 66, 100, 129}
	for i, m := range ms {
		for j, n := range ns {
			if referenceInShort() && (i+j)%5 != 0 {
				continue
			}
			for s := range starts {
				h := halfCase{m: m, n: n, k: ks[(i*7+j*3+int(s)*5)%len(ks)], start: s, specials: (i+j)%2 == 0}
				h.transB = (i+j+int(s))%3 != 0
				h.transA = (i+2*j+int(s))%4 == 0
				h.check(t, r, []*Pool{nil})
			}
		}
	}
	if referenceInShort() {
		return
	}
	for i, s := range [][3]int{{1, 130, 1031}, {2, 70, 2100}, {3, 50, 513}, {4, 300, 777}, {13, 33, 1537}, {70, 40, 801},
		{200, 33, 900}, {600, 33, 21}, {350, 70, 770}, {1, 600, 576}, {16, 100, 385}, {5, 64, 768}, {8, 130, 600},
		{90, 40, 7000}, {6, 70, 1000}, {7, 64, 514}} {
		for _, transB := range []bool{false, true} {
			halfCase{m: s[0], n: s[1], k: s[2], transB: transB, transA: i%4 == 3, start: start(i) % starts}.
				check(t, r, []*Pool{nil})
		}
	}
}

// TestHalfWorkers: the number of workers changes no bit.
func TestHalfWorkers(t *testing.T) {
	var pools []*Pool
	for workers := 1; workers <= 4; workers++ {
		p := NewPool(workers)
		defer p.Close()
		pools = append(pools, p)
	}
	r := rand.New(rand.NewPCG(33, 34))
	sizes := [][3]int{{200, 450, 21}, {1, 3000, 621}, {8, 1300, 180}, {1000, 7, 81}}
	if referenceInShort() {
		sizes = sizes[:1]
	}
	for _, s := range sizes {
		for _, transB := range []bool{false, true} {
			halfCase{m: s[0], n: s[1], k: s[2], transB: transB, start: fromBias}.check(t, r, pools)
		}
	}
}

// TestHalfInfinities: what is padded, and what lies behind a row, meets no infinity of A.
func TestHalfInfinities(t *testing.T) {
	for _, k := range []int{1, 3, 31, 33, 65} {
		for _, n := range []int{1, 15, 33} {
			p := halfCase{m: 2, n: n, k: k, transB: true}.operands(rand.New(rand.NewPCG(35, uint64(k))))
			for i := range p.a {
				p.a[i] = infinity
			}
			for i := range p.b {
				p.b[i] = 0x3f80
			}
			under(t, func(t *testing.T) {
				for _, packed := range []bool{false, true} {
					c := slices.Clone(p.old)
					g := p.product(c)
					if packed {
						g.Packed = p.packed()
					} else {
						g.BHalf, g.LDB, g.TransB = p.b, p.ldb, true
					}
					g.Run(nil)
					for i := range 2 {
						for j := range n {
							if v := c[i*p.ldc+j]; v != infinity {
								t.Fatalf("k %d, n %d, packed=%v: (%d,%d) is %g", k, n, packed, i, j, v)
							}
						}
					}
				}
			})
		}
	}
}

// TestHalfConversions: every bfloat16 is widened exactly and comes back, and rounding is to the nearest, halves to
// even.
func TestHalfConversions(t *testing.T) {
	all := make([]uint16, 1<<16)
	for i := range all {
		all[i] = uint16(i)
	}
	under(t, func(t *testing.T) {
		wide, back := make([]float32, len(all)), make([]uint16, len(all))
		Widen(wide, all)
		RoundBFloat16(back, wide)
		for i, x := range wide {
			if x != x {
				if b := back[i]; b&0x7f80 != 0x7f80 || b&0x7f == 0 {
					t.Fatalf("NaN %04x comes back as %04x", i, b)
				}
				continue
			}
			if math.Float32bits(x) != uint32(i)<<16 || back[i] != uint16(i) {
				t.Fatalf("%04x is widened to %08x and comes back as %04x", i, math.Float32bits(x), back[i])
			}
		}
		for i := range 0x7f80 { // the numbers from 0 up; each with its successor
			low, high := uint32(i)<<16, uint32(i+1)<<16
			for _, x := range []struct{ bits, want uint32 }{
				{low + 1, low}, {low + 0x7fff, low}, {low + 0x8001, high}, {low + 0xffff, high},
				{low + 0x8000, low + uint32(i&1)<<16},
			} {
				for _, sign := range []uint32{0, 1 << 31} {
					var got [1]uint16
					RoundBFloat16(got[:], []float32{math.Float32frombits(x.bits | sign)})
					if want := uint16((x.want | sign) >> 16); got[0] != want {
						t.Fatalf("%08x is rounded to %04x, want %04x", x.bits|sign, got[0], want)
					}
				}
			}
		}
	})
}

// TestHalfSlices compares the conversions with the portable ones at every length to 130, inside guards.
func TestHalfSlices(t *testing.T) {
	r := rand.New(rand.NewPCG(37, 38))
	under(t, func(t *testing.T) {
		for n := range 131 {
			x, h := values(r, n, true), halves(r, n, true)
			for i := range x {
				if r.IntN(3) == 0 {
					x[i] = math.Float32frombits(r.Uint32())
				}
			}
			wantWide, wantHalf := make([]float32, n), make([]uint16, n)
			widenPortable(wantWide, h)
			roundBFloat16Portable(wantHalf, x)
			wide, check := guarded(make([]float32, n), n%5)
			Widen(wide, h)
			if !check() || !sameBits(wide, wantWide) {
				t.Fatalf("Widen of %d differs, or wrote beyond the end", n)
			}
			all := make([]uint16, n+64)
			for i := range all {
				all[i] = 0xabcd
			}
			RoundBFloat16(all[32:32+n:32+n], x)
			outside := append(slices.Clone(all[:32]), all[32+n:]...)
			if !slices.Equal(all[32:32+n], wantHalf) || slices.ContainsFunc(outside, func(v uint16) bool {
				return v != 0xabcd
			}) {
				t.Fatalf("RoundBFloat16 of %d differs, or wrote beyond the end", n)
			}
		}
	})
}

func TestHalfPanics(t *testing.T) {
	x, h := make([]float32, 4), make([]uint16, 4)
	var float, half PackedB
	float.Reset(V1, 2, 2)
	half.ResetHalf(2, 2)
	for name, f := range map[string]func(){
		"short":           func() { Product{M: 2, N: 2, K: 3, A: make([]float32, 6), BHalf: h, C: x}.Run(nil) },
		"both":            func() { Product{M: 2, N: 2, K: 2, A: x, B: x, BHalf: h, C: make([]float32, 4)}.Run(nil) },
		"contract":        func() { Product{Numerics: V1BF16, M: 2, N: 2, K: 2, A: x, BHalf: h, C: x}.Run(nil) },
		"packing":         func() { float.PackHalf(0, h, false) },
		"packing float32": func() { half.Pack(0, x, false) },
		"length":          func() { half.PackHalf(0, h[:3], false) },
		"widen":           func() { Widen(x, h[:3]) },
		"round":           func() { RoundBFloat16(h[:3], x) },
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
func TestHalfAllocates(t *testing.T) {
	p := NewPool(2)
	defer p.Close()
	const n = 256
	c, b := make([]float32, n*n), make([]uint16, n*n)
	var packed PackedB
	packed.ResetHalf(n, n)
	for task := range packed.Tasks() {
		packed.PackHalf(task, b, true)
	}
	under(t, func(t *testing.T) {
		if Implementation() == "portable" {
			t.Skip("slow")
		}
		for _, m := range []int{1, 3, 16, 200} {
			for name, run := range map[string]func(){
				"stored (N, K)": func() {
					Product{M: m, N: n, K: n, A: make256[:], BHalf: b, TransB: true, C: c}.Run(p)
				},
				"stored (K, N)": func() { Product{M: m, N: n, K: n, A: make256[:], BHalf: b, C: c}.Run(p) },
				"packed":        func() { Product{M: m, A: make256[:], Packed: &packed, C: c}.Run(p) },
			} {
				run()
				if n := testing.AllocsPerRun(20, run); n >= 1 {
					t.Errorf("%s with %d rows allocates %.1f times", name, m, n)
				}
			}
		}
	})
}
