package activities

import (
	"context"
	"fmt"

	"github.com/trimtab/trimtab"
	"github.com/trimtab/trimtab/dataset"
	"github.com/trimtab/trimtab/model"
	"github.com/trimtab/trimtab/ppo"
	"github.com/trimtab/trimtab/pretrain"
	"github.com/trimtab/trimtab/recipes"
	"github.com/trimtab/trimtab/reward"
	"github.com/trimtab/trimtab/sft"
	"github.com/trimtab/trimtab/tokenizer"
)

// pretrain builds the job of a pretrain stage: a new tokenizer, a model with
// random weights, and the text packed into rows of equal length. Error: no_text.
func (b stageBuilder) pretrain(ctx context.Context, c *recipes.Pretrain) (job, error) {
	texts, err := b.texts(ctx)
	if err != nil {
		return nil, err
	}
	tok, err := newTokenizer(c, texts)
	if err != nil {
		return nil, err
	}
	// The config asks for a vocabulary; a small text may not have that many merges.
	shape := c.Model
	shape.Vocab = tok.VocabSize()
	m := model.New(shape, false)
	m.Init(b.source("init"))
	// Tokens that do not fill a last row are left out: all rows have the same length.
	rows, fit := dataset.FullRows(tok, texts, c.BlockSize, b.source("pack"))
	if len(rows) == 0 {
		return nil, trimtab.NewError(trimtab.Invalid, "no_text", "give the run more text, or lower pretrain.block_size",
			"the %d documents do not fill one row of %d tokens", len(texts), c.BlockSize)
	}
	t, err := pretrain.New(c.Config, pretrain.Inputs{
		Pool:     b.a.pool,
		Numerics: b.numerics,
		Seed:     b.in.Seed,
		Stage:    b.in.Stage.Name,
		Model:    m,
		Rows:     rows,
	})
	if err != nil {
		return nil, err
	}
	return &modelJob{
		Trainer: t,
		b:       b,
		kind:    "model",
		tokens:  c.BatchTokens,
		data:    []trimtab.Fit{fit},
		tok:     tok,
		result:  t.Result,
	}, nil
}

// texts returns the bodies of the documents of the input text.
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

// newTokenizer returns GPT-2's tokenizer, or trains a byte-level BPE on the texts
// with at most c.Model.Vocab ids. Error: tokenizer_failed.
func newTokenizer(c *recipes.Pretrain, texts []string) (*tokenizer.Tokenizer, error) {
	if c.Tokenizer == "gpt2" {
		return tokenizer.GPT2()
	}
	t, err := tokenizer.Train(texts, c.Model.Vocab)
	if err != nil {
		return nil, trimtab.NewError(trimtab.Invalid, "tokenizer_failed", "give more text, or lower model.vocab_size",
			"train the tokenizer: %w", err)
	}
	return t, nil
}

// demonstrations returns the training demonstrations that fit the context, as
// tokens, and how many do not. None may be left: requireExamples says why.
func (b stageBuilder) demonstrations(ctx context.Context, t *tokenizer.Tokenizer,
	context int) ([]dataset.Sequence, trimtab.Fit, error) {
	demos, err := items[trimtab.Demonstration](ctx, b, "demonstrations")
	if err != nil {
		return nil, trimtab.Fit{}, err
	}
	seqs, fit := dataset.FitDemonstrations(t, demos, trimtab.SplitTrain, context)
	return seqs, fit, nil
}

// sft builds the job of a supervised fine-tuning stage, with rows of pretraining
// text if the config mixes them in. Errors: no_demonstrations, context_exceeded.
func (b stageBuilder) sft(ctx context.Context, c *recipes.SFT) (job, error) {
	m, tok, err := b.model("model")
	if err != nil {
		return nil, err
	}
	seqs, fit, err := b.demonstrations(ctx, tok, m.Config.Context)
	if err == nil {
		err = requireExamples(fit, "demonstrations", m.Config.Context)
	}
	if err != nil {
		return nil, err
	}
	data := []trimtab.Fit{fit}
	in := sft.Inputs{
		Pool:     b.a.pool,
		Numerics: b.numerics,
		Seed:     b.in.Seed,
		Stage:    b.in.Stage.Name,
		Model:    m,
		Examples: seqs,
	}
	if c.PretrainMix > 0 {
		var rows trimtab.Fit
		if in.Rows, rows, err = b.rows(ctx, tok, m.Config.Context); err != nil {
			return nil, err
		}
		data = append(data, rows)
	}
	t, err := sft.New(c.Config, in)
	if err != nil {
		return nil, err
	}
	return &modelJob{
		Trainer: t,
		b:       b,
		kind:    "model",
		tokens:  meanTokens(seqs) * c.Batch,
		data:    data,
		tok:     tok,
		result:  t.Result,
	}, nil
}

// rows packs the input text into rows, for the share of pretraining in a later stage.
func (b stageBuilder) rows(ctx context.Context, t *tokenizer.Tokenizer, context int) ([][]int32, trimtab.Fit, error) {
	texts, err := b.texts(ctx)
	if err != nil {
		return nil, trimtab.Fit{}, err
	}
	rows, fit := dataset.FullRows(t, texts, min(context, mixRowTokens), b.source("pack"))
	return rows, fit, nil
}

// mixRowTokens is the length of rows of pretraining text in sft and ppo, tokens.
const mixRowTokens = 64

// meanTokens returns the mean length of sequences, rounded down.
func meanTokens(seqs []dataset.Sequence) int {
	n := 0
	for _, s := range seqs {
		n += len(s.Tokens)
	}
	return n / max(1, len(seqs))
}

// rankings returns the input rankings of a split that fit the context, as tokens
// and as the items themselves, and how many do not fit.
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

// reward builds the job of a reward stage. The held-out rankings, if there are
// any, validate the training and measure the result. Errors: no_rankings,
// context_exceeded.
func (b stageBuilder) reward(ctx context.Context, c *recipes.Reward) (job, error) {
	m, tok, err := b.model("model")
	if err != nil {
		return nil, err
	}
	seqs, _, fit, err := b.rankings(ctx, tok, m.Config.Context, trimtab.SplitTrain)
	if err == nil {
		err = requireExamples(fit, "rankings", m.Config.Context)
	}
	if err != nil {
		return nil, err
	}
	// Held-out rankings are optional: without them nothing is measured.
	test, held, heldFit, err := b.rankings(ctx, tok, m.Config.Context, trimtab.SplitTest)
	if err != nil {
		return nil, err
	}
	demos, demoFit, err := b.demonstrations(ctx, tok, m.Config.Context)
	if err != nil {
		return nil, err
	}
	t, err := reward.New(c.Config, reward.Inputs{
		Pool:           b.a.pool,
		Numerics:       b.numerics,
		Seed:           b.in.Seed,
		Stage:          b.in.Stage.Name,
		Model:          m,
		Rankings:       seqs,
		Validation:     test,
		Demonstrations: tokenRows(demos), // to centre the scores on
	})
	if err != nil {
		return nil, err
	}
	measure := func(m *model.Model) []trimtab.Metric {
		if len(held) == 0 {
			return nil
		}
		return b.measureReward(m, test, held).Metrics()
	}
	return &modelJob{
		Trainer: t,
		b:       b,
		kind:    "reward",
		tokens:  rankingTokens(seqs) * c.Batch,
		data:    []trimtab.Fit{fit, heldFit, demoFit},
		tok:     tok,
		result:  t.Result,
		measure: measure,
	}, nil
}

// tokenRows returns the tokens of sequences.
func tokenRows(seqs []dataset.Sequence) [][]int32 {
	ids := make([][]int32, len(seqs))
	for i, s := range seqs {
		ids[i] = s.Tokens
	}
	return ids
}

// rankingTokens returns the mean number of tokens of a ranking's sequences together.
func rankingTokens(rankings []reward.Ranking) int {
	n := 0
	for _, r := range rankings {
		for _, s := range r.Sequences {
			n += len(s)
		}
	}
	return n / max(1, len(rankings))
}

// ppo builds the job of a ppo stage: the policy, its reference, the reward model,
// which also initialises the value model, and the prompts. Errors:
// tokenizer_mismatch, no_prompts, context_exceeded.
func (b stageBuilder) ppo(ctx context.Context, c *recipes.PPO) (job, error) {
	policy, tok, err := b.model("model")
	if err != nil {
		return nil, err
	}
	scorer, scorerTok, err := b.model("reward")
	if err != nil {
		return nil, err
	}
	// The reward model scores the policy's token ids as they are.
	if scorerTok.Digest() != tok.Digest() {
		return nil, trimtab.NewError(trimtab.Invalid, "tokenizer_mismatch", "train the reward model from the same base",
			"the policy and the reward model have different tokenizers")
	}
	reference, err := b.reference(policy, tok)
	if err != nil {
		return nil, err
	}
	in := ppo.Inputs{
		Pool:           b.a.pool,
		Numerics:       b.numerics,
		Seed:           b.in.Seed,
		Stage:          b.in.Stage.Name,
		Model:          policy,
		Reference:      reference,
		Value:          scorer,
		Scorer:         reward.NewScorer(b.pass(), scorer),
		StopTokens:     tok.StopTokens(),
		SuppressTokens: tok.SuppressTokens(),
		Decode:         tok.Decode,
	}
	data := make([]trimtab.Fit, 1, 2) // of the prompts, and of the pretraining text if it is mixed in
	// A prompt and its response have to fit both models.
	context := min(policy.Config.Context, scorer.Config.Context)
	if in.Prompts, data[0], err = b.prompts(ctx, tok, c, context); err != nil {
		return nil, err
	}
	if c.PtxCoef > 0 {
		var rows trimtab.Fit
		if in.Pretrain, rows, err = b.rows(ctx, tok, policy.Config.Context); err != nil {
			return nil, err
		}
		data = append(data, rows)
	}
	t, err := ppo.New(c.Config, in)
	if err != nil {
		return nil, err
	}
	return &modelJob{
		Trainer: t,
		b:       b,
		kind:    "model",
		tokens:  c.Batch * c.MaxNewTokens,
		data:    data,
		tok:     tok,
		result:  t.Result,
	}, nil
}

// reference returns the model that KL is measured against: the input of that name
// or, without one, the policy as it begins. Error: tokenizer_mismatch.
func (b stageBuilder) reference(policy *model.Model, tok *tokenizer.Tokenizer) (*model.Model, error) {
	own, err := b.input("model")
	if err != nil {
		return nil, err
	}
	if given, _ := b.input("reference"); given == "" || given == own {
		return policy, nil // shared: ppo copies the models that it trains
	}
	m, referenceTok, err := b.model("reference")
	if err == nil && referenceTok.Digest() != tok.Digest() {
		err = trimtab.NewError(trimtab.Invalid, "tokenizer_mismatch",
			"name a reference that was trained from the same base",
			"the policy and the reference have different tokenizers")
	}
	return m, err
}

// prompts returns the training prompts that leave room for a response: all, or as
// many as the config asks for, drawn by the seed. Errors: no_prompts,
// context_exceeded.
func (b stageBuilder) prompts(
	ctx context.Context, t *tokenizer.Tokenizer, c *recipes.PPO, context int,
) ([]ppo.Prompt, trimtab.Fit, error) {
	all, err := b.trainPrompts(ctx)
	if err != nil {
		return nil, trimtab.Fit{}, err
	}
	ids, kept, fit := dataset.DrawPrompts(t, all, b.source("pool"), context-c.MaxNewTokens, c.NumPrompts)
	list := make([]ppo.Prompt, len(kept))
	for i, p := range kept {
		list[i] = ppo.Prompt{Text: p.Text, Tokens: ids[i]}
	}
	return list, fit, requirePrompts(fit, "prompts", c.MaxNewTokens, context)
}

// requireExamples refuses data of which no example can be learned from, and says
// whether there is none or all are too long. Errors: no_… with the kind of data,
// context_exceeded.
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
		"widen the model's context with model.max_position_embeddings, or give shorter prompts",
		"all %d %s are too long: their prompts fill the context of %d tokens", fit.LeftOut, what, context)
}

// requirePrompts refuses prompts of which none leaves room for an answer, and says
// whether there is none or all are too long. Errors: no_prompts, context_exceeded.
func requirePrompts(fit trimtab.Fit, what string, maxTokens, context int) error {
	switch {
	case fit.Kept > 0:
		return nil
	case fit.LeftOut == 0:
		return trimtab.NewError(trimtab.Invalid, "no_prompts", fmt.Sprintf("give the stage %s", what),
			"there are no %s", what)
	}
	return trimtab.NewError(trimtab.Invalid, "context_exceeded",
		"lower max_new_tokens, widen the model's context with model.max_position_embeddings, or give shorter prompts",
		"all %d %s are too long: none leaves room for an answer of %d tokens in the context of %d", fit.LeftOut, what,
		maxTokens, context)
}
