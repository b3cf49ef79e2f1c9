package activities

import (
	"cmp"
	"context"
	"fmt"
	"sync"

	"github.com/trimtab/trimtab"
	"github.com/trimtab/trimtab/checkpoint"
	"github.com/trimtab/trimtab/dataset"
	"github.com/trimtab/trimtab/draw"
	"github.com/trimtab/trimtab/model"
	"github.com/trimtab/trimtab/ppo"
	"github.com/trimtab/trimtab/pretrain"
	"github.com/trimtab/trimtab/recipes"
	"github.com/trimtab/trimtab/reward"
	"github.com/trimtab/trimtab/sft"
	"github.com/trimtab/trimtab/tensor"
	"github.com/trimtab/trimtab/tokenizer"
	"github.com/trimtab/trimtab/train"
)

// job is a stage at work: a Trainer, and what its end makes.
type job interface {
	train.Trainer
	// finish makes the outputs from the state after the last step, and measures them.
	finish(ctx context.Context) ([]trimtab.Named, []trimtab.Metric, error)
	// tokensPerStep is about how many tokens a step takes, for the shown speed.
	tokensPerStep() int
	// fits counts what of the stage's data is read, cut and left out.
	fits() []trimtab.Fit
}

// newJob makes the stage of a segment from what its digests name.
func (a *Activities) newJob(ctx context.Context, in SegmentInput) (job, error) {
	body, err := a.store.Document(ctx, in.Stage.Config)
	if err != nil {
		return nil, err
	}
	config, err := recipes.ParseDocument(body)
	if err != nil {
		return nil, trimtab.NewError(trimtab.Invalid, "invalid_config", "start the run anew", "%w", err)
	}
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

// stageBuilder makes jobs; it reads inputs by name.
type stageBuilder struct {
	a        *Activities
	in       SegmentInput
	numerics tensor.Numerics
}

// stageBuilder refuses numerics that this worker does not keep. A segment without
// any was scheduled when there was only v1.
func (a *Activities) newStageBuilder(in SegmentInput) (stageBuilder, error) {
	n := cmp.Or(tensor.Numerics(in.Numerics), tensor.V1)
	if !n.Valid() {
		return stageBuilder{}, trimtab.NewError(trimtab.Invalid, "unknown_numerics", "update the worker",
			"this worker knows no numerics %q", n)
	}
	return stageBuilder{a: a, in: in, numerics: n}, nil
}

// pass is a new Pass over the worker's pool, under the run's numerics.
func (b stageBuilder) pass() *model.Pass { return model.NewPass(b.a.pool).WithNumerics(b.numerics) }

// input is the digest under a name.
func (b stageBuilder) input(name string) (trimtab.Digest, error) {
	for _, n := range b.in.Inputs {
		if n.Name == name {
			return n.Digest, nil
		}
	}
	return "", trimtab.NewError(trimtab.Invalid, "input_missing", "", "stage %s has no input %q", b.in.Stage.Name, name)
}

// model loads the model under a name.
func (b stageBuilder) model(name string) (*model.Model, *tokenizer.Tokenizer, error) {
	d, err := b.input(name)
	if err != nil {
		return nil, nil, err
	}
	return checkpoint.LoadModel(b.a.files, d)
}

// items reads a dataset version, verified, in order of item digest.
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

func (b stageBuilder) source(purpose string) draw.Source {
	return draw.New(b.in.Seed, b.in.Stage.Name, purpose)
}

// trained is a job whose end is a model.
type trained struct {
	train.Trainer
	b      stageBuilder
	kind   string // of the artifact
	tokens int
	data   []trimtab.Fit
	words  *tokenizer.Tokenizer
	result func() *model.Model
	// measure is what is said of the result; it may be nil.
	measure func(m *model.Model) []trimtab.Metric
}

func (t *trained) tokensPerStep() int { return t.tokens }

func (t *trained) fits() []trimtab.Fit { return t.data }

func (t *trained) finish(ctx context.Context) ([]trimtab.Named, []trimtab.Metric, error) {
	m := t.result()
	d, err := t.b.a.artifacts.putModel(ctx, t.b.in, t.kind, m, t.words)
	out := []trimtab.Named{{Name: "model", Digest: d}}
	if err != nil || t.measure == nil {
		return out, nil, err
	}
	return out, t.measure(m), nil
}

func (b stageBuilder) pretrain(ctx context.Context, c *recipes.Pretrain) (job, error) {
	texts, err := b.texts(ctx)
	if err != nil {
		return nil, err
	}
	words, err := newTokenizer(c, texts)
	if err != nil {
		return nil, err
	}
	shape := c.Model
	shape.Vocab = words.VocabSize()
	m := model.New(shape, false)
	m.Init(b.source("init"))
	rows, fit := dataset.FullRows(words, texts, c.RowTokens, b.source("pack"))
	if len(rows) == 0 {
		return nil, trimtab.NewError(trimtab.Invalid, "no_text", "give the run more text, or lower row_tokens",
			"the %d documents do not fill one row of %d tokens", len(texts), c.RowTokens)
	}
	t, err := pretrain.New(c.Config, pretrain.Inputs{Pool: b.a.pool, Numerics: b.numerics, Seed: b.in.Seed,
		Stage: b.in.Stage.Name, Model: m, Rows: rows})
	if err != nil {
		return nil, err
	}
	return &trained{Trainer: t, b: b, kind: "model", tokens: c.BatchTokens, data: []trimtab.Fit{fit}, words: words,
		result: t.Result}, nil
}

// texts are the bodies of the input text.
func (b stageBuilder) texts(ctx context.Context) ([]string, error) {
	docs, err := items[trimtab.Text](ctx, b, "text")
	if err != nil {
		return nil, err
	}
	texts := make([]string, len(docs))
	for i, d := range docs {
		texts[i] = d.Body
	}
	return texts, nil
}

func newTokenizer(c *recipes.Pretrain, texts []string) (*tokenizer.Tokenizer, error) {
	if c.Tokenizer == "gpt2" {
		return tokenizer.GPT2()
	}
	t, err := tokenizer.Train(texts, c.Model.Vocab)
	if err != nil {
		return nil, trimtab.NewError(trimtab.Invalid, "tokenizer_failed", "give more text, or lower model.vocab",
			"train the tokenizer: %w", err)
	}
	return t, nil
}

// demonstrations are the training examples as tokens. With none, what is wrong
// is their number or their length.
func (b stageBuilder) demonstrations(ctx context.Context, t *tokenizer.Tokenizer,
	context int) ([]dataset.Sequence, trimtab.Fit, error) {
	demos, err := items[trimtab.Demonstration](ctx, b, "demonstrations")
	if err != nil {
		return nil, trimtab.Fit{}, err
	}
	seqs, fit := dataset.FitDemonstrations(t, demos, trimtab.SplitTrain, context)
	return seqs, fit, nil
}

func (b stageBuilder) sft(ctx context.Context, c *recipes.SFT) (job, error) {
	m, words, err := b.model("model")
	if err != nil {
		return nil, err
	}
	seqs, fit, err := b.demonstrations(ctx, words, m.Config.Context)
	if err == nil {
		err = requireExamples(fit, "demonstrations", m.Config.Context)
	}
	if err != nil {
		return nil, err
	}
	data := []trimtab.Fit{fit}
	in := sft.Inputs{Pool: b.a.pool, Numerics: b.numerics, Seed: b.in.Seed, Stage: b.in.Stage.Name, Model: m,
		Examples: seqs}
	if c.PretrainMix > 0 {
		var rows trimtab.Fit
		if in.Rows, rows, err = b.rows(ctx, words, m.Config.Context); err != nil {
			return nil, err
		}
		data = append(data, rows)
	}
	t, err := sft.New(c.Config, in)
	if err != nil {
		return nil, err
	}
	return &trained{Trainer: t, b: b, kind: "model", tokens: meanTokens(seqs) * c.Batch, data: data, words: words,
		result: t.Result}, nil
}

// rows packs the input text for a mix of pretraining into a later stage.
func (b stageBuilder) rows(ctx context.Context, t *tokenizer.Tokenizer, context int) ([][]int32, trimtab.Fit, error) {
	texts, err := b.texts(ctx)
	if err != nil {
		return nil, trimtab.Fit{}, err
	}
	rows, fit := dataset.FullRows(t, texts, min(context, mixRowTokens), b.source("pack"))
	return rows, fit, nil
}

// mixRowTokens is the length of pretraining rows in sft and ppo.
const mixRowTokens = 64

func meanTokens(seqs []dataset.Sequence) int {
	n := 0
	for _, s := range seqs {
		n += len(s.Tokens)
	}
	return n / max(1, len(seqs))
}

// rankings are the input rankings of a split as tokens, with the rankings they come from.
func (b stageBuilder) rankings(ctx context.Context, t *tokenizer.Tokenizer, context int,
	split string) ([]reward.Ranking, []trimtab.Ranking, trimtab.Fit, error) {
	all, err := items[trimtab.Ranking](ctx, b, "rankings")
	if err != nil {
		return nil, nil, trimtab.Fit{}, err
	}
	examples, kept, fit := dataset.FitRankings(t, all, split, context)
	seqs := make([]reward.Ranking, len(kept))
	for i, r := range kept {
		seqs[i] = reward.Ranking{Sequences: tokenRows(examples[i]), Ranks: r.Ranks}
	}
	return seqs, kept, fit, nil
}

func (b stageBuilder) reward(ctx context.Context, c *recipes.Reward) (job, error) {
	m, words, err := b.model("model")
	if err != nil {
		return nil, err
	}
	seqs, _, fit, err := b.rankings(ctx, words, m.Config.Context, trimtab.SplitTrain)
	if err == nil {
		err = requireExamples(fit, "rankings", m.Config.Context)
	}
	if err != nil {
		return nil, err
	}
	test, held, heldFit, err := b.rankings(ctx, words, m.Config.Context, trimtab.SplitTest)
	if err != nil {
		return nil, err
	}
	demos, demoFit, err := b.demonstrations(ctx, words, m.Config.Context)
	if err != nil {
		return nil, err
	}
	t, err := reward.New(c.Config, reward.Inputs{Pool: b.a.pool, Numerics: b.numerics, Seed: b.in.Seed,
		Stage: b.in.Stage.Name, Model: m,
		Rankings: seqs, Validation: test, Demonstrations: tokenRows(demos)})
	if err != nil {
		return nil, err
	}
	measure := func(m *model.Model) []trimtab.Metric { return b.accuracy(m, test, held) }
	return &trained{Trainer: t, b: b, kind: "reward", tokens: rankingTokens(seqs) * c.Batch,
		data:  []trimtab.Fit{fit, heldFit, demoFit},
		words: words, result: t.Result, measure: measure}, nil
}

func tokenRows(seqs []dataset.Sequence) [][]int32 {
	ids := make([][]int32, len(seqs))
	for i, s := range seqs {
		ids[i] = s.Tokens
	}
	return ids
}

func rankingTokens(rankings []reward.Ranking) int {
	n := 0
	for _, r := range rankings {
		for _, s := range r.Sequences {
			n += len(s)
		}
	}
	return n / max(1, len(rankings))
}

func (b stageBuilder) ppo(ctx context.Context, c *recipes.PPO) (job, error) {
	policy, words, err := b.model("model")
	if err != nil {
		return nil, err
	}
	scorer, scorerWords, err := b.model("reward")
	if err != nil {
		return nil, err
	}
	if scorerWords.Digest() != words.Digest() {
		return nil, trimtab.NewError(trimtab.Invalid, "tokenizer_mismatch", "train the reward model from the same base",
			"the policy and the reward model have different tokenizers")
	}
	reference, err := b.reference(policy, words)
	if err != nil {
		return nil, err
	}
	in := ppo.Inputs{Pool: b.a.pool, Numerics: b.numerics, Seed: b.in.Seed, Stage: b.in.Stage.Name, Model: policy,
		Reference: reference, Value: scorer,
		Scorer: reward.NewScorer(b.pass(), scorer), StopTokens: words.StopTokens(),
		SuppressTokens: words.SuppressTokens(), Decode: words.Decode}
	data := make([]trimtab.Fit, 1, 2)
	if in.Prompts, data[0], err = b.prompts(ctx, words, c,
		min(policy.Config.Context, scorer.Config.Context)); err != nil {
		return nil, err
	}
	if c.PtxCoef > 0 {
		var rows trimtab.Fit
		if in.Pretrain, rows, err = b.rows(ctx, words, policy.Config.Context); err != nil {
			return nil, err
		}
		data = append(data, rows)
	}
	t, err := ppo.New(c.Config, in)
	if err != nil {
		return nil, err
	}
	return &trained{Trainer: t, b: b, kind: "model", tokens: c.Batch * c.MaxTokens, data: data, words: words,
		result: t.Result}, nil
}

// reference is what ppo measures KL against: the input of that name, or else
// the model of the input model's digest, which is what the policy begins as.
func (b stageBuilder) reference(policy *model.Model, words *tokenizer.Tokenizer) (*model.Model, error) {
	own, err := b.input("model")
	if err != nil {
		return nil, err
	}
	if given, _ := b.input("reference"); given == "" || given == own {
		return policy, nil
	}
	m, its, err := b.model("reference")
	if err == nil && its.Digest() != words.Digest() {
		err = trimtab.NewError(trimtab.Invalid, "tokenizer_mismatch",
			"name a reference that was trained from the same base",
			"the policy and the reference have different tokenizers")
	}
	return m, err
}

// prompts are the training prompts that leave room for a response: all, or as many as the pool wants.
func (b stageBuilder) prompts(ctx context.Context, t *tokenizer.Tokenizer, c *recipes.PPO,
	context int) ([]ppo.Prompt, trimtab.Fit, error) {
	all, err := b.trainPrompts(ctx)
	if err != nil {
		return nil, trimtab.Fit{}, err
	}
	ids, kept, fit := dataset.DrawPrompts(t, all, b.source("pool"), context-c.MaxTokens, c.Pool)
	list := make([]ppo.Prompt, len(kept))
	for i, p := range kept {
		list[i] = ppo.Prompt{Text: p.Text, Tokens: ids[i]}
	}
	return list, fit, requirePrompts(fit, "prompts", c.MaxTokens, context)
}

// requireExamples refuses data of which nothing is left to learn from, and says
// whether there is none or all is too long.
func requireExamples(fit trimtab.Fit, what string, context int) error {
	switch {
	case fit.Kept > 0:
		return nil
	case fit.LeftOut == 0:
		return trimtab.NewError(trimtab.Invalid, "no_"+what,
			fmt.Sprintf("give the stage %s of which not all have \"split\": \"test\"", what),
			"there are no %s to learn from", what)
	}
	return trimtab.NewError(trimtab.Invalid, "context_exceeded",
		"widen the model's context with model.context, or give shorter prompts",
		"all %d %s are too long: their prompts fill the context of %d tokens", fit.LeftOut, what, context)
}

// requirePrompts refuses prompts of which none leaves room for an answer.
func requirePrompts(fit trimtab.Fit, what string, maxTokens, context int) error {
	switch {
	case fit.Kept > 0:
		return nil
	case fit.LeftOut == 0:
		return trimtab.NewError(trimtab.Invalid, "no_prompts", fmt.Sprintf("give the stage %s", what),
			"there are no %s", what)
	}
	return trimtab.NewError(trimtab.Invalid, "context_exceeded",
		"lower max_tokens, widen the model's context with model.context, or give shorter prompts",
		"all %d %s are too long: none leaves room for an answer of %d tokens in the context of %d", fit.LeftOut, what,
		maxTokens, context)
}

// cache keeps the stage that a segment left, so that the next one need not load
// it again. A miss costs time only.
type stageCache struct {
	mu      sync.Mutex
	attempt int64
	at      trimtab.Digest
	job     job
}

// takeAt hands the kept stage over if it stands exactly at that checkpoint of that attempt.
func (w *stageCache) takeAt(attempt int64, at trimtab.Digest) job {
	w.mu.Lock()
	defer w.mu.Unlock()
	j := w.job
	w.job = nil
	if w.attempt != attempt || w.at != at || at == "" {
		return nil
	}
	return j
}

func (w *stageCache) put(attempt int64, at trimtab.Digest, j job) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.attempt, w.at, w.job = attempt, at, j
}
