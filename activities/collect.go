package activities

import (
	"context"

	"github.com/trimtab/trimtab"
	"github.com/trimtab/trimtab/collect"
	"github.com/trimtab/trimtab/dataset"
	"github.com/trimtab/trimtab/recipes"
)

// collectJob is a collect stage at work: sampling and ranking are package
// collect's, reading the inputs and freezing the rankings are done here.
type collectJob struct {
	*collect.Trainer
	b stageBuilder
}

// collect builds the job of a collect stage. Errors: too_few_prompts, and those of
// the inputs.
func (b stageBuilder) collect(ctx context.Context, c *recipes.Collect) (job, error) {
	m, tok, err := b.model("model")
	if err != nil {
		return nil, err
	}
	digest, err := b.input("model")
	if err != nil {
		return nil, err
	}
	prompts, err := b.trainPrompts(ctx)
	if err != nil {
		return nil, err
	}
	t, err := collect.New(c.Config, collect.Inputs{
		Pool:      b.a.pool,
		Numerics:  b.numerics,
		Seed:      b.in.Seed,
		Stage:     b.in.Stage.Name,
		Model:     m,
		Digest:    digest, // so that every response names the model that wrote it
		Tokenizer: tok,
		Prompts:   prompts,
	})
	if err != nil {
		return nil, err
	}
	return &collectJob{Trainer: t, b: b}, nil
}

// trainPrompts returns the input prompts that are not held out for evaluation, in
// order of item digest.
func (b stageBuilder) trainPrompts(ctx context.Context) ([]trimtab.Prompt, error) {
	all, err := items[trimtab.Prompt](ctx, b, "prompts")
	return dataset.TrainPrompts(all), err
}

// tokensPerStep is Trainer.TokensPerStep.
func (j *collectJob) tokensPerStep() int { return j.TokensPerStep() }

// fits counts the prompts that are answered.
func (j *collectJob) fits() []trimtab.Fit { return []trimtab.Fit{j.Fit()} }

// finish has the samples ranked and freezes the rankings as a dataset version.
func (j *collectJob) finish(ctx context.Context, in SegmentInput) ([]trimtab.Named, []trimtab.Metric, error) {
	rankings, metrics, err := j.Rankings()
	if err != nil {
		return nil, nil, err
	}
	// The order of items is no part of a version's digest: the record sorts them.
	frozen := make([]trimtab.Item, len(rankings))
	for i, r := range rankings {
		frozen[i] = r
	}
	d, err := j.b.a.artifacts.putRankings(ctx, in, frozen)
	if err != nil {
		return nil, nil, err
	}
	return []trimtab.Named{{Name: "rankings", Digest: d}}, metrics, nil
}
