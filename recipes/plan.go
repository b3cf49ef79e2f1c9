package recipes

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"slices"

	"github.com/trimtab/trimtab"
	"github.com/trimtab/trimtab/evaluate"
)

// want is an input that a kind of stage reads. It is the output of the stage
// from, if that is not empty; or else the spec's dataset of that name, if data
// is set; or else the spec's base model, if base is set.
type want struct {
	name string
	from string
	data bool
	base bool
	// optional inputs are left out if nothing provides them.
	optional bool
}

// chain is the stages before one stage, in order.
type chain struct{ before []Stage }

// latest returns the name of the last stage of the given kinds that has the
// output; empty if there is none.
func (c chain) latest(output string, of ...string) string {
	for _, st := range slices.Backward(c.before) {
		if slices.Contains(of, st.Kind) && slices.Contains(kinds[st.Kind].outputs, output) {
			return st.Name
		}
	}
	return ""
}

// models returns the outputs that an evaluation compares, under the names that
// users know: base, sft, reward, ppo. A second stage of a kind goes by its own
// name.
func (c chain) models() []want {
	names := map[string]string{KindPretrain: "base"}
	var wants []want
	taken := map[string]bool{}
	for _, st := range c.before {
		if !slices.Contains(kinds[st.Kind].outputs, "model") {
			continue
		}
		name, ok := names[st.Kind]
		if !ok {
			name = st.Kind
		}
		if taken[name] {
			name = st.Name
		}
		taken[name] = true
		wants = append(wants, want{name: name, from: st.Name})
	}
	if !taken["base"] {
		wants = append([]want{{name: "base", base: true}}, wants...)
	}
	return wants
}

// Resolved says what the names in a spec refer to at launch.
type Resolved struct {
	Data func(ref string) (trimtab.Digest, error) // a dataset version
	Base func(ref string) (trimtab.Digest, error) // a stored model
}

// Document is a canonical JSON document, stored under its digest: the config of
// a stage, or a resolved spec.
type Document struct {
	Digest trimtab.Digest
	Body   []byte
}

// Plan returns the ordered stages of a run, and the documents that the plan
// names by digest.
func (s Spec) Plan(run string, r Resolved) (trimtab.Plan, []Document, error) {
	plan := trimtab.Plan{Run: run, Seed: s.Seed, Numerics: string(s.Numerics)}
	var docs []Document
	for i, st := range s.Stages {
		doc, err := s.document(st)
		if err != nil {
			return plan, nil, err
		}
		inputs, err := s.inputs(chain{s.Stages[:i]}, st, r)
		if err != nil {
			return plan, nil, fmt.Errorf("stage %s: %w", st.Name, err)
		}
		docs = append(docs, doc)
		segment, every := st.intervals()
		plan.Stages = append(plan.Stages, trimtab.PlannedStage{Name: st.Name, Kind: st.Kind,
			Version: kinds[st.Kind].version,
			Config:  doc.Digest, Inputs: inputs, Gates: st.Gates, SegmentSteps: segment, CheckpointSteps: every,
			CheckpointSeconds: st.CheckpointSeconds,
			RolloutShards:     st.shards()})
	}
	body, err := trimtab.CanonicalJSON(s.pinned(plan))
	if err != nil {
		return plan, nil, err
	}
	plan.Spec = trimtab.DigestOf(body)
	plan.SpecDigest, err = s.digest(plan)
	return plan, append(docs, Document{plan.Spec, body}), err
}

// pinned returns the spec with digests in place of the names of datasets and
// models, so that a plan made from it later reads the same data, whatever the
// names refer to by then.
func (s Spec) pinned(p trimtab.Plan) Spec {
	s.Stages = slices.Clone(s.Stages)
	for i, st := range p.Stages {
		refs := maps.Clone(s.Stages[i].Inputs)
		for _, in := range st.Inputs {
			d := in.Dataset + in.Model // one of them, or none
			switch {
			case d != "" && refs[in.Name] != "":
				refs[in.Name] = string(d)
			case in.Model != "":
				s.Model.Base = string(in.Model)
			}
		}
		s.Stages[i].Inputs = refs
	}
	return s
}

// digest returns the digest of the whole plan except the run's id and name:
// the seed, the numerics, and each stage's config, inputs, gates, intervals and
// shards. Plans of equal digest make equal models.
func (s Spec) digest(p trimtab.Plan) (trimtab.Digest, error) {
	p.Run, p.SpecDigest, p.Spec = "", "", ""
	b, err := trimtab.CanonicalJSON(p)
	return trimtab.DigestOf(b), err
}

// document returns the stored config of a stage: its own settings with what the
// rest of the spec adds (the model's shape, the seed of the world, the judge),
// and without what changes no byte (the number of rollout shards). Two stages
// with equal documents, inputs, seed and numerics make equal bytes.
func (s Spec) document(st Stage) (Document, error) {
	config := st.Config
	switch c := config.(type) {
	case *Pretrain:
		full := *c
		full.Model = s.Model.Config
		config = &full
	case *Collect:
		full := *c
		full.World = s.Starter.World
		config = &full
	case *PPO:
		full := *c
		full.RolloutShards = 0
		config = &full
	case *Evaluate:
		if s.Starter != nil {
			full := *c
			full.World, full.Judge = s.Starter.World, evaluate.JudgeGold
			config = &full
		}
	}
	body, err := trimtab.CanonicalJSON(map[string]any{"kind": st.Kind, "config": config})
	return Document{trimtab.DigestOf(body), body}, err
}

// ParseDocument reads the stored config of a stage. A field that it does not
// know is an error: the document was written by another version of the program.
func ParseDocument(body []byte) (Config, error) {
	var head struct {
		Kind   string          `json:"kind"`
		Config json.RawMessage `json:"config"`
	}
	if err := json.Unmarshal(body, &head); err != nil {
		return nil, fmt.Errorf("read stage config: %w", err)
	}
	k, ok := kinds[head.Kind]
	if !ok {
		return nil, fmt.Errorf("read stage config: unknown kind %q", head.Kind)
	}
	c := k.config()
	dec := json.NewDecoder(bytes.NewReader(head.Config))
	dec.DisallowUnknownFields()
	return c, dec.Decode(c)
}

// inputs returns the inputs of a stage, in the order in which its kind lists
// them.
func (s Spec) inputs(before chain, st Stage, r Resolved) ([]trimtab.Input, error) {
	var inputs []trimtab.Input
	wants := kinds[st.Kind].inputs(before, st)
	for name := range st.Inputs {
		if !slices.ContainsFunc(wants, func(w want) bool { return w.name == name }) {
			return nil, invalid("its inputs are "+inputNames(wants), "a %s stage has no input %q", st.Kind, name)
		}
	}
	for _, w := range wants {
		in, err := s.input(before, st, w, r)
		if err != nil {
			return nil, err
		}
		if in.Name != "" {
			inputs = append(inputs, in)
		}
	}
	return inputs, nil
}

// input returns one input of a stage: what the stage's own inputs name, or else
// the output of an earlier stage, or else the spec's dataset or base model. An
// optional input that nothing provides has no name.
func (s Spec) input(before chain, st Stage, w want, r Resolved) (trimtab.Input, error) {
	if ref, ok := st.Inputs[w.name]; ok {
		i := slices.IndexFunc(before.before, func(b Stage) bool { return b.Name == ref })
		switch {
		case i >= 0:
			return trimtab.Input{Name: w.name, Stage: ref, Output: kinds[before.before[i].Kind].outputs[0]}, nil
		case w.data:
			d, err := r.Data(ref)
			return trimtab.Input{Name: w.name, Dataset: d}, err
		}
		d, err := r.Base(ref)
		return trimtab.Input{Name: w.name, Model: d}, err
	}
	if w.from != "" {
		out := "model"
		if w.name == "rankings" {
			out = "rankings"
		}
		return trimtab.Input{Name: w.name, Stage: w.from, Output: out}, nil
	}
	if ref := *s.Data.Ref(trimtab.Kind(w.name)); w.data && ref != "" {
		d, err := r.Data(ref)
		return trimtab.Input{Name: w.name, Dataset: d}, err
	}
	if w.base && s.Model.Base != "" {
		d, err := r.Base(s.Model.Base)
		return trimtab.Input{Name: w.name, Model: d}, err
	}
	if w.optional {
		return trimtab.Input{}, nil
	}
	remedy := "put a stage that makes it before this one, or name it under inputs"
	if w.data {
		remedy = fmt.Sprintf("name a dataset under data.%s", w.name)
	} else if w.base {
		remedy = "put a pretrain stage before it, or name a model under model.base"
	}
	return trimtab.Input{}, invalid(remedy, "nothing provides the input %q", w.name)
}

// Give makes stage from and those after it read a dataset wherever they read
// data of its kind, even in place of a collect stage's rankings. It reports
// whether any of them must read it; if none must, first is the name of an
// earlier stage that must, or empty.
func (s *Spec) Give(from int, k trimtab.Kind, ref string) (read bool, first string) {
	s.Stages = slices.Clone(s.Stages)
	for i := range s.Stages {
		st := &s.Stages[i]
		wants := kinds[st.Kind].inputs(chain{s.Stages[:i]}, *st)
		at := slices.IndexFunc(wants, func(w want) bool { return w.data && w.name == string(k) })
		switch {
		case at < 0:
			continue
		case i < from:
			if first == "" && !wants[at].optional {
				first = st.Name
			}
			continue
		}
		read = read || !wants[at].optional
		inputs := maps.Clone(st.Inputs)
		if inputs == nil {
			inputs = map[string]string{}
		}
		inputs[string(k)] = ref
		st.Inputs = inputs
	}
	return read, first
}

// inputNames returns the names of inputs, separated by commas, for a message.
func inputNames(wants []want) string {
	var b bytes.Buffer
	for i, w := range wants {
		if i > 0 {
			b.WriteString(", ")
		}
		b.WriteString(w.name)
	}
	return b.String()
}

// intervals returns the steps of a segment and between two checkpoints: as
// given, or a few hundred updates of a small model (about a quarter of a
// minute) and ten times that.
func (st Stage) intervals() (segment, every int) {
	segment, every = st.SegmentSteps, st.CheckpointSteps
	if every == 0 {
		switch st.Kind {
		case KindPretrain:
			every = 500
		case KindSFT, KindReward:
			every = 50
		case KindPPO:
			every = 4
		default:
			every = 2
		}
	}
	if segment == 0 {
		segment = 10 * every
	}
	return max(segment, every), every
}

// ContinuedKey returns the cache key of an attempt that continues from a
// checkpoint made by an attempt with another key: its bytes are not those that
// key alone identifies.
func ContinuedKey(key, from trimtab.Digest) (trimtab.Digest, error) {
	b, err := trimtab.CanonicalJSON(map[string]any{"key": key, "from": from})
	return trimtab.DigestOf(b), err
}

// Version returns the version of a kind of stage in this program; 0 for a kind
// that it does not know.
func Version(kind string) int { return kinds[kind].version }

// CacheKey returns the digest of everything that a stage's bytes depend on: its kind
// and version, its name (which is part of every random draw), config, inputs,
// seed and numerics. Equal keys mean equal outputs, so that a rerun may reuse
// them.
func CacheKey(st trimtab.PlannedStage, inputs []trimtab.Named, seed uint64, numerics string) (trimtab.Digest, error) {
	b, err := trimtab.CanonicalJSON(map[string]any{"kind": st.Kind, "version": st.Version, "name": st.Name,
		"config": st.Config, "inputs": inputs, "seed": seed, "numerics": numerics})
	return trimtab.DigestOf(b), err
}
