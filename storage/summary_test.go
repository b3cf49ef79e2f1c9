package storage_test

import (
	"math"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/trimtab/trimtab"
	"github.com/trimtab/trimtab/label"
	"github.com/trimtab/trimtab/storage"
	"github.com/trimtab/trimtab/storage/storagetest"
)

// What is counted when a version is frozen is what the functions of label say of its items.
func TestSummary(t *testing.T) {
	t.Parallel()
	s, ctx := storagetest.New(t), t.Context()
	r := rand.New(rand.NewPCG(3, 4))
	pieces := []string{"a", "bb", "ccc", " ", "\t", "\n", "\u00a0", "\u2003", "\u3000", "\u0085", "\xff", "\x00",
		"\xe2\x80", "\xc2", "é", "\u200b", "\x7f", "\u1680", "\x1c"}
	text := func() []byte {
		var b strings.Builder
		for range r.IntN(6) {
			b.WriteString(pieces[r.IntN(len(pieces))])
		}
		return []byte(b.String())
	}
	var pool [][][]byte // responses that several people rank
	for range 12 {
		pool = append(pool, [][]byte{text(), text(), text()})
	}
	for range 4 {
		var items []trimtab.Item
		var rankings []trimtab.Ranking
		names, heldOut := map[string]bool{}, 0
		for range 150 {
			k := r.IntN(len(pool))
			one := trimtab.Ranking{Prompt: []string{"p", "q", "p "}[k%3],
				Labeller: []string{"", "ann", "Bob", "cid"}[r.IntN(4)],
				Split:    []string{"", "train", "test"}[r.IntN(3)]}
			for _, i := range r.Perm(3)[:2+r.IntN(2)] {
				one.Responses = append(one.Responses, trimtab.Response{Bytes: pool[k][i]})
				one.Ranks = append(one.Ranks, 1+r.IntN(3))
			}
			if one.Ranks = trimtab.DenseRanks(one.Ranks); one.Validate() != nil {
				continue
			}
			for range 1 + r.IntN(2) { // copies
				items, rankings = append(items, one), append(rankings, one)
				if one.Split == trimtab.SplitTest {
					heldOut++
				}
			}
			if one.Labeller != "" {
				names[one.Labeller] = true
			}
		}
		v, err := s.FreezeItems(ctx, "rankings", trimtab.KindRankings, items, "ann")
		must(t, err)
		got, known, err := s.Summary(ctx, v.Digest)
		must(t, err)
		pairs := label.Pairs(rankings)
		total, _ := label.Agreements(rankings)
		want := storage.VersionSummary{HeldOut: heldOut, Pairs: len(pairs),
			Longer:    int(math.Round(2 * label.LongerAccuracy(rankings, pairs) * float64(len(pairs)))),
			Labellers: len(names),
			Common:    total.Common, Agreed: total.Same}
		if !known || got.Common == 0 || got != want {
			t.Errorf("counted %+v (%v), want %+v", got, known, want)
		}
	}
	v, err := s.FreezeItems(ctx, "prompts", trimtab.KindPrompts, samples[trimtab.KindPrompts], "ann")
	must(t, err)
	if got, known, err := s.Summary(ctx, v.Digest); err != nil || !known ||
		got != (storage.VersionSummary{HeldOut: 1}) {
		t.Errorf("prompts: %+v, %v, %v", got, known, err)
	}
	if _, known, err := s.Summary(ctx, digest("none")); err != nil || known {
		t.Errorf("no version: %v, %v", known, err)
	}
}
