package runs

import (
	"bytes"
	"context"
	"encoding/json"
	"slices"
	"strings"

	"github.com/trimtab/trimtab"
	"github.com/trimtab/trimtab/recipes"
	"github.com/trimtab/trimtab/storage"
)

// SpecDifference is a path at which the specs of runs differ. The value is null
// for a spec that does not set the path.
type SpecDifference struct {
	// In the form that --set takes, such as sft.learning_rate.
	Path string `json:"path"`
	// One for each spec, in their order.
	Values []json.RawMessage `json:"values"`
	// StoredPath is the path in the stored spec, such as sft.optim.lr. Overrides
	// that were recorded before specs took the names of Path have it.
	StoredPath string `json:"-"`
}

// leaf is a value of a spec that is not an object: a number, string, boolean or
// array.
type leaf struct {
	path, stored string // as in SpecDifference
	value        json.RawMessage
}

// leavesOf returns the leaves of a spec in its order. A stage's leaves have
// paths below the stage's name, and its config is merged with them, as --set
// has it.
func leavesOf(spec recipes.Spec) ([]leaf, error) {
	body, err := spec.JSON()
	if err != nil {
		return nil, err
	}
	var all []leaf
	return all, walkSpec("", body, func(path string, value json.RawMessage) error {
		if path != "stages" {
			all = append(all, leaf{recipes.SpecPath("", path), path, value})
			return nil
		}
		// Stages are an array in the spec; here each is an object under its name.
		var stages []json.RawMessage
		if err := json.Unmarshal(value, &stages); err != nil {
			return err
		}
		for i, st := range stages {
			err := walkSpec(spec.Stages[i].Name, st, func(path string, value json.RawMessage) error {
				name, kind := spec.Stages[i].Name, spec.Stages[i].Kind
				stored := path
				if setting, ok := strings.CutPrefix(path, name+"."); ok {
					path = name + "." + recipes.SpecPath(kind, setting)
				}
				all = append(all, leaf{path, stored, value})
				return nil
			})
			if err != nil {
				return err
			}
		}
		return nil
	})
}

// walkSpec calls visit for each leaf inside raw, in order. path is that of raw.
// The key "config" adds nothing to a path. Decoding by token keeps the order of
// the keys, which a map would lose.
func walkSpec(path string, raw json.RawMessage, visit func(path string, value json.RawMessage) error) error {
	// A value that does not begin with a brace is a leaf, arrays included: they are
	// compared and set as a whole.
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
		name, _ := key.(string) // the keys of a JSON object are strings
		switch {
		case path == "": // a path has no leading dot
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

// specDifferences returns the paths at which specs differ, in the order of the
// first spec that has each.
func specDifferences(specs ...recipes.Spec) ([]SpecDifference, error) {
	var all []SpecDifference
	for i, spec := range specs {
		leaves, err := leavesOf(spec)
		if err != nil {
			return nil, err
		}
		// A path that no earlier spec has is inserted after the path before it.
		next := 0
		for _, l := range leaves {
			k := slices.IndexFunc(all, func(d SpecDifference) bool { return d.Path == l.path })
			if k < 0 {
				k = next
				all = slices.Insert(all, k,
					SpecDifference{Path: l.path, Values: make([]json.RawMessage, len(specs)), StoredPath: l.stored})
			}
			all[k].Values[i] = l.value
			next = k + 1
		}
	}
	// The raw JSON is compared: spec.JSON writes equal values in the same form.
	return slices.DeleteFunc(all, func(d SpecDifference) bool {
		return !slices.ContainsFunc(d.Values, func(v json.RawMessage) bool { return !bytes.Equal(v, d.Values[0]) })
	}), nil
}

// EventNote adds to an event what its own body does not have. For an event that
// gave a run a plan, it is the recipe and what changed; for a new attempt that
// reuses another one's outputs, it is that attempt.
type EventNote struct {
	// Name in the spec.
	Recipe string
	// From the run's previous plan, or from that of the run that this one reruns; the
	// two values are the old and the new one.
	Changes []SpecDifference
	// Nil unless the event created an attempt that reuses another one's outputs.
	ReusedFrom *AttemptRef
}

// EventNotes returns the notes on the events of one run, by sequence number.
// Each plan is compared with the one before, so events should begin with the
// run's first.
func (s *Service) EventNotes(ctx context.Context, events []storage.Event) (map[int64]EventNote, error) {
	notes := map[int64]EventNote{}
	var before *recipes.Spec // of the previous plan; nil if not known
	for _, e := range events {
		if e.Type == trimtab.EventAttemptCreated {
			producer, err := s.reusedBy(ctx, e)
			if err != nil {
				return nil, err
			}
			if producer != nil {
				notes[e.Sequence] = EventNote{ReusedFrom: producer}
			}
			continue
		}
		if e.Type != trimtab.EventRunCreated && e.Type != trimtab.EventRunPlanned {
			continue
		}
		var body struct {
			Origin string
			Plan   trimtab.Plan
		}
		if err := json.Unmarshal(e.Body, &body); err != nil {
			return nil, err
		}
		spec, known, err := s.specOfPlan(ctx, body.Plan)
		if err != nil {
			return nil, err
		}
		// A plan whose spec is not known gets no note, and the next one is compared
		// with the last that is known.
		if !known {
			continue
		}
		// A rerun of a closed run is compared with the plan of that run.
		if body.Origin != "" {
			if before, err = s.newestSpec(ctx, body.Origin); err != nil {
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

// reusedBy returns the attempt whose outputs the attempt created by e took
// over; nil if it took over none.
func (s *Service) reusedBy(ctx context.Context, e storage.Event) (*AttemptRef, error) {
	var body struct {
		ReusedFrom int64 `json:"reused_from"`
	}
	if err := json.Unmarshal(e.Body, &body); err != nil {
		return nil, err
	}
	if body.ReusedFrom == 0 {
		return nil, nil
	}
	producer, err := s.store.Attempt(ctx, body.ReusedFrom)
	if err != nil {
		if trimtab.AsError(err).Class == trimtab.NotFound { // the history is shown without it
			err = nil
		}
		return nil, err
	}
	ref := refTo(producer)
	return &ref, nil
}

// specOfPlan returns the spec that a plan was made from. known is false if the
// spec is not in the record or if this program cannot parse it.
func (s *Service) specOfPlan(ctx context.Context, p trimtab.Plan) (spec recipes.Spec, known bool, err error) {
	if p.Spec == "" { // plans of early builds do not refer to their spec
		return spec, false, nil
	}
	body, err := s.store.Document(ctx, p.Spec)
	if err != nil {
		if trimtab.AsError(err).Class == trimtab.NotFound {
			err = nil
		}
		return spec, false, err
	}
	// A spec that does not parse is one of another version of the program: not known,
	// but no error.
	spec, err = recipes.Parse(body)
	return spec, err == nil, nil
}

// newestSpec returns the spec of a run's newest plan; nil if it is not known.
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
