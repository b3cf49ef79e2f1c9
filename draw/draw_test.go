package draw

import (
	"math"
	"slices"
	"testing"
	"testing/quick"
)

// TestPhilox holds the vectors of the authors' Random123 (kat_vectors).
func TestPhilox(t *testing.T) {
	const f = 1<<64 - 1
	for _, c := range []struct {
		key           [2]uint64
		counter, want [4]uint64
	}{
		{[2]uint64{}, [4]uint64{},
			[4]uint64{0x16554d9eca36314c, 0xdb20fe9d672d0fdc, 0xd7e772cee186176b, 0x7e68b68aec7ba23b}},
		{[2]uint64{f, f}, [4]uint64{f, f, f, f},
			[4]uint64{0x87b092c3013fe90b, 0x438c3c67be8d0224, 0x9cc7d7c69cd777b6, 0xa09caebf594f0ba0}},
		{[2]uint64{0x452821e638d01377, 0xbe5466cf34e90c6c},
			[4]uint64{0x243f6a8885a308d3, 0x13198a2e03707344, 0xa4093822299f31d0, 0x082efa98ec4e6c89},
			[4]uint64{0xa528f45403e61d95, 0x38c72dbd566e9788, 0xa5a1610e72fd18b5, 0x57bd43b5e52b7fe6}},
	} {
		if got := philox(c.key, c.counter); got != c.want {
			t.Errorf("philox(%x, %x) = %x, want %x", c.key, c.counter, got, c.want)
		}
	}
}

// TestGolden pins the numbers: a change of them changes every model.
func TestGolden(t *testing.T) {
	s := New(7, "ppo", "sample")
	for _, c := range []struct {
		index []uint64
		want  uint64
	}{
		{nil, 0x36e39402fabd468a},
		{[]uint64{0}, 0xcb46c3b92e483937},
		{[]uint64{1}, 0x32149aa7f3f9287e},
		{[]uint64{1, 0}, 0xffe33a06d057c8f4},
		{[]uint64{1, 2, 3}, 0x68ff1436bd8edcce},
		{[]uint64{1, 2, 3, 4}, 0x2a06f418f2f2ac21},
	} {
		if got := s.At(c.index...).Uint64(); got != c.want {
			t.Errorf("At(%v).Uint64() = %#x, want %#x", c.index, got, c.want)
		}
	}
	st := s.At(9)
	got := []float64{st.Float64(), uniform32(st), float64(st.IntN(1000)), st.Normal(), st.Gumbel(), exponential(st)}
	want := []float64{0.47589176355645213, 0.5470775961875916, 823,
		0.2373351629296948, -0.19682107326231385, 0.24324036148025927}
	if !slices.Equal(got, want) {
		t.Errorf("the stream at 9 gives %v, want %v", got, want)
	}
	if got := s.At(9).Perm(8); !slices.Equal(got, []int{2, 1, 5, 0, 6, 4, 7, 3}) {
		t.Errorf("the permutation at 9 is %v", got)
	}
}

// TestAtIsPure: a stream depends on seed, names and index alone.
func TestAtIsPure(t *testing.T) {
	f := func(seed uint64, a, b string, index []uint64) bool {
		x := New(seed, a, b).At(index...)
		New(seed, a, b).At(index...).Normal()
		y := New(seed, a, b).At(slices.Clone(index)...)
		for range 9 {
			if x.Uint64() != y.Uint64() {
				return false
			}
		}
		return true
	}
	if err := quick.Check(f, nil); err != nil {
		t.Error(err)
	}
}

// TestAtDistinct: neighbours in every sense have different streams.
func TestAtDistinct(t *testing.T) {
	seen := map[uint64]string{}
	put := func(what string, s *Stream) {
		v := s.Uint64()
		if old, ok := seen[v]; ok {
			t.Errorf("%s begins as %s does", what, old)
		}
		seen[v] = what
	}
	put("names a,bc", New(1, "a", "bc").At())
	put("names ab,c", New(1, "ab", "c").At())
	put("name abc", New(1, "abc").At())
	put("no name", New(1).At())
	put("an empty name", New(1, "").At())
	put("seed 2", New(2).At())
	index := []uint64{}
	for range 9 { // zeros of every length
		index = append(index, 0)
		put("zeros", New(1).At(index...))
	}
	for i := range 9 {
		for v := uint64(1); v < 50; v++ {
			x := make([]uint64, 9)
			x[i] = v
			put("one number set", New(1).At(x...))
		}
	}
}

// TestUniform: chi-square over 256 cells of the top and of the low bits, within
// and across streams; 255 degrees of freedom, five standard deviations.
func TestUniform(t *testing.T) {
	const n = 1 << 18
	src := New(3, "uniform")
	st := src.At(1)
	for name, next := range map[string]func(i int) uint64{
		"one stream":   func(int) uint64 { return st.Uint64() },
		"many streams": func(i int) uint64 { return src.At(uint64(i)).Uint64() },
		"last index":   func(i int) uint64 { return src.At(5, 6, 7, uint64(i)).Uint64() },
	} {
		var top, low [256]float64
		for i := range n {
			v := next(i)
			top[v>>56]++
			low[v&255]++
		}
		for _, cells := range [][256]float64{top, low} {
			chi := 0.0
			for _, c := range cells {
				chi += (c - n/256) * (c - n/256) / (n / 256)
			}
			if math.Abs(chi-255) > 5*math.Sqrt(2*255) {
				t.Errorf("%s: chi-square %.0f over 255 degrees of freedom", name, chi)
			}
		}
	}
}

func TestIntN(t *testing.T) {
	st := New(4).At()
	var count [7]int
	for range 70000 {
		count[st.IntN(7)]++
	}
	for i, c := range count {
		if c < 9500 || c > 10500 {
			t.Errorf("%d came %d times of 70000", i, c)
		}
	}
	if v := st.IntN(1); v != 0 {
		t.Errorf("IntN(1) = %d", v)
	}
	for range 100 {
		if v := st.IntN(math.MaxInt); v < 0 {
			t.Errorf("IntN gave %d", v)
		}
	}
}

// uniform32 and exponential are two more ways to use a stream's bits: a number
// in [0, 1) with the 24 bits of a float32, and one of the exponential
// distribution with mean 1, half of a Gumbel number.
func uniform32(s *Stream) float64   { return float64(s.Uint64()>>40) * 0x1p-24 }
func exponential(s *Stream) float64 { return -ln(s.openFloat64()) }

// TestMoments compares the first four moments, each with five times its
// standard error.
func TestMoments(t *testing.T) {
	const n = 400000
	const euler = 0.5772156649015329
	for _, c := range []struct {
		name                 string
		draw                 func(*Stream) float64
		mean, variance, skew float64
		kurtosis             float64
	}{
		{"Float64", (*Stream).Float64, 0.5, 1. / 12, 0, 1.8},
		{"Float32", uniform32, 0.5, 1. / 12, 0, 1.8},
		{"Normal", (*Stream).Normal, 0, 1, 0, 3},
		{"Exp", exponential, 1, 1, 2, 9},
		{"Gumbel", (*Stream).Gumbel, euler, math.Pi * math.Pi / 6, 1.1395, 5.4},
	} {
		st := New(5, c.name).At()
		x := make([]float64, n)
		mean := 0.0
		for i := range x {
			x[i] = c.draw(st)
			mean += x[i] / n
		}
		var m2, m3, m4 float64
		for _, v := range x {
			d := v - mean
			m2 += d * d / n
			m3 += d * d * d / n
			m4 += d * d * d * d / n
		}
		got := []float64{mean, m2, m3 / math.Pow(m2, 1.5), m4 / (m2 * m2)}
		want := []float64{c.mean, c.variance, c.skew, c.kurtosis}
		for i, tol := range []float64{0.01, 0.02, 0.1, 0.8} {
			if math.Abs(got[i]-want[i]) > tol {
				t.Errorf("%s: moment %d is %.4f, want %.4f", c.name, i+1, got[i], want[i])
			}
		}
	}
}

// TestNormalTails compares the distribution function at a few points.
func TestNormalTails(t *testing.T) {
	const n = 400000
	st := New(6).At()
	points := []float64{-3, -2, -1, 0, 1, 2, 3}
	below := make([]float64, len(points))
	for range n {
		v := st.Normal()
		for i, p := range points {
			if v < p {
				below[i]++
			}
		}
	}
	for i, p := range points {
		want := math.Erfc(-p/math.Sqrt2) / 2
		if math.Abs(below[i]/n-want) > 5*math.Sqrt(want*(1-want)/n) {
			t.Errorf("share below %g is %.5f, want %.5f", p, below[i]/n, want)
		}
	}
}

func TestLn(t *testing.T) {
	st := New(8).At()
	for range 200000 {
		x := st.openFloat64()
		if st.Bool(0.5) {
			x = math.Ldexp(x, st.IntN(2000)-1000)
		}
		want := math.Log(x)
		if math.Abs(ln(x)-want) > 1e-15*math.Max(math.Abs(want), 1e-300)+1e-17 {
			t.Fatalf("ln(%g) = %g, want %g", x, ln(x), want)
		}
	}
	if ln(1) != 0 {
		t.Errorf("ln(1) = %g", ln(1))
	}
}

func TestOpenInterval(t *testing.T) {
	if v := float64(uint64(math.MaxUint64)>>12<<1|1) * 0x1p-53; v >= 1 {
		t.Errorf("the largest is %g", v)
	}
	if v := -ln(-ln(0x1p-53)); math.IsInf(v, 0) {
		t.Errorf("the smallest Gumbel is %g", v)
	}
}

func TestWeighted(t *testing.T) {
	st := New(9).At()
	weights := []float64{0, 1, 0, 3, 6, 0}
	count := make([]float64, len(weights))
	const n = 100000
	for range n {
		count[st.Weighted(weights)]++
	}
	for i, w := range weights {
		if math.Abs(count[i]/n-w/10) > 0.01 || w == 0 && count[i] > 0 {
			t.Errorf("index %d of weight %g came %g times", i, w, count[i])
		}
	}
	for _, bad := range [][]float64{nil, {0, 0}, {1, -1}, {math.NaN()}, {math.Inf(1)}} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("weights %v did not panic", bad)
				}
			}()
			st.Weighted(bad)
		}()
	}
}

// TestPerm: every order of four is as likely as every other.
func TestPerm(t *testing.T) {
	src := New(10)
	count := map[[4]int]int{}
	for i := range uint64(24000) {
		count[[4]int(src.At(i).Perm(4))]++
	}
	if len(count) != 24 {
		t.Errorf("%d orders of 24", len(count))
	}
	for p, c := range count {
		if c < 840 || c > 1160 {
			t.Errorf("order %v came %d times, want about 1000", p, c)
		}
	}
	x := []string{"a", "b", "c"}
	if v := Pick(src.At(1), x); !slices.Contains(x, v) {
		t.Errorf("picked %q", v)
	}
}

func TestAllocates(t *testing.T) {
	src := New(11)
	var sum uint64
	if n := testing.AllocsPerRun(100, func() { sum += src.At(1, 2, 3, 4).Uint64() }); n != 0 {
		t.Errorf("a draw allocates %g times", n)
	}
}

func BenchmarkAtUint64(b *testing.B) {
	src := New(1)
	var sum uint64
	for i := range b.N {
		sum += src.At(uint64(i), 1).Uint64()
	}
	_ = sum
}
