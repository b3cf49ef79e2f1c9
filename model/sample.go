package model

import (
	"cmp"
	"slices"

	"github.com/trimtab/trimtab/tensor"
)

// sampler chooses a token from a row of logits. It owns the scratch memory; each worker has one.
type sampler struct {
	p      []float32 // (V) probabilities
	ids    []int32   // candidates under top-k or top-p, most likely first
	blocks []float64 // (V/cdfBlock) sums of p
}

// size sizes the buffers for a vocabulary.
func (s *sampler) size(vocab int) {
	resize(&s.p, vocab)
	s.ids = slices.Grow(s.ids[:0], vocab)
	resize(&s.blocks, (vocab+cdfBlock-1)/cdfBlock)
}

// sampledToken is a token, its log-probability and the entropy of its distribution, in nats.
type sampledToken struct {
	token         int32
	logp, entropy float32
}

// sample chooses a token by the draw u in [0, 1). The log-probability and the entropy are those of the whole
// distribution softmax(logits/temperature), whatever is suppressed or cut off. They are NaN when a logit is; a token
// is chosen all the same.
func (s *sampler) sample(logits []float32, o *SampleOptions, u float64) sampledToken {
	copy(s.p, logits)
	top, sum := tensor.Softmax(s.p, o.InvTemp())
	c := sampledToken{token: -1, entropy: entropy(s.p, logits, o.InvTemp(), top, sum)}
	if o.Temperature > 0 {
		c.token = s.drawToken(o, u)
	}
	if c.token < 0 {
		c.token = argmax(logits, o.SuppressTokens)
	}
	c.logp = logProbability(logits[c.token], o.InvTemp(), top, sum)
	return c
}

// argmax returns the token of the largest logit, the lowest id among equals, and none of suppress. It panics if every
// token is suppressed.
func argmax(logits []float32, suppress []int32) int32 {
	best := int32(-1)
	for i, z := range logits {
		if (best < 0 || z > logits[best]) && !slices.Contains(suppress, int32(i)) {
			best = int32(i)
		}
	}
	if best < 0 {
		panic("model.Generate: every token is suppressed")
	}
	return best
}

// drawToken draws a token by the probabilities p, after suppressed tokens, top-k and top-p, or returns -1 when no
// token has a probability.
func (s *sampler) drawToken(o *SampleOptions, u float64) int32 {
	total := 1.
	for _, t := range o.SuppressTokens {
		if t >= 0 && int(t) < len(s.p) {
			total -= float64(s.p[t])
			s.p[t] = 0
		}
	}
	topK := o.TopK > 0 && o.TopK < len(s.p)
	topP := o.TopP > 0 && o.TopP < 1
	if !topK && !topP {
		return s.inverseCDF(u)
	}
	s.ids = s.ids[:0]
	if topK {
		s.topK(o.TopK)
	} else {
		s.atLeast((1 - o.TopP) * float32(total) / float32(len(s.p)))
	}
	if topP {
		if topK {
			total = s.probabilityMass()
		}
		s.nucleus(float64(float64(o.TopP) * total))
	}
	return s.drawFromIDs(u)
}

// cdfBlock is the number of probabilities that are summed together first, so that a draw need not add up the
// vocabulary token by token.
const cdfBlock = 64

// inverseCDF returns the token at which the cumulative distribution, not normalised, reaches the share u of its
// total. Tokens count in order of id; sums are taken by blocks, and across blocks in float64.
func (s *sampler) inverseCDF(u float64) int32 {
	total := 0.
	for b := range s.blocks {
		from := b * cdfBlock
		s.blocks[b] = float64(tensor.Sum(s.p[from:min(from+cdfBlock, len(s.p))]))
		total += s.blocks[b]
	}
	rest := float64(u * total) // still to be covered by tokens to come
	last := int32(-1)          // the last token with a probability in the block that holds the target
	for b, mass := range s.blocks {
		if mass == 0 {
			continue
		}
		for i := b * cdfBlock; rest < mass && i < min((b+1)*cdfBlock, len(s.p)); i++ {
			p := float64(s.p[i])
			if p == 0 {
				continue
			}
			if last = int32(i); rest < p {
				return last
			}
			rest -= p
			mass -= p
		}
		if last >= 0 { // the right block, of which rounding left a remainder after the last token
			return last
		}
		rest -= mass
	}
	return s.lastPossible()
}

// lastPossible returns the last token with a probability, or -1 when none has one: the logits are NaN, or all tokens
// are suppressed.
func (s *sampler) lastPossible() int32 {
	for i := len(s.p) - 1; i >= 0; i-- {
		if s.p[i] > 0 {
			return int32(i)
		}
	}
	return -1
}

// before orders tokens by falling probability, equal ones by id.
func (s *sampler) before(a, b int32) int {
	return cmp.Or(cmp.Compare(s.p[b], s.p[a]), cmp.Compare(a, b))
}

// topK sets ids to the k most likely tokens, in the order of before.
func (s *sampler) topK(k int) {
	for i := range s.p {
		id := int32(i)
		if s.p[id] == 0 || len(s.ids) == k && s.before(id, s.ids[k-1]) > 0 {
			continue
		}
		if len(s.ids) == k {
			s.ids = s.ids[:k-1]
		}
		at, _ := slices.BinarySearchFunc(s.ids, id, s.before)
		s.ids = slices.Insert(s.ids, at, id)
	}
}

// atLeast sets ids to the tokens of at least probability p, in the order of before. With p = (1-P)/V the tokens left
// out together have less than 1-P, and so none of them is needed to reach P: most of the vocabulary need not be
// sorted.
func (s *sampler) atLeast(p float32) {
	for i, q := range s.p {
		if q >= p && q > 0 {
			s.ids = append(s.ids, int32(i))
		}
	}
	slices.SortFunc(s.ids, s.before)
}

// nucleus keeps the fewest of ids whose probabilities reach the sum need.
func (s *sampler) nucleus(need float64) {
	sum := 0.
	for i, id := range s.ids {
		if sum += float64(s.p[id]); sum >= need {
			s.ids = s.ids[:i+1]
			return
		}
	}
}

// probabilityMass returns the sum of the probabilities of ids, in order, in float64.
func (s *sampler) probabilityMass() float64 {
	sum := 0.
	for _, id := range s.ids {
		sum += float64(s.p[id])
	}
	return sum
}

// drawFromIDs draws one of ids by their probabilities, in proportion.
func (s *sampler) drawFromIDs(u float64) int32 {
	rest := float64(u * s.probabilityMass())
	for _, id := range s.ids {
		p := float64(s.p[id])
		if rest < p {
			return id
		}
		rest -= p
	}
	if len(s.ids) == 0 {
		return s.lastPossible()
	}
	return s.ids[len(s.ids)-1]
}
