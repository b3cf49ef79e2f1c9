package collect

import (
	"github.com/trimtab/trimtab"
	"github.com/trimtab/trimtab/label"
	"github.com/trimtab/trimtab/starter"
)

// Intervals of the held-out pairs are percentile bootstraps over groups of
// rankings, with these parameters.
const (
	confidence = .95
	resamples  = 1000
)

// Rankings has the labellers rank the sampled responses, after the last step.
// The metrics say how many rankings and pairs there are, how far the labellers
// agree, and how well their mean utility, without their noise, predicts the
// labels (oracle_accuracy): a reference for a reward model's accuracy. Errors:
// prompt_unknown, no_rankings.
func (t *Trainer) Rankings() ([]trimtab.Ranking, []trimtab.Metric, error) {
	world := starter.New(t.config.World)
	labellers := world.Labellers(t.in.Seed)
	groups, err := t.judge(world)
	if err != nil {
		return nil, nil, err
	}
	verdicts := make([][]starter.Verdict, len(groups))
	for i, g := range groups {
		verdicts[i] = g.verdicts
	}
	// The noise depends on all verdicts, so nothing can be ranked before the last step.
	agreement := labellers.TuneNoise(verdicts, t.config.Agreement)
	rankings, oracle := t.rank(labellers, groups)
	pairs := label.Pairs(rankings)
	distinct := float64(countResponses(rankings)) / float64(max(1, len(rankings)))
	metrics := []trimtab.Metric{
		{Name: "rankings", Value: float64(len(rankings))},
		{Name: "pairs", Value: float64(len(pairs))},
		{Name: "distinct_responses", Value: distinct},
		{Name: "agreement", Value: agreement},
		{Name: "oracle_accuracy", Value: label.Mean(oracle)},
		{Name: "longer_wins", Value: label.LongerAccuracy(rankings, pairs)},
	}
	return rankings, append(metrics, t.heldOutMetrics(rankings, pairs, oracle)...), nil
}

// heldOutMetrics measures the labellers' mean utility on the held-out pairs,
// those by which reward models are measured. oracle[i] is the hit of pairs[i].
func (t *Trainer) heldOutMetrics(rankings []trimtab.Ranking, pairs []label.Pair, oracle []float64) []trimtab.Metric {
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
	// The pairs of one group share a prompt and are not independent.
	groups := label.PairGroups(rankings, held)
	interval := label.Bootstrap(groups, hits, confidence, resamples, t.source("bootstrap"))
	return []trimtab.Metric{
		{Name: "held_out/oracle_accuracy", Value: label.Mean(hits)},
		{Name: "held_out/oracle_accuracy_low", Value: interval.Low},
		{Name: "held_out/oracle_accuracy_high", Value: interval.High},
		{Name: "held_out/pairs", Value: float64(len(held))},
		{Name: "held_out/groups", Value: float64(interval.Groups)},
	}
}

// judge lists the different, non-empty responses to each prompt with the
// world's verdicts. Prompts with fewer than two are left out.
func (t *Trainer) judge(world *starter.World) ([]promptResponses, error) {
	var groups []promptResponses
	for i := range t.prompts { // in order, so that the rankings are too
		g, err := t.judgePrompt(world, i)
		if err != nil {
			return nil, err
		}
		if len(g.responses) > 1 {
			groups = append(groups, g)
		}
	}
	if len(groups) == 0 {
		return nil, trimtab.NewError(trimtab.Invalid, "no_rankings",
			"train the model longer, or sample at a higher temperature", "no prompt got two different responses")
	}
	return groups, nil
}

// judgePrompt is judge for prompt i.
func (t *Trainer) judgePrompt(world *starter.World, i int) (promptResponses, error) {
	g := promptResponses{prompt: i}
	seen := map[string]bool{}
	for k := t.starts[i]; k < t.starts[i+1]; k++ {
		ids := t.responses.At(k)
		text := t.in.Tokenizer.Decode(ids)
		if seen[string(text)] || len(text) == 0 { // equal texts tie, and an empty one says nothing
			continue
		}
		seen[string(text)] = true
		v, ok := world.Judge(t.prompts[i].Text, text, t.in.Tokenizer.EndsWithStop(ids))
		if !ok {
			return g, trimtab.NewError(trimtab.Invalid, "prompt_unknown",
				"give the run prompts of the starter world, or rankings of people",
				"the simulated labellers do not understand the prompt %q", t.prompts[i].Text)
		}
		g.responses = append(g.responses, trimtab.Response{
			Tokens:    ids,
			Tokenizer: trimtab.Digest(t.in.Tokenizer.Digest()),
			Bytes:     text,
			Model:     t.in.Digest,
		})
		g.verdicts = append(g.verdicts, v)
	}
	return g, nil
}

// rank has the labellers order each group. oracle has a hit for each pair of
// the rankings, in order: whether the labellers' mean utility orders the pair
// as its label does.
func (t *Trainer) rank(
	labellers *starter.Labellers, groups []promptResponses,
) (rankings []trimtab.Ranking, oracle []float64) {
	for _, g := range groups {
		r := labellers.Rank(uint64(g.prompt), t.prompts[g.prompt].Text, g.responses, g.verdicts)
		if g.prompt >= t.config.Prompts {
			r.Split = trimtab.SplitTest
		}
		if r.Validate() != nil { // all responses are tied: there is no pair to learn from
			continue
		}
		utility := map[string]float64{}
		for i, resp := range g.responses {
			utility[string(resp.Bytes)] = labellers.MeanUtility(g.verdicts[i])
		}
		pairs := label.Pairs([]trimtab.Ranking{r})
		// Rank presents the responses in another order, so they are found by their text.
		score := func(_, i int) float64 { return utility[string(r.Responses[i].Bytes)] }
		oracle = append(oracle, label.PairAccuracy(pairs, score)...)
		rankings = append(rankings, r)
	}
	return rankings, oracle
}

// countResponses returns the number of responses in all rankings together.
func countResponses(rankings []trimtab.Ranking) int {
	n := 0
	for _, r := range rankings {
		n += len(r.Responses)
	}
	return n
}
