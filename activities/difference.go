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

// Difference is a place in which a reproduction and the record are not the same, bit for bit.
type Difference struct {
	// stage, metric, rollout, state, model, rankings, evaluation, result, stored_state, stored_model
	Place string `json:"place"`
	// Step is the one that was taken, or before which the state is; null is at the end.
	Step     *int   `json:"step"`
	Rollout  *int   `json:"rollout,omitempty"`
	Name     string `json:"name"`            // of the metric, array or field
	Index    *int   `json:"index,omitempty"` // of the element
	Recorded string `json:"recorded"`
	Here     string `json:"here"`
}

// Where a difference can be. Outputs have their own names.
const (
	placeStage       = "stage"
	placeMetric      = "metric"
	placeRollout     = "rollout"
	placeState       = "state"
	placeModel       = "model"
	placeRankings    = "rankings"
	placeEvaluation  = "evaluation"
	placeResult      = "result"
	placeStoredState = "stored_state" // its file is not what its digest says
	placeStoredModel = "stored_model"
)

func (d Difference) inState() bool { return d.Place == placeState || d.Place == placeStoredState }

// String is the difference as a sentence.
func (d Difference) String() string {
	what, there := d.Name, "in the record"
	if d.Index != nil {
		what += "[" + decimal(*d.Index) + "]"
	}
	if d.Place == placeMetric || d.Place == placeResult {
		what = "metric " + what
	}
	if d.Place == placeStoredState || d.Place == placeStoredModel {
		there = "in the file"
	}
	return fmt.Sprintf("%s: %s is %s %s and %s here", d.where(), what, d.Recorded, there, d.Here)
}

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

// heartbeatStep puts a difference of files in the place.
func (d *Difference) setMismatch(first checkpoint.Mismatch) {
	d.Name, d.Recorded, d.Here = first.Name, first.Want, first.Got
	if first.Index >= 0 {
		d.Index = &first.Index
	}
}

func decimal(n int) string { return strconv.Itoa(n) }

// formatFloat prints v with as many digits as tell it from every other float64.
func formatFloat(v float64) string { return strconv.FormatFloat(v, 'g', -1, 64) }

// compareMetrics finds the first metric that differs, in the order in which they were told here.
func compareMetrics(place string, was, is []trimtab.Metric) (Difference, bool) {
	recorded, here := trimtab.Report{Metrics: was}, trimtab.Report{Metrics: is}
	for _, m := range is {
		v, ok := recorded.Value(m.Name)
		switch {
		case !ok:
			return Difference{Place: place, Name: m.Name, Recorded: "absent", Here: formatFloat(m.Value)}, true
		case math.Float64bits(v) != math.Float64bits(m.Value):
			return Difference{Place: place, Name: m.Name, Recorded: formatFloat(v), Here: formatFloat(m.Value)}, true
		}
	}
	for _, m := range was {
		if _, ok := here.Value(m.Name); !ok {
			return Difference{Place: place, Name: m.Name, Recorded: formatFloat(m.Value), Here: "absent"}, true
		}
	}
	return Difference{}, false
}

// onlyRecorded leaves out what is measured of a result by now and was not when
// the attempt was recorded: it says nothing of how that came about.
func onlyRecorded(was, is []trimtab.Metric) []trimtab.Metric {
	recorded := trimtab.Report{Metrics: was}
	var kept []trimtab.Metric
	for _, m := range is {
		if _, ok := recorded.Value(m.Name); ok {
			kept = append(kept, m)
		}
	}
	return kept
}

// compareRollouts finds the first rollout that differs, and its first field in the order in which they are computed.
func compareRollouts(was, is []trimtab.Rollout) (Difference, bool) {
	for i := range min(len(was), len(is)) {
		if f := compareRollout(was[i], storage.AsStored(is[i])); f.found {
			d := Difference{Place: placeRollout, Rollout: &is[i].Index}
			d.setMismatch(f.first)
			return d, true
		}
	}
	if len(was) != len(is) {
		return Difference{Place: placeRollout, Name: "number of rollouts", Recorded: decimal(len(was)),
			Here: decimal(len(is))}, true
	}
	return Difference{}, false
}

func compareRollout(was, is trimtab.Rollout) (f firstMismatch) {
	f.value("index", decimal(was.Index), decimal(is.Index))
	f.value("prompt", strconv.Quote(was.Prompt), strconv.Quote(is.Prompt))
	compareSlices(&f, "prompt_tokens", was.PromptIDs, is.PromptIDs)
	compareSlices(&f, "tokens", was.Tokens, is.Tokens)
	compareSlices(&f, "bytes", was.Bytes, is.Bytes)
	f.value("ended", strconv.FormatBool(was.Ended), strconv.FormatBool(is.Ended))
	f.floats("logprobs", was.LogProbs, is.LogProbs)
	f.floats("ref_logprobs", was.RefLogProb, is.RefLogProb)
	f.floats("kl", was.KL, is.KL)
	f.value("raw_score", checkpoint.FormatFloat(was.RawScore), checkpoint.FormatFloat(is.RawScore))
	f.value("score", checkpoint.FormatFloat(was.Score), checkpoint.FormatFloat(is.Score))
	f.floats("values", was.Values, is.Values)
	f.floats("rewards", was.Rewards, is.Rewards)
	f.floats("advantages", was.Advantages, is.Advantages)
	f.floats("returns", was.Returns, is.Returns)
	return f
}

// firstMismatch keeps the first difference that it is shown.
type firstMismatch struct {
	first checkpoint.Mismatch
	found bool
}

func (f *firstMismatch) add(name string, index int, was, is string) {
	if !f.found {
		f.first, f.found = checkpoint.Mismatch{Name: name, Index: index, Want: was, Got: is}, true
	}
}

// value looks at single values, by what is shown of them.
func (f *firstMismatch) value(name, was, is string) {
	if was != is {
		f.add(name, -1, was, is)
	}
}

// floats looks at the bits.
func (f *firstMismatch) floats(name string, was, is []float32) {
	for i := range min(len(was), len(is)) {
		if math.Float32bits(was[i]) != math.Float32bits(is[i]) {
			f.add(name, i, checkpoint.FormatFloat(was[i]), checkpoint.FormatFloat(is[i]))
			return
		}
	}
	f.length(name, len(was), len(is))
}

func (f *firstMismatch) length(name string, was, is int) {
	if was != is {
		f.add(name, -1, fmt.Sprintf("of %d elements", was), fmt.Sprintf("of %d elements", is))
	}
}

// compareSlices looks at lists of values that are equal when they are the same.
func compareSlices[T comparable](f *firstMismatch, name string, was, is []T) {
	for i := range min(len(was), len(is)) {
		if was[i] != is[i] {
			f.add(name, i, fmt.Sprint(was[i]), fmt.Sprint(is[i]))
			return
		}
	}
	f.length(name, len(was), len(is))
}

// compareRankings finds the first ranking, in the order in which they were made
// here, that the record has not, and in what it differs from the one of its prompt.
func compareRankings(was, is []trimtab.Item) checkpoint.Mismatch {
	left := map[trimtab.Digest]int{} // of the recorded ones
	for _, it := range was {
		left[trimtab.DigestOf(it.Canonical())]++
	}
	var alone []trimtab.Item // made here only
	for _, it := range is {
		if d := trimtab.DigestOf(it.Canonical()); left[d] > 0 {
			left[d]--
		} else {
			alone = append(alone, it)
		}
	}
	missing := slices.DeleteFunc(slices.Clone(was),
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

func promptOf(it trimtab.Item) string { return it.(trimtab.Ranking).Prompt }

func compareRanking(was, is trimtab.Ranking) checkpoint.Mismatch {
	var f firstMismatch
	f.length("responses", len(was.Responses), len(is.Responses))
	for i := range min(len(was.Responses), len(is.Responses)) {
		a, b := was.Responses[i], is.Responses[i]
		name := fmt.Sprintf("response %d, ", i+1)
		compareSlices(&f, name+"tokens", a.Tokens, b.Tokens)
		compareSlices(&f, name+"bytes", a.Bytes, b.Bytes)
		f.value(name+"model", string(a.Model), string(b.Model))
		f.value(name+"tokenizer", string(a.Tokenizer), string(b.Tokenizer))
	}
	compareSlices(&f, "ranks", was.Ranks, is.Ranks)
	f.value("labeller", was.Labeller, is.Labeller)
	f.value("guideline", was.Guideline, is.Guideline)
	f.value("split", was.Split, is.Split)
	f.value("group", was.Group, is.Group)
	f.first.Name = "the ranking of " + strconv.Quote(is.Prompt) + ", " + f.first.Name
	return f.first
}

// compareJSON finds the first value, in order of keys, in which two documents differ.
func compareJSON(was, is []byte) checkpoint.Mismatch {
	var f firstMismatch
	a, errA := decodeJSON(was)
	b, errB := decodeJSON(is)
	if errA == nil && errB == nil {
		f.json("", a, b)
	}
	if !f.found {
		compareSlices(&f, "byte", was, is)
	}
	return f.first
}

// decodeJSON keeps numbers as they are written.
func decodeJSON(body []byte) (v any, err error) {
	dec := json.NewDecoder(bytes.NewReader(body))
	dec.UseNumber()
	err = dec.Decode(&v)
	return v, err
}

func (f *firstMismatch) json(path string, was, is any) {
	switch a := was.(type) {
	case map[string]any:
		if b, ok := is.(map[string]any); ok {
			for _, key := range slices.Sorted(maps.Keys(union(a, b))) {
				f.json(join(path, key), field(a, key), field(b, key))
			}
			return
		}
	case []any:
		if b, ok := is.([]any); ok {
			for i := range min(len(a), len(b)) {
				f.json(join(path, decimal(i)), a[i], b[i])
			}
			f.length(path, len(a), len(b))
			return
		}
	}
	f.value(path, oneLine(was), oneLine(is))
}

// absentField stands for a field that is not there.
type absentField struct{}

func field(m map[string]any, key string) any {
	if v, ok := m[key]; ok {
		return v
	}
	return absentField{}
}

func union(a, b map[string]any) map[string]any {
	all := maps.Clone(a)
	maps.Copy(all, b)
	return all
}

func join(path, key string) string {
	if path == "" {
		return key
	}
	return path + "." + key
}

// oneLine is a JSON value on one line.
func oneLine(v any) string {
	if v == (absentField{}) {
		return "absent"
	}
	b, err := json.Marshal(v)
	if err != nil {
		panic("activities: " + err.Error()) // it was decoded from JSON
	}
	return string(b)
}
