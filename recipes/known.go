package recipes

import (
	"github.com/trimtab/trimtab"
	"github.com/trimtab/trimtab/model"
)

// Known is what is known about the stages' models and data before they run, one
// element for each of Spec.Stages. It comes from frozen datasets, stored models
// and files. What is not known is absent, and estimates that need it say so.
type Known []StageKnown

// StageKnown is what is known about one stage.
type StageKnown struct {
	Shape     *model.Config     // of the model that it begins with, or creates
	Volumes   map[string]Volume // by trimtab.Fit.Items: text, demonstrations, prompts, tests, rankings, held_out
	Tokenizer bool              // Volumes are counted with the stage's own tokenizer, not with a similar one
}

// Volume is how much of one kind of item a stage reads. Tokens are counted with
// the stage's tokenizer after texts have been cut to the model's context.
type Volume struct {
	trimtab.Fit
	Whole   bool  // every item was examined; otherwise the numbers are scaled up from a sample
	Tokens  int64 // of everything that is kept, prompts and answers
	Answers int64 // tokens of the answers among them
	Texts   int64 // answers: one per demonstration, several per ranking
	Longest int   // of the longest, in tokens
	Bytes   int64 // of all texts, in memory
}

// Exact reports whether the volume of some items is what the stage itself will
// count: every item was examined, with the stage's own tokenizer.
func (k StageKnown) Exact(items string) bool {
	v, ok := k.Volumes[items]
	return ok && v.Whole && k.Tokenizer
}

// Counts returns the counts that a stage of that kind reports for its data, as
// far as they are known.
func (k StageKnown) Counts(kind string) []trimtab.Fit {
	var fits []trimtab.Fit
	for _, name := range fitItems[kind] {
		if v, ok := k.Volumes[name]; ok {
			fits = append(fits, v.Fit)
		}
	}
	return fits
}

// fitItems are the items whose counts a kind of stage reports. sft and ppo
// count text only if they train on a mix of it.
var fitItems = map[string][]string{
	KindPretrain: {"text"}, KindSFT: {"demonstrations"}, KindCollect: {"prompts"},
	KindReward: {"rankings", "held_out", "demonstrations"},
	KindPPO:    {"prompts"}, KindEvaluate: {"tests"},
}

// at returns what is known about stage i; nothing is known about a stage beyond
// the list.
func (k Known) at(i int) StageKnown {
	if i < len(k) {
		return k[i]
	}
	return StageKnown{}
}
