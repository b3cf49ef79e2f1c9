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

// TestCachedPages: scores and values of a cache in pages of 16 and more tokens have the bits of one call, for heads
// with their own values and for heads that share them.
func TestCachedPages(t *testing.T) {
	under(t, func(t *testing.T) {
		r := rand.New(rand.NewPCG(47, 48))
		for _, width := range []int{16, 32, 48, 64, 80, 128, 144} {
			for heads := 1; heads < 10; heads++ {
				for _, page := range []int{16, 48} {
					checkPages(t, r, heads, width, 1+r.IntN(150), page, heads%2 == 0)
				}
			}
		}
	})
}

func checkPages(t *testing.T, r *rand.Rand, heads, width, n, page int, shared bool) {
	t.Helper()
	room := roundUp(n, page)
	q, k := values(r, width, true), values(r, room*width, false)
	v, vHead := values(r, heads*room*width, false), room*width
	if shared {
		vHead = 0
	}
	p, pHead := values(r, heads*room, true), room
	want := make([]float32, heads*width)
	for h := range heads {
		Product{M: 1, N: width, K: n, A: p[h*pHead:], B: v[h*vHead:], C: want[h*width:]}.Run(nil)
	}
	whole, scores := make([]float32, room), make([]float32, room)
	AttentionScores(whole, q, k, n, nil)
	got, guards := guarded(values(r, heads*width, false), n%4)
	values := WeightedValues
	for at := 0; at < n; at += page {
		count := min(page, n-at)
		AttentionScores(scores[at:], q, k[at*width:], count, nil)
		values(got, p[at:], pHead, v[at*width:], vHead, heads, width, count, q)
		values = WeightedValuesAdd
	}
	if !guards() || !sameBits(got, want) {
		t.Fatalf("values of %d heads, %d wide, %d tokens in pages of %d, shared %t, differ",
			heads, width, n, page, shared)
	}
	if !sameBits(scores[:n], whole[:n]) {
		t.Fatalf("scores of %d keys in pages of %d differ", n, page)
	}
	before := append([]float32(nil), got...)
	if WeightedValuesAdd(got, p, pHead, v, vHead, heads, width, 0, nil); !sameBits(got, before) {
		t.Error("the values of no tokens change the sum")
	}
	if WeightedValues(got, p, pHead, v, vHead, heads, width, 0, nil); !sameBits(got, make([]float32, len(got))) {
		t.Error("the values of no tokens are not zero")
	}
}
