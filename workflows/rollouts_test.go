package workflows

import (
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/trimtab/trimtab"
	"github.com/trimtab/trimtab/activities"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"
)

// sharedScript is a stage of steps iterations, each of which two activities make the rollouts of.
func sharedScript(steps int) *script {
	s := &script{stage: trimtab.PlannedStage{Name: "ppo", Kind: "ppo", SegmentSteps: 40, CheckpointSteps: 4,
		RolloutShards: 2}, rollouts: makes}
	s.segments = []func(activities.SegmentInput) (activities.SegmentResult,
		error){func(in activities.SegmentInput) (activities.SegmentResult, error) {
		next := in.Step + in.Stage.SegmentSteps
		return activities.SegmentResult{Checkpoint: trimtab.Digest(fmt.Sprint("c", next)), Step: next, Steps: steps,
			Done: next >= steps}, nil
	}}
	return s
}

func shardOf(in activities.RolloutInput) trimtab.Digest {
	return trimtab.Digest(fmt.Sprint(in.From, "-", in.Shard))
}

func makes(in activities.RolloutInput, _ int) (activities.RolloutResult, error) {
	return activities.RolloutResult{Digest: shardOf(in)}, nil
}

// wantAsked compares how often each shard was asked for.
func (s *script) wantAsked(t *testing.T, want map[string]int) {
	t.Helper()
	if !maps.Equal(s.asked, want) {
		t.Errorf("asked for %v, want %v", s.asked, want)
	}
}

// Each iteration is its shards, then one segment of one step with them, from one checkpoint to the next.
func TestSharedIterations(t *testing.T) {
	s := sharedScript(3)
	if _, _, err := s.run(t); err != nil || len(s.seen) != 3 {
		t.Fatalf("%d segments, %v", len(s.seen), err)
	}
	for i, in := range s.seen {
		from := trimtab.Digest("")
		if i > 0 {
			from = trimtab.Digest(fmt.Sprint("c", i))
		}
		if in.From != from || in.Step != i || in.Stage.SegmentSteps != 1 || in.Stage.CheckpointSteps != 1 ||
			in.Sequence != int64(i+1) ||
			in.Attempt != 7 || in.Numerics != "v1-bf16" ||
			!slices.Equal(in.Shards, []trimtab.Digest{from + "-0", from + "-1"}) {
			t.Errorf("segment %d is %+v", i, in)
		}
	}
	s.wantAsked(t, map[string]int{"/0 of 2": 1, "/1 of 2": 1, "c1/0 of 2": 1, "c1/1 of 2": 1, "c2/0 of 2": 1,
		"c2/1 of 2": 1})
	if s.shown[0] != trimtab.AttemptRunning {
		t.Errorf("shown as %v: the first rollouts are work", s.shown)
	}
}

// A shard that is lost is made again, and the other is not.
func TestLostShardIsMadeAgain(t *testing.T) {
	s := sharedScript(2)
	s.rollouts = func(in activities.RolloutInput, try int) (activities.RolloutResult, error) {
		if in.From == "c1" && in.Shard == 0 && try <= 4 {
			return activities.RolloutResult{}, temporal.NewHeartbeatTimeoutError()
		}
		return makes(in, try)
	}
	if _, took, err := s.run(t); err != nil || len(s.seen) != 2 || took.Seconds() < 1+2+4+8 {
		t.Errorf("%d segments in %s, %v", len(s.seen), took, err)
	}
	s.wantAsked(t, map[string]int{"/0 of 2": 1, "/1 of 2": 1, "c1/0 of 2": 5, "c1/1 of 2": 1})
	if !slices.Contains(s.runs, trimtab.RunWaiting) || s.runs[len(s.runs)-1] != trimtab.RunRunning {
		t.Errorf("the run is shown as %v", s.runs)
	}
}

// What a shard's error means is what a segment's means.
func TestShardErrors(t *testing.T) {
	for _, c := range []struct {
		class trimtab.Class
		typ   string
		tries int
	}{{trimtab.Internal, "stage_panic", maxCrashes}, {trimtab.Invalid, "not_a_number", 1},
		{trimtab.Unavailable, "postgres_unavailable", maxInterruptions}} {
		s := sharedScript(2)
		s.rollouts = func(in activities.RolloutInput, try int) (activities.RolloutResult, error) {
			if in.Shard == 1 {
				return activities.RolloutResult{},
					activities.Wrap(trimtab.NewError(c.class, c.typ, "fix it", "trouble"))
			}
			return makes(in, try)
		}
		_, _, err := s.run(t)
		want := c.typ
		if c.class == trimtab.Unavailable {
			want = "stage_interrupted"
		}
		if err == nil || ErrorOf(err).Type != want || len(s.seen) != 0 ||
			s.shown[len(s.shown)-1] != trimtab.AttemptFailed {
			t.Errorf("%s: %d segments, shown as %v, %v", c.typ, len(s.seen), s.shown, err)
		}
		s.wantAsked(t, map[string]int{"/0 of 2": 1, "/1 of 2": c.tries})
	}
}

// An error that no retry can fix decides, whichever shard has it.
func TestMoreSevereErrorDecides(t *testing.T) {
	wrong := trimtab.NewError(trimtab.Invalid, "not_a_number", "", "wrong")
	for _, classes := range [][]*trimtab.Error{{wrong, nil}, {nil, wrong}} {
		s := sharedScript(2)
		s.rollouts = func(in activities.RolloutInput, _ int) (activities.RolloutResult, error) {
			if e := classes[in.Shard]; e != nil {
				return activities.RolloutResult{}, activities.Wrap(e)
			}
			return activities.RolloutResult{}, activities.Wrap(trimtab.NewError(trimtab.Unavailable,
				"postgres_unavailable", "", "away"))
		}
		if _, _, err := s.run(t); err == nil || ErrorOf(err).Type != "not_a_number" {
			t.Errorf("%v", err)
		}
		s.wantAsked(t, map[string]int{"/0 of 2": 1, "/1 of 2": 1})
	}
}

// Where the checkpoint cannot be read, the segment gets its usual length: it may
// go back to an earlier checkpoint, or say what is wrong. It gets what was made
// all the same, to remove it.
func TestUnreadableCheckpointIsLeftToTheSegment(t *testing.T) {
	for _, class := range []trimtab.Class{trimtab.Verification, trimtab.NotFound} {
		s := sharedScript(50)
		s.rollouts = func(in activities.RolloutInput, try int) (activities.RolloutResult, error) {
			if in.From == "c1" && in.Shard == 1 {
				return activities.RolloutResult{},
					activities.Wrap(trimtab.NewError(class, "artifact_corrupt", "", "damaged"))
			}
			return makes(in, try)
		}
		if _, _, err := s.run(t); err != nil {
			t.Fatal(err)
		}
		if in := s.seen[1]; in.From != "c1" || !slices.Equal(in.Shards, []trimtab.Digest{"c1-0", ""}) ||
			in.Stage.SegmentSteps != 40 || in.Stage.CheckpointSteps != 4 {
			t.Errorf("the segment is %+v", in)
		}
		if in := s.seen[2]; in.From != "c41" || len(in.Shards) != 2 || in.Stage.SegmentSteps != 1 {
			t.Errorf("the one after it is %+v", in)
		}
	}
}

// A segment that is lost leaves the rollouts of its checkpoint; when there is a newer one, they are dropped.
func TestRolloutsAreKeptForARetry(t *testing.T) {
	for stored, want := range map[activities.AttemptStatusResult]map[string]int{
		{}:                          {"/0 of 2": 1, "/1 of 2": 1, "c1/0 of 2": 1, "c1/1 of 2": 1},
		{Checkpoint: "c1", Step: 1}: {"/0 of 2": 1, "/1 of 2": 1, "c1/0 of 2": 1, "c1/1 of 2": 1},
		{Checkpoint: "c2", Step: 2}: {"/0 of 2": 1, "/1 of 2": 1, "c1/0 of 2": 1, "c1/1 of 2": 1, "c2/0 of 2": 1,
			"c2/1 of 2": 1},
	} {
		s := sharedScript(2)
		if stored.Step == 2 {
			s = sharedScript(3)
		}
		good := s.segments[0]
		s.segments = append(s.segments, func(activities.SegmentInput) (activities.SegmentResult, error) {
			s.stored = stored
			return activities.SegmentResult{}, temporal.NewHeartbeatTimeoutError()
		}, good)
		if _, _, err := s.run(t); err != nil || len(s.seen) != 3 {
			t.Errorf("%d segments, %v", len(s.seen), err)
		}
		s.wantAsked(t, want)
	}
}

// After the last iteration there is nothing to share, and the segment makes the outputs.
func TestNothingToShareAtTheEnd(t *testing.T) {
	s := sharedScript(1)
	s.rollouts = func(activities.RolloutInput, int) (activities.RolloutResult, error) {
		return activities.RolloutResult{}, nil
	}
	if _, _, err := s.run(t); err != nil || len(s.seen) != 1 ||
		!slices.Equal(s.seen[0].Shards, []trimtab.Digest{"", ""}) {
		t.Errorf("%+v, %v", s.seen, err)
	}
}

// Rollouts count as much as segments do for the length of a history, and what is made goes along.
func TestSharedIterationsContinueAsNew(t *testing.T) {
	s := sharedScript(1 << 20)
	if _, _, err := s.run(t); !workflow.IsContinueAsNewError(err) || len(s.seen) != activitiesPerHistory/3 {
		t.Errorf("%d segments, %v", len(s.seen), err)
	}
	s = sharedScript(1 << 20)
	s.suggested = true
	s.rollouts = func(in activities.RolloutInput, try int) (activities.RolloutResult, error) {
		if in.Shard == 1 {
			return activities.RolloutResult{}, temporal.NewHeartbeatTimeoutError()
		}
		return makes(in, try)
	}
	_, _, err := s.run(t)
	if next := continued(t, err); next.Continued == nil ||
		!slices.Equal(next.Continued.Shards, []trimtab.Digest{"-0", ""}) {
		t.Errorf("the stage continues with %+v, %v", next.Continued, err)
	}
}

// A pause that comes in the middle of the shards holds the segment; what is made stays.
func TestPauseAmongShards(t *testing.T) {
	for _, at := range []int{0, 1} {
		s := sharedScript(1)
		s.rollouts = func(in activities.RolloutInput, try int) (activities.RolloutResult, error) {
			if in.Shard == at && try == 1 {
				s.env.SignalWorkflow(PauseSignal, true)
				s.env.RegisterDelayedCallback(func() { s.env.SignalWorkflow(PauseSignal, false) }, time.Hour)
			}
			return makes(in, try)
		}
		if _, took, err := s.run(t); err != nil || took < time.Hour || len(s.seen) != 1 {
			t.Errorf("paused at shard %d: %d segments in %s, %v", at, len(s.seen), took, err)
		}
		if !slices.Equal(s.seen[0].Shards, []trimtab.Digest{"-0", "-1"}) {
			t.Errorf("paused at shard %d: the segment is %+v", at, s.seen[0])
		}
	}
}
