package activities

import (
	"fmt"

	"github.com/trimtab/trimtab/draw"
	"github.com/trimtab/trimtab/model"
	"github.com/trimtab/trimtab/tensor"
)

// samples are responses as arrays, so that sampling is checkpointed like
// training: response i has lengths[i] token ids at tokens[i*most:]. Ids are
// below 2^24, which float32 holds exactly.
type samples struct {
	most    int
	tokens  []float32 // (count, most)
	lengths []float32 // (count)
}

func newSamples(count, most int) samples {
	return samples{most: most, tokens: make([]float32, count*most), lengths: make([]float32, count)}
}

func (s samples) state(prefix string) []tensor.NamedArray {
	return []tensor.NamedArray{
		{Name: prefix + "tokens", Shape: []int{len(s.lengths), s.most}, Data: s.tokens},
		{Name: prefix + "lengths", Shape: []int{len(s.lengths)}, Data: s.lengths},
	}
}

// response i as token ids, with the end-of-text token if it was reached.
func (s samples) response(i int) []int32 {
	ids := make([]int32, int(s.lengths[i]))
	for t := range ids {
		ids[t] = int32(s.tokens[i*s.most+t])
	}
	return ids
}

// fill samples responses first … first+len(prompts)-1; each draws by its own number.
func (s samples) fill(ps *model.Pass, m *model.Model, prompts [][]int32, o model.SampleOptions, src draw.Source,
	first int) error {
	if m.Config.Vocab >= 1<<24 {
		return fmt.Errorf("a vocabulary of %d ids does not fit the stored form of samples", m.Config.Vocab)
	}
	for i, r := range model.Generate(ps, m, prompts, o, src, uint64(first)) {
		row := s.tokens[(first+i)*s.most:]
		for t, id := range r.Tokens {
			row[t] = float32(id)
		}
		s.lengths[first+i] = float32(len(r.Tokens))
	}
	return nil
}
