package runs

import (
	"cmp"
	"context"
	"encoding/json"

	"github.com/trimtab/trimtab"
	"github.com/trimtab/trimtab/openlineage"
)

// OpenLineage returns the events of a run, as recorded so far, in the form of
// the OpenLineage specification. namespace is that of the jobs and datasets; if
// it is empty, it is trimtab:// followed by the database's identity.
//
// It changes nothing and may be called while the run is at work: for a longer
// history openlineage.Events repeats the earlier events and adds the new ones.
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
	info := openlineage.RunInfo{
		ID:        run.ID,
		Recipe:    cmp.Or(spec.Name, run.Name, "run"),
		Namespace: namespace,
		Names:     map[trimtab.Digest]string{},
	}
	for _, e := range history {
		var body struct{ Plan trimtab.Plan }
		// A body that does not parse names no inputs; the events are returned anyway.
		planned := e.Type == trimtab.EventRunCreated || e.Type == trimtab.EventRunPlanned
		if !planned || json.Unmarshal(e.Body, &body) != nil {
			continue
		}
		if err := s.nameInputs(ctx, body.Plan, info.Names); err != nil {
			return nil, err
		}
	}
	return openlineage.Events(info, history), nil
}

// nameInputs adds the names of the datasets and models that a plan reads from
// outside the run. Names that are known already are not looked up again.
func (s *Service) nameInputs(ctx context.Context, p trimtab.Plan, names map[trimtab.Digest]string) error {
	for _, st := range p.Stages {
		for _, in := range st.Inputs {
			d := in.Dataset + in.Model // at most one of them is set
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
