package ppo

import (
	"context"
	"fmt"
	"math"
	"slices"

	"github.com/trimtab/trimtab"
	"github.com/trimtab/trimtab/tensor"
)

// Shard is a run of episodes of one iteration, as far as each can be made
// apart from the others, so that several workers can share an iteration: the
// response, what the scorer said, log-probabilities, entropies and values.
// What needs all episodes together, from the standardised score on, is not in
// it. A shard is a function of (State, step, inputs, seed) and its range.
type Shard struct {
	Step  int // the iteration
	First int // of its episodes, within the iteration

	episodes []*episode
}

// maxExactInt bounds what float32 holds of whole numbers, one by one.
const maxExactInt = 1 << 24

// ShardRange is the episodes from … to-1 that are shard i of n of an iteration: as equal parts as can be.
func (t *Trainer) ShardRange(i, n int) (from, to int) {
	return t.config.Batch * i / n, t.config.Batch * (i + 1) / n
}

// Rollouts makes the episodes from … to-1 of an iteration. It reads the state
// and changes nothing. When ctx ends it stops between sampling, scoring and
// judging.
func (t *Trainer) Rollouts(ctx context.Context, step, from, to int) (Shard, error) {
	if step < 0 || step >= t.Steps() || from < 0 || from > to || to > t.config.Batch {
		return Shard{}, trimtab.NewError(trimtab.Internal, "rollouts_out_of_range", "",
			"ppo: asked for episodes %d to %d of iteration %d; there are %d of %d", from, to, step, t.config.Batch,
			t.Steps())
	}
	if len(t.in.Prompts) > maxExactInt || t.in.Model.Config.Vocab > maxExactInt {
		return Shard{}, trimtab.NewError(trimtab.Invalid, "rollouts_too_many_ids", "leave rollout_shards out",
			"ppo: %d prompts and a vocabulary of %d do not fit the stored form of rollouts", len(t.in.Prompts),
			t.in.Model.Config.Vocab)
	}
	episodes, err := t.makeRollouts(ctx, step, from, to)
	if err != nil {
		return Shard{}, fmt.Errorf("ppo iteration %d: %w", step, err)
	}
	return Shard{Step: step, First: from, episodes: episodes}, nil
}

// collectRollouts is all episodes of an iteration in order: those of the shards, and
// between them those that nobody has made yet.
func (t *Trainer) collectRollouts(ctx context.Context, step int, shards []Shard) ([]*episode, error) {
	shards = slices.Clone(shards)
	slices.SortStableFunc(shards, func(a, b Shard) int { return a.First - b.First })
	var all []*episode
	fill := func(to int) error {
		if to == len(all) {
			return nil
		}
		own, err := t.makeRollouts(ctx, step, len(all), to)
		all = append(all, own...)
		return err
	}
	for _, s := range shards {
		if err := t.checkShard(s, step, len(all)); err != nil {
			return nil, err
		}
		if err := fill(s.First); err != nil {
			return nil, err
		}
		for _, e := range s.episodes {
			all = append(all, t.copyEpisode(e))
		}
	}
	return all, fill(t.config.Batch)
}

// copyEpisode is the trainer's own copy of an episode of a shard, with its prompt.
func (t *Trainer) copyEpisode(e *episode) *episode {
	prompt, response := t.in.Prompts[e.prompt].Tokens, e.response()
	own := &episode{prompt: e.prompt, promptLen: len(prompt),
		ended: slices.Contains(t.in.StopTokens, response[len(response)-1]), rawScore: e.rawScore}
	own.tokens = slices.Concat(prompt, response)
	own.allocate()
	copy(own.logprobs, e.logprobs)
	copy(own.refLogprobs, e.refLogprobs)
	copy(own.entropies, e.entropies)
	copy(own.values, e.values)
	return own
}

// checkShard refuses a shard whose episodes cannot be those of the step from free on.
func (t *Trainer) checkShard(s Shard, step, free int) error {
	wrong := func(format string, args ...any) error {
		return trimtab.NewError(trimtab.Verification, "wrong_rollouts", "rerun the stage from its last checkpoint",
			"rollouts of episode %d of iteration %d: "+format, append([]any{s.First, s.Step}, args...)...)
	}
	switch {
	case s.Step != step:
		return wrong("they are not of iteration %d", step)
	case s.First < free:
		return wrong("episodes before %d are there already", free)
	case s.First+len(s.episodes) > t.config.Batch:
		return wrong("%d episodes go beyond the iteration's %d", len(s.episodes), t.config.Batch)
	}
	for i, e := range s.episodes {
		if want := t.promptOrder.Index(step*t.config.Batch + s.First + i); e.prompt != want {
			return wrong("number %d answers prompt %d, not %d", i, e.prompt, want)
		}
		if err := t.checkResponse(e.response()); err != nil {
			return wrong("number %d: %w", i, err)
		}
	}
	return nil
}

// checkResponse refuses tokens that the sampler cannot have chosen.
func (t *Trainer) checkResponse(response []int32) error {
	if n := len(response); n < 1 || n > t.config.MaxTokens {
		return fmt.Errorf("a response of %d tokens, where 1 to %d are sampled", n, t.config.MaxTokens)
	}
	kept, ended := Truncate(response, t.in.StopTokens)
	if len(kept) < len(response) || !ended && len(response) < t.config.MaxTokens {
		return fmt.Errorf("the response ends neither at its first end-of-text token nor after %d tokens",
			t.config.MaxTokens)
	}
	for _, id := range response {
		if id < 0 || int(id) >= t.in.Model.Config.Vocab || slices.Contains(t.in.SuppressTokens, id) {
			return fmt.Errorf("token %d is never sampled", id)
		}
	}
	return nil
}

// The arrays of a shard of n episodes with R response tokens in all, in this
// order. Whole numbers are below 2^24, which float32 holds exactly.
//
//	prompt   (n)  index among the stage's prompts
//	length   (n)  tokens of the response, at least 1
//	raw      (n)  what the scorer said
//	token    (R)  the responses end to end, and beside each token:
//	logp     (R)  its log-probability under the policy that sampled it
//	ref      (R)  under the reference
//	entropy  (R)  of the policy there
//	value    (R)  before it
var shardArrays = [...]string{"prompt", "length", "raw", "token", "logp", "ref", "entropy", "value"}

// episodeArrays is how many of them have one element an episode; the others have one a token.
const episodeArrays = 3

// Arrays is the shard's content but for Step and First. The same shard gives the same arrays.
func (s Shard) Arrays() []tensor.NamedArray {
	columns := make([][]float32, len(shardArrays))
	for i := range columns {
		columns[i] = []float32{}
	}
	add := func(to int, x ...float32) { columns[to] = append(columns[to], x...) }
	for _, e := range s.episodes {
		add(0, float32(e.prompt))
		add(1, float32(len(e.response())))
		add(2, e.rawScore)
		for _, id := range e.response() {
			add(3, float32(id))
		}
		for i, x := range [][]float32{e.logprobs, e.refLogprobs, e.entropies, e.values} {
			add(4+i, x...)
		}
	}
	arrays := make([]tensor.NamedArray, len(columns))
	for i, name := range shardArrays {
		arrays[i] = tensor.NamedArray{Name: name, Shape: []int{len(columns[i])}, Data: columns[i]}
	}
	return arrays
}

// ShardFromArrays is the inverse of Arrays, and reads nothing else. Whether the
// episodes are those of a step is for StepWithShards to see. Error wrong_rollouts.
func ShardFromArrays(step, first int, arrays []tensor.NamedArray) (Shard, error) {
	s := Shard{Step: step, First: first}
	if err := s.decode(arrays); err != nil {
		return Shard{}, trimtab.NewError(trimtab.Verification, "wrong_rollouts",
			"rerun the stage from its last checkpoint",
			"rollouts of episode %d of iteration %d: %w", first, step, err)
	}
	return s, nil
}

func (s *Shard) decode(arrays []tensor.NamedArray) error {
	columns, err := splitColumns(arrays)
	if err != nil {
		return err
	}
	s.episodes = make([]*episode, len(columns[0]))
	at := 0
	for i := range s.episodes {
		prompt, err := exactInt(columns[0][i])
		if err != nil {
			return fmt.Errorf("prompt %d: %w", i, err)
		}
		n, err := exactInt(columns[1][i])
		if left := len(columns[3]) - at; err != nil || n < 1 || n > left {
			return fmt.Errorf("response %d of length %v, where %d tokens are left", i, columns[1][i], left)
		}
		e := &episode{prompt: prompt, rawScore: columns[2][i], tokens: make([]int32, n)}
		for t := range e.tokens {
			id, err := exactInt(columns[3][at+t])
			if err != nil {
				return fmt.Errorf("response %d, token %d: %w", i, t, err)
			}
			e.tokens[t] = int32(id)
		}
		e.logprobs, e.refLogprobs, e.entropies, e.values = columns[4][at:at+n], columns[5][at:at+n], columns[6][at:at+n], columns[7][at:at+n]
		s.episodes[i] = e
		at += n
	}
	if at != len(columns[3]) {
		return fmt.Errorf("%d tokens in responses of %d", len(columns[3]), at)
	}
	return nil
}

// splitColumns checks names and sizes.
func splitColumns(arrays []tensor.NamedArray) ([][]float32, error) {
	if len(arrays) != len(shardArrays) {
		return nil, fmt.Errorf("%d arrays in place of %d", len(arrays), len(shardArrays))
	}
	columns := make([][]float32, len(arrays))
	for i, a := range arrays {
		first := 0 // of the arrays that are as long
		if i >= episodeArrays {
			first = episodeArrays
		}
		columns[i] = a.Data
		if a.Name != shardArrays[i] || len(a.Shape) != 1 || len(a.Data) != len(columns[first]) {
			return nil, fmt.Errorf("array %d is %.20q of shape %v in place of %s", i, a.Name, a.Shape, shardArrays[i])
		}
	}
	return columns, nil
}

// exactInt is x as an integer of at least 0, if it is one that float32 holds exactly.
func exactInt(x float32) (int, error) {
	if !(x >= 0 && x < maxExactInt) || math.Float32bits(x) != math.Float32bits(float32(int(x))) { // minus zero is none
		return 0, fmt.Errorf("%v is not a whole number from 0 to %d", x, maxExactInt-1)
	}
	return int(x), nil
}
