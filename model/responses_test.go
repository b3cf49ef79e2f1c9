package model

import (
	"slices"
	"testing"

	"github.com/trimtab/trimtab/draw"
)

// Responses restored from their State are sampled on as if the buffer had never been replaced.
func TestResponsesAreState(t *testing.T) {
	m := New(Config{Layers: 1, Width: 16, Heads: 2, Context: 32, Vocab: 60}, false)
	m.Init(draw.New(1, "test"))
	prompts := [][]int32{{1, 2}, {3}, {4, 5, 6}, {7}, {8, 9}}
	o := SampleOptions{Temperature: 1, MaxNewTokens: 9, StopTokens: []int32{0}}
	src := draw.New(2, "sample")
	ps := NewPass(nil)

	whole := NewResponses(len(prompts), 9)
	if err := whole.Sample(ps, m, prompts, o, src, 0); err != nil {
		t.Fatal(err)
	}
	first := NewResponses(len(prompts), 9)
	if err := first.Sample(ps, m, prompts[:2], o, src, 0); err != nil {
		t.Fatal(err)
	}
	second := NewResponses(len(prompts), 9)
	for i, s := range second.State("x.") {
		copy(s.Data, first.State("x.")[i].Data)
	}
	if err := second.Sample(ps, m, prompts[2:], o, src, 2); err != nil {
		t.Fatal(err)
	}
	for i := range prompts {
		if got, want := second.At(i), whole.At(i); !slices.Equal(got, want) || len(want) == 0 {
			t.Errorf("response %d is %v, want %v", i, got, want)
		}
	}
}
