package activities

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"

	"github.com/trimtab/trimtab"
	"github.com/trimtab/trimtab/dataset"
	"github.com/trimtab/trimtab/eval"
	"github.com/trimtab/trimtab/label"
	"github.com/trimtab/trimtab/model"
	"github.com/trimtab/trimtab/recipes"
	"github.com/trimtab/trimtab/reward"
	"github.com/trimtab/trimtab/starter"
	"github.com/trimtab/trimtab/tensor"
	"github.com/trimtab/trimtab/tokenizer"
)

// Evaluation is the report of a run's models on held-out prompts, all sampled
// at the same temperature.
type Evaluation struct {
	Models      map[string]Scores `json:"models"`
	RewardModel *Accuracy         `json:"reward_model,omitempty"`
	// share of prompts on which the judge prefers PPO's answer
	Wins    *eval.Estimate `json:"ppo_over_sft,omitempty"`
	Samples []Shown        `json:"samples"`
	Prompts int            `json:"prompts"`
	Overlap int            `json:"overlap"` // held-out prompts that a training text holds
	Judge   string         `json:"judge,omitempty"`
}

// Scores are a model's means. Gold, Followed, True and Polite need a judge, Reward a reward model, KL (nats a response,
// against sft) a reference.
type Scores struct {
	Gold     *float64          `json:"gold,omitempty"`
	Followed *float64          `json:"followed,omitempty"`
	True     *float64          `json:"true,omitempty"`
	Polite   *float64          `json:"polite,omitempty"`
	Concise  *float64          `json:"concise,omitempty"`
	Reward   *float64          `json:"reward,omitempty"`
	KL       *float64          `json:"kl,omitempty"`
	Length   float64           `json:"length"` // tokens
	Ended    float64           `json:"ended"`  // share that came to an end
	Sets     map[string]Scores `json:"sets,omitempty"`
}

// Accuracy is a reward model on held-out rankings, beside what it has to beat.
type Accuracy struct {
	Pairs             int     `json:"pairs"`
	Accuracy          float64 `json:"accuracy"`
	Low               float64 `json:"low"` // 95 % bootstrap over groups
	High              float64 `json:"high"`
	LongerWins        float64 `json:"longer_wins"`
	MatchedPairs      int     `json:"matched_pairs"` // lengths within a quarter of each other
	MatchedAccuracy   float64 `json:"matched_accuracy"`
	MatchedLongerWins float64 `json:"matched_longer_wins"`

	// What follows is in the metrics of the reward stage, and not in the report, whose bytes are those of before.

	Interval label.Interval `json:"-"` // as Low and High
	Over     float64        `json:"-"` // Accuracy less LongerWins
	OverBy   label.Interval `json:"-"` // of that: paired, over the same groups
}

// Shown is one prompt with each model's answer.
type Shown struct {
	Prompt  string            `json:"prompt"`
	Set     string            `json:"set,omitempty"`
	Answers map[string]string `json:"answers"`
}

// contestant is a model under its name.
type contestant struct {
	name string
	m    *model.Model
}

// evaluator samples one model's answers to every held-out prompt a step.
type evaluator struct {
	b       stageBuilder
	config  *recipes.Evaluate
	words   *tokenizer.Tokenizer
	models  []contestant
	scorer  *model.Model // may be nil
	pass    *model.Pass
	prompts []trimtab.Prompt
	ids     [][]int32
	fit     trimtab.Fit // of the prompts
	samples []samples   // beside models
}

// dataInputs are the inputs of evaluate that are no models.
var dataInputs = []string{"prompts", "rankings", "text", "demonstrations"}

func (b stageBuilder) evaluate(ctx context.Context, c *recipes.Evaluate) (job, error) {
	e := &evaluator{b: b, config: c, pass: b.pass()}
	for _, in := range b.in.Inputs {
		if slices.Contains(dataInputs, in.Name) {
			continue
		}
		m, words, err := b.model(in.Name)
		if err != nil {
			return nil, err
		}
		if e.words == nil {
			e.words = words
		}
		if m.Scalar {
			e.scorer = m
		} else {
			e.models = append(e.models, contestant{in.Name, m})
		}
	}
	if len(e.models) == 0 {
		return nil, trimtab.NewError(trimtab.Invalid, "input_missing", "put it after a stage that makes a model",
			"there is no model to evaluate")
	}
	if err := e.choose(ctx); err != nil {
		return nil, err
	}
	for range e.models {
		e.samples = append(e.samples, newSamples(len(e.prompts), c.MaxTokens))
	}
	return e, nil
}

// choose takes the held-out prompts, the first Prompts of each set.
func (e *evaluator) choose(ctx context.Context) error {
	all, err := items[trimtab.Prompt](ctx, e.b, "prompts")
	if err != nil {
		return err
	}
	context := e.models[0].m.Config.Context
	ids, prompts, fit := dataset.FitPrompts(e.words, all, trimtab.SplitTest, context-e.config.MaxTokens)
	if fit.Kept == 0 && fit.LeftOut == 0 {
		return trimtab.NewError(trimtab.Invalid, "no_test_prompts",
			fmt.Sprintf("import prompts with \"split\": \"test\" as NAME, freeze them, and `trimtab rerun %s %s "+
				"--data NAME`", e.b.in.Run, e.b.in.Stage.Name),
			"there are no held-out prompts to ask: none of the %d prompts has the split test", len(all))
	}
	if err := requirePrompts(fit, "held-out prompts", e.config.MaxTokens, context); err != nil {
		return err
	}
	taken := map[string]int{}
	for i, p := range prompts {
		if e.config.Prompts > 0 && taken[p.Tag] == e.config.Prompts {
			continue
		}
		taken[p.Tag]++
		e.prompts, e.ids = append(e.prompts, p), append(e.ids, ids[i])
	}
	fit.Kept = len(e.prompts)
	e.fit = fit
	return nil
}

// fits counts the held-out prompts that are asked.
func (e *evaluator) fits() []trimtab.Fit { return []trimtab.Fit{e.fit} }

// Steps is the number of models that answer.
func (e *evaluator) Steps() int { return len(e.models) }

func (e *evaluator) tokensPerStep() int { return len(e.prompts) * e.config.MaxTokens }

// State is every model's answers so far.
func (e *evaluator) State() []tensor.NamedArray {
	var state []tensor.NamedArray
	for i, s := range e.samples {
		state = append(state, s.state(e.models[i].name+".")...)
	}
	return state
}

// Step lets one model answer. Every model draws the same numbers, so that two equal models give equal answers.
func (e *evaluator) Step(_ context.Context, step int) (trimtab.Report, error) {
	s, m := e.samples[step], e.models[step].m
	for from := 0; from < len(e.ids); from += sampleBatch {
		to := min(from+sampleBatch, len(e.ids))
		if err := s.fill(e.pass, m, e.ids[from:to], sampling(e.words, e.config.Temperature, e.config.MaxTokens),
			e.b.source("sample"), from); err != nil {
			return trimtab.Report{}, err
		}
	}
	return trimtab.Report{Metrics: []trimtab.Metric{{Name: "responses", Value: float64(len(e.ids))}}}, nil
}

// sampleBatch is how many responses are sampled at once.
const sampleBatch = 128

func (e *evaluator) finish(ctx context.Context) ([]trimtab.Named, []trimtab.Metric, error) {
	report, err := e.report(ctx)
	if err != nil {
		return nil, nil, err
	}
	body, err := json.Marshal(report)
	if err != nil {
		return nil, nil, err
	}
	d, err := e.b.a.artifacts.putEvaluation(ctx, e.b.in, body)
	if err != nil {
		return nil, nil, err
	}
	return []trimtab.Named{{Name: "evaluation", Digest: d}}, report.metrics(e.models), nil
}

// answer is one response with what is known of it.
type answer struct {
	set     string
	verdict *starter.Verdict
	reward  *float64
	tokens  int
	ended   bool
}

func (e *evaluator) report(ctx context.Context) (*Evaluation, error) {
	r := &Evaluation{Models: map[string]Scores{}, Prompts: len(e.prompts), Judge: e.config.Judge}
	golds := map[string][]float64{}
	for i, c := range e.models {
		answers, err := e.judge(i)
		if err != nil {
			return nil, err
		}
		scores := mean(answers)
		scores.KL = e.divergence(i)
		scores.Sets = bySet(answers)
		r.Models[c.name] = scores
		for _, a := range answers {
			if a.verdict != nil {
				golds[c.name] = append(golds[c.name], a.verdict.Gold)
			}
		}
	}
	if e.config.Judge != "" && golds["sft"] != nil && golds["ppo"] != nil {
		w := eval.WinRate(e.b.source("wins"), golds["ppo"], golds["sft"])
		r.Wins = &w
	}
	r.Samples = e.shown()
	if err := e.overlap(ctx, r); err != nil {
		return nil, err
	}
	return r, e.rewardModel(ctx, r)
}

// judge looks at model i's answers.
func (e *evaluator) judge(i int) ([]answer, error) {
	var world *starter.World
	if e.config.Judge != "" {
		world = starter.New(e.config.World)
	}
	var rewards []float32
	if e.scorer != nil {
		rewards = reward.NewScorer(e.pass, e.scorer).Scores(e.whole(i))
	}
	answers := make([]answer, len(e.prompts))
	for k, p := range e.prompts {
		ids := e.samples[i].response(k)
		a := answer{set: p.Tag, tokens: len(ids), ended: e.words.EndsWithStop(ids)}
		if world != nil {
			v, ok := world.Judge(p.Text, e.words.Decode(ids), a.ended)
			if !ok {
				return nil, trimtab.NewError(trimtab.Invalid, "prompt_unknown",
					"evaluate with prompts of the starter world", "the judge does not know what %q asks", p.Text)
			}
			a.verdict = &v
		}
		if rewards != nil {
			v := float64(rewards[k])
			a.reward = &v
		}
		answers[k] = a
	}
	return answers, nil
}

// whole are model i's answers behind their prompts.
func (e *evaluator) whole(i int) [][]int32 {
	seqs := make([][]int32, len(e.ids))
	for k, ids := range e.ids {
		seqs[k] = slices.Concat(ids, e.samples[i].response(k))
	}
	return seqs
}

// divergence is the KL of model i from sft, the model that PPO begins as.
func (e *evaluator) divergence(i int) *float64 {
	ref := slices.IndexFunc(e.models, func(c contestant) bool { return c.name == "sft" })
	if ref < 0 || ref == i || e.models[i].name == "base" {
		return nil
	}
	drawn := make([]model.Sample, len(e.ids))
	for k := range drawn {
		drawn[k].Tokens = e.samples[i].response(k)
	}
	d := eval.MeanKL(e.pass, e.models[i].m, e.models[ref].m, e.ids, drawn, float32(e.config.Temperature))
	return &d.K1
}

func mean(answers []answer) Scores {
	var s Scores
	n := float64(max(1, len(answers)))
	add := func(to **float64, v float64) {
		if *to == nil {
			*to = new(float64)
		}
		**to += v / n
	}
	for _, a := range answers {
		if v := a.verdict; v != nil {
			add(&s.Gold, v.Gold)
			add(&s.Followed, v.Followed)
			add(&s.True, v.True)
			add(&s.Polite, v.Polite)
			add(&s.Concise, v.Concise)
		}
		if a.reward != nil {
			add(&s.Reward, *a.reward)
		}
		s.Length += float64(a.tokens) / n
		if a.ended {
			s.Ended += 1 / n
		}
	}
	return s
}

// bySet is the means of each set of prompts, where there is more than one.
func bySet(answers []answer) map[string]Scores {
	sets := map[string][]answer{}
	for _, a := range answers {
		sets[a.set] = append(sets[a.set], a)
	}
	if len(sets) < 2 {
		return nil
	}
	scores := map[string]Scores{}
	for name, list := range sets {
		scores[name] = mean(list)
	}
	return scores
}

// oneLine picks prompts evenly and lists each model's answer.
func (e *evaluator) shown() []Shown {
	var list []Shown
	n := min(e.config.Samples, len(e.prompts))
	for i := range n {
		k := i * len(e.prompts) / n
		s := Shown{Prompt: e.prompts[k].Text, Set: e.prompts[k].Tag, Answers: map[string]string{}}
		for j, c := range e.models {
			s.Answers[c.name] = string(e.words.Decode(e.samples[j].response(k)))
		}
		list = append(list, s)
	}
	return list
}

// overlap counts held-out prompts that the run's training texts hold.
func (e *evaluator) overlap(ctx context.Context, r *Evaluation) error {
	var texts []trimtab.Text
	var demos []trimtab.Demonstration
	var err error
	if d, _ := e.b.input("text"); d != "" {
		if texts, err = items[trimtab.Text](ctx, e.b, "text"); err != nil {
			return err
		}
	}
	if d, _ := e.b.input("demonstrations"); d != "" {
		if demos, err = items[trimtab.Demonstration](ctx, e.b, "demonstrations"); err != nil {
			return err
		}
	}
	prompts, err := e.b.trainPrompts(ctx)
	if err != nil {
		return err
	}
	demos = slices.DeleteFunc(demos, func(d trimtab.Demonstration) bool { return d.Split == trimtab.SplitTest })
	r.Overlap = starter.Overlap(e.prompts, texts, demos, prompts)
	return nil
}

// rewardModel measures the reward model on the held-out rankings.
func (e *evaluator) rewardModel(ctx context.Context, r *Evaluation) error {
	if d, _ := e.b.input("rankings"); d == "" || e.scorer == nil {
		return nil
	}
	seqs, held, _, err := e.b.rankings(ctx, e.words, e.scorer.Config.Context, trimtab.SplitTest)
	if err != nil || len(held) == 0 {
		return err
	}
	a := e.b.measure(e.scorer, seqs, held)
	r.RewardModel = &a
	return nil
}

// measure compares a reward model with held-out rankings and with the rule that the longer one wins.
func (b stageBuilder) measure(m *model.Model, seqs []reward.Ranking, held []trimtab.Ranking) Accuracy {
	scorer := reward.NewScorer(b.pass(), m)
	scores := make([][]float32, len(seqs))
	for i, r := range seqs {
		scores[i] = scorer.Scores(r.Sequences)
	}
	score := func(r, i int) float64 { return float64(scores[r][i]) }
	pairs := label.Pairs(held)
	matched := label.LengthMatched(held, pairs)
	hits, groups := label.PairAccuracy(pairs, score), label.PairGroups(held, pairs)
	over := label.PairedDifferences(hits, label.LongerPairAccuracy(held, pairs))
	a := Accuracy{Pairs: len(pairs), Accuracy: label.Mean(hits), LongerWins: label.LongerAccuracy(held, pairs),
		MatchedPairs: len(matched), MatchedAccuracy: label.Mean(label.PairAccuracy(matched, score)),
		MatchedLongerWins: label.LongerAccuracy(held, matched),
		Interval:          label.Bootstrap(groups, hits, .95, 1000, b.source("bootstrap")),
		Over:              label.Mean(over), OverBy: label.Bootstrap(groups, over, .95, 1000, b.source("bootstrap"))}
	a.Low, a.High = a.Interval.Low, a.Interval.High
	return a
}

// accuracy is measure as metrics of the reward stage.
func (b stageBuilder) accuracy(m *model.Model, seqs []reward.Ranking, held []trimtab.Ranking) []trimtab.Metric {
	if len(held) == 0 {
		return nil
	}
	a := b.measure(m, seqs, held)
	return []trimtab.Metric{
		{Name: "held_out/accuracy", Value: a.Accuracy}, {Name: "held_out/accuracy_low", Value: a.Low},
		{Name: "held_out/accuracy_high", Value: a.High},
		{Name: "held_out/pairs", Value: float64(a.Pairs)}, {Name: "held_out/longer_wins", Value: a.LongerWins},
		{Name: "held_out/matched_pairs", Value: float64(a.MatchedPairs)},
		{Name: "held_out/matched_accuracy", Value: a.MatchedAccuracy},
		{Name: "held_out/matched_longer_wins", Value: a.MatchedLongerWins},
		{Name: "held_out/groups", Value: float64(a.Interval.Groups)},
		{Name: "held_out/over_longer", Value: a.Over},
		{Name: "held_out/over_longer_low", Value: a.OverBy.Low},
		{Name: "held_out/over_longer_high", Value: a.OverBy.High},
	}
}

// metrics are the report's numbers under names for gates and tables.
func (r *Evaluation) metrics(models []contestant) []trimtab.Metric {
	var list []trimtab.Metric
	for _, c := range models {
		s := r.Models[c.name]
		for _, f := range []struct {
			name string
			v    *float64
		}{{"gold", s.Gold}, {"followed", s.Followed}, {"true", s.True}, {"polite", s.Polite}, {"reward", s.Reward},
			{"kl", s.KL}, {"length", &s.Length}} {
			if f.v != nil {
				list = append(list, trimtab.Metric{Name: c.name + "/" + f.name, Value: *f.v})
			}
		}
	}
	if r.RewardModel != nil {
		list = append(list, trimtab.Metric{Name: "reward_model/accuracy", Value: r.RewardModel.Accuracy},
			trimtab.Metric{Name: "reward_model/longer_wins", Value: r.RewardModel.LongerWins})
	}
	return append(list, trimtab.Metric{Name: "overlap", Value: float64(r.Overlap)})
}
