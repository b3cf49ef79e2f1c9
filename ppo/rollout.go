package ppo

import (
	"context"

	"github.com/trimtab/trimtab"
	"github.com/trimtab/trimtab/dataset"
	"github.com/trimtab/trimtab/draw"
	"github.com/trimtab/trimtab/model"
)

// episode is one rollout: a query, which is one of the prompts, the response
// that was sampled to it, and the numbers of each of the R response tokens. In
// the terms of reinforcement learning every response token is an action, and
// the tokens before it are the state.
type episode struct {
	prompt    int     // index in Inputs.Prompts
	tokens    []int32 // query and response
	promptLen int     // number of query tokens, at least 1
	ended     bool    // the response ends with a stop token
	rawScore  float32 // by the scorer
	score     float32 // standardised, after the EOS rule

	logprobs    []float32 // (R) of each token under the policy that sampled it
	refLogprobs []float32 // (R) under the reference
	entropies   []float32 // (R) of the policy's distribution, in nats
	values      []float32 // (R) of the state before the token
	rewards     []float32 // (R) for the token
	advantages  []float32 // (R) before whitening
	whitened    []float32 // (R) the advantages that the policy is updated with
	returns     []float32 // (R) what the value model is fitted to
}

// response returns the R tokens after the query.
func (e *episode) response() []int32 { return e.tokens[e.promptLen:] }

// length is the number of tokens of query and response.
func (e *episode) length() int { return len(e.tokens) }

// allocate cuts the (R) arrays from one block of zeros.
func (e *episode) allocate() {
	r := len(e.response())
	block := make([]float32, 8*r)
	for i, array := range []*[]float32{&e.logprobs, &e.refLogprobs, &e.entropies, &e.values, &e.rewards,
		&e.advantages, &e.whitened, &e.returns} {
		*array = block[i*r : (i+1)*r : (i+1)*r]
	}
}

// sequences lists the tokens of query and response of each episode.
func sequences(episodes []*episode) [][]int32 {
	seqs := make([][]int32, len(episodes))
	for i, e := range episodes {
		seqs[i] = e.tokens
	}
	return seqs
}

// responseTokens counts the response tokens of all episodes.
func responseTokens(episodes []*episode) int {
	n := 0
	for _, e := range episodes {
		n += len(e.response())
	}
	return n
}

// makeRollouts makes the episodes first … end-1 of an iteration: it samples the
// responses and fills everything that an episode has apart from the others, up
// to its values. It reads the trainer's state and does not change it, so
// several workers can make parts of one iteration. If ctx ends, it returns
// after the part at work.
func (t *Trainer) makeRollouts(ctx context.Context, iteration, first, end int) ([]*episode, error) {
	// Episodes are numbered through the whole run. The number decides the
	// prompt and the random draws, so it does not matter who makes an episode.
	number := iteration*t.config.Batch + first
	prompts := make([]int, end-first)
	for i := range prompts {
		prompts[i] = t.promptOrder.Index(number + i)
	}
	episodes := t.generate(t.policy.model, prompts, t.samplingSource, number)
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	for i, rawScore := range t.in.Scorer.Scores(sequences(episodes)) {
		episodes[i].rawScore = rawScore
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	t.computeRefLogprobsAndValues(episodes)
	return episodes, ctx.Err()
}

// generate samples m's response to each of some prompts, given by their
// indices. It fills logprobs and entropies, which the sampler knows. Token k of
// the response to the i-th prompt is drawn from src.At(base+i, k).
func (t *Trainer) generate(m *model.Model, prompts []int, src draw.Source, base int) []*episode {
	queries := make([][]int32, len(prompts))
	for i, p := range prompts {
		queries[i] = t.in.Prompts[p].Tokens
	}
	options := model.SampleOptions{
		Temperature:    float32(t.config.Temperature),
		MaxNewTokens:   t.config.MaxNewTokens,
		StopTokens:     t.in.StopTokens,
		SuppressTokens: t.in.SuppressTokens,
	}
	episodes := make([]*episode, len(prompts))
	for i, sample := range model.Generate(t.pass, m, queries, options, src, uint64(base)) {
		response, ended := Truncate(sample.Tokens, t.in.StopTokens)
		e := &episode{prompt: prompts[i], promptLen: len(queries[i]), ended: ended}
		e.tokens = append(append(make([]int32, 0, len(queries[i])+len(response)), queries[i]...), response...)
		e.allocate()
		copy(e.logprobs, sample.LogProbs)
		copy(e.entropies, sample.Entropies)
		episodes[i] = e
	}
	return episodes
}

// computeRefLogprobsAndValues fills, for every response token, its
// log-probability under the reference at the sampling temperature, and the
// value of the state before it. Both models read the same batches. The
// policy's log-probabilities are not computed again: the sampler's are the same
// bit for bit.
func (t *Trainer) computeRefLogprobsAndValues(episodes []*episode) {
	reference, value := t.in.Reference, t.value.model
	for micro := range dataset.MicroBatches(episodes, t.microTokens, (*episode).length) {
		batch, rows, positions := responseBatch(micro)

		t.pass.Infer(reference, batch)
		for i, logprob := range t.pass.LogProbs(reference, rows, t.inverseTemperature()).LogP {
			positions[i].episode.refLogprobs[positions[i].index] = logprob
		}

		t.pass.Infer(value, batch)
		for i, v := range t.pass.ScalarHead(value, rowIndices(rows)) {
			positions[i].episode.values[positions[i].index] = v
		}
	}
}

// tokenPosition identifies a response token.
type tokenPosition struct {
	episode *episode
	index   int // in the response
}

// responseBatch lays episodes end to end for next-token prediction. Row i of
// the head predicts the response token at positions[i]; it is the row of the
// token before, and its state is that which a value is of.
func responseBatch(episodes []*episode) (model.Batch, []model.HeadRow, []tokenPosition) {
	promptLens := make([]int, len(episodes))
	var positions []tokenPosition
	for i, e := range episodes {
		promptLens[i] = e.promptLen
		for k := range e.response() {
			positions = append(positions, tokenPosition{e, k})
		}
	}
	batch, rows := model.NextTokens(sequences(episodes), promptLens)
	return batch, rows, positions
}

// rowIndices returns the batch rows of head rows, as the scalar head wants them.
func rowIndices(rows []model.HeadRow) []int {
	indices := make([]int, len(rows))
	for i, r := range rows {
		indices[i] = r.Row
	}
	return indices
}

// inverseTemperature multiplies the logits of every log-probability, also in
// the updates: the policy that is optimised is the one that was sampled.
func (t *Trainer) inverseTemperature() float32 { return 1 / float32(t.config.Temperature) }

// rolloutFacts returns the episodes in the form in which they are recorded. The
// arrays are shared with the episodes.
func (t *Trainer) rolloutFacts(episodes []*episode) []trimtab.Rollout {
	rollouts := make([]trimtab.Rollout, len(episodes))
	for i, e := range episodes {
		r := trimtab.Rollout{
			Index:      i,
			Prompt:     t.in.Prompts[e.prompt].Text,
			PromptIDs:  e.tokens[:e.promptLen:e.promptLen],
			Tokens:     e.response(),
			Score:      e.score,
			RawScore:   e.rawScore,
			Ended:      e.ended,
			LogProbs:   e.logprobs,
			RefLogProb: e.refLogprobs,
			KL:         make([]float32, len(e.logprobs)),
			Values:     e.values,
			Rewards:    e.rewards,
			Advantages: e.advantages,
			Returns:    e.returns,
		}
		for k := range r.KL {
			r.KL[k] = e.logprobs[k] - e.refLogprobs[k]
		}
		if t.in.Decode != nil {
			r.Bytes = t.in.Decode(r.Tokens)
		}
		rollouts[i] = r
	}
	return rollouts
}
