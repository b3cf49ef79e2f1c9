package runs

import (
	"context"
	"errors"

	"strings"
	"unicode"

	"github.com/trimtab/trimtab"
	"github.com/trimtab/trimtab/storage"
	"github.com/trimtab/trimtab/workflows"
)

// Approve accepts the outputs of a stage that missed a gate, so that the run
// continues with them. The gate's failure stays in the record beside the
// decision.
func (s *Service) Approve(ctx context.Context, ref, stage, reason, actor string) error {
	return s.decide(ctx, ref, stage, workflows.UpdateApprove, reason, actor)
}

// Skip lets a blocked run continue without a stage. The workflow rejects it if
// a later stage reads the stage's output.
func (s *Service) Skip(ctx context.Context, ref, stage, reason, actor string) error {
	return s.decide(ctx, ref, stage, workflows.UpdateSkip, reason, actor)
}

// Cancel ends a run. The stage at work stops after its current step and writes
// a checkpoint first.
func (s *Service) Cancel(ctx context.Context, ref, reason, actor string) error {
	return s.decide(ctx, ref, "", workflows.UpdateCancel, reason, actor)
}

// Pause suspends a run after the current step of the stage at work, with a
// checkpoint, until Resume.
func (s *Service) Pause(ctx context.Context, ref, reason, actor string) error {
	return s.decide(ctx, ref, "", workflows.UpdatePause, reason, actor)
}

// Resume continues a paused run from the checkpoint that it was paused at.
func (s *Service) Resume(ctx context.Context, ref, reason, actor string) error {
	return s.decide(ctx, ref, "", workflows.UpdateResume, reason, actor)
}

// decide sends the decision named what, one of the workflows.Update constants,
// to a run. stage is empty for a decision about the whole run. A decision about
// a stage carries the number of its newest attempt, so that the workflow rejects
// one that was made in ignorance of a later attempt.
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

// requestDecision records that a person asked for a decision and then sends it.
// The request is recorded by the caller's own database session, whose role
// identifies the person, before any worker acts on it.
//
// A definite rejection is recorded too, so that the request cannot be carried
// out later. Where no answer came (class Unavailable) the request stays open,
// because a worker may still act on it.
func (s *Service) requestDecision(ctx context.Context, run storage.Run, q storage.Request,
	send func(request int64) error) error {
	if !run.Status.Open() {
		return runClosed(run)
	}
	q, err := s.store.RequestDecision(ctx, q)
	if err != nil {
		return err
	}
	// The number of the request ties the workflow's decision to this row.
	err = send(q.Sequence)
	if e, ok := errors.AsType[*trimtab.Error](err); ok && e.Class != trimtab.Unavailable {
		// The rejection is recorded even if the caller has given up meanwhile.
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.decisionTimeout)
		defer cancel()
		if failed := s.store.RefuseDecision(ctx, q, e); failed != nil {
			s.log.Warn("cannot record that a decision was rejected", "run", run.ID, "error", failed)
		}
	}
	return err
}

// CheckReason rejects a reason without any visible character as Usage
// "reason_missing". what names the decision in the message.
func CheckReason(what, reason string) error {
	readable := func(r rune) bool { return unicode.IsGraphic(r) && !unicode.IsSpace(r) }
	if strings.ContainsFunc(reason, readable) {
		return nil
	}
	return trimtab.NewError(trimtab.Usage, "reason_missing",
		`give a reason with --reason "…", which is kept in the record; require_reasons=false makes reasons optional`,
		"%s: a reason is required", what)
}

// newestAttempt returns the attempt of a stage with the highest number; ok is
// false before the first attempt. A stage that the plan does not have is
// NotFound "stage_not_found".
func (s *Service) newestAttempt(ctx context.Context, run storage.Run, stage string) (a storage.Attempt, ok bool,
	err error) {
	if !hasStage(run, stage) {
		return storage.Attempt{}, false, stageNotFound(run, stage)
	}
	attempts, err := s.store.Attempts(ctx, run.ID)
	if err != nil {
		return storage.Attempt{}, false, err
	}
	newest := newestAttemptOf(attempts, stage)
	if newest == nil {
		return storage.Attempt{}, false, nil
	}
	return *newest, true, nil
}

// hasStage reports whether the newest plan of a run has a stage of that name.
func hasStage(run storage.Run, stage string) bool {
	return stageIndex(run.Plan, stage) >= 0
}

// stageNotFound returns NotFound "stage_not_found" with the names of the stages
// that the run has.
func stageNotFound(run storage.Run, stage string) error {
	var names []string
	for _, st := range run.Plan.Stages {
		names = append(names, st.Name)
	}
	return trimtab.NewError(trimtab.NotFound, "stage_not_found", "its stages are "+strings.Join(names, ", "),
		"run %s has no stage %q", run.ID, stage)
}
