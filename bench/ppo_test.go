package bench

import (
	"testing"

	"github.com/trimtab/trimtab/draw"
	"github.com/trimtab/trimtab/model"
	"github.com/trimtab/trimtab/ppo"
	"github.com/trimtab/trimtab/reward"
	"github.com/trimtab/trimtab/tensor"
)

// ppo returns one PPO iteration: sampling, log-probabilities under the
// reference, values and scores, then 2 epochs of 2 minibatches of policy and
// value. The end of text is banned, so that every response has its full length.
func (s shape) ppo(tb testing.TB, pool *tensor.Pool) func(iteration int) (tokens int) {
	policy, rm := s.model(), model.New(s.config, true)
	rm.Init(draw.New(2, "bench"))
	c := ppo.Defaults()
	c.Batch, c.Episodes, c.MaxTokens = s.episodes, 1000*s.episodes, s.ppoResponse
	c.ScoreSamples, c.ValueWarmup, c.MissingEOS = 0, 0, ppo.EOSIgnore
	in := ppo.Inputs{Pool: pool, Seed: 1, Stage: "bench", Model: policy, Reference: policy, Value: rm,
		Scorer: reward.NewScorer(model.NewPass(pool), rm), EndOfText: 0, Ban: []int32{0}}
	for _, tokens := range s.sequences(4*s.episodes, s.ppoPrompt) {
		in.Prompts = append(in.Prompts, ppo.Prompt{Tokens: tokens})
	}
	tr, err := ppo.New(c, in)
	if err != nil {
		tb.Fatal(err)
	}
	return func(iteration int) (tokens int) {
		r, err := tr.Step(tb.Context(), iteration)
		if err != nil {
			tb.Fatal(err)
		}
		for _, x := range r.Rollouts {
			tokens += len(x.Tokens)
		}
		return tokens
	}
}

func BenchmarkPPO(b *testing.B) {
	for _, s := range shapes {
		b.Run(s.name, func(b *testing.B) {
			pool := tensor.NewPool(0)
			defer pool.Close()
			step, tokens := s.ppo(b, pool), 0
			step(0)
			b.ResetTimer()
			for i := range b.N {
				tokens += step(i + 1)
			}
			b.ReportMetric(float64(tokens)/b.Elapsed().Seconds(), "tokens/s")
		})
	}
}
