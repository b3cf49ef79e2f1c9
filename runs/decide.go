package runs

import (
	"context"
	"slices"

	"github.com/trimtab/trimtab"
	"github.com/trimtab/trimtab/storage"
	"github.com/trimtab/trimtab/workflows"
)

// Approve lets a stage's output count although it missed a gate.
func (s *Service) Approve(ctx context.Context, ref, stage, reason, actor string) error {
	return s.decide(ctx, ref, stage, workflows.UpdateApprove, reason, actor)
}

// Skip goes on without a stage whose output no later one reads.
func (s *Service) Skip(ctx context.Context, ref, stage, reason, actor string) error {
	return s.decide(ctx, ref, stage, workflows.UpdateSkip, reason, actor)
}

// Cancel stops a run at its next step, with a checkpoint.
func (s *Service) Cancel(ctx context.Context, ref, reason, actor string) error {
	return s.decide(ctx, ref, "", workflows.UpdateCancel, reason, actor)
}

// Pause stops a run at its next step, until Resume.
func (s *Service) Pause(ctx context.Context, ref, reason, actor string) error {
	return s.decide(ctx, ref, "", workflows.UpdatePause, reason, actor)
}

// Resume lets a paused run go on.
func (s *Service) Resume(ctx context.Context, ref, reason, actor string) error {
	return s.decide(ctx, ref, "", workflows.UpdateResume, reason, actor)
}

func (s *Service) decide(ctx context.Context, ref, stage, what, reason, actor string) error {
	if err := (words{reason: reason, actor: actor}).check(); err != nil {
		return err
	}
	run, err := s.store.Run(ctx, ref)
	if err != nil {
		return err
	}
	d := workflows.Decision{Stage: stage, Reason: reason, Actor: actor}
	if stage != "" {
		newest, ok, err := s.newest(ctx, run, stage)
		if err != nil {
			return err
		}
		if ok {
			d.Attempt = newest.Number
		}
	}
	_, err = s.update(ctx, run, what, d)
	return err
}

// newest is the last attempt of a stage of a run.
func (s *Service) newest(ctx context.Context, run storage.Run, stage string) (storage.Attempt, bool, error) {
	if !hasStage(run, stage) {
		return storage.Attempt{}, false, stageNotFound(run, stage)
	}
	attempts, err := s.store.Attempts(ctx, run.ID)
	if err != nil {
		return storage.Attempt{}, false, err
	}
	var last storage.Attempt
	for _, a := range attempts {
		if a.Stage == stage && a.Number > last.Number {
			last = a
		}
	}
	return last, last.Number > 0, nil
}

func hasStage(run storage.Run, stage string) bool {
	return slices.ContainsFunc(run.Plan.Stages, func(st trimtab.PlannedStage) bool { return st.Name == stage })
}

func stageNotFound(run storage.Run, stage string) error {
	var names []byte
	for i, st := range run.Plan.Stages {
		if i > 0 {
			names = append(names, ", "...)
		}
		names = append(names, st.Name...)
	}
	return trimtab.NewError(trimtab.NotFound, "stage_not_found", "its stages are "+string(names), "run %s has no stage %q", run.ID, stage)
}
