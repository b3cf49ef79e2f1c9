package activities

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"

	"github.com/trimtab/trimtab"
	"github.com/trimtab/trimtab/checkpoint"
	"github.com/trimtab/trimtab/storage"
)

// Difference is a place in which a reproduction and the record differ, bit for bit.
type Difference struct {
	// stage, metric, rollout, state, model, rankings, evaluation, result, stored_state, stored_model
	Place string `json:"place"`
	// Step is the step that was taken, or before which the state is; null is the end of the stage.
	Step     *int   `json:"step"`
	Rollout  *int   `json:"rollout,omitempty"`
	Name     string `json:"name"`            // of the metric, array or field
	Index    *int   `json:"index,omitempty"` // of the element
	Recorded string `json:"recorded"`        // the value in the record, formatted
	Here     string `json:"here"`            // the value of the reproduction
}

// Places of differences. Outputs have the names that they have in the record.
const (
	placeStage       = "stage"
	placeMetric      = "metric"
	placeRollout     = "rollout"
	placeState       = "state"
	placeModel       = "model"
	placeRankings    = "rankings"
	placeEvaluation  = "evaluation"
	placeResult      = "result"
	placeStoredState = "stored_state" // the file is damaged, the digest is the same
	placeStoredModel = "stored_model"
)

// inState reports whether the difference is in a training state, and not in what
// a step reported.
func (d Difference) inState() bool { return d.Place == placeState || d.Place == placeStoredState }

// String returns the difference as a sentence.
func (d Difference) String() string {
	what, there := d.Name, "in the record"
	if d.Index != nil {
		what += "[" + decimal(*d.Index) + "]"
	}
	// A metric's name alone, such as "loss", would read like a word of the sentence.
	if d.Place == placeMetric || d.Place == placeResult {
		what = "metric " + what
	}
	if d.Place == placeStoredState || d.Place == placeStoredModel {
		there = "in the file"
	}
	return fmt.Sprintf("%s: %s is %s %s and %s here", d.where(), what, d.Recorded, there, d.Here)
}

// where says in which part of the stage the difference is.
func (d Difference) where() string {
	step := -1
	if d.Step != nil {
		step = *d.Step
	}
	switch d.Place {
	case placeStage:
		return "the stage"
	case placeMetric:
		return fmt.Sprintf("step %d", step)
	case placeRollout:
		if d.Rollout == nil {
			return fmt.Sprintf("step %d", step)
		}
		return fmt.Sprintf("step %d, rollout %d", step, *d.Rollout)
	case placeState:
		return fmt.Sprintf("the state before step %d", step)
	case placeStoredState:
		return fmt.Sprintf("the stored state before step %d, which is damaged", step)
	case placeStoredModel:
		return "the stored model, which is damaged"
	case placeResult:
		return "at the end"
	}
	return "the output " + d.Place
}

// setMismatch fills in the name, index and values of a mismatch. The index is left
// out where the mismatch is not in one element.
func (d *Difference) setMismatch(first checkpoint.Mismatch) {
	d.Name, d.Recorded, d.Here = first.Name, first.Want, first.Got
	if first.Index >= 0 {
		d.Index = &first.Index
	}
}

// decimal formats an int.
func decimal(n int) string { return strconv.Itoa(n) }

// formatFloat formats v with as many digits as distinguish it from every other float64.
func formatFloat(v float64) string { return strconv.FormatFloat(v, 'g', -1, 64) }

// compareMetrics finds the first metric that differs, in the order in which the
// reproduction reported them. Values are compared by their bits.
func compareMetrics(place string, want, got []trimtab.Metric) (Difference, bool) {
	recorded, here := trimtab.Report{Metrics: want}, trimtab.Report{Metrics: got}
	for _, m := range got {
		v, ok := recorded.Value(m.Name)
		switch { // bits, and not ==, so that NaN equals itself and −0 differs from 0
		case !ok:
			return Difference{Place: place, Name: m.Name, Recorded: "absent", Here: formatFloat(m.Value)}, true
		case math.Float64bits(v) != math.Float64bits(m.Value):
			return Difference{Place: place, Name: m.Name, Recorded: formatFloat(v), Here: formatFloat(m.Value)}, true
		}
	}
	for _, m := range want {
		if _, ok := here.Value(m.Name); !ok {
			return Difference{Place: place, Name: m.Name, Recorded: formatFloat(m.Value), Here: "absent"}, true
		}
	}
	return Difference{}, false
}

// onlyRecorded drops metrics that the record does not have: they were added to
// the program after the attempt, and are no difference.
func onlyRecorded(want, got []trimtab.Metric) []trimtab.Metric {
	recorded := trimtab.Report{Metrics: want}
	var kept []trimtab.Metric
	for _, m := range got {
		if _, ok := recorded.Value(m.Name); ok {
			kept = append(kept, m)
		}
	}
	return kept
}

// compareRollouts finds the first rollout that differs, and its first field in
// the order in which they are computed, which is nearest to the cause.
func compareRollouts(want, got []trimtab.Rollout) (Difference, bool) {
	for i := range min(len(want), len(got)) {
		// The record replaces what Postgres cannot hold in a text; so does AsStored.
		if f := compareRollout(want[i], storage.AsStored(got[i])); f.found {
			d := Difference{Place: placeRollout, Rollout: &got[i].Index}
			d.setMismatch(f.first)
			return d, true
		}
	}
	if len(want) != len(got) {
		return Difference{Place: placeRollout, Name: "number of rollouts", Recorded: decimal(len(want)),
			Here: decimal(len(got))}, true
	}
	return Difference{}, false
}

// compareRollout compares two rollouts in the order in which fields are computed,
// so that the first mismatch is the nearest to its cause.
func compareRollout(want, got trimtab.Rollout) (f firstMismatch) {
	f.value("index", decimal(want.Index), decimal(got.Index))
	f.value("prompt", strconv.Quote(want.Prompt), strconv.Quote(got.Prompt))
	compareSlices(&f, "prompt_tokens", want.PromptIDs, got.PromptIDs)
	compareSlices(&f, "tokens", want.Tokens, got.Tokens)
	compareSlices(&f, "bytes", want.Bytes, got.Bytes)
	f.value("ended", strconv.FormatBool(want.Ended), strconv.FormatBool(got.Ended))
	f.floats("logprobs", want.LogProbs, got.LogProbs)
	f.floats("ref_logprobs", want.RefLogProb, got.RefLogProb)
	f.floats("kl", want.KL, got.KL)
	f.value("raw_score", checkpoint.FormatFloat(want.RawScore), checkpoint.FormatFloat(got.RawScore))
	f.value("score", checkpoint.FormatFloat(want.Score), checkpoint.FormatFloat(got.Score))
	f.floats("values", want.Values, got.Values)
	f.floats("rewards", want.Rewards, got.Rewards)
	f.floats("advantages", want.Advantages, got.Advantages)
	f.floats("returns", want.Returns, got.Returns)
	return f
}

// firstMismatch keeps the first mismatch that it is shown.
type firstMismatch struct {
	first checkpoint.Mismatch
	found bool
}

// add keeps a mismatch, unless there is one already.
func (f *firstMismatch) add(name string, index int, want, got string) {
	if !f.found {
		f.first, f.found = checkpoint.Mismatch{Name: name, Index: index, Want: want, Got: got}, true
	}
}

// value compares two single values by their formatted forms.
func (f *firstMismatch) value(name, want, got string) {
	if want != got {
		f.add(name, -1, want, got)
	}
}

// floats compares two lists of floats by their bits.
func (f *firstMismatch) floats(name string, want, got []float32) {
	for i := range min(len(want), len(got)) {
		if math.Float32bits(want[i]) != math.Float32bits(got[i]) {
			f.add(name, i, checkpoint.FormatFloat(want[i]), checkpoint.FormatFloat(got[i]))
			return
		}
	}
	f.length(name, len(want), len(got))
}

// length compares the lengths of two lists.
func (f *firstMismatch) length(name string, want, got int) {
	if want != got {
		f.add(name, -1, fmt.Sprintf("of %d elements", want), fmt.Sprintf("of %d elements", got))
	}
}

// compareSlices compares two lists of values for which == is equality, so not of
// floats.
func compareSlices[T comparable](f *firstMismatch, name string, want, got []T) {
	for i := range min(len(want), len(got)) {
		if want[i] != got[i] {
			f.add(name, i, fmt.Sprint(want[i]), fmt.Sprint(got[i]))
			return
		}
	}
	f.length(name, len(want), len(got))
}

// compareRankings finds the first ranking, in the order in which they were made
// here, that the record does not have, and compares it with the recorded one of
// the same prompt. The versions have different digests, so there is a mismatch.
func compareRankings(want, got []trimtab.Item) checkpoint.Mismatch {
	// A multiset: the same ranking can occur twice.
	left := map[trimtab.Digest]int{} // recorded rankings that were not made here, so far
	for _, it := range want {
		left[trimtab.DigestOf(it.Canonical())]++
	}
	var alone []trimtab.Item // rankings that were made here only
	for _, it := range got {
		if d := trimtab.DigestOf(it.Canonical()); left[d] > 0 {
			left[d]--
		} else {
			alone = append(alone, it)
		}
	}
	missing := slices.DeleteFunc(slices.Clone(want),
		func(it trimtab.Item) bool { return left[trimtab.DigestOf(it.Canonical())] == 0 })
	if len(alone) == 0 {
		return checkpoint.Mismatch{Name: "a ranking of " + strconv.Quote(promptOf(missing[0])), Index: -1,
			Want: "there", Got: "absent"}
	}
	for _, it := range missing {
		if promptOf(it) == promptOf(alone[0]) {
			return compareRanking(it.(trimtab.Ranking), alone[0].(trimtab.Ranking))
		}
	}
	return checkpoint.Mismatch{Name: "a ranking of " + strconv.Quote(promptOf(alone[0])), Index: -1, Want: "absent",
		Got: "there"}
}

// promptOf returns the prompt of a ranking.
func promptOf(it trimtab.Item) string { return it.(trimtab.Ranking).Prompt }

// compareRanking finds the first field in which two rankings of a prompt differ:
// the responses first, then the ranks, then who gave them.
func compareRanking(want, got trimtab.Ranking) checkpoint.Mismatch {
	var f firstMismatch
	f.length("responses", len(want.Responses), len(got.Responses))
	for i := range min(len(want.Responses), len(got.Responses)) {
		a, b := want.Responses[i], got.Responses[i]
		name := fmt.Sprintf("response %d, ", i+1)
		compareSlices(&f, name+"tokens", a.Tokens, b.Tokens)
		compareSlices(&f, name+"bytes", a.Bytes, b.Bytes)
		f.value(name+"model", string(a.Model), string(b.Model))
		f.value(name+"tokenizer", string(a.Tokenizer), string(b.Tokenizer))
	}
	compareSlices(&f, "ranks", want.Ranks, got.Ranks)
	f.value("labeller", want.Labeller, got.Labeller)
	f.value("guideline", want.Guideline, got.Guideline)
	f.value("split", want.Split, got.Split)
	f.value("group", want.Group, got.Group)
	f.first.Name = "the ranking of " + strconv.Quote(got.Prompt) + ", " + f.first.Name
	return f.first
}

// compareJSON finds the first value, in order of keys, in which two JSON
// documents differ, or else the first byte.
func compareJSON(want, got []byte) checkpoint.Mismatch {
	var f firstMismatch
	a, errA := decodeJSON(want)
	b, errB := decodeJSON(got)
	if errA == nil && errB == nil {
		f.json("", a, b)
	}
	if !f.found { // equal values, written in another way; or not JSON
		compareSlices(&f, "byte", want, got)
	}
	return f.first
}

// decodeJSON decodes a document and keeps numbers as they are written.
func decodeJSON(body []byte) (v any, err error) {
	dec := json.NewDecoder(bytes.NewReader(body))
	dec.UseNumber()
	err = dec.Decode(&v)
	return v, err
}

// json compares two decoded values, recursively: objects by key, lists by index,
// anything else as text. path is where they are, with dots between keys.
func (f *firstMismatch) json(path string, want, got any) {
	switch a := want.(type) {
	case map[string]any:
		if b, ok := got.(map[string]any); ok {
			for _, key := range slices.Sorted(maps.Keys(union(a, b))) {
				f.json(join(path, key), field(a, key), field(b, key))
			}
			return
		}
	case []any:
		if b, ok := got.([]any); ok {
			for i := range min(len(a), len(b)) {
				f.json(join(path, decimal(i)), a[i], b[i])
			}
			f.length(path, len(a), len(b))
			return
		}
	}
	f.value(path, oneLine(want), oneLine(got))
}

// absentField stands for a field that an object does not have, unlike null.
type absentField struct{}

// field returns a field of an object, or absentField.
func field(m map[string]any, key string) any {
	if v, ok := m[key]; ok {
		return v
	}
	return absentField{}
}

// union returns the fields of both objects.
func union(a, b map[string]any) map[string]any {
	all := maps.Clone(a)
	maps.Copy(all, b)
	return all
}

// join appends a key to a path.
func join(path, key string) string {
	if path == "" {
		return key
	}
	return path + "." + key
}

// oneLine formats a JSON value on one line.
func oneLine(v any) string {
	if v == (absentField{}) {
		return "absent"
	}
	b, err := json.Marshal(v)
	if err != nil {
		panic("activities: " + err.Error()) // unreachable: it was decoded from JSON
	}
	return string(b)
}
