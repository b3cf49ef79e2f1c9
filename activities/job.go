package activities

import (
	"cmp"
	"context"

	"github.com/trimtab/trimtab"
	"github.com/trimtab/trimtab/checkpoint"
	"github.com/trimtab/trimtab/draw"
	"github.com/trimtab/trimtab/model"
	"github.com/trimtab/trimtab/recipes"
	"github.com/trimtab/trimtab/tensor"
	"github.com/trimtab/trimtab/tokenizer"
	"github.com/trimtab/trimtab/train"
)

// job is a stage at work: a Trainer, and the outputs that it makes at the end.
type job interface {
	train.Trainer
	// finish makes the outputs from the state after the last step, stores them in the
	// worker's artifactStore, and measures them. in is the segment that takes the last
	// step. It has the fencing token to write under, which the segment that built the
	// job, and left it in the cache, may not have.
	finish(ctx context.Context, in SegmentInput) ([]trimtab.Named, []trimtab.Metric, error)
	// tokensPerStep is about how many tokens a step processes, for the shown speed.
	tokensPerStep() int
	// fits counts how much of the stage's data is read whole, cut and left out.
	fits() []trimtab.Fit
}

// newJob builds the stage of a segment from its config and inputs, all of which
// are named by digests. The stage is at its beginning; a checkpoint is loaded
// into its State. Errors: invalid_config, memory_short, unknown_numerics,
// unknown_stage, and those of the inputs and of the stage.
func (a *Activities) newJob(ctx context.Context, in SegmentInput) (job, error) {
	body, err := a.store.Document(ctx, in.Stage.Config)
	if err != nil {
		return nil, err
	}
	config, err := recipes.ParseDocument(body)
	if err != nil {
		return nil, trimtab.NewError(trimtab.Invalid, "invalid_config", "start the run anew", "%w", err)
	}
	// Before anything is loaded: the weights are what would not fit.
	if err := a.checkMemory(in, config); err != nil {
		return nil, err
	}
	b, err := a.newStageBuilder(in)
	if err != nil {
		return nil, err
	}
	switch c := config.(type) {
	case *recipes.Pretrain:
		return b.pretrain(ctx, c)
	case *recipes.SFT:
		return b.sft(ctx, c)
	case *recipes.Collect:
		return b.collect(ctx, c)
	case *recipes.Reward:
		return b.reward(ctx, c)
	case *recipes.PPO:
		return b.ppo(ctx, c)
	case *recipes.Evaluate:
		return b.evaluate(ctx, c)
	}
	return nil, trimtab.NewError(trimtab.Invalid, "unknown_stage", "update the worker",
		"this worker knows no stage of kind %q", in.Stage.Kind)
}

// stageBuilder builds jobs. It finds inputs by name.
type stageBuilder struct {
	a        *Activities
	in       SegmentInput
	numerics tensor.Numerics // of every pass of the stage, part of what its bytes depend on
}

// newStageBuilder refuses numerics that this worker does not implement. A segment
// without any was scheduled when there was only v1. Error: unknown_numerics.
func (a *Activities) newStageBuilder(in SegmentInput) (stageBuilder, error) {
	n := cmp.Or(tensor.Numerics(in.Numerics), tensor.V1)
	if !n.Valid() {
		return stageBuilder{}, trimtab.NewError(trimtab.Invalid, "unknown_numerics", "update the worker",
			"this worker knows no numerics %q", n)
	}
	return stageBuilder{a: a, in: in, numerics: n}, nil
}

// pass returns a new Pass over the worker's pool, under the run's numerics. All
// passes of this package come from here, so that none is under other numerics.
func (b stageBuilder) pass() *model.Pass { return model.NewPass(b.a.pool).WithNumerics(b.numerics) }

// input returns the digest of the input with that name. Error: input_missing,
// which a plan that was validated does not give.
func (b stageBuilder) input(name string) (trimtab.Digest, error) {
	for _, n := range b.in.Inputs {
		if n.Name == name {
			return n.Digest, nil
		}
	}
	return "", trimtab.NewError(trimtab.Invalid, "input_missing", "", "stage %s has no input %q", b.in.Stage.Name, name)
}

// model loads the model with that name, and its tokenizer. Loading verifies every
// byte, so a stage never trains on a damaged model.
func (b stageBuilder) model(name string) (*model.Model, *tokenizer.Tokenizer, error) {
	d, err := b.input(name)
	if err != nil {
		return nil, nil, err
	}
	return checkpoint.LoadModel(b.a.files, d)
}

// items reads the dataset version with that name, verified, in order of item
// digest. Error: wrong_kind if it does not hold items of type T.
func items[T trimtab.Item](ctx context.Context, b stageBuilder, name string) ([]T, error) {
	d, err := b.input(name)
	if err != nil {
		return nil, err
	}
	all, err := b.a.artifacts.items(ctx, d)
	if err != nil {
		return nil, err
	}
	list := make([]T, len(all))
	for i, it := range all {
		t, ok := it.(T)
		if !ok {
			return nil, trimtab.NewError(trimtab.Invalid, "wrong_kind", "name a dataset of the right kind",
				"the input %s holds %s", name, it.Kind())
		}
		list[i] = t
	}
	return list, nil
}

// source returns the random source of one purpose within the stage. Draws are a
// function of seed, stage and purpose, so that stages do not depend on each other.
func (b stageBuilder) source(purpose string) draw.Source {
	return draw.New(b.in.Seed, b.in.Stage.Name, purpose)
}

// modelJob is a job whose output is a model.
type modelJob struct {
	train.Trainer
	b      stageBuilder
	kind   string // of the artifact: "model", or "reward" with a scalar head
	tokens int    // a step, about
	data   []trimtab.Fit
	tok    *tokenizer.Tokenizer
	result func() *model.Model // the trained model, after the last step
	// measure returns metrics of the result; it may be nil.
	measure func(m *model.Model) []trimtab.Metric
}

// tokensPerStep is a field, because each stage counts in its own way.
func (t *modelJob) tokensPerStep() int { return t.tokens }

// fits has an entry for each kind of data that the stage reads.
func (t *modelJob) fits() []trimtab.Fit { return t.data }

// finish stores the trained model and measures it.
func (t *modelJob) finish(ctx context.Context, in SegmentInput) ([]trimtab.Named, []trimtab.Metric, error) {
	m := t.result()
	d, err := t.b.a.artifacts.putModel(ctx, in, t.kind, m, t.tok)
	out := []trimtab.Named{{Name: "model", Digest: d}}
	if err != nil || t.measure == nil {
		return out, nil, err
	}
	return out, t.measure(m), nil
}
