package papers

import (
	"bytes"
	"cmp"
	"encoding/json"
	"slices"
	"strings"
	"time"

	"github.com/trimtab/trimtab"
	"github.com/trimtab/trimtab/eval"
)

// Facts are everything that the documents of a model say, gathered once.
type Facts struct {
	Lineage Lineage
	// Name is the oldest name of the model.
	Name string
	// Reward marks a reward model, which scores texts and does not generate
	// any.
	Reward     bool
	Parameters int64
	// Shape is nil if the model's files are not in this store.
	Shape *ModelShape
	// Files are those of the stored model, in order of name. Exported are the
	// files that an exported folder has in another form, for other programs.
	Files    []ModelFile
	Exported []ModelFile
	// GGUF is the name of the file for llama.cpp that an exported folder holds
	// in place of safetensors, or empty.
	GGUF string
	// Padded means that the exported vocabulary has a padding token that the
	// stored one lacks.
	Padded bool
	// Folded means that score.bias of a reward model is folded into the last
	// norm in the exported form.
	Folded bool
	// KeepsBias means that score.bias of a reward model could not be folded
	// into weights that transformers reads.
	KeepsBias bool
	// Evaluation is nil if the model was never evaluated.
	Evaluation *EvaluationFacts
	// Agreements are in the order of the lineage's dataset nodes.
	Agreements []AgreementFacts
	// SettingPath returns the path that specs have for a setting of a kind of
	// stage, given its path in the stored config. The card shows stored paths
	// if it is nil.
	SettingPath func(kind, stored string) string `json:"-"`
}

// ModelShape is the shape of the transformer: Width is the size of a hidden
// state, Context and Vocab are counted in tokens.
type ModelShape struct {
	Layers, Width, Heads, Context, Vocab int
	// Class is Hugging Face's class that loads the exported folder; "" is GPT-2's.
	Class string
}

// class returns the class that loads the exported folder.
func (f *Facts) class() string {
	switch {
	case f.Shape != nil && f.Shape.Class != "":
		return f.Shape.Class
	case f.Reward:
		return "GPT2ForSequenceClassification"
	}
	return "GPT2LMHeadModel"
}

// ModelFile is one file of the model.
type ModelFile struct {
	Name   string
	Digest trimtab.Digest
	Bytes  int64
}

// AgreementFacts say how often two labellers of a dataset version ordered a
// pair of responses in the same way.
type AgreementFacts struct {
	Dataset trimtab.Digest
	// Share is that fraction of the Common pairs, those that two labellers
	// ordered. Common is 0 if the collect stage measured the share itself.
	Share  float64
	Common int
	// Unreadable means that the items could not be read back and compared.
	Unreadable bool
}

// EvaluationFacts are the report of an evaluate stage that measured the model.
type EvaluationFacts struct {
	// Document is the digest of the report.
	Document   trimtab.Digest
	Run, Stage string
	// Number is that of the attempt.
	Number  int
	EndedAt *time.Time
	// As is the name of the model in the report, for example "ppo".
	As     string
	Report eval.Report
}

// measure is one number of a model, under the name that all documents use. low
// and high are its 95 % interval, or nil.
type measure struct {
	name, unit string
	value      float64
	low, high  *float64
}

// measures returns what a report says of the model that it calls name, in a
// fixed order. reward asks for the measures of a reward model.
func measures(r eval.Report, name string, reward bool) []measure {
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
		{"gold score", "0 to 1", s.Gold},
		{"followed the instruction", "share", s.Followed},
		{"true", "share", s.True},
		{"polite", "share", s.Polite},
		{"concise", "share", s.Concise},
		{"reward", "of the reward model", s.Reward},
		{"KL from the SFT model", "nats a response", s.KL},
		{"length", "tokens", s.Length},
		{"came to an end", "share", s.Ended},
	} {
		if m.value != nil {
			list = append(list, measure{m.name, m.unit, *m.value, nil, nil})
		}
	}
	// The report compares the answers of these two models alone.
	if w := r.Wins; name == "ppo" && w != nil {
		list = append(list, measure{"preferred to the SFT model's answer by the judge", "share of prompts",
			w.Value, &w.Low, &w.High})
	}
	return list
}

// nodes returns the lineage's nodes of a kind, in order.
func (f *Facts) nodes(kind string) []*Node {
	var list []*Node
	for i := range f.Lineage.Nodes {
		if n := &f.Lineage.Nodes[i]; n.Kind == kind {
			list = append(list, n)
		}
	}
	return list
}

// stages returns the attempts that did the work, the oldest first. An attempt
// that only reused an earlier result did none.
func (f *Facts) stages() []*Node {
	list := slices.DeleteFunc(f.nodes(NodeAttempt), func(n *Node) bool {
		return slices.ContainsFunc(f.Lineage.From(n.ID), func(e Edge) bool { return e.Role == RoleReused })
	})
	slices.SortStableFunc(list, func(a, b *Node) int {
		// Names decide between attempts of one moment, so that the order is total.
		return cmp.Or(a.Attempt.CreatedAt.Compare(b.Attempt.CreatedAt), strings.Compare(a.Name, b.Name))
	})
	return list
}

// hasSimulatedLabels reports whether the program played any of the labellers
// behind the model.
func (f *Facts) hasSimulatedLabels() bool {
	return slices.ContainsFunc(f.nodes(NodeDataset), func(n *Node) bool { return n.Dataset.Simulated })
}

// config returns the config of an attempt, or nil if the record lacks it.
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

// setting is one value of a config, with its path, for example "optim.lr".
type setting struct{ path, value string }

// settings flattens a config into its values, sorted by path. Numbers keep
// their digits.
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
			// Cannot fail: v was decoded from JSON.
			b, _ := json.Marshal(v)
			list = append(list, setting{path, strings.Trim(string(b), `"`)})
			return
		}
		// The list is sorted below, so the order of the map does not matter.
		for k, inner := range m {
			walk(strings.TrimPrefix(path+"."+k, "."), inner)
		}
	}
	walk("", v)
	slices.SortFunc(list, func(a, b setting) int { return strings.Compare(a.path, b.path) })
	return list
}

// agreement returns what is known of how a version's labellers agree.
func (f *Facts) agreement(d trimtab.Digest) (AgreementFacts, bool) {
	i := slices.IndexFunc(f.Agreements, func(a AgreementFacts) bool { return a.Dataset == d })
	if i < 0 {
		return AgreementFacts{}, false
	}
	return f.Agreements[i], true
}
