package activities

import (
	"strings"
	"testing"

	"github.com/trimtab/trimtab"
)

// Data of which nothing is left is refused with the word for why: there is none, or all of it is too long. The words
// are
// those of a launch, which refuses what it knows.
func TestNothingIsLeft(t *testing.T) {
	none, some, long := trimtab.Fit{Items: "x"}, trimtab.Fit{Items: "x", Kept: 1, LeftOut: 2}, trimtab.Fit{Items: "x",
		LeftOut: 3}
	for _, c := range []struct {
		what                  string
		err                   error
		typ, message, further string
	}{
		{"demonstrations", requireExamples(some, "demonstrations", 64), "", "", ""},
		{"no demonstrations", requireExamples(none, "demonstrations", 64), "no_demonstrations",
			"there are no demonstrations to learn from", `not all have "split": "test"`},
		{"no rankings", requireExamples(none, "rankings", 64), "no_rankings", "there are no rankings to learn from",
			`not all have "split": "test"`},
		{"long rankings", requireExamples(long, "rankings", 64), "context_exceeded",
			"all 3 rankings are too long: their prompts fill the context of 64 tokens", "model.max_position_embeddings"},
		{"prompts", requirePrompts(some, "prompts", 16, 64), "", "", ""},
		{"no prompts", requirePrompts(none, "prompts", 16, 64), "no_prompts", "there are no prompts",
			"give the stage prompts"},
		{"long prompts", requirePrompts(long, "prompts", 16, 64), "context_exceeded",
			"all 3 prompts are too long: none leaves room for an answer of 16 tokens in the context of 64",
			"lower max_new_tokens"},
		{"long tests", requirePrompts(long, "held-out prompts", 16, 64), "context_exceeded",
			"all 3 held-out prompts are too long", "lower max_new_tokens"},
	} {
		if c.typ == "" {
			if c.err != nil {
				t.Errorf("%s: %v", c.what, c.err)
			}
			continue
		}
		if c.err == nil {
			t.Errorf("%s: accepted", c.what)
			continue
		}
		e := trimtab.AsError(c.err)
		if e.Type != c.typ || e.Class != trimtab.Invalid || !strings.Contains(e.Message, c.message) ||
			!strings.Contains(e.Remedy, c.further) {
			t.Errorf("%s: %s of class %d: %v", c.what, e.Type, e.Class, e)
		}
	}
}
