package workflows

import (
	"fmt"

	"github.com/trimtab/trimtab"
	"github.com/trimtab/trimtab/activities"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"
)

// PauseSignal is the signal by which a Run stops its Stage at the next step
// (true) or lets it resume (false).
const PauseSignal = "pause"

// StageInput starts one attempt of a stage. Its fields are part of stored histories.
type StageInput struct {
	Begin activities.BeginInput
	// Continued is set when the workflow continues as new.
	Continued *StageProgress
	Paused    bool // the run is paused: schedule nothing yet
}

// StageProgress is all the state of a Stage. It is carried along when the
// workflow continues as new.
type StageProgress struct {
	Attempt       int64          // id of the attempt's row
	Sequence      int64          // fencing token of the last scheduled segment; 0 before the first
	Checkpoint    trimtab.Digest // newest that is known; empty is the beginning
	Step          int            // steps done at Checkpoint
	Crashes       int            // of the stage's own code, at Step
	Interruptions int            // at Step
	Waits         int            // at Step, for what only a person can fix: they count for the backoff alone
	// Shards are the rollouts of the next iteration, sampled from Checkpoint; an
	// empty digest is a shard that is missing.
	Shards []trimtab.Digest `json:",omitempty"`
}

// StageResult is a finished attempt.
type StageResult struct {
	Attempt int64
	Reused  bool // the outputs are those of an earlier attempt
	Outputs []trimtab.Named
	Metrics []trimtab.Metric
	Missed  []string // gates that the metrics fail, as sentences
}

// stage is the state of one Stage workflow. The SDK runs one coroutine of a
// workflow at a time, so nothing here is locked.
type stage struct {
	in             StageInput
	progress       StageProgress
	paused         bool
	knownErrorType string                  // of the last error that was recorded, where the worker knew the cause
	pauseSignals   workflow.ReceiveChannel // of bools
	cancelActivity workflow.CancelFunc     // of the running segment or rollouts; nil between them
	scheduled      int                     // activities of the training queue in this history
}

// Stage runs one attempt of a stage to its end: it creates the attempt's row,
// schedules segments until the last step is done, and completes the row. If it
// fails, the error carries a trimtab.Error and the row shows it; if it is
// cancelled, the row shows that. A failure to create the row is a
// NotCreatedError.
func Stage(ctx workflow.Context, in StageInput) (StageResult, error) {
	s := &stage{in: in, paused: in.Paused}
	s.handlePauses(ctx)
	if in.Continued != nil {
		s.progress = *in.Continued
	} else if reused, err := s.begin(ctx); err != nil || reused != nil {
		return orZero(reused), err
	}
	// A stage of any length fits: histories are bounded, and only their number grows.
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

// continueAsNew moves the stage to a new history. A pause or a cancellation that
// arrived with the end of the last segment has not been handled yet; it is read
// here, because a signal does not move to the new history.
func (s *stage) continueAsNew(ctx workflow.Context) error {
	for s.pauseSignals.ReceiveAsync(&s.paused) {
	}
	if ctx.Err() != nil {
		return s.finish(ctx, ctx.Err())
	}
	s.in.Continued, s.in.Paused = &s.progress, s.paused
	return workflow.NewContinueAsNewError(ctx, Stage, s.in)
}

// orZero returns *r, or the zero StageResult for nil.
func orZero(r *StageResult) StageResult {
	if r == nil {
		return StageResult{}
	}
	return *r
}

// handlePauses receives pause signals for as long as the workflow runs and
// cancels the running activity when one says to pause. The activity then ends
// at its next step, with a checkpoint.
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

// begin creates the attempt's row. A result that is not nil means that the
// outputs of an earlier attempt are reused and nothing has to run. Cancelling
// the workflow does not cancel this activity: its result is needed to show the
// cancellation in the row.
func (s *stage) begin(ctx workflow.Context) (*StageResult, error) {
	clean, _ := workflow.NewDisconnectedContext(ctx)
	var b activities.BeginResult
	if err := workflow.ExecuteActivity(smallOptions(clean), a.Begin, s.in.Begin).Get(clean, &b); err != nil {
		return nil, notCreated(activities.Unwrap(err))
	}
	s.progress.Attempt = b.Attempt
	if !b.Reused {
		return nil, nil
	}
	return &StageResult{
		Attempt: b.Attempt,
		Reused:  true,
		Outputs: b.Outputs,
		Metrics: b.Metrics,
		Missed:  b.Missed,
	}, nil
}

// segment runs one segment as soon as the stage is not paused. After an
// interruption or a pause it returns a result that is not Done, and the caller
// schedules the next segment; an error is final for the attempt.
func (s *stage) segment(ctx workflow.Context) (activities.SegmentResult, error) {
	if err := workflow.Await(ctx, func() bool { return !s.paused }); err != nil {
		return activities.SegmentResult{}, err
	}
	res, err := s.schedule(ctx)
	switch { // a cancellation of the workflow before one of the activity
	case err == nil:
		s.setCheckpoint(res.Checkpoint, res.Step)
		return res, nil
	case ctx.Err() != nil:
		return res, ctx.Err()
	case temporal.IsCanceledError(err): // a pause cancelled it before a worker took it
		return res, nil
	}
	return activities.SegmentResult{}, s.handleInterruption(ctx, activities.Unwrap(err))
}

// schedule runs the next segment once, under a new fencing token, and before it
// the rollouts that other workers make for it. A segment that got rollouts is
// one iteration and ends with a checkpoint, because the next rollouts are
// sampled from there.
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
	// A new token for every try: the worker of the one before may still be running.
	s.progress.Sequence++
	s.scheduled++
	b := s.in.Begin
	in.Run = b.Run
	in.Attempt = s.progress.Attempt
	in.Seed = b.Seed
	in.Numerics = b.Numerics
	in.Inputs = b.Inputs
	in.Sequence = s.progress.Sequence
	in.From = s.progress.Checkpoint
	in.Step = s.progress.Step
	summary := fmt.Sprintf("%s from step %d", b.Stage.Name, s.progress.Step)
	segmentCtx, cancel := workflow.WithCancel(trainOptions(ctx, summary))
	s.cancelActivity = cancel
	defer func() { s.cancelActivity = nil }()
	var res activities.SegmentResult
	err := workflow.ExecuteActivity(segmentCtx, a.Segment, in).Get(ctx, &res)
	return res, err
}

// setCheckpoint records the newest checkpoint. Shards that were sampled from
// another one are dropped.
func (s *stage) setCheckpoint(checkpoint trimtab.Digest, step int) {
	s.setStep(step)
	if checkpoint != s.progress.Checkpoint {
		s.progress.Checkpoint, s.progress.Shards = checkpoint, nil
	}
}

// setStep resets the failure counts when the stage has got further: they are of
// failures in a row at one step.
func (s *stage) setStep(step int) {
	if step > s.progress.Step {
		s.progress.Crashes = 0
		s.progress.Interruptions = 0
		s.progress.Waits = 0
	}
	s.progress.Step = step
}

// handleInterruption decides what an error of a segment means for the attempt.
// It returns nil, after a backoff, if the segment is to be tried again, or else
// the error with which the attempt fails.
func (s *stage) handleInterruption(ctx workflow.Context, e *trimtab.Error) error {
	if e.Class != trimtab.Unavailable && e.Class != trimtab.Internal {
		return applicationError(e)
	}
	// A crash, or a worker that is ending, is retried at once: the run does not wait for anything.
	status := trimtab.RunRunning
	if e.Class == trimtab.Unavailable && e.Type != "worker_stopping" {
		status = trimtab.RunWaiting
	}
	// The status comes before the count: its answer says how far the checkpoints
	// are, and failures before the newest one no longer count.
	if err := s.setStatus(ctx, trimtab.AttemptRetrying, status, e); err != nil {
		return err
	}
	// A full disk of Temporal itself looks like a lost worker, but must not count as an
	// interruption.
	if s.knownErrorType != "" {
		known := *e
		known.Type = s.knownErrorType
		e = &known
	}
	if err := s.countFailure(ctx, e); err != nil {
		return err
	}
	failures := s.progress.Crashes + s.progress.Interruptions + s.progress.Waits
	if err := workflow.Sleep(ctx, backoff(failures)); err != nil {
		return err
	}
	return s.setStatus(ctx, trimtab.AttemptRunning, trimtab.RunRunning, nil)
}

// countFailure counts one more failure at this step. It returns the error with
// which the attempt fails if that was one too many.
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
				"look at `trimtab logs`, fix the cause, then rerun the stage from its last checkpoint",
				"the stage was interrupted %d times in a row at step %d while the services answered; last: %s",
				s.progress.Interruptions, s.progress.Step, e.Message))
		}
	}
	return nil
}

// needsOperator is activities.NeedsOperator under versions: earlier builds knew
// fewer such types and counted the others as interruptions, and their histories
// must still replay. The version names are part of the histories.
func needsOperator(ctx workflow.Context, typ string) bool {
	if !activities.NeedsOperator(typ) || typ == activities.DiskFull {
		return typ == activities.DiskFull
	}
	version := "lasting"
	if typ == activities.FileSizeLimit {
		version = "lasting: " + typ
	}
	return workflow.GetVersion(ctx, version, workflow.DefaultVersion, 1) == 1
}

// complete records the outputs and compares the metrics with the gates. A
// cancellation from here on is too late for this attempt.
func (s *stage) complete(ctx workflow.Context, res activities.SegmentResult) (StageResult, error) {
	in := activities.CompleteInput{
		Run:      s.in.Begin.Run,
		Attempt:  s.progress.Attempt,
		Sequence: s.progress.Sequence,
		Gates:    s.in.Begin.Stage.Gates,
		Outputs:  res.Outputs,
		Metrics:  res.Metrics,
	}
	clean, _ := workflow.NewDisconnectedContext(ctx)
	var done activities.CompleteResult
	if err := workflow.ExecuteActivity(smallOptions(clean), a.Complete, in).Get(clean, &done); err != nil {
		return StageResult{}, s.finish(ctx, err)
	}
	return StageResult{
		Attempt: s.progress.Attempt,
		Outputs: res.Outputs,
		Metrics: res.Metrics,
		Missed:  done.Missed,
	}, nil
}

// finish records why the attempt is over, even in a cancelled workflow, and
// returns the error for the parent.
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

// setStatus writes the attempt's status, and the run's where it is not empty.
// The answer says how far the attempt's checkpoints are, and, where the worker
// knows the cause of a lost connection, the type of that error.
func (s *stage) setStatus(
	ctx workflow.Context, status trimtab.AttemptStatus, run trimtab.RunStatus, e *trimtab.Error,
) error {
	in := activities.AttemptStatusInput{
		Run:       s.in.Begin.Run,
		Stage:     s.in.Begin.Stage.Name,
		Attempt:   s.progress.Attempt,
		Number:    s.in.Begin.Number,
		Status:    status,
		RunStatus: run,
		Error:     e,
		Class:     activities.ClassOf(e),
		Actor:     SystemActor,
	}
	var res activities.AttemptStatusResult
	err := workflow.ExecuteActivity(smallOptions(ctx), a.SetAttemptStatus, in).Get(ctx, &res)
	if err == nil && res.Step > s.progress.Step {
		s.setCheckpoint(res.Checkpoint, res.Step)
	}
	s.knownErrorType = res.Cause
	return err
}
