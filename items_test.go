package trimtab_test

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/trimtab/trimtab"
)

// sorted is JSON with sorted keys and without HTML escapes: what digests are over.
func sorted(t *testing.T, v map[string]any) string {
	t.Helper()
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		t.Fatal(err)
	}
	return strings.TrimSuffix(b.String(), "\n")
}

// The canonical form of an item is JSON with sorted keys, whatever is in it.
func TestCanonical(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 6))
	pieces := []string{"", "a", "<b>&", "\n", "\u2028", "é", "\x00", "\xff", "\"\\", "😀"}
	text := func() string { return pieces[r.IntN(len(pieces))] + pieces[r.IntN(len(pieces))] }
	for range 2000 {
		a, b, c, d := text(), text(), text(), text()
		ranking := trimtab.Ranking{Group: a, Guideline: b, Labeller: c, Prompt: d, Split: text(), Seconds: 3}
		responses := []map[string]any{}
		for range r.IntN(4) {
			resp := trimtab.Response{Bytes: []byte(text()), Model: trimtab.Digest(text()),
				Tokenizer: trimtab.Digest(text())}
			switch r.IntN(3) {
			case 0:
				resp.Tokens = []int32{}
			case 1:
				resp.Tokens = []int32{-1, 7}
			case 2:
				resp.Bytes = nil
			}
			ranking.Responses, ranking.Ranks = append(ranking.Responses, resp), append(ranking.Ranks, r.IntN(9))
			responses = append(responses, map[string]any{"bytes": base64.StdEncoding.EncodeToString(resp.Bytes),
				"model":     string(resp.Model),
				"tokenizer": string(resp.Tokenizer), "tokens": resp.Tokens})
		}
		for _, pair := range []struct {
			item trimtab.Item
			want map[string]any
		}{
			{trimtab.Text{Body: a}, map[string]any{"text": a}},
			{trimtab.Prompt{Text: a, Split: b, Tag: c}, map[string]any{"prompt": a, "split": b, "tag": c}},
			{trimtab.Demonstration{Prompt: a, Response: b, Demonstrator: c, Split: d},
				map[string]any{"completion": b, "demonstrator": c, "prompt": a, "split": d}},
			{ranking, map[string]any{"group": a, "guideline": b, "labeller": c, "prompt": d, "ranks": ranking.Ranks,
				"responses": responses, "split": ranking.Split}},
		} {
			if got, want := string(pair.item.Canonical()), sorted(t, pair.want); got != want {
				t.Fatalf("%s\nwant %s", got, want)
			}
		}
	}
}

func TestContradicts(t *testing.T) {
	of := func(ranks []int, texts ...string) trimtab.Ranking {
		r := trimtab.Ranking{Prompt: "p", Ranks: ranks}
		for _, s := range texts {
			r.Responses = append(r.Responses, trimtab.Response{Bytes: []byte(s)})
		}
		return r
	}
	if !of([]int{1, 2}, "a", "a").Contradicts() || !of([]int{1, 2, 3}, "a", "b", "a").Contradicts() ||
		of([]int{1, 1, 2}, "a", "a", "b").Contradicts() || of([]int{1, 2}, "a", "b").Contradicts() {
		t.Error("equal responses ranked apart, and nothing else, contradict each other")
	}
}
