package trimtab

import (
	"bytes"
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
func (t Text) Canonical() []byte {
	return mustEncodeJSON(struct {
		Text string `json:"text"`
	}{t.Body})
}

// Canonical form of a Prompt.
func (p Prompt) Canonical() []byte {
	return mustEncodeJSON(struct {
		Prompt string `json:"prompt"`
		Split  string `json:"split"`
		Tag    string `json:"tag"`
	}{p.Text, p.Split, p.Tag})
}

// Canonical form of a Demonstration.
func (d Demonstration) Canonical() []byte {
	return mustEncodeJSON(struct {
		Completion   string `json:"completion"`
		Demonstrator string `json:"demonstrator"`
		Prompt       string `json:"prompt"`
		Split        string `json:"split"`
	}{d.Response, d.Demonstrator, d.Prompt, d.Split})
}

// canonicalResponse is a Response in a Ranking's canonical form.
type canonicalResponse struct {
	Bytes     []byte  `json:"bytes"` // never nil: none is "", not null
	Model     string  `json:"model"`
	Tokenizer string  `json:"tokenizer"`
	Tokens    []int32 `json:"tokens"`
}

// Canonical form of a Ranking.
func (r Ranking) Canonical() []byte {
	responses := make([]canonicalResponse, len(r.Responses))
	for i, resp := range r.Responses {
		responses[i] = canonicalResponse{Bytes: resp.Bytes, Model: string(resp.Model),
			Tokenizer: string(resp.Tokenizer), Tokens: resp.Tokens}
		if resp.Bytes == nil {
			responses[i].Bytes = []byte{}
		}
	}
	return mustEncodeJSON(struct {
		Group     string              `json:"group"`
		Guideline string              `json:"guideline"`
		Labeller  string              `json:"labeller"`
		Prompt    string              `json:"prompt"`
		Ranks     []int               `json:"ranks"`
		Responses []canonicalResponse `json:"responses"`
		Split     string              `json:"split"`
	}{r.Group, r.Guideline, r.Labeller, r.Prompt, r.Ranks, responses, r.Split})
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
