package trimtab

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
)

// MaxResponses is the largest K of a ranking: raters cannot order more.
const MaxResponses = 9

// Kind of a Text is text.
func (Text) Kind() Kind { return KindText }

// Kind of a Prompt is prompts.
func (Prompt) Kind() Kind { return KindPrompts }

// Kind of a Demonstration is demonstrations.
func (Demonstration) Kind() Kind { return KindDemonstrations }

// Kind of a Ranking is rankings.
func (Ranking) Kind() Kind { return KindRankings }

// Validate refuses empty text and bytes that no text holds.
func (t Text) Validate() error { return checkText("text", t.Body) }

// Validate refuses empty text, unknown splits and a tag longer than MostLabel.
func (p Prompt) Validate() error {
	return firstOf(checkText("prompt", p.Text), checkSplit(p.Split), checkLabel("tag", p.Tag))
}

// Validate refuses empty text, unknown splits and a demonstrator longer than MostLabel.
func (d Demonstration) Validate() error {
	return firstOf(checkText("prompt", d.Prompt), checkText("completion", d.Response), checkSplit(d.Split),
		checkLabel("demonstrator", d.Demonstrator))
}

// Validate refuses rankings that imply no comparison, ranks that are not dense, more than MaxResponses, and labels
// longer than MostLabel. An empty response is sound: to say nothing is an answer, and people rank it.
func (r Ranking) Validate() error {
	if err := firstOf(checkText("prompt", r.Prompt), checkSplit(r.Split), checkLabel("labeller", r.Labeller),
		checkLabel("guideline", r.Guideline), checkLabel("group", r.Group)); err != nil {
		return err
	}
	if k := len(r.Responses); k < 2 || k > MaxResponses {
		return fmt.Errorf("a ranking has 2 to %d responses, this one has %d", MaxResponses, k)
	}
	if len(r.Ranks) != len(r.Responses) {
		return fmt.Errorf("%d responses but %d ranks", len(r.Responses), len(r.Ranks))
	}
	if top := slices.Max(r.Ranks); top < 2 {
		return fmt.Errorf("all responses are tied: there is nothing to learn from")
	} else {
		for want := 1; want <= top; want++ {
			if !slices.Contains(r.Ranks, want) {
				return fmt.Errorf("ranks %v are not dense: %d is missing", r.Ranks, want)
			}
		}
	}
	if slices.Min(r.Ranks) < 1 {
		return fmt.Errorf("ranks %v: 1 is the best, none is smaller", r.Ranks)
	}
	return nil
}

// Canonical form of a Text.
func (t Text) Canonical() []byte { return canonical(map[string]any{"text": t.Body}) }

// Canonical form of a Prompt.
func (p Prompt) Canonical() []byte {
	return canonical(map[string]any{"prompt": p.Text, "split": p.Split, "tag": p.Tag})
}

// Canonical form of a Demonstration.
func (d Demonstration) Canonical() []byte {
	return canonical(map[string]any{"completion": d.Response, "demonstrator": d.Demonstrator, "prompt": d.Prompt, "split": d.Split})
}

// Canonical form of a Ranking.
func (r Ranking) Canonical() []byte {
	responses := make([]map[string]any, len(r.Responses))
	for i, resp := range r.Responses {
		responses[i] = map[string]any{
			"bytes": base64.StdEncoding.EncodeToString(resp.Bytes), "model": string(resp.Model),
			"tokenizer": string(resp.Tokenizer), "tokens": resp.Tokens,
		}
	}
	return canonical(map[string]any{
		"group": r.Group, "guideline": r.Guideline, "labeller": r.Labeller, "prompt": r.Prompt,
		"ranks": r.Ranks, "responses": responses, "split": r.Split,
	})
}

// Contradicts reports whether two equal responses have different ranks: their
// pair says nothing, whatever a model learns.
func (r Ranking) Contradicts() bool {
	for i := range r.Responses {
		for j := range i {
			if r.Ranks[i] != r.Ranks[j] && bytes.Equal(r.Responses[i].Bytes, r.Responses[j].Bytes) {
				return true
			}
		}
	}
	return false
}

// DenseRanks turns any ranks (lower is better, equal is tied) into 1, 2, 3 … without gaps.
func DenseRanks[R int | float64](ranks []R) []int {
	sorted := slices.Clone(ranks)
	slices.Sort(sorted)
	sorted = slices.Compact(sorted)
	dense := make([]int, len(ranks))
	for i, r := range ranks {
		at, _ := slices.BinarySearch(sorted, r)
		dense[i] = at + 1
	}
	return dense
}

// canonical encodes v with sorted keys and without HTML escapes.
func canonical(v any) []byte {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		panic("trimtab: canonical form: " + err.Error()) // maps of strings and integers always encode
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n"))
}

func checkText(field, s string) error {
	if strings.TrimSpace(s) == "" {
		return fmt.Errorf("field %q is empty", field)
	}
	return checkBytes(field, s)
}

func checkSplit(s string) error {
	if s != "" && s != SplitTrain && s != SplitTest {
		return fmt.Errorf("split is %q: want train or test", s)
	}
	return nil
}

func firstOf(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}
