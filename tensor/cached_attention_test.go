package tensor

import (
	"math/rand/v2"
	"testing"
)

// TestCached compares attention over cached keys and values with the matrix
// products that it stands for, at many numbers of tokens round the sizes of
// blocks.
func TestCached(t *testing.T) {
	under(t, func(t *testing.T) {
		r := rand.New(rand.NewPCG(19, 20))
		for _, d := range []int{1, 3, 16, 17, 32, 48, 64, 80, 130} {
			for n := 1; n < 300; n += 1 + n/20 {
				checkCached(t, r, d, n)
			}
		}
	})
}

func checkCached(t *testing.T, r *rand.Rand, d, n int) {
	t.Helper()
	q, rows := values(r, d, true), values(r, n*d, false)
	blocks := make([]float32, roundUp(n, KeyBlock)*d)
	for i := range rows {
		token, c := i/d, i%d
		blocks[(token/KeyBlock*d+c)*KeyBlock+token%KeyBlock] = rows[i]
	}
	want := make([]float32, n)
	Product{M: 1, N: n, K: d, A: q, B: rows, TransB: true, C: want}.Run(nil)
	got, guards := guarded(make([]float32, roundUp(n, KeyBlock)), n%4)
	AttentionScores(got, q, blocks, n, nil)
	if !guards() || !sameBits(got[:n], want) {
		t.Fatalf("AttentionScores of %d keys of %d differ", n, d)
	}
	width, heads := roundUp(d, 16), 1+n%5
	vHead, pHead := n*width+16, n+3
	v, p := values(r, heads*vHead, false), values(r, heads*pHead, true)
	want = make([]float32, heads*width)
	for h := range heads {
		Product{M: 1, N: width, K: n, A: p[h*pHead:], B: v[h*vHead:], C: want[h*width:]}.Run(nil)
	}
	got, guards = guarded(make([]float32, heads*width), n%4)
	WeightedValues(got, p, pHead, v, vHead, heads, width, n, q)
	if !guards() || !sameBits(got, want) {
		t.Fatalf("WeightedValues of %d values of %d, %d heads, differs", n, d, heads)
	}
}
