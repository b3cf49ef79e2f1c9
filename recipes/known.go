package recipes

import (
	"github.com/trimtab/trimtab"
	"github.com/trimtab/trimtab/model"
)

// Known is what is known of the stages' models and data before they run,
// beside Spec.Stages. What is not known is absent.
type Known []StageKnown

// StageKnown is what is known of one stage.
type StageKnown struct {
	Shape     *model.Config     // of the model that it begins with, or makes
	Volumes   map[string]Volume // by trimtab.Fit.Items: text, demonstrations, prompts, tests, rankings, held_out
	Tokenizer bool              // Volumes are counted with the tokenizer of the stage, not with one like it
}

// Volume is how much of one kind of item a stage reads. Tokens are within the
// model's context.
type Volume struct {
	trimtab.Fit
	Whole   bool  // every item was looked at; else the numbers are scaled up from some
	Tokens  int64 // of all that is kept, prompts and answers
	Answers int64 // tokens of the answers among them
	Texts   int64 // answers: one a demonstration, several a ranking
	Longest int   // tokens of the longest
	Bytes   int64 // of all texts, as they lie in memory
}

// Exact reports whether a volume is what the stage will count.
func (k StageKnown) Exact(items string) bool {
	v, ok := k.Volumes[items]
	return ok && v.Whole && k.Tokenizer
}

// Counts are the counts that a stage of that kind tells of its data.
func (k StageKnown) Counts(kind string) []trimtab.Fit {
	var fits []trimtab.Fit
	for _, name := range fitItems[kind] {
		if v, ok := k.Volumes[name]; ok {
			fits = append(fits, v.Fit)
		}
	}
	return fits
}

// fitItems are the items that the stages count, by kind. Text is counted where
// a mix of it is learned.
var fitItems = map[string][]string{
	KindPretrain: {"text"}, KindSFT: {"demonstrations"}, KindCollect: {"prompts"},
	KindReward: {"rankings", "held_out", "demonstrations"},
	KindPPO:    {"prompts"}, KindEvaluate: {"tests"},
}

// at is what is known of stage i.
func (k Known) at(i int) StageKnown {
	if i < len(k) {
		return k[i]
	}
	return StageKnown{}
}
