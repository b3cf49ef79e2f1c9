package runs

import (
	"cmp"
	"context"
	"encoding/json"

	"github.com/trimtab/trimtab"
	"github.com/trimtab/trimtab/openlineage"
)

// OpenLineage is what the record of a run tells so far as events of OpenLineage,
// in a namespace; an empty one is trimtab:// and the database's identity.
func (s *Service) OpenLineage(ctx context.Context, ref, namespace string) ([]openlineage.RunEvent, error) {
	run, err := s.store.Run(ctx, ref)
	if err != nil {
		return nil, err
	}
	if namespace == "" {
		id, err := s.store.Identity(ctx)
		if err != nil {
			return nil, err
		}
		namespace = "trimtab://" + id
	}
	history, err := s.store.History(ctx, run.ID, "")
	if err != nil {
		return nil, err
	}
	spec, _, err := s.specOfPlan(ctx, run.Plan)
	if err != nil {
		return nil, err
	}
	of := openlineage.RunInfo{ID: run.ID, Recipe: cmp.Or(spec.Name, run.Name, "run"), Namespace: namespace,
		Names: map[trimtab.Digest]string{}}
	for _, e := range history {
		var told struct{ Plan trimtab.Plan }
		if e.Type != "run_created" && e.Type != "run_planned" || json.Unmarshal(e.Body, &told) != nil {
			continue
		}
		if err := s.nameInputs(ctx, told.Plan, of.Names); err != nil {
			return nil, err
		}
	}
	return openlineage.Events(of, history), nil
}

// nameInputs adds the names of what a plan reads from outside.
func (s *Service) nameInputs(ctx context.Context, p trimtab.Plan, names map[trimtab.Digest]string) error {
	for _, st := range p.Stages {
		for _, in := range st.Inputs {
			d := in.Dataset + in.Model // one of them, or none
			if _, known := names[d]; known || d == "" {
				continue
			}
			var err error
			if names[d], err = s.nameOf(ctx, in); err != nil {
				return err
			}
		}
	}
	return nil
}
