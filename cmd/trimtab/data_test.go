package main

import (
	"testing"

	"github.com/trimtab/trimtab"
)

func TestSummarize(t *testing.T) {
	ranking := func(who string, ranks ...int) trimtab.Item {
		return trimtab.Ranking{Prompt: "p", Labeller: who, Ranks: ranks,
			Responses: []trimtab.Response{{Bytes: []byte("a")}, {Bytes: []byte("bb")}, {Bytes: []byte("ccc")}}}
	}
	s := summarize([]trimtab.Item{ranking("anna", 3, 2, 1), ranking("ben", 3, 1, 2), ranking("", 1, 2, 2)})
	if s.Pairs != 8 || s.Labellers != 2 || s.LongerWins != 5./8 || s.Agreement == nil {
		t.Errorf("%+v", s)
	}
	if got := summarize([]trimtab.Item{trimtab.Text{Body: "x"}}); got != nil {
		t.Errorf("texts have %+v", got)
	}
}
