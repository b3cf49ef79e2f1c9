package activities

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"

	"github.com/trimtab/trimtab"
	"github.com/trimtab/trimtab/dataset"
	"github.com/trimtab/trimtab/eval"
	"github.com/trimtab/trimtab/evaluate"
	"github.com/trimtab/trimtab/model"
	"github.com/trimtab/trimtab/recipes"
	"github.com/trimtab/trimtab/reward"
	"github.com/trimtab/trimtab/tokenizer"
)

// evaluateJob is an evaluate stage at work: sampling and scoring are package
// evaluate's, reading the inputs and storing the report are done here.
type evaluateJob struct {
	*evaluate.Trainer
	b           stageBuilder
	tok         *tokenizer.Tokenizer
	models      []string     // names in the report, in order of inputs
	rewardModel *model.Model // may be nil
	fit         trimtab.Fit  // of the held-out prompts
}

// dataInputs are the inputs of an evaluate stage that are datasets; all others are models.
var dataInputs = []string{"prompts", "rankings", "text", "demonstrations"}

// evaluate builds the job of an evaluate stage. Errors: input_missing without a
// model, no_test_prompts, context_exceeded.
func (b stageBuilder) evaluate(ctx context.Context, c *recipes.Evaluate) (job, error) {
	j := &evaluateJob{b: b}
	models, err := j.loadModels()
	if err != nil {
		return nil, err
	}
	in := evaluate.Inputs{
		Pool:      b.a.pool,
		Numerics:  b.numerics,
		Seed:      b.in.Seed,
		Stage:     b.in.Stage.Name,
		Models:    models,
		Tokenizer: j.tok,
	}
	if j.rewardModel != nil { // a nil *reward.Scorer in the interface would not be nil
		in.Scorer = reward.NewScorer(b.pass(), j.rewardModel)
	}
	if in.PromptIDs, in.Prompts, err = j.heldOutPrompts(ctx, c, models[0].Model.Config.Context); err != nil {
		return nil, err
	}
	if j.Trainer, err = evaluate.New(c.Config, in); err != nil {
		return nil, err
	}
	j.fit.Kept = j.Prompts() // the config may ask for fewer than fit
	return j, nil
}

// loadModels loads every model among the inputs. A model with a scalar head is
// the reward model; the others are evaluated, under the names of their inputs.
func (j *evaluateJob) loadModels() ([]evaluate.NamedModel, error) {
	var models []evaluate.NamedModel
	for _, in := range j.b.in.Inputs {
		if slices.Contains(dataInputs, in.Name) {
			continue
		}
		m, tok, err := j.b.model(in.Name)
		if err != nil {
			return nil, err
		}
		if j.tok == nil { // the models of a run share the tokenizer of its base model
			j.tok = tok
		}
		if m.Scalar {
			j.rewardModel = m
		} else {
			models = append(models, evaluate.NamedModel{Name: in.Name, Model: m})
			j.models = append(j.models, in.Name)
		}
	}
	if len(models) == 0 {
		return nil, trimtab.NewError(trimtab.Invalid, "input_missing", "put it after a stage that makes a model",
			"there is no model to evaluate")
	}
	return models, nil
}

// heldOutPrompts reads the prompts of the split test that leave room for an
// answer in a context, with their tokens.
func (j *evaluateJob) heldOutPrompts(
	ctx context.Context, c *recipes.Evaluate, context int,
) ([][]int32, []trimtab.Prompt, error) {
	all, err := items[trimtab.Prompt](ctx, j.b, "prompts")
	if err != nil {
		return nil, nil, err
	}
	ids, prompts, fit := dataset.FitPrompts(j.tok, all, trimtab.SplitTest, context-c.MaxNewTokens)
	if fit.Kept == 0 && fit.LeftOut == 0 {
		remedy := fmt.Sprintf("import prompts with \"split\": \"test\" as NAME, freeze them, and "+
			"`trimtab rerun %s %s --data NAME`", j.b.in.Run, j.b.in.Stage.Name)
		return nil, nil, trimtab.NewError(trimtab.Invalid, "no_test_prompts", remedy,
			"there are no held-out prompts to ask: none of the %d prompts has the split test", len(all))
	}
	j.fit = fit
	return ids, prompts, requirePrompts(fit, "held-out prompts", c.MaxNewTokens, context)
}

// tokensPerStep is Trainer.TokensPerStep.
func (j *evaluateJob) tokensPerStep() int { return j.TokensPerStep() }

// fits counts the held-out prompts that are asked.
func (j *evaluateJob) fits() []trimtab.Fit { return []trimtab.Fit{j.fit} }

// finish measures the answers and stores the report, as a document under its digest.
func (j *evaluateJob) finish(ctx context.Context, in SegmentInput) ([]trimtab.Named, []trimtab.Metric, error) {
	report, err := j.report(ctx)
	if err != nil {
		return nil, nil, err
	}
	// The encoding is deterministic: fields in their order, maps by key.
	body, err := json.Marshal(report)
	if err != nil {
		return nil, nil, err
	}
	d, err := j.b.a.artifacts.putEvaluation(ctx, in, body)
	if err != nil {
		return nil, nil, err
	}
	return []trimtab.Named{{Name: "evaluation", Digest: d}}, evaluate.Metrics(report, j.models), nil
}

// report measures the answers, and the reward model where the run has one.
func (j *evaluateJob) report(ctx context.Context) (*eval.Report, error) {
	data, err := j.trainingData(ctx)
	if err != nil {
		return nil, err
	}
	r, err := j.Report(data)
	if err != nil {
		return nil, err
	}
	if d, _ := j.b.input("rankings"); d == "" || j.rewardModel == nil {
		return r, nil // nothing to measure the reward model on
	}
	seqs, held, _, err := j.b.rankings(ctx, j.tok, j.rewardModel.Config.Context, trimtab.SplitTest)
	if err != nil || len(held) == 0 {
		return r, err
	}
	a := j.b.measureReward(j.rewardModel, seqs, held)
	r.RewardModel = &a
	return r, nil
}

// trainingData reads what the run's models were trained on, as far as it is
// among the inputs: models that were imported bring no data.
func (j *evaluateJob) trainingData(ctx context.Context) (data evaluate.TrainingData, err error) {
	if d, _ := j.b.input("text"); d != "" {
		if data.Texts, err = items[trimtab.Text](ctx, j.b, "text"); err != nil {
			return data, err
		}
	}
	if d, _ := j.b.input("demonstrations"); d != "" {
		if data.Demonstrations, err = items[trimtab.Demonstration](ctx, j.b, "demonstrations"); err != nil {
			return data, err
		}
	}
	data.Prompts, err = j.b.trainPrompts(ctx)
	return data, err
}

// measureReward scores held-out rankings, whose tokens are seqs, with a reward
// model. The reward stage and the evaluate stage both use it, with random sources
// of their own.
func (b stageBuilder) measureReward(m *model.Model, seqs []reward.Ranking, held []trimtab.Ranking) eval.RewardAccuracy {
	scorer := reward.NewScorer(b.pass(), m)
	scores := make([][]float32, len(seqs))
	for i, r := range seqs {
		scores[i] = scorer.Scores(r.Sequences)
	}
	return eval.MeasureReward(held, scores, b.source("bootstrap"))
}
