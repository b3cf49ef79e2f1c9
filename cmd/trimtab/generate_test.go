package main

import (
	"slices"
	"testing"

	"github.com/trimtab/trimtab/draw"
	"github.com/trimtab/trimtab/model"
	"github.com/trimtab/trimtab/tokenizer"
)

// An answer of generate stops at any of the tokens that end a text.
func TestGenerateStopsAtAnyEnd(t *testing.T) {
	plain, err := tokenizer.Train([]string{"hello world, hello model"}, 262)
	if err != nil {
		t.Fatal(err)
	}
	other := plain.Encode("o")[0]
	words, err := tokenizer.Load(plain.Files(), tokenizer.ConfigIDs{File: "config.json",
		End: []int32{plain.EndOfText(), other}})
	if err != nil {
		t.Fatal(err)
	}
	m := model.New(model.Config{Layers: 1, Width: 8, Heads: 2, Context: 64, Vocab: words.VocabSize()}, false)
	m.Init(draw.New(1, "test"))
	for _, p := range m.NamedParameters() {
		switch p.Name {
		case "transformer.wte.weight": // the two ends, each as likely as all other tokens together
			clear(p.Data)
			p.Data[8*plain.EndOfText()], p.Data[8*other] = 5.5, 5.5
		case "transformer.ln_f.weight":
			clear(p.Data)
		case "transformer.ln_f.bias":
			p.Data[0] = 1
		}
	}
	k, err := newResponder(m, words, samplingFlags{temperature: 1, topP: 1, maxTokens: 6, seed: 3})
	if err != nil {
		t.Fatal(err)
	}
	defer k.pool.Close()
	seen := map[int32]int{}
	for range 60 {
		g, err := k.respond("hello")
		if err != nil {
			t.Fatal(err)
		}
		at := slices.IndexFunc(g.Tokens, func(id int32) bool { return slices.Contains(words.StopTokens(), id) })
		if g.Stopped != (at >= 0) || g.Stopped && at != len(g.Tokens)-1 || !g.Stopped && len(g.Tokens) != 6 {
			t.Fatalf("%v, stopped %v: the ends are %v", g.Tokens, g.Stopped, words.StopTokens())
		}
		if g.Stopped {
			seen[g.Tokens[at]]++
		}
	}
	if seen[plain.EndOfText()] == 0 || seen[other] == 0 {
		t.Errorf("answers end with %v: the test shows nothing", seen)
	}
}
