package activities

import (
	"context"

	"github.com/trimtab/trimtab"
	"github.com/trimtab/trimtab/dataset"
	"github.com/trimtab/trimtab/label"
	"github.com/trimtab/trimtab/model"
	"github.com/trimtab/trimtab/recipes"
	"github.com/trimtab/trimtab/starter"
	"github.com/trimtab/trimtab/tensor"
	"github.com/trimtab/trimtab/tokenizer"
)

// collector samples K responses to each prompt, a batch of prompts a step, and
// at the end has them ranked by the starter world's labellers. The labellers
// see texts; what they think of them comes from the world's rubric.
type collector struct {
	b       stageBuilder
	config  *recipes.Collect
	m       *model.Model
	words   *tokenizer.Tokenizer
	model   trimtab.Digest
	pass    *model.Pass
	prompts []trimtab.Prompt
	starts  []int // response starts[i] is the first of prompt i's
	fit     trimtab.Fit
	samples samples
}

func (b stageBuilder) collect(ctx context.Context, c *recipes.Collect) (job, error) {
	m, words, err := b.model("model")
	if err != nil {
		return nil, err
	}
	d, err := b.input("model")
	if err != nil {
		return nil, err
	}
	all, err := b.trainPrompts(ctx)
	if err != nil {
		return nil, err
	}
	n := c.Prompts + c.HeldOut
	if len(all) < n {
		return nil, trimtab.NewError(trimtab.Invalid, "too_few_prompts", "lower prompts or held_out, or add prompts",
			"collect wants %d prompts and %d held-out ones, the dataset has %d", c.Prompts, c.HeldOut, len(all))
	}
	j := &collector{b: b, config: c, m: m, words: words, model: d, pass: b.pass(), starts: []int{0},
		fit: trimtab.Fit{Items: "prompts"}}
	counts := b.source("responses").At(0)
	for _, i := range dataset.EpochOrder(b.source("prompts"), len(all), 0)[:n] {
		j.prompts = append(j.prompts, all[i])
		j.count(all[i])
		k := c.MinResponses + counts.IntN(c.MaxResponses-c.MinResponses+1)
		j.starts = append(j.starts, j.starts[len(j.starts)-1]+k)
	}
	j.samples = newSamples(j.starts[n], c.MaxTokens)
	return j, nil
}

// count takes down what room the context leaves for answers to a prompt.
// Answers end where it is full.
func (j *collector) count(p trimtab.Prompt) {
	switch room := j.m.Config.Context - len(dataset.EncodePrompt(j.words, p.Text)); {
	case room <= 0:
		j.fit.LeftOut++
	case room < j.config.MaxTokens:
		j.fit.Cut++
		fallthrough
	default:
		j.fit.Kept++
	}
}

// fits counts the prompts that are answered.
func (j *collector) fits() []trimtab.Fit { return []trimtab.Fit{j.fit} }

// trainPrompts are the input prompts that are not held out.
func (b stageBuilder) trainPrompts(ctx context.Context) ([]trimtab.Prompt, error) {
	all, err := items[trimtab.Prompt](ctx, b, "prompts")
	return dataset.TrainPrompts(all), err
}

// Steps is the number of batches of prompts.
func (j *collector) Steps() int { return (len(j.prompts) + j.config.Batch - 1) / j.config.Batch }

// State is the responses so far.
func (j *collector) State() []tensor.NamedArray { return j.samples.state("samples.") }

func (j *collector) tokensPerStep() int {
	return j.samples.most * len(j.samples.lengths) / max(1, j.Steps())
}

// Step samples the responses to one batch of prompts.
func (j *collector) Step(_ context.Context, step int) (trimtab.Report, error) {
	from, to := step*j.config.Batch, min((step+1)*j.config.Batch, len(j.prompts))
	var ids [][]int32
	for i := from; i < to; i++ {
		p := dataset.EncodePrompt(j.words, j.prompts[i].Text)
		for range j.starts[i+1] - j.starts[i] {
			ids = append(ids, p)
		}
	}
	err := j.samples.fill(j.pass, j.m, ids, sampling(j.words, j.config.Temperature, j.config.MaxTokens),
		j.b.source("sample"), j.starts[from])
	return trimtab.Report{Metrics: []trimtab.Metric{{Name: "responses", Value: float64(j.starts[to])}}}, err
}

// sampling are the options for answering prompts; any of the tokenizer's Ends is the end.
func sampling(t *tokenizer.Tokenizer, temperature float64, most int) model.SampleOptions {
	return model.SampleOptions{Temperature: float32(temperature), MaxNewTokens: most, StopTokens: t.StopTokens(),
		SuppressTokens: t.SuppressTokens()}
}

// asked is a prompt with its different responses.
type asked struct {
	index     int
	responses []trimtab.Response
	verdicts  []starter.Verdict
}

// finish has the samples ranked and freezes the rankings.
func (j *collector) finish(ctx context.Context) ([]trimtab.Named, []trimtab.Metric, error) {
	world := starter.New(j.config.World)
	people := world.Labellers(j.b.in.Seed)
	groups, err := j.groups(world)
	if err != nil {
		return nil, nil, err
	}
	verdicts := make([][]starter.Verdict, len(groups))
	for i, g := range groups {
		verdicts[i] = g.verdicts
	}
	agreement := people.TuneNoise(verdicts, j.config.Agreement)
	rankings, oracle := j.rank(people, groups)
	items := make([]trimtab.Item, len(rankings))
	for i, r := range rankings {
		items[i] = r
	}
	d, err := j.b.a.artifacts.putRankings(ctx, j.b.in, items)
	if err != nil {
		return nil, nil, err
	}
	pairs := label.Pairs(rankings)
	return []trimtab.Named{{Name: "rankings", Digest: d}}, append([]trimtab.Metric{
		{Name: "rankings", Value: float64(len(rankings))},
		{Name: "pairs", Value: float64(len(pairs))},
		{Name: "distinct_responses", Value: float64(responsesOf(rankings)) / float64(max(1, len(rankings)))},
		{Name: "agreement", Value: agreement},
		{Name: "oracle_accuracy", Value: label.Mean(oracle)},
		{Name: "longer_wins", Value: label.LongerAccuracy(rankings, pairs)},
	}, j.heldOut(rankings, pairs, oracle)...), nil
}

// heldOut is how the labellers' mean taste does on the pairs by which reward models are measured.
func (j *collector) heldOut(rankings []trimtab.Ranking, pairs []label.Pair, oracle []float64) []trimtab.Metric {
	var held []label.Pair
	var hits []float64
	for i, p := range pairs {
		if rankings[p.Ranking].Split == trimtab.SplitTest {
			held, hits = append(held, p), append(hits, oracle[i])
		}
	}
	if len(held) == 0 {
		return nil
	}
	by := label.Bootstrap(label.PairGroups(rankings, held), hits, .95, 1000, j.b.source("bootstrap"))
	return []trimtab.Metric{
		{Name: "held_out/oracle_accuracy", Value: label.Mean(hits)},
		{Name: "held_out/oracle_accuracy_low", Value: by.Low}, {Name: "held_out/oracle_accuracy_high", Value: by.High},
		{Name: "held_out/pairs", Value: float64(len(held))}, {Name: "held_out/groups", Value: float64(by.Groups)},
	}
}

// groups are the different responses to each prompt, judged.
func (j *collector) groups(world *starter.World) ([]asked, error) {
	var groups []asked
	for i, p := range j.prompts {
		g := asked{index: i}
		seen := map[string]bool{}
		for k := j.starts[i]; k < j.starts[i+1]; k++ {
			ids := j.samples.response(k)
			text := j.words.Decode(ids)
			if seen[string(text)] || len(text) == 0 {
				continue
			}
			seen[string(text)] = true
			v, ok := world.Judge(p.Text, text, j.words.EndsWithStop(ids))
			if !ok {
				return nil, trimtab.NewError(trimtab.Invalid, "prompt_unknown",
					"give the run prompts of the starter world, or rankings of people",
					"the simulated labellers do not know what %q asks", p.Text)
			}
			g.responses = append(g.responses, trimtab.Response{Tokens: ids, Tokenizer: trimtab.Digest(j.words.Digest()),
				Bytes: text, Model: j.model})
			g.verdicts = append(g.verdicts, v)
		}
		if len(g.responses) > 1 {
			groups = append(groups, g)
		}
	}
	if len(groups) == 0 {
		return nil, trimtab.NewError(trimtab.Invalid, "no_rankings",
			"train the model longer or sample at a higher temperature", "no prompt got two different responses")
	}
	return groups, nil
}

// rank lets the labellers order each group. oracle has, for each pair of the
// rankings in order, whether their mean taste orders it as the label says.
func (j *collector) rank(people *starter.Labellers, groups []asked) (rankings []trimtab.Ranking, oracle []float64) {
	for _, g := range groups {
		r := people.Rank(uint64(g.index), j.prompts[g.index].Text, g.responses, g.verdicts)
		if g.index >= j.config.Prompts {
			r.Split = trimtab.SplitTest
		}
		if r.Validate() != nil { // all tied: there is nothing to learn from
			continue
		}
		worth := map[string]float64{}
		for i, resp := range g.responses {
			worth[string(resp.Bytes)] = people.MeanUtility(g.verdicts[i])
		}
		one := []trimtab.Ranking{r}
		oracle = append(oracle, label.PairAccuracy(label.Pairs(one),
			func(_, i int) float64 { return worth[string(r.Responses[i].Bytes)] })...)
		rankings = append(rankings, r)
	}
	return rankings, oracle
}

func responsesOf(rankings []trimtab.Ranking) int {
	n := 0
	for _, r := range rankings {
		n += len(r.Responses)
	}
	return n
}
