package dataset

import (
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/trimtab/trimtab"
	"github.com/trimtab/trimtab/draw"
	"github.com/trimtab/trimtab/tokenizer"
)

// Of any items in any context, each is counted once, and what is counted as
// whole is read whole.
func TestFitCountsEverything(t *testing.T) {
	tok := bpe(t)
	r := rand.New(rand.NewPCG(1, 2))
	words := func(n int) string { return "A" + strings.Repeat(" Anna", r.IntN(n)) }
	split := func() string { return []string{"", trimtab.SplitTrain, trimtab.SplitTest}[r.IntN(3)] }
	for range 200 {
		var demos []trimtab.Demonstration
		var rankings []trimtab.Ranking
		var prompts []trimtab.Prompt
		train := map[string]int{}
		for range r.IntN(20) {
			demos = append(demos, trimtab.Demonstration{Prompt: words(20), Response: words(20), Split: split()})
			prompts = append(prompts, trimtab.Prompt{Text: words(20), Split: split()})
			rankings = append(rankings, trimtab.Ranking{Prompt: words(20), Ranks: []int{1, 2, 2}, Split: split(),
				Responses: []trimtab.Response{{Bytes: []byte(words(20))}, {Bytes: []byte(words(20))},
					{Bytes: []byte(words(20))}}})
		}
		for i := range demos {
			for what, s := range map[string]string{"demonstrations": demos[i].Split, "prompts": prompts[i].Split,
				"rankings": rankings[i].Split} {
				if s != trimtab.SplitTest {
					train[what]++
				}
			}
		}
		context := 1 + r.IntN(30)
		seqs, fit := FitDemonstrations(tok, demos, trimtab.SplitTrain, context)
		cut := 0
		for _, s := range seqs {
			if s.Tokens[len(s.Tokens)-1] != tok.EndOfText() {
				cut++
			}
		}
		if fit.Kept != len(seqs) || fit.Cut != cut || fit.Kept+fit.LeftOut != train["demonstrations"] {
			t.Fatalf("context %d: %+v; %d sequences, %d without an end, of %d", context, fit, len(seqs), cut,
				train["demonstrations"])
		}
		examples, kept, fit := FitRankings(tok, rankings, trimtab.SplitTrain, context)
		cut, equal := 0, 0
		for _, e := range examples {
			for i, s := range e {
				if s.Tokens[len(s.Tokens)-1] != tok.EndOfText() {
					cut++
				}
				if i > 0 && spell(tok, s.Tokens) == spell(tok, e[0].Tokens) {
					equal++
				}
			}
		}
		if fit.Kept != len(kept) || len(kept) != len(examples) || fit.Cut != cut || fit.Equal != equal ||
			fit.Kept+fit.LeftOut != train["rankings"] {
			t.Fatalf("context %d: %+v; %d rankings, %d cut, %d equal, of %d", context, fit, len(examples), cut, equal,
				train["rankings"])
		}
		ids, _, fit := FitPrompts(tok, prompts, trimtab.SplitTrain, context)
		if fit.Kept != len(ids) || fit.Kept+fit.LeftOut != train["prompts"] {
			t.Fatalf("at most %d tokens: %+v; %d prompts of %d", context, fit, len(ids), train["prompts"])
		}
		if _, _, held := FitPrompts(tok, prompts, trimtab.SplitTest, context); held.Items != "tests" ||
			held.Kept+held.LeftOut != len(prompts)-train["prompts"] {
			t.Fatalf("held out: %+v of %d", held, len(prompts)-train["prompts"])
		}
	}
}

// Of documents, those that no full row holds are counted, and those that go over several rows.
func TestFullRows(t *testing.T) {
	doc := func(n int) []int32 { return make([]int32, n) }
	for _, c := range []struct {
		docs           [][]int32
		rows           int
		kept, cut, out int
	}{
		{rows(doc(3), doc(2)), 1, 1, 0, 1},
		// the second begins in the first's row and is laid out again in the next, which is short
		{rows(doc(2), doc(2)), 1, 1, 0, 1},
		{rows(doc(3)), 1, 1, 0, 0},
		{rows(doc(2)), 0, 0, 0, 1},
		{rows(doc(7)), 2, 1, 1, 0}, // the seventh token is left off
		{rows(doc(3), doc(1), doc(1)), 1, 1, 0, 2},
		{nil, 0, 0, 0, 0},
	} {
		packed, fit := pack(c.docs, 3)
		full := 0
		for _, r := range packed {
			if len(r) == 3 {
				full++
			}
		}
		want := trimtab.Fit{Items: "text", Kept: c.kept, Cut: c.cut, LeftOut: c.out}
		if fit != want || full != c.rows {
			t.Errorf("%v: %+v in %d full rows, want %+v in %d", c.docs, fit, full, want, c.rows)
		}
	}
	tok := bpe(t)
	got, fit := FullRows(tok, []string{"", "Anna lives here.", "Where does Anna live? Anna lives in Oakton."}, 4,
		draw.New(1, "x"))
	for _, row := range got {
		if len(row) != 4 {
			t.Errorf("a row of %d", len(row))
		}
	}
	if fit.LeftOut < 1 || fit.Kept+fit.LeftOut != 3 {
		t.Errorf("%+v", fit)
	}
}

// The real file of 1,784 comparisons of whole conversations, in a context of 128 tokens.
func TestFitOfLongConversations(t *testing.T) {
	im, err := Read(trimtab.KindRankings, "hh_harmless_test.jsonl", sharedFile(t, "preferences/hh_harmless_test.jsonl"),
		ReadOptions{})
	if err != nil {
		t.Fatal(err)
	}
	var all []trimtab.Ranking
	for _, it := range im.Items {
		all = append(all, it.(trimtab.Ranking))
	}
	gpt2, err := tokenizer.GPT2()
	if err != nil {
		t.Fatal(err)
	}
	if _, _, fit := FitRankings(gpt2, all, trimtab.SplitTrain, 128); fit.LeftOut < 500 || fit.Cut < 400 ||
		fit.Kept+fit.LeftOut != len(all) {
		t.Errorf("%+v of %d rankings", fit, len(all))
	}
}
