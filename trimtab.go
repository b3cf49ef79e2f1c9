// Package trimtab holds the nouns of Trimtab: what is learned from (Text,
// Prompt, Demonstration, Response, Ranking), what is done (Plan, Run, Stage,
// Attempt), and what results from it (Report, Rollout, Digest, Error).
//
// Trimtab takes a language model through supervised fine-tuning, a reward
// model from ranked comparisons, and PPO, as durable workflows over a
// transformer core. Packages above this one do the work; this one only names
// it, checks it and gives it one canonical form in bytes.
//
// A canonical item is JSON with sorted keys, integers and strings only; its
// Digest is the SHA-256 of those bytes. A dataset version is the Merkle root
// over its items in order of item digest (see MerkleRoot).
package trimtab

// A Kind says what the items of a dataset are.
type Kind string

// The kinds of dataset.
const (
	KindText           Kind = "text"
	KindPrompts        Kind = "prompts"
	KindDemonstrations Kind = "demonstrations"
	KindRankings       Kind = "rankings"
)

// Kinds lists every Kind in the order in which help texts name them.
var Kinds = []Kind{KindText, KindDemonstrations, KindPrompts, KindRankings}

// An Item is a canonical fact that a dataset may hold: Text, Prompt,
// Demonstration or Ranking.
type Item interface {
	Kind() Kind
	// Validate reports the first thing that makes the item unusable.
	Validate() error
	// Canonical returns the bytes whose SHA-256 is the item's digest.
	Canonical() []byte
}

// Text is one document.
type Text struct {
	Body string `json:"text"`
}

// Prompt is what a model is asked.
type Prompt struct {
	Text string `json:"prompt"`
	// Split is "train" or "test"; empty is train. Items of a test split never reach training.
	Split string `json:"split,omitempty"`
	// Tag groups prompts for reports, for example "subjects" or "wordings".
	Tag string `json:"tag,omitempty"`
}

// Demonstration is a person's answer to a prompt.
type Demonstration struct {
	Prompt       string `json:"prompt"`
	Response     string `json:"completion"`
	Demonstrator string `json:"demonstrator,omitempty"`
	Split        string `json:"split,omitempty"`
}

// Response is one answer among those that were ranked. A model's sample is
// its token ids with the tokenizer's digest and the raw bytes they decode to;
// imported text has Bytes only and is encoded by the tokenizer of the run
// that reads it.
type Response struct {
	Tokens    []int32 `json:"tokens,omitempty"`    // ids as sampled, with the end-of-text token if it was reached
	Tokenizer Digest  `json:"tokenizer,omitempty"` // of Tokens
	Bytes     []byte  `json:"bytes"`               // what was shown to the labeller, undecoded
	Model     Digest  `json:"model,omitempty"`     // which artifact sampled it
}

// Ranking is one labeller's order of K responses to one prompt.
type Ranking struct {
	Prompt    string     `json:"prompt"`
	Responses []Response `json:"responses"` // in the order they were presented
	Ranks     []int      `json:"ranks"`     // dense: 1 is best, equal ranks are ties, no rank is left out
	Labeller  string     `json:"labeller,omitempty"`
	Guideline string     `json:"guideline,omitempty"` // version of the instructions the labeller followed
	Split     string     `json:"split,omitempty"`
	// Group is what must not be torn apart by a split, for example a debate; empty means the prompt itself.
	Group string `json:"group,omitempty"`
	// Seconds the labeller took; 0 is unknown. It is not part of the canonical form.
	Seconds float64 `json:"seconds,omitempty"`
}

// Split names.
const (
	SplitTrain = "train"
	SplitTest  = "test"
)

// Pairs returns the index pairs (better, worse) that the ranking implies, in
// order of presentation; ties give no pair.
func (r Ranking) Pairs() [][2]int {
	var pairs [][2]int
	for i := range r.Ranks {
		for j := i + 1; j < len(r.Ranks); j++ {
			switch {
			case r.Ranks[i] < r.Ranks[j]:
				pairs = append(pairs, [2]int{i, j})
			case r.Ranks[j] < r.Ranks[i]:
				pairs = append(pairs, [2]int{j, i})
			}
		}
	}
	return pairs
}

// Metric is one measured number of one step. Names follow TRL where TRL has
// one (docs/metrics.md gives each formula). Values are functions of code,
// config, data and seed; times and speeds are Timings.
type Metric struct {
	Name  string  `json:"name"`
	Value float64 `json:"value"`
}

// Report is what one step of a stage reports to the record.
type Report struct {
	Metrics  []Metric
	Rollouts []Rollout // of a ppo step
}

// Value returns the metric called name and whether the report has it.
func (r Report) Value(name string) (float64, bool) {
	for _, m := range r.Metrics {
		if m.Name == name {
			return m.Value, true
		}
	}
	return 0, false
}

// Rollout is one PPO episode, per token of its response (all slices have one
// element a response token).
type Rollout struct {
	Index      int     `json:"index"` // within the iteration
	Prompt     string  `json:"prompt"`
	PromptIDs  []int32 `json:"prompt_tokens"`
	Tokens     []int32 `json:"tokens"`
	Bytes      []byte  `json:"bytes"`
	Score      float32 `json:"score"` // reward model's, normalised, after the EOS rule
	RawScore   float32 `json:"raw_score"`
	Ended      bool    `json:"ended"` // the response has its end-of-text token
	LogProbs   []float32
	RefLogProb []float32
	KL         []float32 // k1: log π − log π_ref
	Values     []float32
	Rewards    []float32 // −β·KL, plus Score at the last token
	Advantages []float32 // before whitening
	Returns    []float32
}
