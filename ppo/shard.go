package ppo

import (
	"context"
	"fmt"
	"math"
	"slices"

	"github.com/trimtab/trimtab"
	"github.com/trimtab/trimtab/tensor"
)

// Shard holds consecutive episodes of one iteration, so that several workers
// can share the sampling. It has what each episode has apart from the others:
// the response, its raw score, log-probabilities, entropies and values. What
// needs all episodes together, from the standardised score on, is computed
// after the shards have been put together. A shard is a function of (State,
// step, inputs, seed) and its range.
type Shard struct {
	Step  int // the iteration
	First int // number of the first episode within the iteration

	episodes []*episode
}

// maxExactInt bounds the whole numbers that are stored as float32: up to it
// every one has a value of its own.
const maxExactInt = 1 << 24

// ShardRange returns the range first … end-1 of the episodes in shard i of n.
// The shards cover the iteration and differ by at most one episode.
func (t *Trainer) ShardRange(i, n int) (first, end int) {
	return t.config.Batch * i / n, t.config.Batch * (i + 1) / n
}

// Rollouts makes the episodes first … end-1 of an iteration. It reads the
// trainer's state and does not change it. If ctx ends, it stops after sampling,
// scoring or valuing. Errors: the cause of ctx; rollouts_out_of_range for a
// step or a range that does not exist; rollouts_too_many_ids if prompts or
// tokens have numbers that a shard cannot hold.
func (t *Trainer) Rollouts(ctx context.Context, step, first, end int) (Shard, error) {
	if step < 0 || step >= t.Steps() || first < 0 || first > end || end > t.config.Batch {
		return Shard{}, trimtab.NewError(trimtab.Internal, "rollouts_out_of_range", "",
			"ppo: there are no episodes %d to %d of iteration %d: an iteration has %d, and there are %d iterations",
			first, end, step, t.config.Batch, t.Steps())
	}
	if len(t.in.Prompts) > maxExactInt || t.in.Model.Config.Vocab > maxExactInt {
		return Shard{}, trimtab.NewError(trimtab.Invalid, "rollouts_too_many_ids", "leave rollout_shards out",
			"ppo: rollouts can be stored for at most %d prompts and tokens of the vocabulary: there are %d and %d",
			maxExactInt, len(t.in.Prompts), t.in.Model.Config.Vocab)
	}
	episodes, err := t.makeRollouts(ctx, step, first, end)
	if err != nil {
		return Shard{}, fmt.Errorf("ppo iteration %d: %w", step, err)
	}
	return Shard{Step: step, First: first, episodes: episodes}, nil
}

// collectRollouts returns all episodes of an iteration in order: those of the
// shards, and between them those that are in no shard, which it makes here.
// Shards may be given in any order.
func (t *Trainer) collectRollouts(ctx context.Context, step int, shards []Shard) ([]*episode, error) {
	shards = slices.Clone(shards)
	slices.SortStableFunc(shards, func(a, b Shard) int { return a.First - b.First })
	var all []*episode
	makeUpTo := func(end int) error {
		if end == len(all) {
			return nil
		}
		made, err := t.makeRollouts(ctx, step, len(all), end)
		all = append(all, made...)
		return err
	}
	for _, s := range shards {
		if err := t.checkShard(s, step, len(all)); err != nil {
			return nil, err
		}
		if err := makeUpTo(s.First); err != nil {
			return nil, err
		}
		for _, e := range s.episodes {
			all = append(all, t.copyEpisode(e))
		}
	}
	return all, makeUpTo(t.config.Batch)
}

// copyEpisode returns a copy of an episode of a shard, completed with what a
// shard does not hold: the query's tokens, and whether the response ended.
func (t *Trainer) copyEpisode(e *episode) *episode {
	query, response := t.in.Prompts[e.prompt].Tokens, e.response()
	c := &episode{
		prompt:    e.prompt,
		tokens:    slices.Concat(query, response),
		promptLen: len(query),
		ended:     slices.Contains(t.in.StopTokens, response[len(response)-1]),
		rawScore:  e.rawScore,
	}
	c.allocate()
	copy(c.logprobs, e.logprobs)
	copy(c.refLogprobs, e.refLogprobs)
	copy(c.entropies, e.entropies)
	copy(c.values, e.values)
	return c
}

// checkShard returns wrong_rollouts unless the shard's episodes can be those of
// the step. The iteration has its first next episodes already.
func (t *Trainer) checkShard(s Shard, step, next int) error {
	wrong := func(format string, args ...any) error {
		return trimtab.NewError(trimtab.Verification, "wrong_rollouts", "rerun the stage from its last checkpoint",
			"rollouts from episode %d of iteration %d: "+format, append([]any{s.First, s.Step}, args...)...)
	}
	switch {
	case s.Step != step:
		return wrong("they are not of iteration %d", step)
	case s.First < next:
		return wrong("the episodes before %d are there already", next)
	case s.First+len(s.episodes) > t.config.Batch:
		return wrong("%d episodes reach beyond the iteration's %d", len(s.episodes), t.config.Batch)
	}
	for i, e := range s.episodes {
		if want := t.promptOrder.Index(step*t.config.Batch + s.First + i); e.prompt != want {
			return wrong("number %d answers prompt %d, want prompt %d", i, e.prompt, want)
		}
		if err := t.checkResponse(e.response()); err != nil {
			return wrong("number %d: %w", i, err)
		}
	}
	return nil
}

// checkResponse returns an error for tokens that the sampler cannot have chosen.
func (t *Trainer) checkResponse(response []int32) error {
	if n := len(response); n < 1 || n > t.config.MaxNewTokens {
		return fmt.Errorf("the response has %d tokens, want 1 to %d", n, t.config.MaxNewTokens)
	}
	kept, ended := Truncate(response, t.in.StopTokens)
	if len(kept) < len(response) || !ended && len(response) < t.config.MaxNewTokens {
		return fmt.Errorf("the response ends neither at its first end-of-text token nor after %d tokens",
			t.config.MaxNewTokens)
	}
	for _, id := range response {
		if id < 0 || int(id) >= t.in.Model.Config.Vocab || slices.Contains(t.in.SuppressTokens, id) {
			return fmt.Errorf("token %d is never sampled", id)
		}
	}
	return nil
}

// shardArrays names the arrays of a shard of n episodes with R response tokens
// in all, in this order. All are float32; whole numbers are below maxExactInt.
//
//	prompt   (n)  index in Inputs.Prompts
//	length   (n)  tokens of the response, at least 1
//	raw      (n)  raw score
//	token    (R)  the responses end to end; for each token:
//	logp     (R)  its log-probability under the policy that sampled it
//	ref      (R)  its log-probability under the reference
//	entropy  (R)  of the policy's distribution
//	value    (R)  of the state before it
//
// The names are part of the stored form.
var shardArrays = [...]string{"prompt", "length", "raw", "token", "logp", "ref", "entropy", "value"}

// The indices of the arrays. The first episodeArrays of them have one element
// an episode, the others one a token.
const (
	promptArray = iota
	lengthArray
	rawScoreArray
	tokenArray
	logprobArray
	refLogprobArray
	entropyArray
	valueArray

	episodeArrays = tokenArray
)

// Arrays returns the shard's content except Step and First, for storage. The
// same shard gives the same arrays.
func (s Shard) Arrays() []tensor.NamedArray {
	data := make([][]float32, len(shardArrays))
	for i := range data {
		data[i] = []float32{} // not nil: an empty array is stored too
	}
	add := func(array int, x ...float32) { data[array] = append(data[array], x...) }
	for _, e := range s.episodes {
		add(promptArray, float32(e.prompt))
		add(lengthArray, float32(len(e.response())))
		add(rawScoreArray, e.rawScore)
		for _, id := range e.response() {
			add(tokenArray, float32(id))
		}
		add(logprobArray, e.logprobs...)
		add(refLogprobArray, e.refLogprobs...)
		add(entropyArray, e.entropies...)
		add(valueArray, e.values...)
	}
	arrays := make([]tensor.NamedArray, len(data))
	for i, name := range shardArrays {
		arrays[i] = tensor.NamedArray{Name: name, Shape: []int{len(data[i])}, Data: data[i]}
	}
	return arrays
}

// ShardFromArrays is the inverse of Arrays. It returns wrong_rollouts for
// arrays that are no shard's. Whether the episodes are those of the step is
// checked by StepWithShards. The shard shares the arrays' memory.
func ShardFromArrays(step, first int, arrays []tensor.NamedArray) (Shard, error) {
	s := Shard{Step: step, First: first}
	if err := s.decode(arrays); err != nil {
		return Shard{}, trimtab.NewError(trimtab.Verification, "wrong_rollouts",
			"rerun the stage from its last checkpoint",
			"rollouts from episode %d of iteration %d: %w", first, step, err)
	}
	return s, nil
}

// decode fills the shard's episodes. They have no query yet: their tokens are
// the response alone, which copyEpisode completes.
func (s *Shard) decode(arrays []tensor.NamedArray) error {
	data, err := arrayData(arrays)
	if err != nil {
		return err
	}
	s.episodes = make([]*episode, len(data[promptArray]))
	from := 0 // the episode's first token
	for i := range s.episodes {
		prompt, err := exactInt(data[promptArray][i])
		if err != nil {
			return fmt.Errorf("prompt %d: %w", i, err)
		}
		n, err := exactInt(data[lengthArray][i])
		if left := len(data[tokenArray]) - from; err != nil || n < 1 || n > left {
			return fmt.Errorf("response %d has length %v, want 1 to %d, which is how many tokens are left",
				i, data[lengthArray][i], left)
		}
		to := from + n
		e := &episode{
			prompt:      prompt,
			tokens:      make([]int32, n),
			rawScore:    data[rawScoreArray][i],
			logprobs:    data[logprobArray][from:to],
			refLogprobs: data[refLogprobArray][from:to],
			entropies:   data[entropyArray][from:to],
			values:      data[valueArray][from:to],
		}
		for k := range e.tokens {
			id, err := exactInt(data[tokenArray][from+k])
			if err != nil {
				return fmt.Errorf("response %d, token %d: %w", i, k, err)
			}
			e.tokens[k] = int32(id)
		}
		s.episodes[i] = e
		from = to
	}
	if from != len(data[tokenArray]) {
		return fmt.Errorf("there are %d tokens for responses of %d", len(data[tokenArray]), from)
	}
	return nil
}

// arrayData returns the data of arrays that have the names and sizes of a
// shard's: all arrays of one element an episode are as long as the first of
// them, and so are those of one a token.
func arrayData(arrays []tensor.NamedArray) ([][]float32, error) {
	if len(arrays) != len(shardArrays) {
		return nil, fmt.Errorf("there are %d arrays, want %d", len(arrays), len(shardArrays))
	}
	data := make([][]float32, len(arrays))
	for i, a := range arrays {
		data[i] = a.Data
		length := len(data[promptArray])
		if i >= episodeArrays {
			length = len(data[tokenArray])
		}
		if a.Name != shardArrays[i] || len(a.Shape) != 1 || len(a.Data) != length {
			return nil, fmt.Errorf("array %d is %.20q of shape %v, want %s of shape [%d]",
				i, a.Name, a.Shape, shardArrays[i], length)
		}
	}
	return data, nil
}

// exactInt returns x as an int if it is a whole number that float32 holds
// exactly. Minus zero is refused, since it would not be written as it was read.
func exactInt(x float32) (int, error) {
	if !(x >= 0 && x < maxExactInt) || math.Float32bits(x) != math.Float32bits(float32(int(x))) {
		return 0, fmt.Errorf("%v is not a whole number from 0 to %d", x, maxExactInt-1)
	}
	return int(x), nil
}
