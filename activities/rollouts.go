package activities

import (
	"context"
	"errors"

	"github.com/trimtab/trimtab"
	"github.com/trimtab/trimtab/checkpoint"
	"github.com/trimtab/trimtab/ppo"
	"github.com/trimtab/trimtab/storage"
	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/temporal"
)

// Rollouts makes one shard of an iteration's rollouts and stores it as a file
// of the attempt. It takes no fence and writes no fact: made twice, or too
// late, it is the same file.
func (a *Activities) Rollouts(ctx context.Context, in RolloutInput) (RolloutResult, error) {
	res, err := a.rollouts(ctx, in)
	if err == nil || ctx.Err() == nil {
		return res, Wrap(err)
	}
	select {
	case <-activity.GetWorkerStopChannel(ctx):
		return res, Wrap(trimtab.NewError(trimtab.Unavailable, "worker_stopping", "",
			"the worker was asked to stop before rollouts of step %d were made; they are made elsewhere", in.Step))
	default: // by a pause, or for ever
		return res, temporal.NewCanceledError()
	}
}

func (a *Activities) rollouts(ctx context.Context, in RolloutInput) (RolloutResult, error) {
	r := &segmentRun{a: a, in: in.segment()}
	work, stop := context.WithCancelCause(ctx)
	r.phase.Store("loading")
	r.heartbeatStep.Store(int64(in.Step))
	r.markAdvanced()
	r.progressAt.Store(r.advancedAt.Load())
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		r.watch(ctx, work, stop)
	}()
	defer func() { // a shard may take less time than a heartbeat, which would then end in a warning
		stop(nil)
		<-watched
	}()

	if err := r.restoreAt(work); err != nil {
		return RolloutResult{}, r.stopCause(work, err)
	}
	r.phase.Store("rollouts")
	digest, err := r.makeShard(work, in.Shard, in.Shards)
	if err != nil {
		return RolloutResult{}, r.stopCause(work, err)
	}
	a.cache.put(in.Attempt, in.From, r.job)
	return RolloutResult{Digest: digest}, nil
}

// segment is what loading a stage needs to know.
func (in RolloutInput) segment() SegmentInput {
	return SegmentInput{Run: in.Run, Attempt: in.Attempt, Stage: in.Stage, Seed: in.Seed, Numerics: in.Numerics,
		Inputs:   in.Inputs,
		Sequence: in.Sequence, From: in.From, Step: in.Step}
}

// restoreAt makes the stage stand where r.in says, and reads only. A stage that is
// kept is set to another state, which is quicker than to make one.
func (r *segmentRun) restoreAt(ctx context.Context) (err error) {
	c, found := storage.Checkpoint{Attempt: r.in.Attempt, Step: r.in.Step, Digest: r.in.From}, true
	if r.in.From == "" {
		if c, found, err = r.origin(ctx); err != nil {
			return err
		}
	}
	r.step = c.Step
	kept, at := r.a.cache.takeAny(r.in.Attempt)
	switch {
	case kept != nil && at == r.in.From:
		r.job = kept
		return nil
	case kept != nil && found:
		r.job = kept
	default:
		if r.job, err = r.a.newJob(ctx, r.in); err != nil || !found {
			return err
		}
	}
	return r.load(c)
}

// takeAny hands the kept stage over wherever it stands, if it is of that attempt.
func (w *stageCache) takeAny(attempt int64) (j job, at trimtab.Digest) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.attempt == attempt {
		j, at = w.job, w.at
	}
	w.job = nil
	return j, at
}

// makeShard makes and stores one shard. Past the last iteration there is none.
func (r *segmentRun) makeShard(ctx context.Context, shard, of int) (trimtab.Digest, error) {
	_, t, err := r.ppoTrainer()
	if err != nil || r.step >= t.Steps() {
		return "", err
	}
	from, to := t.ShardRange(shard, of)
	s, err := t.Rollouts(ctx, r.step, from, to)
	if err != nil {
		return "", err
	}
	return r.a.files.SaveRollouts(checkpoint.AttemptName(r.in.Attempt),
		checkpoint.Rollouts{Step: s.Step, First: s.First, State: r.in.From, Arrays: s.Arrays()})
}

// ppoTrainer is the stage and its trainer.
func (r *segmentRun) ppoTrainer() (*trained, *ppo.Trainer, error) {
	if j, ok := r.job.(*trained); ok {
		if t, ok := j.Trainer.(*ppo.Trainer); ok {
			return j, t, nil
		}
	}
	return nil, nil, trimtab.NewError(trimtab.Invalid, "wrong_kind", "leave rollout_shards out",
		"a stage of kind %s has no rollouts", r.in.Stage.Kind)
}

// shardedStep is a ppo stage whose iteration step has rollouts by others.
type shardedStep struct {
	*trained
	step   int
	shards []ppo.Shard
}

// Step takes the shards where they belong.
func (s *shardedStep) Step(ctx context.Context, step int) (trimtab.Report, error) {
	if step != s.step {
		return s.trained.Step(ctx, step)
	}
	return s.Trainer.(*ppo.Trainer).StepWithShards(ctx, step, s.shards)
}

// withShards is the job with the rollouts that the segment was given. They are of
// the checkpoint that it was told to go on from: where it stands on another
// one, because its row came late or its file was damaged, it makes its own.
func (r *segmentRun) withShards(ctx context.Context) (job, error) {
	if len(r.in.Shards) == 0 || r.latest != r.in.From || r.step >= r.job.Steps() {
		return r.job, nil
	}
	j, _, err := r.ppoTrainer()
	if err != nil {
		return nil, err
	}
	s := &shardedStep{trained: j, step: r.step}
	for _, d := range r.in.Shards {
		shard, found, err := r.loadShard(ctx, d)
		if err != nil {
			return nil, err
		}
		if found {
			s.shards = append(s.shards, shard)
		}
	}
	return s, nil
}

// loadShard reads rollouts. Ones that are gone or damaged are not found: they are
// made again, and the run's log says so. Whole ones of another state are an error.
func (r *segmentRun) loadShard(ctx context.Context, d trimtab.Digest) (s ppo.Shard, found bool, err error) {
	if d == "" {
		return s, false, nil
	}
	file, err := r.a.files.LoadRollouts(checkpoint.AttemptName(r.in.Attempt), d)
	if e, ok := errors.AsType[*trimtab.Error](err); ok &&
		(e.Class == trimtab.NotFound || e.Class == trimtab.Verification) {
		r.a.logRun(ctx, r.in.Run, r.in.Stage.Name, 0, "made again: %s", e.Message)
		return s, false, nil
	}
	if err != nil {
		return s, false, err
	}
	if file.State != r.in.From {
		return s, false, trimtab.NewError(trimtab.Verification, "wrong_rollouts",
			"rerun the stage from its last checkpoint",
			"rollouts %s are of checkpoint %q, not of %q", d.Short(), file.State.Short(), r.in.From.Short())
	}
	s, err = ppo.ShardFromArrays(file.Step, file.First, file.Arrays)
	return s, err == nil, err
}

// removeShards removes the rollouts of an iteration that is committed.
func (r *segmentRun) removeShards() error {
	if r.latest == r.in.From {
		return nil
	}
	for _, d := range r.in.Shards {
		if d == "" {
			continue
		}
		if err := r.a.files.RemoveRollouts(checkpoint.AttemptName(r.in.Attempt), d); err != nil {
			return err
		}
	}
	return nil
}
