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

// Rollouts makes one shard of an iteration's rollouts and stores it as a file of
// the attempt. It needs no lease and writes no fact: made twice, or too late, the
// shard is the same file.
func (a *Activities) Rollouts(ctx context.Context, in RolloutInput) (RolloutResult, error) {
	res, err := a.rollouts(ctx, in)
	if err == nil || ctx.Err() == nil {
		return res, Wrap(err)
	}
	select {
	case <-activity.GetWorkerStopChannel(ctx):
		return res, Wrap(trimtab.NewError(trimtab.Unavailable, "worker_stopping", "",
			"the worker was asked to stop before the rollouts of step %d were made; another worker makes them",
			in.Step))
	default: // cancelled by a pause, or with the run
		return res, temporal.NewCanceledError()
	}
}

// rollouts is Rollouts without the conversion of errors.
func (a *Activities) rollouts(ctx context.Context, in RolloutInput) (RolloutResult, error) {
	// Unlike a segment, a shard is worth nothing unfinished: the work ends with ctx.
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
	defer func() {
		// Wait for the watchdog: a heartbeat after the activity has returned would log a warning.
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

// segment returns the segment that loads the same stage.
func (in RolloutInput) segment() SegmentInput {
	return SegmentInput{Run: in.Run, Attempt: in.Attempt, Stage: in.Stage, Seed: in.Seed, Numerics: in.Numerics,
		Inputs:   in.Inputs,
		Sequence: in.Sequence, From: in.From, Step: in.Step}
}

// restoreAt puts the stage at the checkpoint of r.in, reading only. A cached
// stage at another checkpoint is reused, because loading a state is quicker than
// building a stage.
func (r *segmentRun) restoreAt(ctx context.Context) (err error) {
	c, found := storage.Checkpoint{Attempt: r.in.Attempt, Step: r.in.Step, Digest: r.in.From}, true
	if r.in.From == "" {
		if c, found, err = r.origin(ctx); err != nil {
			return err
		}
	}
	r.step = c.Step
	kept, at := r.a.cache.takeAny(r.in.Attempt)
	switch { // as is, with another state, or built anew
	case kept != nil && at == r.in.From:
		r.job = kept
		return nil
	case kept != nil && found: // without a checkpoint to load, the beginning has to be built
		r.job = kept
	default:
		if r.job, err = r.a.newJob(ctx, r.in); err != nil || !found {
			return err
		}
	}
	return r.load(c)
}

// makeShard makes and stores shard number shard, from 0, of so many in all. Past
// the last iteration there is nothing to make, and the digest is empty.
func (r *segmentRun) makeShard(ctx context.Context, shard, of int) (trimtab.Digest, error) {
	_, t, err := r.ppoTrainer()
	if err != nil || r.step >= t.Steps() {
		return "", err
	}
	// The ranges of all shards together are the iteration's episodes, each once.
	from, to := t.ShardRange(shard, of)
	s, err := t.Rollouts(ctx, r.step, from, to)
	if err != nil {
		return "", err
	}
	return r.a.files.SaveRollouts(checkpoint.AttemptName(r.in.Attempt),
		checkpoint.Rollouts{Step: s.Step, First: s.First, State: r.in.From, Arrays: s.Arrays()})
}

// ppoTrainer returns the job and its trainer, if the stage is one of PPO. Error:
// wrong_kind.
func (r *segmentRun) ppoTrainer() (*modelJob, *ppo.Trainer, error) {
	if j, ok := r.job.(*modelJob); ok {
		if t, ok := j.Trainer.(*ppo.Trainer); ok {
			return j, t, nil
		}
	}
	return nil, nil, trimtab.NewError(trimtab.Invalid, "wrong_kind", "leave rollout_shards out",
		"a stage of kind %s has no rollouts", r.in.Stage.Kind)
}

// shardedStep is a ppo stage with rollouts that other workers made for one of its
// iterations.
type shardedStep struct {
	*modelJob
	step   int         // the iteration, from 0
	shards []ppo.Shard // those that could be read; the trainer makes the rest
}

// Step learns from the shards in their iteration, and from rollouts of its own in
// any other.
func (s *shardedStep) Step(ctx context.Context, step int) (trimtab.Report, error) {
	if step != s.step {
		return s.modelJob.Step(ctx, step)
	}
	return s.Trainer.(*ppo.Trainer).StepWithShards(ctx, step, s.shards)
}

// withShards returns the job with the rollouts of r.in. They were sampled from the
// checkpoint r.in.From. If the stage was restored at another one, because a row
// came late or a file was damaged, they are ignored and the stage makes its own.
func (r *segmentRun) withShards(ctx context.Context) (job, error) {
	if len(r.in.Shards) == 0 || r.latest != r.in.From || r.step >= r.job.Steps() {
		return r.job, nil
	}
	j, _, err := r.ppoTrainer()
	if err != nil {
		return nil, err
	}
	s := &shardedStep{modelJob: j, step: r.step}
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

// loadShard reads one shard. A shard that is missing or damaged is not found: the
// stage makes it again, and the run's log says so. One that was sampled from
// another checkpoint is an error, wrong_rollouts.
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
	// The digest in the file's metadata, against a mix-up in the workflow or the store.
	if file.State != r.in.From {
		return s, false, trimtab.NewError(trimtab.Verification, "wrong_rollouts",
			"rerun the stage from its last checkpoint",
			"rollouts %s are of checkpoint %q, not of %q", d.Short(), file.State.Short(), r.in.From.Short())
	}
	s, err = ppo.ShardFromArrays(file.Step, file.First, file.Arrays)
	return s, err == nil, err
}

// removeShards removes the rollouts of an iteration whose checkpoint is committed.
func (r *segmentRun) removeShards() error {
	if r.latest == r.in.From { // no checkpoint since: the next try of the segment needs them
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
