package runs

import (
	"context"
	"errors"
	"slices"
	"strings"
	"unicode"

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
	if err := (requestTexts{reason: reason, actor: actor}).check(); err != nil {
		return err
	}
	run, err := s.store.Run(ctx, ref)
	if err != nil {
		return err
	}
	q := storage.Request{Run: run.ID, Stage: stage, Decision: what, Reason: reason, Actor: actor}
	if stage != "" {
		newest, ok, err := s.newestAttempt(ctx, run, stage)
		if err != nil {
			return err
		}
		if ok {
			q.Attempt = newest.Number
		}
	}
	return s.requestDecision(ctx, run, q, func(request int64) error {
		d := workflows.Decision{Stage: stage, Attempt: q.Attempt, Reason: reason, Actor: actor, Request: request}
		_, err := s.update(ctx, run, what, d)
		return err
	})
}

// requestDecision records what a person asks for under the role of this process's database
// session, and sends it. A definite refusal is recorded too, so that nobody can
// have the request taken later; where there was no answer it may still be.
func (s *Service) requestDecision(ctx context.Context, run storage.Run, q storage.Request,
	send func(request int64) error) error {
	if !run.Status.Open() {
		return runClosed(run)
	}
	q, err := s.store.RequestDecision(ctx, q)
	if err != nil {
		return err
	}
	err = send(q.Sequence)
	if e, ok := errors.AsType[*trimtab.Error](err); ok && e.Class != trimtab.Unavailable {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.decisionTimeout)
		defer cancel()
		if failed := s.store.RefuseDecision(ctx, q, e); failed != nil {
			s.log.Warn("a refusal is not in the record", "run", run.ID, "error", failed)
		}
	}
	return err
}

// CheckReason refuses a decision without a reason that somebody can read.
func CheckReason(what, reason string) error {
	readable := func(r rune) bool { return unicode.IsGraphic(r) && !unicode.IsSpace(r) }
	if strings.ContainsFunc(reason, readable) {
		return nil
	}
	return trimtab.NewError(trimtab.Usage, "reason_missing",
		`say why with --reason "…": it stays in the record; where nobody is to, set require_reasons to false`,
		"%s: a reason is required", what)
}

// newestAttempt is the last attempt of a stage of a run.
func (s *Service) newestAttempt(ctx context.Context, run storage.Run, stage string) (storage.Attempt, bool, error) {
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
	return trimtab.NewError(trimtab.NotFound, "stage_not_found", "its stages are "+string(names),
		"run %s has no stage %q", run.ID, stage)
}
