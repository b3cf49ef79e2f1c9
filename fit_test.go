package trimtab_test

import (
	"slices"
	"testing"

	"github.com/trimtab/trimtab"
)

func TestFit(t *testing.T) {
	fits := []trimtab.Fit{
		{Items: "rankings", Kept: 318, Cut: 106, LeftOut: 205, Equal: 2},
		{Items: "held_out", Kept: 1},
		{Items: "demonstrations", Kept: 1, Cut: 1, LeftOut: 9},
		{Items: "prompts", LeftOut: 1},
		{Items: "tests", Kept: 4, Cut: 2},
		{Items: "text", Kept: 3, Cut: 1, LeftOut: 1},
	}
	metrics := append([]trimtab.Metric{{Name: "loss", Value: 2}}, trimtab.FitMetrics(fits)...)
	if back := trimtab.Fits(metrics); !slices.Equal(back, fits) {
		t.Errorf("metrics lose counts:\n%+v\n%+v", back, fits)
	}
	for i, want := range []string{
		"318 of 523 rankings read; 205 left out (the prompt fills the context); 106 responses cut where the context " +
			"ends; 2 pairs equal up to there",
		"1 of 1 held-out ranking read",
		"1 of 10 demonstrations read; 9 left out (the prompt fills the context); 1 demonstration cut where the " +
			"context ends",
		"0 of 1 prompt read; 1 left out (too little room for an answer)",
		"4 of 4 held-out prompts read; 2 held-out prompts with room for less than max_tokens",
		"3 of 4 documents read; 1 left out (no full row holds it); 1 document longer than a row, laid over several",
	} {
		if got := fits[i].String(); got != want {
			t.Errorf("%+v is %q, want %q", fits[i], got, want)
		}
		if fits[i].Whole() != (i == 1) {
			t.Errorf("%+v is whole: %v", fits[i], fits[i].Whole())
		}
	}
	if got := (trimtab.Fit{Items: "poems", Kept: 2,
		LeftOut: 1}).String(); got != "2 of 3 items of poems read; 1 left out (no room)" {
		t.Errorf("unknown items: %q", got)
	}
	if trimtab.Fits([]trimtab.Metric{{Name: "loss"}, {Name: "data/odd"}}) != nil {
		t.Error("counts where there are none")
	}
}
