package workflows

import (
	"fmt"

	"github.com/trimtab/trimtab"
	"github.com/trimtab/trimtab/activities"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"
)

// shared reports whether several workers share each iteration: its rollouts
// are made by an activity a shard, side by side, and one segment of one step
// learns from them. No history without shards comes here.
func (s *stage) shared() bool { return s.in.Begin.Stage.RolloutShards > 1 }

// rollouts tries once to have those shards of the next iteration made that are
// missing, and keeps what was made whatever becomes of the others. Alone says
// that the segment has to go on by itself: the checkpoint to sample from cannot
// be read, and only a segment may go back to the one before.
func (s *stage) rollouts(ctx workflow.Context) (alone bool, err error) {
	if s.progress.Sequence == 0 { // no segment has said yet that the attempt is at work
		if err := s.setStatus(ctx, trimtab.AttemptRunning, "", nil); err != nil {
			return false, err
		}
	}
	n := s.in.Begin.Stage.RolloutShards
	if len(s.progress.Shards) != n {
		s.progress.Shards = make([]trimtab.Digest, n)
	}
	rctx, stop := workflow.WithCancel(ctx)
	s.cancelActivity = stop
	defer func() { s.cancelActivity = nil }()
	made := make([]workflow.Future, n)
	for i, have := range s.progress.Shards {
		if have == "" {
			made[i] = s.rollout(rctx, i)
		}
	}
	for i, f := range made {
		if f == nil {
			continue
		}
		var res activities.RolloutResult
		if e := f.Get(ctx, &res); e != nil {
			err = moreSevere(err, e)
		}
		s.progress.Shards[i] = res.Digest
	}
	switch {
	case isUnreadable(err):
		return true, nil
	case err == nil && s.paused: // it came with the last of them
		return false, temporal.NewCanceledError()
	}
	return false, err
}

// rollout schedules one shard.
func (s *stage) rollout(ctx workflow.Context, shard int) workflow.Future {
	s.scheduled++
	b := s.in.Begin
	in := activities.RolloutInput{Run: b.Run, Attempt: s.progress.Attempt, Stage: b.Stage, Seed: b.Seed,
		Numerics: b.Numerics, Inputs: b.Inputs,
		Sequence: s.progress.Sequence, From: s.progress.Checkpoint, Step: s.progress.Step, Shard: shard,
		Shards: b.Stage.RolloutShards}
	summary := fmt.Sprintf("%s, rollouts %d of %d at step %d", b.Stage.Name, shard+1, in.Shards, in.Step)
	return workflow.ExecuteActivity(trainOptions(ctx, summary), a.Rollouts, in)
}

// moreSevere is the error that decides what happens: one that no wait can mend
// before one that may pass, any before being stopped, and else the first.
func moreSevere(one, other error) error {
	if one == nil || severity(other) > severity(one) {
		return other
	}
	return one
}

func severity(err error) int {
	if temporal.IsCanceledError(err) {
		return 0
	}
	switch activities.Unwrap(err).Class {
	case trimtab.Unavailable:
		return 1
	case trimtab.Internal:
		return 2
	}
	return 3
}

// isUnreadable reports whether a file or a row that the rollouts need is damaged or gone.
func isUnreadable(err error) bool {
	if err == nil || temporal.IsCanceledError(err) {
		return false
	}
	class := activities.Unwrap(err).Class
	return class == trimtab.Verification || class == trimtab.NotFound
}
