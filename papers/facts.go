package papers

import (
	"bytes"
	"cmp"
	"encoding/json"
	"slices"
	"strings"
	"time"

	"github.com/trimtab/trimtab"
)

// Facts is all that the papers of a model say, gathered once.
type Facts struct {
	Lineage    Lineage
	Name       string // as it is first known
	Reward     bool   // it scores texts and writes none
	Parameters int64
	Shape      *ModelShape // nil where the model's files are not here
	Files      []ModelFile // of the stored model, in order of name
	Exported   []ModelFile // those that an exported folder has in another form, for other programs
	Padded     bool        // of them the vocabulary: a padding token was added
	KeepsBias  bool        // score.bias of a reward model could not be folded into what other programs read
	Evaluation *EvaluationFacts
	Agreements []AgreementFacts // in order of the lineage's dataset nodes
}

// ModelShape is the transformer's.
type ModelShape struct {
	Layers, Width, Heads, Context, Vocab int
}

// ModelFile is one file of the model.
type ModelFile struct {
	Name   string
	Digest trimtab.Digest
	Bytes  int64
}

// AgreementFacts is how often two labellers of a version ordered a pair alike.
type AgreementFacts struct {
	Dataset trimtab.Digest
	Share   float64
	Common  int // pairs that two ordered; 0 where the stage measured the share by itself
	// Unreadable items could not be compared.
	Unreadable bool
}

// EvaluationFacts is the report of an evaluate stage that the model was in.
type EvaluationFacts struct {
	Document   trimtab.Digest
	Run, Stage string
	Number     int // of the attempt
	EndedAt    *time.Time
	As         string // the model's name in it
	Report     EvaluationReport
}

// EvaluationReport is an evaluation as an evaluate stage writes it, as far as the papers show it.
type EvaluationReport struct {
	Models      map[string]ModelScores `json:"models"`
	RewardModel *RewardAccuracy        `json:"reward_model"`
	Wins        *WinRate               `json:"ppo_over_sft"`
	Prompts     int                    `json:"prompts"`
	Overlap     int                    `json:"overlap"`
	Judge       string                 `json:"judge"`
}

// ModelScores are a model's means on held-out prompts.
type ModelScores struct {
	Gold     *float64 `json:"gold"`
	Followed *float64 `json:"followed"`
	True     *float64 `json:"true"`
	Polite   *float64 `json:"polite"`
	Concise  *float64 `json:"concise"`
	Reward   *float64 `json:"reward"`
	KL       *float64 `json:"kl"`
	Length   *float64 `json:"length"`
	Ended    *float64 `json:"ended"`
}

// RewardAccuracy is a reward model's on held-out rankings, with its 95 % interval.
type RewardAccuracy struct {
	Pairs      int     `json:"pairs"`
	Accuracy   float64 `json:"accuracy"`
	Low        float64 `json:"low"`
	High       float64 `json:"high"`
	LongerWins float64 `json:"longer_wins"`
}

// WinRate is a number with its 95 % interval.
type WinRate struct {
	Value float64 `json:"value"`
	Low   float64 `json:"low"`
	High  float64 `json:"high"`
}

// measure is one number of a model, as all papers name it.
type measure struct {
	name, unit string
	value      float64
	low, high  *float64
}

// measures lists what an evaluation says of a model under a name, in a fixed order.
func (r EvaluationReport) measures(name string, reward bool) []measure {
	if a := r.RewardModel; reward && a != nil {
		return []measure{{"accuracy on held-out comparisons", "share", a.Accuracy, &a.Low, &a.High},
			{"accuracy of preferring the longer answer", "share", a.LongerWins, nil, nil}}
	}
	s, ok := r.Models[name]
	if !ok {
		return nil
	}
	var list []measure
	for _, m := range []struct {
		name, unit string
		value      *float64
	}{
		{"gold score", "0 to 1", s.Gold}, {"followed the instruction", "share", s.Followed}, {"true", "share", s.True},
		{"polite", "share", s.Polite},
		{"concise", "share", s.Concise}, {"reward", "of the reward model", s.Reward},
		{"KL from the SFT model", "nats a response", s.KL},
		{"length", "tokens", s.Length}, {"came to an end", "share", s.Ended},
	} {
		if m.value != nil {
			list = append(list, measure{m.name, m.unit, *m.value, nil, nil})
		}
	}
	if w := r.Wins; name == "ppo" && w != nil {
		list = append(list, measure{"preferred to the SFT model's answer by the judge", "share of prompts", w.Value,
			&w.Low, &w.High})
	}
	return list
}

// nodes lists the lineage's nodes of a kind, in order.
func (f *Facts) nodes(kind string) []*Node {
	var list []*Node
	for i := range f.Lineage.Nodes {
		if n := &f.Lineage.Nodes[i]; n.Kind == kind {
			list = append(list, n)
		}
	}
	return list
}

// stages lists the attempts that did the work, the oldest first.
func (f *Facts) stages() []*Node {
	list := slices.DeleteFunc(f.nodes(NodeAttempt), func(n *Node) bool {
		return slices.ContainsFunc(f.Lineage.From(n.ID), func(e Edge) bool { return e.Role == RoleReused })
	})
	slices.SortStableFunc(list, func(a, b *Node) int {
		return cmp.Or(a.Attempt.CreatedAt.Compare(b.Attempt.CreatedAt), strings.Compare(a.Name, b.Name))
	})
	return list
}

// hasSimulatedLabels reports whether any labels behind the model are of labellers that the program plays.
func (f *Facts) hasSimulatedLabels() bool {
	return slices.ContainsFunc(f.nodes(NodeDataset), func(n *Node) bool { return n.Dataset.Simulated })
}

// config is the settings of an attempt, nil where the record has none.
func (f *Facts) config(a *AttemptFacts) json.RawMessage {
	n := f.Lineage.Node(a.Config)
	if n == nil {
		return nil
	}
	var doc struct{ Config json.RawMessage }
	if json.Unmarshal(n.Config, &doc) != nil {
		return nil
	}
	return doc.Config
}

// setting is one setting by its path.
type setting struct{ path, value string }

// settings lays a config out, in order of path.
func settings(raw json.RawMessage) []setting {
	var v any
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.UseNumber()
	if dec.Decode(&v) != nil {
		return nil
	}
	var list []setting
	var walk func(path string, v any)
	walk = func(path string, v any) {
		m, ok := v.(map[string]any)
		if !ok {
			b, _ := json.Marshal(v) // what was decoded encodes
			list = append(list, setting{path, strings.Trim(string(b), `"`)})
			return
		}
		for k, inner := range m { // sorted below
			walk(strings.TrimPrefix(path+"."+k, "."), inner)
		}
	}
	walk("", v)
	slices.SortFunc(list, func(a, b setting) int { return strings.Compare(a.path, b.path) })
	return list
}

// agreement finds what is known of how a version's labellers agree.
func (f *Facts) agreement(d trimtab.Digest) (AgreementFacts, bool) {
	i := slices.IndexFunc(f.Agreements, func(a AgreementFacts) bool { return a.Dataset == d })
	if i < 0 {
		return AgreementFacts{}, false
	}
	return f.Agreements[i], true
}
