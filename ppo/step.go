package ppo

import (
	"context"
	"fmt"

	"github.com/trimtab/trimtab"
)

// Step performs one iteration, 0-based: it samples and scores a batch of
// responses and updates policy and value model with them. After an error the
// networks may be half updated, and the state has to be restored.
func (t *Trainer) Step(ctx context.Context, step int) (trimtab.Report, error) {
	return t.StepWithShards(ctx, step, nil)
}

// StepWithShards is Step with rollouts that other workers made from the same
// state (see Rollouts). Episodes that are in no shard are made here. It returns
// wrong_rollouts if a shard does not belong to the step.
func (t *Trainer) StepWithShards(ctx context.Context, step int, shards []Shard) (trimtab.Report, error) {
	report, err := t.iterate(ctx, step, shards)
	if err != nil {
		return trimtab.Report{}, fmt.Errorf("ppo iteration %d: %w", step, err)
	}
	return report, nil
}

// iterate is the algorithm: one iteration of PPO on a batch of episodes.
func (t *Trainer) iterate(ctx context.Context, step int, shards []Shard) (trimtab.Report, error) {
	c := t.config
	if err := ctx.Err(); err != nil {
		return trimtab.Report{}, err
	}

	// The scores of the reference's own samples define the unit of all scores.
	if step == 0 {
		if err := t.fitScoreScale(); err != nil {
			return trimtab.Report{}, err
		}
	}

	// Collect rollouts: for each query a response of the policy, its raw score,
	// its logprobs and ref_logprobs, and its values.
	episodes, err := t.collectRollouts(ctx, step, shards)
	if err != nil {
		return trimtab.Report{}, err
	}

	// Scores: standardised, with a rule for responses that were cut off.
	t.computeScores(episodes)

	// Rewards: the KL penalty of every token, and the score at the last one.
	klCoef := float64(t.klCoef[0])
	computeRewards(episodes, klCoef)
	whitenAcross(episodes, c.WhitenRewards, true, func(e *episode) []float32 { return e.rewards })

	// Advantages and returns by GAE. The policy learns from whitened advantages,
	// the value model from the returns of those before whitening.
	computeAdvantages(episodes, c.Gamma, c.Lambda)
	whitenAcross(episodes, c.WhitenAdvantages, false, func(e *episode) []float32 { return e.whitened })

	// Several epochs of minibatch updates of value model and policy.
	updates, err := t.trainEpochs(ctx, step, episodes)
	if err != nil {
		return trimtab.Report{}, err
	}

	// The KL controller sets the coefficient of the next iteration.
	rollouts := summarizeRollouts(episodes)
	if c.KLController == KLAdaptive {
		t.klCoef[0] = float32(AdaptKLCoef(klCoef, rollouts.kl, c.KLTarget, len(episodes), c.KLHorizon))
	}

	return trimtab.Report{
		Metrics:  t.metrics(step, klCoef, episodes, rollouts, updates),
		Rollouts: t.rolloutFacts(episodes),
	}, nil
}

// trainEpochs runs the PPO epochs. Each goes once through the episodes in an
// order of its own, one minibatch at a time. The value model is updated with
// every minibatch, the policy from iteration ValueWarmup on. If ctx ends it
// stops between two updates, and the state is then that of no iteration.
func (t *Trainer) trainEpochs(ctx context.Context, iteration int, episodes []*episode) (updateStats, error) {
	var stats updateStats
	size := t.config.Batch / t.config.MiniBatches
	for epoch := range t.config.PPOEpochs {
		order := t.shuffleSource.At(uint64(iteration), uint64(epoch)).Perm(len(episodes))
		for m := range t.config.MiniBatches {
			if err := ctx.Err(); err != nil {
				return stats, err
			}
			minibatch := make([]*episode, size)
			for i, k := range order[m*size : (m+1)*size] {
				minibatch[i] = episodes[k]
			}
			number := (iteration*t.config.PPOEpochs+epoch)*t.config.MiniBatches + m
			t.updateValue(&stats, number, minibatch)
			if iteration >= t.config.ValueWarmup {
				t.updatePolicy(&stats, number, minibatch)
			}
		}
	}
	return stats, nil
}
