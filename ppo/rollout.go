package ppo

import (
	"context"

	"github.com/trimtab/trimtab/dataset"
	"github.com/trimtab/trimtab/draw"
	"github.com/trimtab/trimtab/model"
)

// microTokens is about how many tokens go through a model at once.
const microTokens = 4096

// episode is a prompt, the response that the policy sampled, and what is known
// of each of the R tokens of that response.
type episode struct {
	prompt    int     // index of Inputs.Prompts
	tokens    []int32 // prompt, then response
	promptLen int     // where the response begins, at least 1
	ended     bool    // the response ends in one of the tokens that end texts
	rawScore  float32 // what the scorer said
	score     float32 // standardised, after the EOS rule

	logprobs, refLogprobs, entropies []float32 // (R) of the policy that sampled, and of the reference
	values, rewards                  []float32 // (R) value before the token, reward for it
	advantages, whitened, returns    []float32 // (R)
}

// response is the R tokens that the policy chose.
func (e *episode) response() []int32 { return e.tokens[e.promptLen:] }

// logitRow of the model's output that speaks of token t of the response, when e begins at row first.
func (e *episode) logitRow(first, t int) int { return first + e.promptLen - 1 + t }

// allocate cuts the (R) slices from one block.
func (e *episode) allocate() {
	r := len(e.response())
	block := make([]float32, 8*r)
	for i, p := range []*[]float32{&e.logprobs, &e.refLogprobs, &e.entropies, &e.values, &e.rewards, &e.advantages,
		&e.whitened, &e.returns} {
		*p = block[i*r : (i+1)*r : (i+1)*r]
	}
}

// generate lets m answer the given prompts; base numbers the first of them among all of its kind.
func (t *Trainer) generate(m *model.Model, prompts []int, src draw.Source, base int) []*episode {
	ids := make([][]int32, len(prompts))
	for i, p := range prompts {
		ids[i] = t.in.Prompts[p].Tokens
	}
	o := model.SampleOptions{Temperature: float32(t.config.Temperature), MaxNewTokens: t.config.MaxTokens,
		StopTokens: t.in.StopTokens, SuppressTokens: t.in.SuppressTokens}
	episodes := make([]*episode, len(prompts))
	for i, s := range model.Generate(t.pass, m, ids, o, src, uint64(base)) {
		response, ended := Truncate(s.Tokens, t.in.StopTokens)
		e := &episode{prompt: prompts[i], promptLen: len(ids[i]), ended: ended}
		e.tokens = append(append(make([]int32, 0, len(ids[i])+len(response)), ids[i]...), response...)
		e.allocate()
		copy(e.logprobs, s.LogProbs)
		copy(e.entropies, s.Entropies)
		episodes[i] = e
	}
	return episodes
}

// standardizeScores standardises what the scorer said, after the EOS rule.
func (t *Trainer) standardizeScores(episodes []*episode) {
	for _, e := range episodes {
		e.score = t.config.applyEOS(t.scoreScale.standardize(e.rawScore), e.ended)
	}
}

func sequences(episodes []*episode) [][]int32 {
	seqs := make([][]int32, len(episodes))
	for i, e := range episodes {
		seqs[i] = e.tokens
	}
	return seqs
}

// estimateScoreScale takes the scale from samples of the reference.
func (t *Trainer) estimateScoreScale() error {
	n := t.config.ScoreSamples
	if n == 0 {
		t.scoreScale[0], t.scoreScale[1] = 0, 1
		return nil
	}
	prompts := make([]int, n)
	order := dataset.EpochSampler{Source: draw.New(t.in.Seed, t.in.Stage, "scale", "prompts"), N: len(t.in.Prompts)}
	for i := range prompts {
		prompts[i] = order.Index(i)
	}
	samples := t.generate(t.in.Reference, prompts, draw.New(t.in.Seed, t.in.Stage, "scale", "sample"), 0)
	return t.scoreScale.fit(t.in.Scorer.Scores(sequences(samples)))
}

// makeRollouts makes episodes from … to-1 of an iteration, with all that is said of
// each apart from the others: what the policy answered, what the scorer says
// of it, log-probabilities and values. It reads the state and changes nothing.
func (t *Trainer) makeRollouts(ctx context.Context, iteration, from, to int) ([]*episode, error) {
	prompts := make([]int, to-from)
	first := iteration*t.config.Batch + from
	for i := range prompts {
		prompts[i] = t.promptOrder.Index(first + i)
	}
	episodes := t.generate(t.policy.model, prompts, t.samplingSource, first)
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	for i, raw := range t.in.Scorer.Scores(sequences(episodes)) {
		episodes[i].rawScore = raw
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	t.refLogprobsAndValues(episodes)
	return episodes, ctx.Err()
}

// computeAdvantages turns scores, log-probabilities and values into advantages and returns.
func (t *Trainer) computeAdvantages(episodes []*episode) {
	c := t.config
	for _, e := range episodes {
		Rewards(e.rewards, e.logprobs, e.refLogprobs, float64(t.beta[0]), e.score)
	}
	whitenAcross(episodes, c.WhitenRewards, true, func(e *episode) []float32 { return e.rewards })
	for _, e := range episodes {
		GAE(e.advantages, e.returns, e.rewards, e.values, c.Gamma, c.Lambda)
		copy(e.whitened, e.advantages)
	}
	whitenAcross(episodes, c.WhitenAdvantages, false, func(e *episode) []float32 { return e.whitened })
}

// whitenAcross whitens one array of all episodes together.
func whitenAcross(episodes []*episode, how string, keepMean bool, of func(*episode) []float32) {
	var all []float32
	for _, e := range episodes {
		all = append(all, of(e)...)
	}
	Whiten(all, how, keepMean)
	for _, e := range episodes {
		all = all[copy(of(e), all):]
	}
}

// inMicroBatches calls f for runs of episodes of about micro tokens, in order. How
// they are cut changes no bit.
func (t *Trainer) inMicroBatches(episodes []*episode, f func(chunk []*episode)) {
	for len(episodes) > 0 {
		n, tokens := 0, 0
		for n < len(episodes) && (n == 0 || tokens+len(episodes[n].tokens) <= t.microTokens) {
			tokens += len(episodes[n].tokens)
			n++
		}
		f(episodes[:n])
		episodes = episodes[n:]
	}
}

// tokenPosition names a token of a response.
type tokenPosition struct {
	episode *episode
	index   int
}

// responseBatch lays episodes end to end, without their last tokens, after which
// nothing is predicted; rows[i] speaks of the token at places[i].
func responseBatch(episodes []*episode) (b model.Batch, rows []model.HeadRow, places []tokenPosition) {
	inputs := make([][]int32, len(episodes))
	first := 0
	for i, e := range episodes {
		inputs[i] = e.tokens[:len(e.tokens)-1]
		for t, id := range e.response() {
			rows = append(rows, model.HeadRow{Row: e.logitRow(first, t), Target: id})
			places = append(places, tokenPosition{e, t})
		}
		first += len(inputs[i])
	}
	return model.NewBatch(inputs...).ForHeads(rows), rows, places
}

// refLogprobsAndValues fills the log-probability of every response token under the reference,
// at the sampling temperature, and the value of the state before it; both read
// the same batches. Under the policy the sampler has the log-probabilities, bit
// for bit.
func (t *Trainer) refLogprobsAndValues(episodes []*episode) {
	t.inMicroBatches(episodes, func(chunk []*episode) {
		b, rows, places := responseBatch(chunk)
		t.pass.Infer(t.in.Reference, b)
		t.pass.LMHead(t.in.Reference, nil, rows, t.inverseTemperature(), func(i int, logp, _ float32) float32 {
			places[i].episode.refLogprobs[places[i].index] = logp
			return 0
		})
		t.pass.Infer(t.value.model, b)
		for i, v := range t.pass.ScalarHead(t.value.model, rowIndices(rows)) {
			places[i].episode.values[places[i].index] = v
		}
	})
}

func rowIndices(rows []model.HeadRow) []int {
	at := make([]int, len(rows))
	for i, r := range rows {
		at[i] = r.Row
	}
	return at
}

// inverseTemperature is what logits are multiplied by, in every log-probability.
func (t *Trainer) inverseTemperature() float32 { return 1 / float32(t.config.Temperature) }
