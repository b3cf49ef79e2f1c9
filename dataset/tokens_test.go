package dataset

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/trimtab/trimtab"
	"github.com/trimtab/trimtab/draw"
	"github.com/trimtab/trimtab/tokenizer"
)

func bpe(t testing.TB) *tokenizer.Tokenizer {
	t.Helper()
	tok, err := tokenizer.Train([]string{"Where does Anna live? Anna lives in Oakton. Anna lives here. Where does " +
		"she live?"}, 270)
	if err != nil {
		t.Fatal(err)
	}
	return tok
}

// ids of rows as text, end-of-text as |.
func spell(tok *tokenizer.Tokenizer, ids []int32) string {
	var b strings.Builder
	for _, id := range ids {
		if id == tok.EndOfText() {
			b.WriteByte('|')
		}
		b.Write(tok.Decode([]int32{id}))
	}
	return b.String()
}

func TestEncodeExample(t *testing.T) {
	tok := bpe(t)
	prompt := EncodePrompt(tok, "Where does Anna live?")
	if got := spell(tok, prompt); got != "|Where does Anna live?\n" {
		t.Errorf("prompt %q", got)
	}
	s, ok := EncodeExample(tok, "Where does Anna live?", "Anna lives in Oakton.", 200)
	if got := spell(tok, s.Tokens); !ok || got != "|Where does Anna live?\nAnna lives in Oakton.|" {
		t.Errorf("example %q", got)
	}
	// What is not learned is the prompt, token for token as a sampler is given it.
	if !slices.Equal(s.Tokens[:s.PromptLen], prompt) {
		t.Errorf("masked %v, prompt %v", s.Tokens[:s.PromptLen], prompt)
	}
}

// A cut example does not end with end-of-text; one without room is refused.
func TestEncodeExampleTruncated(t *testing.T) {
	tok := bpe(t)
	whole, _ := EncodeExample(tok, "Where does Anna live?", "Anna lives in Oakton.", 200)
	for context := 1; context <= len(whole.Tokens)+1; context++ {
		s, ok := EncodeExample(tok, "Where does Anna live?", "Anna lives in Oakton.", context)
		if ok != (context > whole.PromptLen) {
			t.Fatalf("context %d, prompt %d: ok is %v", context, whole.PromptLen, ok)
		}
		if !ok {
			continue
		}
		if want := whole.Tokens[:min(context, len(whole.Tokens))]; !slices.Equal(s.Tokens, want) ||
			s.PromptLen != whole.PromptLen {
			t.Fatalf("context %d: %v, want %v", context, s.Tokens, want)
		}
	}
	if empty, ok := EncodeExample(tok, "Hello", "", 100); !ok || len(empty.Tokens) != empty.PromptLen+1 {
		t.Errorf("an empty response is the end-of-text token alone: %v", empty)
	}
}

// Text cannot smuggle in an end-of-text token.
func TestEncodeExampleHasNoSpecialTokenOfTheUser(t *testing.T) {
	tok := bpe(t)
	s, _ := EncodeExample(tok, "a<|endoftext|>b", "c<|endoftext|>", 1000)
	n := 0
	for _, id := range s.Tokens {
		if id == tok.EndOfText() {
			n++
		}
	}
	if n != 2 {
		t.Errorf("%d end-of-text tokens in %q", n, spell(tok, s.Tokens))
	}
}

func TestEncodeRanking(t *testing.T) {
	tok := bpe(t)
	// Sampled ids are used as they are, though their text would encode to others.
	sampled := []int32{tok.Encode("A")[0], tok.Encode("n")[0], tok.Encode("n")[0], tok.Encode("a")[0]}
	r := trimtab.Ranking{Prompt: "Who?", Responses: []trimtab.Response{
		{Tokens: sampled, Tokenizer: trimtab.Digest(tok.Digest()), Bytes: []byte("Anna")},
		{Tokens: sampled, Tokenizer: "sha256:other", Bytes: []byte("Anna")},
		{Bytes: nil},
	}, Ranks: []int{1, 2, 3}}
	out, ok := EncodeRanking(tok, r, 100)
	if !ok || len(out) != 3 {
		t.Fatal(out, ok)
	}
	if got := out[0].Tokens[out[0].PromptLen:]; !slices.Equal(got, sampled) {
		t.Errorf("sampled ids %v became %v", sampled, got)
	}
	if got := spell(tok, out[1].Tokens); got != "|Who?\nAnna|" || len(out[1].Tokens) >= len(out[0].Tokens)+1 {
		t.Errorf("foreign ids became %q", got)
	}
	if got := spell(tok, out[2].Tokens); got != "|Who?\n|" {
		t.Errorf("silence became %q", got)
	}
	if _, ok := EncodeRanking(tok, r, 3); ok {
		t.Error("a prompt without room was taken")
	}
}

func rows(lists ...[]int32) [][]int32 { return lists }

// TestPack repeats TRL's example of wrapped packing (tests/test_data_utils.py)
// and shows where this packing differs: a row begins with a document.
func TestPack(t *testing.T) {
	for _, c := range []struct {
		docs   [][]int32
		rowLen int
		want   [][]int32
	}{
		{rows([]int32{1, 2, 3}, []int32{4, 5, 6, 7}, []int32{8}), 3,
			rows([]int32{1, 2, 3}, []int32{4, 5, 6}, []int32{7, 8})},
		{rows([]int32{1, 2}, []int32{3, 4}, []int32{5}), 3, rows([]int32{1, 2, 3}, []int32{3, 4, 5})},
		{rows([]int32{1, 2}, []int32{3, 4, 5, 6, 7}), 3, rows([]int32{1, 2, 3}, []int32{3, 4, 5}, []int32{6, 7})},
		{rows([]int32{1, 2, 3, 4, 5, 6}), 3, rows([]int32{1, 2, 3}, []int32{4, 5, 6})},
		{nil, 3, nil},
	} {
		if got, _ := pack(c.docs, c.rowLen); fmt.Sprint(got) != fmt.Sprint(c.want) {
			t.Errorf("%v in rows of %d: %v, want %v", c.docs, c.rowLen, got, c.want)
		}
	}
}

// TestPackRows checks what a trainer relies on.
func TestPackRows(t *testing.T) {
	tok := bpe(t)
	var texts []string
	for i := range 60 {
		texts = append(texts, strings.Repeat(fmt.Sprintf("Anna %d lives. ", i), 1+i%4))
	}
	texts = append(texts, "")
	const rowLen = 40
	packed, _ := PackRows(tok, texts, rowLen, draw.New(1, "pack"))
	var whole strings.Builder
	for i, row := range packed {
		if i < len(packed)-1 && len(row) != rowLen || len(row) > rowLen || len(row) == 0 {
			t.Errorf("row %d has %d tokens", i, len(row))
		}
		whole.WriteString(spell(tok, row) + "\n")
	}
	for i, text := range texts[:60] {
		long := len(tok.Encode(text))+1 > rowLen
		if !long && !strings.Contains(whole.String(), "|"+text) {
			t.Errorf("text %d is nowhere whole", i)
		}
	}
	if again, _ := PackRows(tok, texts, rowLen, draw.New(1, "pack")); fmt.Sprint(packed) != fmt.Sprint(again) {
		t.Error("the same seed gave other rows")
	}
	if other, _ := PackRows(tok, texts, rowLen, draw.New(2, "pack")); fmt.Sprint(packed) == fmt.Sprint(other) {
		t.Error("another seed gave the same rows")
	}
}

// Rows of short documents all begin with end-of-text.
func TestPackedRowsBeginWithADocument(t *testing.T) {
	tok := bpe(t)
	var texts []string
	for i := range 100 {
		texts = append(texts, fmt.Sprint("Anna ", i))
	}
	rows, _ := PackRows(tok, texts, 16, draw.New(3, "pack"))
	for i, row := range rows {
		if row[0] != tok.EndOfText() {
			t.Errorf("row %d begins with %q", i, spell(tok, row))
		}
	}
}

func TestEpochOrder(t *testing.T) {
	src := draw.New(7, "order")
	first, again, next := EpochOrder(src, 50, 0), EpochOrder(src, 50, 0), EpochOrder(src, 50, 1)
	if !slices.Equal(first, again) || slices.Equal(first, next) {
		t.Error("an epoch's order is a function of source and epoch, another for each")
	}
	if !slices.Equal(slices.Sorted(slices.Values(first)), slices.Sorted(slices.Values(next))) {
		t.Error("an epoch leaves something out")
	}
}

func TestSplitByGroup(t *testing.T) {
	for _, c := range []struct {
		sizes  []int
		share  float64
		within float64
	}{
		{[]int{1, 1, 1, 1, 1, 1, 1, 1, 1, 1}, .2, 0},
		{[]int{40, 30, 20, 10, 25, 35, 12, 8}, .25, .12},
		{[]int{100, 1}, .1, 1},
		{[]int{100, 100}, .05, 1},
		{[]int{3, 3, 3}, 1, 1},
	} {
		for seed := range uint64(20) {
			var groups []string
			for g, n := range c.sizes {
				for range n {
					groups = append(groups, fmt.Sprint(g))
				}
			}
			train, test := SplitByGroup(groups, c.share, draw.New(seed, "split"))
			if len(train)+len(test) != len(groups) || len(train) == 0 || len(test) == 0 {
				t.Fatalf("%v by %v: %d and %d", c.sizes, c.share, len(train), len(test))
			}
			inTest := map[string]bool{}
			for _, i := range test {
				inTest[groups[i]] = true
			}
			for _, i := range train {
				if inTest[groups[i]] {
					t.Fatalf("group %s is torn apart", groups[i])
				}
			}
			if !slices.IsSorted(train) || !slices.IsSorted(test) {
				t.Error("indices are not in order")
			}
			if share := float64(len(test)) / float64(len(groups)); share > c.share+c.within+1e-9 ||
				share < c.share-c.within-1e-9 {
				t.Errorf("%v, seed %d: test share %.2f, want %.2f", c.sizes, seed, share, c.share)
			}
		}
	}
	if train, test := SplitByGroup([]string{"a", "a"}, .5, draw.New(1)); len(train) != 2 || len(test) != 0 {
		t.Error("one group is all for training")
	}
	if _, test := SplitByGroup([]string{"a", "b"}, 0, draw.New(1)); len(test) != 0 {
		t.Error("no test part was asked for")
	}
}

func TestEpochSampler(t *testing.T) {
	c := EpochSampler{Source: draw.New(1, "cycle"), N: 5}
	var seen []int
	for k := range 15 {
		seen = append(seen, c.Index(k))
	}
	for epoch := range 3 {
		of := slices.Clone(seen[5*epoch : 5*epoch+5])
		if want := EpochOrder(c.Source, 5, epoch); !slices.Equal(of, want) {
			t.Errorf("epoch %d visits %v, want %v", epoch, of, want)
		}
	}
	if got := c.Index(3); got != seen[3] {
		t.Errorf("going back gives %d, want %d", got, seen[3])
	}
}
