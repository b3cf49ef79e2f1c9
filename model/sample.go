package model

import (
	"cmp"
	"slices"

	"github.com/trimtab/trimtab/tensor"
)

// sampler chooses a token from a row of logits; it owns the scratch memory.
type sampler struct {
	p      []float32 // (V) probabilities
	ids    []int32
	blocks []float64
}

func (pk *sampler) size(vocab int) {
	resize(&pk.p, vocab)
	pk.ids = slices.Grow(pk.ids[:0], vocab)
	resize(&pk.blocks, (vocab+cdfBlock-1)/cdfBlock)
}

// sampledToken is a token, its log-probability and the entropy of its distribution.
type sampledToken struct {
	token         int32
	logp, entropy float32
}

// sample picks a token by the draw u in [0, 1). The log-probability and the
// entropy are those of the whole distribution at the temperature, whatever is
// banned or cut off; they are not numbers when the logits are not.
func (pk *sampler) sample(logits []float32, o *SampleOptions, u float64) sampledToken {
	copy(pk.p, logits)
	top, sum := tensor.Softmax(pk.p, o.InvTemp())
	c := sampledToken{token: -1, entropy: entropy(pk.p, logits, o.InvTemp(), top, sum)}
	if o.Temperature > 0 {
		c.token = pk.drawToken(o, u)
	}
	if c.token < 0 {
		c.token = argmax(logits, o.SuppressTokens)
	}
	c.logp = logProbability(logits[c.token], o.InvTemp(), top, sum)
	return c
}

// isArgmax is the token of the largest logit, the lowest of equals.
func argmax(logits []float32, ban []int32) int32 {
	best := int32(-1)
	for i, z := range logits {
		if (best < 0 || z > logits[best]) && !slices.Contains(ban, int32(i)) {
			best = int32(i)
		}
	}
	if best < 0 {
		panic("model.Generate: every token is banned")
	}
	return best
}

// drawToken picks a token by the probabilities p, or none when there are none.
func (pk *sampler) drawToken(o *SampleOptions, u float64) int32 {
	total := 1.
	for _, t := range o.SuppressTokens {
		if t >= 0 && int(t) < len(pk.p) {
			total -= float64(pk.p[t])
			pk.p[t] = 0
		}
	}
	topK := o.TopK > 0 && o.TopK < len(pk.p)
	topP := o.TopP > 0 && o.TopP < 1
	if !topK && !topP {
		return pk.inverseCDF(u)
	}
	pk.ids = pk.ids[:0]
	if topK {
		pk.topK(o.TopK)
	} else {
		pk.atLeast((1 - o.TopP) * float32(total) / float32(len(pk.p)))
	}
	if topP {
		if topK {
			total = pk.probabilityMass()
		}
		pk.nucleus(float64(float64(o.TopP) * total))
	}
	return pk.drawFromIDs(u)
}

// cdfBlock is how many probabilities are summed together first.
const cdfBlock = 64

// inverseCDF is the inverse of the cumulative distribution at u: tokens in order,
// their sum taken by blocks in float64.
func (pk *sampler) inverseCDF(u float64) int32 {
	total := 0.
	for b := range pk.blocks {
		from := b * cdfBlock
		pk.blocks[b] = float64(tensor.Sum(pk.p[from:min(from+cdfBlock, len(pk.p))]))
		total += pk.blocks[b]
	}
	rest := float64(u * total)
	last := int32(-1)
	for b, mass := range pk.blocks {
		if mass == 0 {
			continue
		}
		for i := b * cdfBlock; rest < mass && i < min((b+1)*cdfBlock, len(pk.p)); i++ {
			p := float64(pk.p[i])
			if p == 0 {
				continue
			}
			if last = int32(i); rest < p {
				return last
			}
			rest -= p
			mass -= p
		}
		if last >= 0 { // rounding left a crumb at the end of the right block
			return last
		}
		rest -= mass
	}
	return pk.lastPossible()
}

// lastPossible is the last token with a probability, or -1 when none has one: the
// logits are not numbers, or all are banned.
func (pk *sampler) lastPossible() int32 {
	for i := len(pk.p) - 1; i >= 0; i-- {
		if pk.p[i] > 0 {
			return int32(i)
		}
	}
	return -1
}

// before orders tokens by falling probability, then by id.
func (pk *sampler) before(a, b int32) int {
	return cmp.Or(cmp.Compare(pk.p[b], pk.p[a]), cmp.Compare(a, b))
}

// topK puts the k likeliest tokens into ids, likeliest first.
func (pk *sampler) topK(k int) {
	for i := range pk.p {
		id := int32(i)
		if pk.p[id] == 0 || len(pk.ids) == k && pk.before(id, pk.ids[k-1]) > 0 {
			continue
		}
		if len(pk.ids) == k {
			pk.ids = pk.ids[:k-1]
		}
		at, _ := slices.BinarySearchFunc(pk.ids, id, pk.before)
		pk.ids = slices.Insert(pk.ids, at, id)
	}
}

// selectedRows puts the tokens of at least probability p into ids, likeliest first.
// With p = (1-P)/V the others together fall short of 1-P, and so none of them
// is needed to reach P.
func (pk *sampler) atLeast(p float32) {
	for i, q := range pk.p {
		if q >= p && q > 0 {
			pk.ids = append(pk.ids, int32(i))
		}
	}
	slices.SortFunc(pk.ids, pk.before)
}

// nucleus keeps the fewest of ids whose probabilities reach need.
func (pk *sampler) nucleus(need float64) {
	sum := 0.
	for i, id := range pk.ids {
		if sum += float64(pk.p[id]); sum >= need {
			pk.ids = pk.ids[:i+1]
			return
		}
	}
}

func (pk *sampler) probabilityMass() float64 {
	sum := 0.
	for _, id := range pk.ids {
		sum += float64(pk.p[id])
	}
	return sum
}

// drawFromIDs draws one of ids by their probabilities.
func (pk *sampler) drawFromIDs(u float64) int32 {
	rest := float64(u * pk.probabilityMass())
	for _, id := range pk.ids {
		p := float64(pk.p[id])
		if rest < p {
			return id
		}
		rest -= p
	}
	if len(pk.ids) == 0 {
		return pk.lastPossible()
	}
	return pk.ids[len(pk.ids)-1]
}
