package runs

import (
	"bytes"
	"context"
	"encoding/json"
	"slices"

	"github.com/trimtab/trimtab"
	"github.com/trimtab/trimtab/recipes"
	"github.com/trimtab/trimtab/storage"
)

// SpecDifference is a path at which run specs are not the same. A value that
// a spec does not have is null.
type SpecDifference struct {
	Path   string            `json:"path"` // as --set takes it
	Values []json.RawMessage `json:"values"`
}

// leaf is a value of a spec: anything but an object.
type leaf struct {
	path  string
	value json.RawMessage
}

// leavesOf are the values of a spec in its order. A stage's are under its
// name, its config's among them.
func leavesOf(spec recipes.Spec) ([]leaf, error) {
	body, err := spec.JSON()
	if err != nil {
		return nil, err
	}
	var all []leaf
	return all, walkSpec("", body, func(path string, value json.RawMessage) error {
		if path != "stages" {
			all = append(all, leaf{path, value})
			return nil
		}
		var stages []json.RawMessage
		if err := json.Unmarshal(value, &stages); err != nil {
			return err
		}
		for i, st := range stages {
			err := walkSpec(spec.Stages[i].Name, st, func(path string, value json.RawMessage) error {
				all = append(all, leaf{path, value})
				return nil
			})
			if err != nil {
				return err
			}
		}
		return nil
	})
}

// walkSpec visits what is no object inside raw, in order; the name of a stage's config is left out of paths.
func walkSpec(path string, raw json.RawMessage, visit func(path string, value json.RawMessage) error) error {
	dec := json.NewDecoder(bytes.NewReader(raw))
	if first, err := dec.Token(); err != nil || first != json.Delim('{') {
		return visit(path, raw)
	}
	for dec.More() {
		key, err := dec.Token()
		if err != nil {
			return err
		}
		var value json.RawMessage
		if err := dec.Decode(&value); err != nil {
			return err
		}
		name, _ := key.(string) // keys of JSON are
		switch {
		case path == "":
		case name == "config":
			name = path
		default:
			name = path + "." + name
		}
		if err := walkSpec(name, value, visit); err != nil {
			return err
		}
	}
	return nil
}

// specDifferences are the paths at which specs differ, in the order of the first
// spec that has each.
func specDifferences(specs ...recipes.Spec) ([]SpecDifference, error) {
	var all []SpecDifference
	for i, spec := range specs {
		leaves, err := leavesOf(spec)
		if err != nil {
			return nil, err
		}
		at := 0 // where a path that no spec before has is put: behind the one before it
		for _, l := range leaves {
			k := slices.IndexFunc(all, func(d SpecDifference) bool { return d.Path == l.path })
			if k < 0 {
				k = at
				all = slices.Insert(all, k, SpecDifference{l.path, make([]json.RawMessage, len(specs))})
			}
			all[k].Values[i] = l.value
			at = k + 1
		}
	}
	return slices.DeleteFunc(all, func(d SpecDifference) bool {
		return !slices.ContainsFunc(d.Values, func(v json.RawMessage) bool { return !bytes.Equal(v, d.Values[0]) })
	}), nil
}

// EventNote says what an event does not. Of one that gave a run a plan: where
// the spec came from, and what it changed. Of an attempt that took over the
// outputs of another: which one that is.
type EventNote struct {
	Recipe string // the spec's own name
	// from the plan before, or from that of the run that this one reruns: the old value and the new one
	Changes    []SpecDifference
	ReusedFrom *AttemptRef
}

// EventNotes are about those events of a run that say less than people want to know, by sequence.
func (s *Service) EventNotes(ctx context.Context, events []storage.Event) (map[int64]EventNote, error) {
	notes := map[int64]EventNote{}
	var before *recipes.Spec
	for _, e := range events {
		if e.Type == "attempt_created" {
			made, err := s.reusedBy(ctx, e)
			if err != nil {
				return nil, err
			}
			if made != nil {
				notes[e.Sequence] = EventNote{ReusedFrom: made}
			}
			continue
		}
		if e.Type != "run_created" && e.Type != "run_planned" {
			continue
		}
		var told struct {
			Origin string
			Plan   trimtab.Plan
		}
		if err := json.Unmarshal(e.Body, &told); err != nil {
			return nil, err
		}
		spec, known, err := s.specOfPlan(ctx, told.Plan)
		if err != nil {
			return nil, err
		}
		if !known {
			continue
		}
		if told.Origin != "" {
			if before, err = s.newestSpec(ctx, told.Origin); err != nil {
				return nil, err
			}
		}
		note := EventNote{Recipe: spec.Name}
		if before != nil {
			if note.Changes, err = specDifferences(*before, spec); err != nil {
				return nil, err
			}
		}
		notes[e.Sequence], before = note, &spec
	}
	return notes, nil
}

// reusedBy is the attempt whose outputs an attempt took over as it was created, or nil.
func (s *Service) reusedBy(ctx context.Context, e storage.Event) (*AttemptRef, error) {
	var told struct {
		From int64 `json:"reused_from"`
	}
	if err := json.Unmarshal(e.Body, &told); err != nil {
		return nil, err
	}
	if told.From == 0 {
		return nil, nil
	}
	made, err := s.store.Attempt(ctx, told.From)
	if err != nil {
		if trimtab.AsError(err).Class == trimtab.NotFound { // the sentence does without it
			err = nil
		}
		return nil, err
	}
	by := refTo(made)
	return &by, nil
}

// specOfPlan is the spec that a plan was made from, if it is on record in a form that this program reads.
func (s *Service) specOfPlan(ctx context.Context, p trimtab.Plan) (spec recipes.Spec, known bool, err error) {
	if p.Spec == "" {
		return spec, false, nil
	}
	body, err := s.store.Document(ctx, p.Spec)
	if err != nil {
		if trimtab.AsError(err).Class == trimtab.NotFound {
			err = nil
		}
		return spec, false, err
	}
	spec, err = recipes.Parse(body)
	return spec, err == nil, nil
}

// newestSpec is the spec of a run's newest plan, or nil.
func (s *Service) newestSpec(ctx context.Context, ref string) (*recipes.Spec, error) {
	run, err := s.store.Run(ctx, ref)
	if err != nil {
		return nil, err
	}
	spec, known, err := s.specOfPlan(ctx, run.Plan)
	if !known || err != nil {
		return nil, err
	}
	return &spec, nil
}
