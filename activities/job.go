package activities

import (
	"cmp"
	"context"
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
	if err := a.enoughMemory(in, config); err != nil {
		return nil, err
	}
	b, err := a.builder(in)
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
	return nil, trimtab.NewError(trimtab.Invalid, "unknown_stage", "update the worker", "this worker knows no stage of kind %q", in.Stage.Kind)
}

// builder makes jobs; it reads inputs by name.
type builder struct {
	a        *Activities
	in       SegmentInput
	numerics tensor.Numerics
}

// builder refuses numerics that this worker does not keep. A segment without
// any was scheduled when there was only v1.
func (a *Activities) builder(in SegmentInput) (builder, error) {
	n := cmp.Or(tensor.Numerics(in.Numerics), tensor.V1)
	if !n.Valid() {
		return builder{}, trimtab.NewError(trimtab.Invalid, "unknown_numerics", "update the worker", "this worker knows no numerics %q", n)
	}
	return builder{a: a, in: in, numerics: n}, nil
}

// pass is a new Pass over the worker's pool, under the run's numerics.
func (b builder) pass() *model.Pass { return model.NewPass(b.a.pool).Under(b.numerics) }

// input is the digest under a name.
func (b builder) input(name string) (trimtab.Digest, error) {
	for _, n := range b.in.Inputs {
		if n.Name == name {
			return n.Digest, nil
		}
	}
	return "", trimtab.NewError(trimtab.Invalid, "input_missing", "", "stage %s has no input %q", b.in.Stage.Name, name)
}

// model loads the model under a name.
func (b builder) model(name string) (*model.Model, *tokenizer.Tokenizer, error) {
	d, err := b.input(name)
	if err != nil {
		return nil, nil, err
	}
	return checkpoint.LoadModel(b.a.files, d)
}

// items reads a dataset version, verified, in order of item digest.
func items[T trimtab.Item](ctx context.Context, b builder, name string) ([]T, error) {
	d, err := b.input(name)
	if err != nil {
		return nil, err
	}
	all, err := b.a.keep.items(ctx, d)
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

func (b builder) source(purpose string) draw.Source {
	return draw.New(b.in.Seed, b.in.Stage.Name, purpose)
}

// trained is a job whose end is a model.
type trained struct {
	train.Trainer
	b      builder
	kind   string // of the artifact
	tokens int
	words  *tokenizer.Tokenizer
	result func() *model.Model
	// measure is what is said of the result; it may be nil.
	measure func(m *model.Model) []trimtab.Metric
}

func (t *trained) tokensPerStep() int { return t.tokens }

func (t *trained) finish(ctx context.Context) ([]trimtab.Named, []trimtab.Metric, error) {
	m := t.result()
	d, err := t.b.a.keep.keepModel(ctx, t.b.in, t.kind, m, t.words)
	out := []trimtab.Named{{Name: "model", Digest: d}}
	if err != nil || t.measure == nil {
		return out, nil, err
	}
	return out, t.measure(m), nil
}

func (b builder) pretrain(ctx context.Context, c *recipes.Pretrain) (job, error) {
	texts, err := b.texts(ctx)
	if err != nil {
		return nil, err
	}
	words, err := newTokenizer(c, texts)
	if err != nil {
		return nil, err
	}
	shape := c.Model
	shape.Vocab = words.Vocab()
	m := model.New(shape, false)
	m.Init(b.source("init"))
	rows := dataset.PackRows(words, texts, c.RowTokens, b.source("pack"))
	t, err := pretrain.New(c.Config, pretrain.Inputs{Pool: b.a.pool, Numerics: b.numerics, Seed: b.in.Seed, Stage: b.in.Stage.Name, Model: m, Rows: fullRows(rows, c.RowTokens)})
	if err != nil {
		return nil, err
	}
	return &trained{Trainer: t, b: b, kind: "model", tokens: c.BatchTokens, words: words, result: t.Result}, nil
}

// fullRows leaves out the last row when it is short.
func fullRows(rows [][]int32, n int) [][]int32 {
	if k := len(rows); k > 0 && len(rows[k-1]) < n {
		return rows[:k-1]
	}
	return rows
}

// texts are the bodies of the input text.
func (b builder) texts(ctx context.Context) ([]string, error) {
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
		return nil, trimtab.NewError(trimtab.Invalid, "tokenizer_failed", "give more text, or lower model.vocab", "train the tokenizer: %w", err)
	}
	return t, nil
}

// demonstrations are the training examples as tokens.
func (b builder) demonstrations(ctx context.Context, t *tokenizer.Tokenizer, context int) ([]dataset.Sequence, error) {
	demos, err := items[trimtab.Demonstration](ctx, b, "demonstrations")
	if err != nil {
		return nil, err
	}
	var seqs []dataset.Sequence
	for _, d := range demos {
		if d.Split == trimtab.SplitTest {
			continue
		}
		if s, ok := dataset.Example(t, d.Prompt, d.Response, context); ok {
			seqs = append(seqs, s)
		}
	}
	return seqs, nil
}

func (b builder) sft(ctx context.Context, c *recipes.SFT) (job, error) {
	m, words, err := b.model("model")
	if err != nil {
		return nil, err
	}
	seqs, err := b.demonstrations(ctx, words, m.Config.Context)
	if err != nil {
		return nil, err
	}
	in := sft.Inputs{Pool: b.a.pool, Numerics: b.numerics, Seed: b.in.Seed, Stage: b.in.Stage.Name, Model: m, Examples: seqs}
	if c.PretrainMix > 0 {
		if in.Rows, err = b.rows(ctx, words, m.Config.Context); err != nil {
			return nil, err
		}
	}
	t, err := sft.New(c.Config, in)
	if err != nil {
		return nil, err
	}
	return &trained{Trainer: t, b: b, kind: "model", tokens: meanTokens(seqs) * c.Batch, words: words, result: t.Result}, nil
}

// rows packs the input text for a mix of pretraining into a later stage.
func (b builder) rows(ctx context.Context, t *tokenizer.Tokenizer, context int) ([][]int32, error) {
	texts, err := b.texts(ctx)
	if err != nil {
		return nil, err
	}
	n := min(context, mixRow)
	return fullRows(dataset.PackRows(t, texts, n, b.source("pack")), n), nil
}

// mixRow is the length of pretraining rows in sft and ppo.
const mixRow = 64

func meanTokens(seqs []dataset.Sequence) int {
	n := 0
	for _, s := range seqs {
		n += len(s.Tokens)
	}
	return n / max(1, len(seqs))
}

// rankings are the input rankings of a split as tokens, with the rankings they come from.
func (b builder) rankings(ctx context.Context, t *tokenizer.Tokenizer, context int, split string) ([]reward.Ranking, []trimtab.Ranking, error) {
	all, err := items[trimtab.Ranking](ctx, b, "rankings")
	if err != nil {
		return nil, nil, err
	}
	var seqs []reward.Ranking
	var kept []trimtab.Ranking
	for _, r := range all {
		if (r.Split == trimtab.SplitTest) != (split == trimtab.SplitTest) {
			continue
		}
		examples, ok := dataset.RankedExamples(t, r, context)
		if !ok {
			continue
		}
		ranked := reward.Ranking{Ranks: r.Ranks}
		for _, e := range examples {
			ranked.Sequences = append(ranked.Sequences, e.Tokens)
		}
		seqs, kept = append(seqs, ranked), append(kept, r)
	}
	return seqs, kept, nil
}

func (b builder) reward(ctx context.Context, c *recipes.Reward) (job, error) {
	m, words, err := b.model("model")
	if err != nil {
		return nil, err
	}
	seqs, _, err := b.rankings(ctx, words, m.Config.Context, trimtab.SplitTrain)
	if err != nil {
		return nil, err
	}
	test, held, err := b.rankings(ctx, words, m.Config.Context, trimtab.SplitTest)
	if err != nil {
		return nil, err
	}
	demos, err := b.demonstrations(ctx, words, m.Config.Context)
	if err != nil {
		return nil, err
	}
	t, err := reward.New(c.Config, reward.Inputs{Pool: b.a.pool, Numerics: b.numerics, Seed: b.in.Seed, Stage: b.in.Stage.Name, Model: m,
		Rankings: seqs, Validation: test, Demonstrations: tokensOf(demos)})
	if err != nil {
		return nil, err
	}
	measure := func(m *model.Model) []trimtab.Metric { return b.accuracy(m, test, held) }
	return &trained{Trainer: t, b: b, kind: "reward", tokens: rankingTokens(seqs) * c.Batch, words: words, result: t.Result, measure: measure}, nil
}

func tokensOf(seqs []dataset.Sequence) [][]int32 {
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

func (b builder) ppo(ctx context.Context, c *recipes.PPO) (job, error) {
	policy, words, err := b.model("model")
	if err != nil {
		return nil, err
	}
	scorer, scorerWords, err := b.model("reward")
	if err != nil {
		return nil, err
	}
	if scorerWords.Digest() != words.Digest() {
		return nil, trimtab.NewError(trimtab.Invalid, "tokenizer_mismatch", "train the reward model from the same base", "the policy and the reward model have different tokenizers")
	}
	reference, err := b.reference(policy, words)
	if err != nil {
		return nil, err
	}
	in := ppo.Inputs{Pool: b.a.pool, Numerics: b.numerics, Seed: b.in.Seed, Stage: b.in.Stage.Name, Model: policy, Reference: reference, Value: scorer,
		Scorer: reward.NewScorer(b.pass(), scorer), Ends: words.Ends(), Ban: words.Ban(), Decode: words.Decode}
	if in.Prompts, err = b.prompts(ctx, words, c.Pool, policy.Config.Context-c.MaxTokens); err != nil {
		return nil, err
	}
	if c.PtxCoef > 0 {
		if in.Pretrain, err = b.rows(ctx, words, policy.Config.Context); err != nil {
			return nil, err
		}
	}
	t, err := ppo.New(c.Config, in)
	if err != nil {
		return nil, err
	}
	return &trained{Trainer: t, b: b, kind: "model", tokens: c.Batch * c.MaxTokens, words: words, result: t.Result}, nil
}

// reference is what ppo measures KL against: the input of that name, or else
// the model of the input model's digest, which is what the policy begins as.
func (b builder) reference(policy *model.Model, words *tokenizer.Tokenizer) (*model.Model, error) {
	own, err := b.input("model")
	if err != nil {
		return nil, err
	}
	if given, _ := b.input("reference"); given == "" || given == own {
		return policy, nil
	}
	m, its, err := b.model("reference")
	if err == nil && its.Digest() != words.Digest() {
		err = trimtab.NewError(trimtab.Invalid, "tokenizer_mismatch", "name a reference that was trained from the same base", "the policy and the reference have different tokenizers")
	}
	return m, err
}

// prompts are the training prompts that leave room for a response: all, or as many as the pool wants.
func (b builder) prompts(ctx context.Context, t *tokenizer.Tokenizer, pool, most int) ([]ppo.Prompt, error) {
	all, err := b.trainPrompts(ctx)
	if err != nil {
		return nil, err
	}
	var list []ppo.Prompt
	for _, i := range dataset.Order(b.source("pool"), len(all), 0) {
		if ids := dataset.PromptTokens(t, all[i].Text); len(ids) <= most {
			list = append(list, ppo.Prompt{Text: all[i].Text, Tokens: ids})
		}
		if len(list) == pool && pool > 0 {
			break
		}
	}
	if len(list) == 0 {
		return nil, trimtab.NewError(trimtab.Invalid, "no_prompts", "shorten the prompts, lower max_tokens or widen the model's context",
			"no prompt of %d leaves room for a response", len(all))
	}
	return list, nil
}

// warm keeps the stage that a segment left, so that the next one need not load
// it again. A miss costs time only.
type warm struct {
	mu      sync.Mutex
	attempt int64
	at      trimtab.Digest
	job     job
}

// take hands the kept stage over if it stands exactly at that checkpoint of that attempt.
func (w *warm) take(attempt int64, at trimtab.Digest) job {
	w.mu.Lock()
	defer w.mu.Unlock()
	j := w.job
	w.job = nil
	if w.attempt != attempt || w.at != at || at == "" {
		return nil
	}
	return j
}

func (w *warm) keep(attempt int64, at trimtab.Digest, j job) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.attempt, w.at, w.job = attempt, at, j
}
