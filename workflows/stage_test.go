package workflows

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/trimtab/trimtab"
	"github.com/trimtab/trimtab/activities"
	"go.temporal.io/sdk/converter"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/testsuite"
	"go.temporal.io/sdk/workflow"
)

// script is what the activities of one attempt do, one entry a segment; time
// is skipped, so that hours of waiting are tested in milliseconds. Everything
// else about stages is tested on real servers, by package runs.
type script struct {
	segments []func(in activities.SegmentInput) (activities.SegmentResult, error)
	next     int
	seen     []activities.SegmentInput
	shown    []trimtab.AttemptStatus
	runs     []trimtab.RunStatus
	stored   activities.AttemptStatusResult // the newest checkpoint

	stage    trimtab.PlannedStage
	rollouts func(in activities.RolloutInput, try int) (activities.RolloutResult, error)
	mu       sync.Mutex // rollouts run side by side
	asked    map[string]int

	suggested     bool // Temporal would like a new history
	cancelAtBegin bool
	env           *testsuite.TestWorkflowEnvironment
}

func (s *script) Begin(context.Context, activities.BeginInput) (activities.BeginResult, error) {
	if s.cancelAtBegin {
		s.env.CancelWorkflow()
		time.Sleep(50 * time.Millisecond)
	}
	return activities.BeginResult{Attempt: 7}, nil
}

func (s *script) Segment(_ context.Context, in activities.SegmentInput) (activities.SegmentResult, error) {
	s.seen = append(s.seen, in)
	f := s.segments[min(s.next, len(s.segments)-1)]
	s.next++
	return f(in)
}

func (s *script) Rollouts(_ context.Context, in activities.RolloutInput) (activities.RolloutResult, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	which := fmt.Sprintf("%s/%d of %d", in.From, in.Shard, in.Shards)
	s.asked[which]++
	return s.rollouts(in, s.asked[which])
}

func (s *script) Complete(_ context.Context, in activities.CompleteInput) (activities.CompleteResult, error) {
	return activities.CompleteResult{}, nil
}

func (s *script) SetAttemptStatus(_ context.Context,
	in activities.AttemptStatusInput) (activities.AttemptStatusResult, error) {
	s.shown, s.runs = append(s.shown, in.Status), append(s.runs, in.RunStatus)
	return s.stored, nil
}

// run executes Stage under the script and returns its result, error and the time that passed.
func (s *script) run(t *testing.T) (StageResult, time.Duration, error) {
	t.Helper()
	var suite testsuite.WorkflowTestSuite
	env := suite.NewTestWorkflowEnvironment()
	env.SetTestTimeout(time.Minute)
	env.RegisterActivity(s)
	env.SetContinueAsNewSuggested(s.suggested)
	s.env, s.asked = env, map[string]int{}
	if s.stage.Kind == "" {
		s.stage = trimtab.PlannedStage{Name: "sft", Kind: "sft"}
	}
	start := env.Now()
	env.ExecuteWorkflow(Stage, StageInput{Begin: activities.BeginInput{Run: "r", Number: 1, Numerics: "v1-bf16",
		Stage: s.stage}})
	if !env.IsWorkflowCompleted() {
		t.Fatal("the stage did not end")
	}
	var res StageResult
	err := env.GetWorkflowError()
	if err == nil {
		err = env.GetWorkflowResult(&res)
	}
	return res, env.Now().Sub(start), err
}

func done(activities.SegmentInput) (activities.SegmentResult, error) {
	return activities.SegmentResult{Step: 10, Steps: 10, Done: true,
		Outputs: []trimtab.Named{{Name: "model", Digest: "d"}}}, nil
}

func fails(class trimtab.Class, typ string) func(activities.SegmentInput) (activities.SegmentResult, error) {
	return func(activities.SegmentInput) (activities.SegmentResult, error) {
		return activities.SegmentResult{}, activities.Wrap(trimtab.NewError(class, typ, "fix it", "trouble"))
	}
}

func lost(activities.SegmentInput) (activities.SegmentResult, error) {
	return activities.SegmentResult{}, temporal.NewHeartbeatTimeoutError()
}

func TestWrongInputIsNotTriedAgain(t *testing.T) {
	for _, class := range []trimtab.Class{trimtab.Invalid, trimtab.Verification, trimtab.NotFound, trimtab.Conflict,
		trimtab.Usage} {
		s := &script{segments: []func(activities.SegmentInput) (activities.SegmentResult,
			error){fails(class, "not_a_number"), done}}
		_, _, err := s.run(t)
		if e := ErrorOf(err); err == nil || e.Type != "not_a_number" || e.Class != class || e.Remedy != "fix it" ||
			len(s.seen) != 1 {
			t.Errorf("class %d: %d segments, %v", class, len(s.seen), err)
		}
		if s.shown[len(s.shown)-1] != trimtab.AttemptFailed {
			t.Errorf("the attempt is shown as %v", s.shown)
		}
	}
}

func TestCrashIsTriedThreeTimes(t *testing.T) {
	crash := fails(trimtab.Internal, "stage_panic")
	s := &script{segments: []func(activities.SegmentInput) (activities.SegmentResult, error){crash, crash, crash, done}}
	if _, _, err := s.run(t); err == nil || ErrorOf(err).Type != "stage_panic" || len(s.seen) != 3 {
		t.Errorf("%d segments, %v", len(s.seen), err)
	}
	s = &script{segments: []func(activities.SegmentInput) (activities.SegmentResult, error){crash, crash, done}}
	if res, _, err := s.run(t); err != nil || len(s.seen) != 3 || len(res.Outputs) != 1 {
		t.Errorf("%d segments, %v", len(s.seen), err)
	}
}

// Each try has a fencing token of its own, and resumes from the newest checkpoint.
func TestLostWorkerResumesFromTheCheckpoint(t *testing.T) {
	s := &script{segments: []func(activities.SegmentInput) (activities.SegmentResult, error){lost, lost, done}}
	s.stored = activities.AttemptStatusResult{Checkpoint: "c4", Step: 4}
	if _, _, err := s.run(t); err != nil {
		t.Fatal(err)
	}
	last := s.seen[2]
	if last.Sequence != 3 || last.Step != 4 || last.From != "c4" || last.Numerics != "v1-bf16" {
		t.Errorf("the third try is %+v", last)
	}
	if s.shown[0] != trimtab.AttemptRetrying || s.runs[0] != trimtab.RunWaiting || s.runs[1] != trimtab.RunRunning {
		t.Errorf("shown as %v, %v", s.shown, s.runs)
	}
}

// An absent service never exhausts as long as there is progress; ten times at one step with services answering does.
func TestInterruptions(t *testing.T) {
	away := fails(trimtab.Unavailable, "postgres_unavailable")
	s := &script{segments: []func(activities.SegmentInput) (activities.SegmentResult, error){away}}
	_, took, err := s.run(t)
	if err == nil || ErrorOf(err).Type != "stage_interrupted" || len(s.seen) != maxInterruptions ||
		took < 2*time.Minute {
		t.Errorf("%d tries in %s, %v", len(s.seen), took, err)
	}
	s = &script{}
	for i := range 40 {
		s.segments = append(s.segments, func(activities.SegmentInput) (activities.SegmentResult, error) {
			s.stored = activities.AttemptStatusResult{Checkpoint: trimtab.Digest(fmt.Sprint(i + 1)), Step: i + 1}
			return away(activities.SegmentInput{})
		})
	}
	s.segments = append(s.segments, done)
	if _, _, err := s.run(t); err != nil || len(s.seen) != 41 {
		t.Errorf("%d tries, %v", len(s.seen), err)
	}
}

func TestManySegmentsContinueAsNew(t *testing.T) {
	step := 0
	s := &script{segments: []func(activities.SegmentInput) (activities.SegmentResult,
		error){func(in activities.SegmentInput) (activities.SegmentResult, error) {
		step++
		if in.Step != step-1 {
			return activities.SegmentResult{}, fmt.Errorf("segment %d begins at step %d", step, in.Step)
		}
		return activities.SegmentResult{Step: step, Steps: 1 << 20, Checkpoint: trimtab.Digest(fmt.Sprint(step))}, nil
	}}}
	_, _, err := s.run(t)
	if err == nil || step != activitiesPerHistory {
		t.Errorf("%d segments, %v", step, err)
	}
}

// What happened before the last checkpoint does not count: three crashes block only at one step, ten interruptions too.
func TestProgressResetsFailureCounts(t *testing.T) {
	for _, f := range []struct {
		trouble func(activities.SegmentInput) (activities.SegmentResult, error)
		most    int
	}{{fails(trimtab.Internal, "stage_panic"), maxCrashes}, {lost, maxInterruptions}} {
		s := &script{}
		for range f.most - 1 {
			s.segments = append(s.segments, f.trouble)
		}
		further := func(in activities.SegmentInput) (activities.SegmentResult, error) {
			s.stored = activities.AttemptStatusResult{Checkpoint: "c4", Step: 4}
			return f.trouble(in)
		}
		s.segments = append(s.segments, further)
		for range f.most - 2 {
			s.segments = append(s.segments, f.trouble)
		}
		s.segments = append(s.segments, done)
		if _, _, err := s.run(t); err != nil {
			t.Errorf("%d tries at step 0 and %d at step 4: %v", f.most-1, f.most-1, err)
		}
	}
}

// A full disk, and other faults of the machine that last, are fixed by a person, who may sleep first.
func TestFullDiskIsWaitedFor(t *testing.T) {
	for _, typ := range []string{activities.DiskFull, activities.FilesUnavailable, activities.FileSizeLimit,
		activities.MemoryShort} {
		s := &script{}
		for range 5 * maxInterruptions {
			s.segments = append(s.segments, fails(trimtab.Unavailable, typ))
		}
		s.segments = append(s.segments, done)
		_, took, err := s.run(t)
		if err != nil || took < 40*maxBackoff {
			t.Errorf("%s: %d tries in %s, %v", typ, len(s.seen), took, err)
		}
		if s.runs[len(s.runs)-2] != trimtab.RunWaiting {
			t.Errorf("%s: the run is shown as %v", typ, s.runs)
		}
	}
}

// A worker that was lost because of a full disk, as it reports once it is reachable
// again, is waited for as a full disk is.
func TestCauseOfALostWorker(t *testing.T) {
	s := &script{stored: activities.AttemptStatusResult{Cause: activities.DiskFull}}
	for range 5 * maxInterruptions {
		s.segments = append(s.segments, lost)
	}
	s.segments = append(s.segments, done)
	if _, _, err := s.run(t); err != nil || len(s.seen) != 5*maxInterruptions+1 {
		t.Errorf("%d tries, %v", len(s.seen), err)
	}
}

// Tries that fail make history too: the stage continues as new after as many, or where Temporal suggests it.
func TestFailureCountsContinueAsNew(t *testing.T) {
	s := &script{segments: []func(activities.SegmentInput) (activities.SegmentResult,
		error){fails(trimtab.Unavailable, activities.DiskFull)}}
	if _, _, err := s.run(t); !workflow.IsContinueAsNewError(err) || len(s.seen) != activitiesPerHistory {
		t.Errorf("%d tries, %v", len(s.seen), err)
	}
	s = &script{suggested: true, segments: []func(activities.SegmentInput) (activities.SegmentResult, error){lost}}
	if _, _, err := s.run(t); !workflow.IsContinueAsNewError(err) || len(s.seen) != 1 {
		t.Errorf("%d tries, %v", len(s.seen), err)
	}
}

// A pause that comes in one task with the last segment's end is not lost.
func TestPauseContinuesAsNew(t *testing.T) {
	unread := func(ctx workflow.Context) error {
		s := &stage{pauseSignals: workflow.GetSignalChannel(ctx, PauseSignal)}
		if err := workflow.Sleep(ctx, time.Minute); err != nil {
			return err
		}
		return s.continueAsNew(ctx)
	}
	var suite testsuite.WorkflowTestSuite
	env := suite.NewTestWorkflowEnvironment()
	env.RegisterWorkflow(Stage)
	env.RegisterDelayedCallback(func() { env.SignalWorkflow(PauseSignal, true) }, time.Second)
	env.ExecuteWorkflow(unread)
	if in := continued(t, env.GetWorkflowError()); !in.Paused {
		t.Errorf("the stage continues with %+v", in)
	}
}

// continued is what the workflow that ended with err continues with.
func continued(t *testing.T, err error) (in StageInput) {
	t.Helper()
	var again *workflow.ContinueAsNewError
	if !errors.As(err, &again) {
		t.Fatal(err)
	}
	if err := converter.GetDefaultDataConverter().FromPayloads(again.Input, &in); err != nil {
		t.Fatal(err)
	}
	return in
}

// A cancel that comes while the row is made waits for it, so that the attempt does not look queued for ever.
func TestCancelAtTheBeginning(t *testing.T) {
	s := &script{segments: []func(activities.SegmentInput) (activities.SegmentResult, error){done}, cancelAtBegin: true}
	if _, _, err := s.run(t); !temporal.IsCanceledError(err) || len(s.seen) != 0 || len(s.shown) != 1 ||
		s.shown[0] != trimtab.AttemptCancelled {
		t.Errorf("%d segments, shown as %v, %v", len(s.seen), s.shown, err)
	}
}
