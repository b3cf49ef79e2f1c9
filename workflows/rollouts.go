package workflows

import (
	"fmt"

	"github.com/trimtab/trimtab"
	"github.com/trimtab/trimtab/activities"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"
)

// shared reports whether several workers share each iteration of a ppo stage:
// its rollouts are made by one activity per shard, in parallel, and one segment
// of one step learns from them. Stages of builds without shards never take this path.
func (s *stage) shared() bool { return s.in.Begin.Stage.RolloutShards > 1 }

// rollouts makes those shards of the next iteration that are still missing,
// trying each once, and keeps every shard that was made even if others fail.
// It returns alone if the checkpoint to sample from cannot be read: then the
// segment has to run without shards, because only a segment may fall back to
// the checkpoint before.
func (s *stage) rollouts(ctx workflow.Context) (alone bool, err error) {
	if s.progress.Sequence == 0 { // no segment has reported the attempt as running yet
		if err := s.setStatus(ctx, trimtab.AttemptRunning, "", nil); err != nil {
			return false, err
		}
	}
	// Shards of an earlier try are kept, as long as the checkpoint is the same (see setCheckpoint).
	n := s.in.Begin.Stage.RolloutShards
	if len(s.progress.Shards) != n {
		s.progress.Shards = make([]trimtab.Digest, n)
	}
	rolloutCtx, cancel := workflow.WithCancel(ctx)
	s.cancelActivity = cancel
	defer func() { s.cancelActivity = nil }()
	futures := make([]workflow.Future, n)
	for i, digest := range s.progress.Shards {
		if digest == "" {
			futures[i] = s.rollout(rolloutCtx, i)
		}
	}
	for i, f := range futures { // all of them, also after an error: what was made is kept
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
	case err == nil && s.paused: // the pause arrived with the last shard: nothing was cancelled
		return false, temporal.NewCanceledError()
	}
	return false, err
}

// rollout schedules the activity of one shard.
func (s *stage) rollout(ctx workflow.Context, shard int) workflow.Future {
	s.scheduled++
	b := s.in.Begin
	in := activities.RolloutInput{
		Run:      b.Run,
		Attempt:  s.progress.Attempt,
		Stage:    b.Stage,
		Seed:     b.Seed,
		Numerics: b.Numerics,
		Inputs:   b.Inputs,
		Sequence: s.progress.Sequence,
		From:     s.progress.Checkpoint,
		Step:     s.progress.Step,
		Shard:    shard,
		Shards:   b.Stage.RolloutShards,
	}
	// For people who look at Temporal's user interface.
	summary := fmt.Sprintf("%s, rollouts %d of %d at step %d", b.Stage.Name, shard+1, in.Shards, in.Step)
	return workflow.ExecuteActivity(trainOptions(ctx, summary), a.Rollouts, in)
}
