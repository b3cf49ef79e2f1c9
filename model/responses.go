package model

import (
	"fmt"

	"github.com/trimtab/trimtab/draw"
	"github.com/trimtab/trimtab/tensor"
)

// maxResponseID is the first token id that float32 may not hold exactly.
const maxResponseID = 1 << 24

// Responses is a buffer of sampled responses, kept as float32 arrays so that
// stages that only sample are checkpointed as training stages are. Response i
// has lengths[i] token ids at tokens[i*maxTokens:]; ids are below 2^24, which
// float32 holds exactly. A copy of a Responses shares its arrays.
type Responses struct {
	maxTokens int
	tokens    []float32 // (count, maxTokens)
	lengths   []float32 // (count); 0 until the response is sampled
}

// NewResponses returns an empty buffer for count responses of at most maxTokens tokens each.
func NewResponses(count, maxTokens int) Responses {
	return Responses{
		maxTokens: maxTokens,
		tokens:    make([]float32, count*maxTokens),
		lengths:   make([]float32, count),
	}
}

// Len returns the number of responses that the buffer has room for.
func (r Responses) Len() int { return len(r.lengths) }

// MaxTokens returns the most tokens of a response.
func (r Responses) MaxTokens() int { return r.maxTokens }

// State returns views of the two arrays, under names that begin with prefix,
// for a checkpoint. Writing to the views restores the buffer.
func (r Responses) State(prefix string) []tensor.NamedArray {
	return []tensor.NamedArray{
		{Name: prefix + "tokens", Shape: []int{len(r.lengths), r.maxTokens}, Data: r.tokens},
		{Name: prefix + "lengths", Shape: []int{len(r.lengths)}, Data: r.lengths},
	}
}

// At returns the token ids of response i, with the stop token if the model
// sampled one. The slice is the caller's.
func (r Responses) At(i int) []int32 {
	ids := make([]int32, int(r.lengths[i]))
	for t := range ids {
		ids[t] = int32(r.tokens[i*r.maxTokens+t])
	}
	return ids
}

// Sample generates responses first … first+len(prompts)-1, one to each prompt.
// Response i draws from src by its own number i, so the batches in which
// responses are sampled change no token.
func (r Responses) Sample(
	ps *Pass, m *Model, prompts [][]int32, o SampleOptions, src draw.Source, first int,
) error {
	if m.Config.Vocab >= maxResponseID {
		return fmt.Errorf("a vocabulary of %d ids does not fit the stored form of responses", m.Config.Vocab)
	}
	for i, s := range Generate(ps, m, prompts, o, src, uint64(first)) {
		row := r.tokens[(first+i)*r.maxTokens:]
		for t, id := range s.Tokens {
			row[t] = float32(id)
		}
		r.lengths[first+i] = float32(len(s.Tokens))
	}
	return nil
}
