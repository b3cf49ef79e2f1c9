package dataset

import (
	"slices"

	"github.com/trimtab/trimtab"
	"github.com/trimtab/trimtab/draw"
	"github.com/trimtab/trimtab/tokenizer"
)

// isTestSplit reports whether an item's split is the test split. Every other
// value, the empty one too, trains.
func isTestSplit(split string) bool { return split == trimtab.SplitTest }

// FitDemonstrations encodes the demonstrations of a split for a context of that
// many tokens, in order, and counts what is cut or left out (see
// EncodeExample).
func FitDemonstrations(t *tokenizer.Tokenizer, demos []trimtab.Demonstration, split string,
	context int) ([]Sequence, trimtab.Fit) {
	fit := trimtab.Fit{Items: "demonstrations"}
	var seqs []Sequence
	for _, d := range demos {
		if isTestSplit(d.Split) != isTestSplit(split) {
			continue
		}
		s, ok := EncodeExample(t, d.Prompt, d.Response, context)
		if !ok {
			fit.LeftOut++
			continue
		}
		fit.Kept++
		if s.Cut {
			fit.Cut++
		}
		seqs = append(seqs, s)
	}
	return seqs, fit
}

// FitRankings encodes the rankings of a split for a context of that many
// tokens, in order, and counts what is cut, left out, or identical after
// cutting (see EncodeRanking). kept are the rankings that the examples belong
// to.
func FitRankings(t *tokenizer.Tokenizer, all []trimtab.Ranking, split string,
	context int) (examples [][]Sequence, kept []trimtab.Ranking, fit trimtab.Fit) {
	fit.Items = "rankings"
	if isTestSplit(split) {
		fit.Items = "held_out"
	}
	for _, r := range all {
		if isTestSplit(r.Split) != isTestSplit(split) {
			continue
		}
		seqs, ok := EncodeRanking(t, r, context)
		if !ok {
			fit.LeftOut++
			continue
		}
		fit.Kept++
		for _, s := range seqs {
			if s.Cut {
				fit.Cut++
			}
		}
		// Responses that differ only behind the cut teach a reward model nothing.
		for _, p := range r.Pairs() {
			if slices.Equal(seqs[p[0]].Tokens, seqs[p[1]].Tokens) {
				fit.Equal++
			}
		}
		examples, kept = append(examples, seqs), append(kept, r)
	}
	return examples, kept, fit
}

// FitPrompts encodes the prompts of a split, in order, and leaves out those of
// more than maxTokens tokens: a sample needs the rest of the context. kept are
// the prompts that the ids belong to.
func FitPrompts(t *tokenizer.Tokenizer, all []trimtab.Prompt, split string,
	maxTokens int) (ids [][]int32, kept []trimtab.Prompt, fit trimtab.Fit) {
	fit.Items = "prompts"
	if isTestSplit(split) {
		fit.Items = "tests"
	}
	for _, p := range all {
		if isTestSplit(p.Split) != isTestSplit(split) {
			continue
		}
		tokens := EncodePrompt(t, p.Text)
		if len(tokens) > maxTokens {
			fit.LeftOut++
			continue
		}
		fit.Kept++
		ids, kept = append(ids, tokens), append(kept, p)
	}
	return ids, kept, fit
}

// DrawPrompts encodes training prompts in an order drawn by src until it has
// want of at most maxTokens tokens; want 0 takes all. Longer ones met on the
// way are left out and counted. kept are the prompts that the ids belong to.
func DrawPrompts(t *tokenizer.Tokenizer, all []trimtab.Prompt, src draw.Source,
	maxTokens, want int) (ids [][]int32, kept []trimtab.Prompt, fit trimtab.Fit) {
	fit.Items = "prompts"
	training := TrainPrompts(all)
	for _, i := range EpochOrder(src, len(training), 0) {
		tokens := EncodePrompt(t, training[i].Text)
		if len(tokens) > maxTokens {
			fit.LeftOut++
			continue
		}
		fit.Kept++
		ids, kept = append(ids, tokens), append(kept, training[i])
		if fit.Kept == want {
			break
		}
	}
	return ids, kept, fit
}

// TrainPrompts returns the prompts that are not held out, in order.
func TrainPrompts(all []trimtab.Prompt) []trimtab.Prompt {
	var list []trimtab.Prompt
	for _, p := range all {
		if !isTestSplit(p.Split) {
			list = append(list, p)
		}
	}
	return list
}
