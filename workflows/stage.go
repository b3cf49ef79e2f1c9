package workflows

import (
	"fmt"

	"github.com/trimtab/trimtab"
	"github.com/trimtab/trimtab/activities"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"
)

// PauseSignal tells a Stage to stop at the next step (true) or to go on (false).
const PauseSignal = "pause"

// StageInput starts one attempt.
type StageInput struct {
	Begin activities.BeginInput
	// Continued is set when the workflow continues as new.
	Continued *StageProgress
	Paused    bool
}

// StageProgress is all that a Stage has to remember.
type StageProgress struct {
	Attempt       int64
	Sequence      int64 // of the last scheduled segment: the fencing token
	Checkpoint    trimtab.Digest
	Step          int
	Crashes       int // of the stage's own code at Step
	Interruptions int // at Step
	Waits         int // at Step, for what a person has to mend: they count for the backoff alone
	// Shards are the rollouts of the next iteration that are made already, from Checkpoint.
	Shards []trimtab.Digest `json:",omitempty"`
}

// StageResult is a finished attempt.
type StageResult struct {
	Attempt int64
	Reused  bool
	Outputs []trimtab.Named
	Metrics []trimtab.Metric
	Missed  []string // gates, in words
}

type stage struct {
	in             StageInput
	progress       StageProgress
	paused         bool
	knownErrorType string // the type of the error that a worker knew of, when one was shown last
	pauseSignals   workflow.ReceiveChannel
	cancelActivity workflow.CancelFunc // of what runs: a segment, or rollouts
	scheduled      int                 // activities of the training queue in this history
}

// Stage runs one attempt of a stage to its end.
func Stage(ctx workflow.Context, in StageInput) (StageResult, error) {
	s := &stage{in: in, paused: in.Paused}
	s.handlePauses(ctx)
	if in.Continued != nil {
		s.progress = *in.Continued
	} else if reused, err := s.begin(ctx); err != nil || reused != nil {
		return orZero(reused), err
	}
	for s.scheduled < activitiesPerHistory {
		res, err := s.segment(ctx)
		if err != nil {
			return StageResult{}, s.finish(ctx, err)
		}
		if res.Done {
			return s.complete(ctx, res)
		}
		if workflow.GetInfo(ctx).GetContinueAsNewSuggested() {
			break
		}
	}
	return StageResult{}, s.continueAsNew(ctx)
}

// continueAsNew goes on in a new history. What came together with the last segment's
// end and was not looked at yet goes along: a pause, or the end.
func (s *stage) continueAsNew(ctx workflow.Context) error {
	for s.pauseSignals.ReceiveAsync(&s.paused) {
	}
	if ctx.Err() != nil {
		return s.finish(ctx, ctx.Err())
	}
	s.in.Continued, s.in.Paused = &s.progress, s.paused
	return workflow.NewContinueAsNewError(ctx, Stage, s.in)
}

func orZero(r *StageResult) StageResult {
	if r == nil {
		return StageResult{}
	}
	return *r
}

// handlePauses stops what runs when a pause comes in.
func (s *stage) handlePauses(ctx workflow.Context) {
	s.pauseSignals = workflow.GetSignalChannel(ctx, PauseSignal)
	workflow.Go(ctx, func(ctx workflow.Context) {
		for s.pauseSignals.Receive(ctx, &s.paused) {
			if s.paused && s.cancelActivity != nil {
				s.cancelActivity()
			}
		}
	})
}

// showStart makes the attempt's row. A result means that nothing has to run. A
// cancel waits for it, so that the row's state can be told.
func (s *stage) begin(ctx workflow.Context) (*StageResult, error) {
	clean, _ := workflow.NewDisconnectedContext(ctx)
	var b activities.BeginResult
	if err := workflow.ExecuteActivity(smallOptions(clean), a.Begin, s.in.Begin).Get(clean, &b); err != nil {
		return nil, unborn(activities.Unwrap(err))
	}
	s.progress.Attempt = b.Attempt
	if !b.Reused {
		return nil, nil
	}
	return &StageResult{Attempt: b.Attempt, Reused: true, Outputs: b.Outputs, Metrics: b.Metrics, Missed: b.Missed}, nil
}

// segment tries one segment when no pause holds it. One that was interrupted
// is not Done; an error is final for the attempt.
func (s *stage) segment(ctx workflow.Context) (activities.SegmentResult, error) {
	if err := workflow.Await(ctx, func() bool { return !s.paused }); err != nil {
		return activities.SegmentResult{}, err
	}
	res, err := s.schedule(ctx)
	switch {
	case err == nil:
		s.setCheckpoint(res.Checkpoint, res.Step)
		return res, nil
	case ctx.Err() != nil:
		return res, ctx.Err()
	case temporal.IsCanceledError(err): // stopped by a pause before a worker took it
		return res, nil
	}
	return activities.SegmentResult{}, s.handleInterruption(ctx, activities.Unwrap(err))
}

// schedule schedules the next segment once, under a new fencing token, and before it
// what it needs of others.
func (s *stage) schedule(ctx workflow.Context) (activities.SegmentResult, error) {
	in := activities.SegmentInput{Stage: s.in.Begin.Stage}
	if s.shared() {
		alone, err := s.rollouts(ctx)
		if err != nil {
			return activities.SegmentResult{}, err
		}
		if in.Shards = s.progress.Shards; !alone {
			in.Stage.SegmentSteps, in.Stage.CheckpointSteps = 1, 1
		}
	}
	s.progress.Sequence++
	s.scheduled++
	b := s.in.Begin
	in.Run, in.Attempt, in.Seed, in.Numerics, in.Inputs = b.Run, s.progress.Attempt, b.Seed, b.Numerics, b.Inputs
	in.Sequence, in.From, in.Step = s.progress.Sequence, s.progress.Checkpoint, s.progress.Step
	sctx, stop := workflow.WithCancel(trainOptions(ctx, fmt.Sprintf("%s from step %d", b.Stage.Name, s.progress.Step)))
	s.cancelActivity = stop
	defer func() { s.cancelActivity = nil }()
	var res activities.SegmentResult
	err := workflow.ExecuteActivity(sctx, a.Segment, in).Get(ctx, &res)
	return res, err
}

// setCheckpoint takes note of the newest checkpoint. Rollouts of another one are of no use.
func (s *stage) setCheckpoint(checkpoint trimtab.Digest, step int) {
	s.setStep(step)
	if checkpoint != s.progress.Checkpoint {
		s.progress.Checkpoint, s.progress.Shards = checkpoint, nil
	}
}

// setStep forgets past trouble when a step was made.
func (s *stage) setStep(step int) {
	if step > s.progress.Step {
		s.progress.Crashes, s.progress.Interruptions, s.progress.Waits = 0, 0, 0
	}
	s.progress.Step = step
}

// handleInterruption decides what an error of a segment means: nil is "try again".
func (s *stage) handleInterruption(ctx workflow.Context, e *trimtab.Error) error {
	if e.Class != trimtab.Unavailable && e.Class != trimtab.Internal {
		return applicationError(e)
	}
	status := trimtab.RunRunning
	if e.Class == trimtab.Unavailable && e.Type != "worker_stopping" {
		status = trimtab.RunWaiting
	}
	// First how far it got: what went wrong before the last checkpoint does not count any more.
	if err := s.setStatus(ctx, trimtab.AttemptRetrying, status, e); err != nil {
		return err
	}
	if s.knownErrorType != "" {
		known := *e
		known.Type, e = s.knownErrorType, &known
	}
	if err := s.countFailure(ctx, e); err != nil {
		return err
	}
	if err := workflow.Sleep(ctx, backoff(s.progress.Crashes+s.progress.Interruptions+s.progress.Waits)); err != nil {
		return err
	}
	return s.setStatus(ctx, trimtab.AttemptRunning, trimtab.RunRunning, nil)
}

// countFailure counts one more trouble at this step and says when it was the last.
func (s *stage) countFailure(ctx workflow.Context, e *trimtab.Error) error {
	switch {
	case e.Class == trimtab.Internal:
		s.progress.Crashes++
		if s.progress.Crashes >= maxCrashes {
			return applicationError(e)
		}
	case needsOperator(ctx, e.Type):
		s.progress.Waits++
	default:
		s.progress.Interruptions++
		if s.progress.Interruptions >= maxInterruptions {
			return applicationError(trimtab.NewError(trimtab.Internal, "stage_interrupted",
				"look at `trimtab logs`, mend the cause, then rerun the stage from its last checkpoint",
				"the stage was interrupted %d times in a row at step %d while the services answered; last: %s",
				s.progress.Interruptions, s.progress.Step, e.Message))
		}
	}
	return nil
}

// needsOperator is activities.NeedsOperator. Histories of older programs count as
// interruptions what they did not know as lasting.
func needsOperator(ctx workflow.Context, typ string) bool {
	if !activities.NeedsOperator(typ) || typ == activities.DiskFull {
		return typ == activities.DiskFull
	}
	since := "lasting"
	if typ == activities.FileSizeLimit {
		since = "lasting: " + typ
	}
	return workflow.GetVersion(ctx, since, workflow.DefaultVersion, 1) == 1
}

// complete records the outputs and compares the metrics with the gates. A
// cancel that comes now is too late for this attempt.
func (s *stage) complete(ctx workflow.Context, res activities.SegmentResult) (StageResult, error) {
	in := activities.CompleteInput{Run: s.in.Begin.Run, Attempt: s.progress.Attempt, Sequence: s.progress.Sequence,
		Gates: s.in.Begin.Stage.Gates, Outputs: res.Outputs, Metrics: res.Metrics}
	clean, _ := workflow.NewDisconnectedContext(ctx)
	var done activities.CompleteResult
	if err := workflow.ExecuteActivity(smallOptions(clean), a.Complete, in).Get(clean, &done); err != nil {
		return StageResult{}, s.finish(ctx, err)
	}
	return StageResult{Attempt: s.progress.Attempt, Outputs: res.Outputs, Metrics: res.Metrics, Missed: done.Missed},
		nil
}

// finish records why the attempt is over and returns the error for the parent.
func (s *stage) finish(ctx workflow.Context, err error) error {
	clean, _ := workflow.NewDisconnectedContext(ctx)
	if temporal.IsCanceledError(err) || ctx.Err() != nil {
		if err := s.setStatus(clean, trimtab.AttemptCancelled, "", nil); err != nil {
			return err
		}
		return temporal.NewCanceledError()
	}
	e := activities.Unwrap(err)
	if err := s.setStatus(clean, trimtab.AttemptFailed, "", e); err != nil {
		return err
	}
	return applicationError(e)
}

// setStatus writes the attempt's state, and learns how far its checkpoints are.
func (s *stage) setStatus(ctx workflow.Context, status trimtab.AttemptStatus, run trimtab.RunStatus,
	e *trimtab.Error) error {
	b := s.in.Begin
	var res activities.AttemptStatusResult
	err := workflow.ExecuteActivity(smallOptions(ctx), a.SetAttemptStatus,
		activities.AttemptStatusInput{Run: b.Run, Stage: b.Stage.Name,
			Attempt: s.progress.Attempt, Number: b.Number, Status: status, RunStatus: run, Error: e,
			Class: activities.ClassOf(e), Actor: systemActor}).Get(ctx, &res)
	if err == nil && res.Step > s.progress.Step {
		s.setCheckpoint(res.Checkpoint, res.Step)
	}
	s.knownErrorType = res.Cause
	return err
}
