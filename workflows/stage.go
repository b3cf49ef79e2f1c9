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
	in     StageInput
	at     StageProgress
	paused bool
	cause  string // the type of the error that a worker knew of, when one was shown last
	pauses workflow.ReceiveChannel
	stop   workflow.CancelFunc // of what runs: a segment, or rollouts
	spent  int                 // activities of the training queue in this history
}

// Stage runs one attempt of a stage to its end.
func Stage(ctx workflow.Context, in StageInput) (StageResult, error) {
	s := &stage{in: in, paused: in.Paused}
	s.listen(ctx)
	if in.Continued != nil {
		s.at = *in.Continued
	} else if reused, err := s.begin(ctx); err != nil || reused != nil {
		return orZero(reused), err
	}
	for s.spent < triesPerRun {
		res, err := s.segment(ctx)
		if err != nil {
			return StageResult{}, s.end(ctx, err)
		}
		if res.Done {
			return s.complete(ctx, res)
		}
		if workflow.GetInfo(ctx).GetContinueAsNewSuggested() {
			break
		}
	}
	return StageResult{}, s.anew(ctx)
}

// anew goes on in a new history. What came together with the last segment's
// end and was not looked at yet goes along: a pause, or the end.
func (s *stage) anew(ctx workflow.Context) error {
	for s.pauses.ReceiveAsync(&s.paused) {
	}
	if ctx.Err() != nil {
		return s.end(ctx, ctx.Err())
	}
	s.in.Continued, s.in.Paused = &s.at, s.paused
	return workflow.NewContinueAsNewError(ctx, Stage, s.in)
}

func orZero(r *StageResult) StageResult {
	if r == nil {
		return StageResult{}
	}
	return *r
}

// listen stops what runs when a pause comes in.
func (s *stage) listen(ctx workflow.Context) {
	s.pauses = workflow.GetSignalChannel(ctx, PauseSignal)
	workflow.Go(ctx, func(ctx workflow.Context) {
		for s.pauses.Receive(ctx, &s.paused) {
			if s.paused && s.stop != nil {
				s.stop()
			}
		}
	})
}

// begin makes the attempt's row. A result means that nothing has to run. A
// cancel waits for it, so that the row's state can be told.
func (s *stage) begin(ctx workflow.Context) (*StageResult, error) {
	clean, _ := workflow.NewDisconnectedContext(ctx)
	var b activities.BeginResult
	if err := workflow.ExecuteActivity(small(clean), a.Begin, s.in.Begin).Get(clean, &b); err != nil {
		return nil, unborn(activities.Unwrap(err))
	}
	s.at.Attempt = b.Attempt
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
	res, err := s.try(ctx)
	switch {
	case err == nil:
		s.reached(res.Checkpoint, res.Step)
		return res, nil
	case ctx.Err() != nil:
		return res, ctx.Err()
	case temporal.IsCanceledError(err): // stopped by a pause before a worker took it
		return res, nil
	}
	return activities.SegmentResult{}, s.interrupted(ctx, activities.Unwrap(err))
}

// try schedules the next segment once, under a new fencing token, and before it
// what it needs of others.
func (s *stage) try(ctx workflow.Context) (activities.SegmentResult, error) {
	in := activities.SegmentInput{Stage: s.in.Begin.Stage}
	if s.shared() {
		alone, err := s.rollouts(ctx)
		if err != nil {
			return activities.SegmentResult{}, err
		}
		if in.Shards = s.at.Shards; !alone {
			in.Stage.SegmentSteps, in.Stage.CheckpointSteps = 1, 1
		}
	}
	s.at.Sequence++
	s.spent++
	b := s.in.Begin
	in.Run, in.Attempt, in.Seed, in.Numerics, in.Inputs = b.Run, s.at.Attempt, b.Seed, b.Numerics, b.Inputs
	in.Sequence, in.From, in.Step = s.at.Sequence, s.at.Checkpoint, s.at.Step
	sctx, stop := workflow.WithCancel(training(ctx, fmt.Sprintf("%s from step %d", b.Stage.Name, s.at.Step)))
	s.stop = stop
	defer func() { s.stop = nil }()
	var res activities.SegmentResult
	err := workflow.ExecuteActivity(sctx, a.Segment, in).Get(ctx, &res)
	return res, err
}

// reached takes note of the newest checkpoint. Rollouts of another one are of no use.
func (s *stage) reached(checkpoint trimtab.Digest, step int) {
	s.advance(step)
	if checkpoint != s.at.Checkpoint {
		s.at.Checkpoint, s.at.Shards = checkpoint, nil
	}
}

// advance forgets past trouble when a step was made.
func (s *stage) advance(step int) {
	if step > s.at.Step {
		s.at.Crashes, s.at.Interruptions, s.at.Waits = 0, 0, 0
	}
	s.at.Step = step
}

// interrupted decides what an error of a segment means: nil is "try again".
func (s *stage) interrupted(ctx workflow.Context, e *trimtab.Error) error {
	if e.Class != trimtab.Unavailable && e.Class != trimtab.Internal {
		return failure(e)
	}
	status := trimtab.RunRunning
	if e.Class == trimtab.Unavailable && e.Type != "worker_stopping" {
		status = trimtab.RunWaiting
	}
	// First how far it got: what went wrong before the last checkpoint does not count any more.
	if err := s.show(ctx, trimtab.AttemptRetrying, status, e); err != nil {
		return err
	}
	if s.cause != "" {
		known := *e
		known.Type, e = s.cause, &known
	}
	if err := s.exhausted(ctx, e); err != nil {
		return err
	}
	if err := workflow.Sleep(ctx, backoff(s.at.Crashes+s.at.Interruptions+s.at.Waits)); err != nil {
		return err
	}
	return s.show(ctx, trimtab.AttemptRunning, trimtab.RunRunning, nil)
}

// exhausted counts one more trouble at this step and says when it was the last.
func (s *stage) exhausted(ctx workflow.Context, e *trimtab.Error) error {
	switch {
	case e.Class == trimtab.Internal:
		s.at.Crashes++
		if s.at.Crashes >= maxCrashes {
			return failure(e)
		}
	case lasting(ctx, e.Type):
		s.at.Waits++
	default:
		s.at.Interruptions++
		if s.at.Interruptions >= maxInterruptions {
			return failure(trimtab.NewError(trimtab.Internal, "stage_interrupted",
				"look at `trimtab logs`, mend the cause, then rerun the stage from its last checkpoint",
				"the stage was interrupted %d times in a row at step %d while the services answered; last: %s", s.at.Interruptions, s.at.Step, e.Message))
		}
	}
	return nil
}

// lasting is activities.Lasting. Histories of older programs count as
// interruptions what they did not know as lasting.
func lasting(ctx workflow.Context, typ string) bool {
	if !activities.Lasting(typ) || typ == activities.DiskFull {
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
	in := activities.CompleteInput{Run: s.in.Begin.Run, Attempt: s.at.Attempt, Sequence: s.at.Sequence,
		Gates: s.in.Begin.Stage.Gates, Outputs: res.Outputs, Metrics: res.Metrics}
	clean, _ := workflow.NewDisconnectedContext(ctx)
	var done activities.CompleteResult
	if err := workflow.ExecuteActivity(small(clean), a.Complete, in).Get(clean, &done); err != nil {
		return StageResult{}, s.end(ctx, err)
	}
	return StageResult{Attempt: s.at.Attempt, Outputs: res.Outputs, Metrics: res.Metrics, Missed: done.Missed}, nil
}

// end records why the attempt is over and returns the error for the parent.
func (s *stage) end(ctx workflow.Context, err error) error {
	clean, _ := workflow.NewDisconnectedContext(ctx)
	if temporal.IsCanceledError(err) || ctx.Err() != nil {
		if err := s.show(clean, trimtab.AttemptCancelled, "", nil); err != nil {
			return err
		}
		return temporal.NewCanceledError()
	}
	e := activities.Unwrap(err)
	if err := s.show(clean, trimtab.AttemptFailed, "", e); err != nil {
		return err
	}
	return failure(e)
}

// show writes the attempt's state, and learns how far its checkpoints are.
func (s *stage) show(ctx workflow.Context, status trimtab.AttemptStatus, run trimtab.RunStatus, e *trimtab.Error) error {
	b := s.in.Begin
	var res activities.AttemptStatusResult
	err := workflow.ExecuteActivity(small(ctx), a.SetAttemptStatus, activities.AttemptStatusInput{Run: b.Run, Stage: b.Stage.Name,
		Attempt: s.at.Attempt, Number: b.Number, Status: status, RunStatus: run, Error: e, Class: activities.Class(e), Actor: program}).Get(ctx, &res)
	if err == nil && res.Step > s.at.Step {
		s.reached(res.Checkpoint, res.Step)
	}
	s.cause = res.Cause
	return err
}
