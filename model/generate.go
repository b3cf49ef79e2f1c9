package model

import (
	"fmt"
	"slices"
	"sync/atomic"

	"github.com/trimtab/trimtab/draw"
	"github.com/trimtab/trimtab/tensor"
)

// SampleOptions say how Generate chooses tokens. The zero value of a field
// switches it off.
type SampleOptions struct {
	Temperature    float32 // logits are divided by it; 0 takes the likeliest token
	TopK           int     // only the K likeliest tokens
	TopP           float32 // only the likeliest tokens that together reach probability P
	MaxNewTokens   int     // tokens sampled at most
	StopTokens     []int32 // tokens that end a sample, and are part of it
	SuppressTokens []int32 // tokens never sampled
}

// Validate names the first field out of its range.
func (o SampleOptions) Validate() error {
	switch {
	case !(o.Temperature >= 0 && o.Temperature <= 100):
		return fmt.Errorf("temperature: %g is outside 0 to 100", o.Temperature)
	case o.TopK < 0:
		return fmt.Errorf("top_k: %d is negative", o.TopK)
	case !(o.TopP >= 0 && o.TopP <= 1):
		return fmt.Errorf("top_p: %g is outside 0 to 1", o.TopP)
	case o.MaxNewTokens < 1:
		return fmt.Errorf("max_new: %d is below 1", o.MaxNewTokens)
	}
	return nil
}

// InvTemp is the factor of the logits: 1/Temperature, and 1 when greedy. Give
// it to LMHead to get a sample's log-probabilities again, bit for bit.
func (o SampleOptions) InvTemp() float32 {
	if o.Temperature == 0 {
		return 1
	}
	return 1 / o.Temperature
}

// Sample is what a prompt was continued with.
type Sample struct {
	Tokens    []int32   // with the stop token, if it came
	LogProbs  []float32 // of each token under the whole distribution at the sampling temperature
	Entropies []float32 // of those distributions, in nats
	Stopped   bool      // ended by a stop token
}

// A lane samples at most maxSlots sequences at once; it reads prompts of at
// most prefillRows tokens together.
const (
	maxSlots    = 64
	prefillRows = 1024
)

// Each worker samples a lane of its own, and they never wait. But where the
// weights are more floats than stay in a core's second cache, and a worker's
// sequences fewer than repay reading them, all sample one lane together and
// share each pass over the weights.
var (
	sharedDecoderParams = 1 << 20
	ownDecoderSequences = 24
)

// Generate continues each prompt by sampling from m. A sequence ends with a
// stop token, after MaxNewTokens tokens, or when the context is full; its place is
// then taken by the next prompt. Token t of prompt i is chosen by
// src.At(base+i, t), and what a prompt becomes depends on nothing but itself:
// neither the other prompts nor the workers show. Prompts must not be empty.
func Generate(ps *Pass, m *Model, prompts [][]int32, o SampleOptions, src draw.Source, base uint64) []Sample {
	if err := o.Validate(); err != nil {
		panic("model.Generate: " + err.Error())
	}
	j := &generation{m: m, prompts: prompts, options: o, src: src, base: base, samples: make([]Sample, len(prompts))}
	ps.weights.useAll(m, ps.numerics, ps.pool)
	j.weights = ps.weights
	workers := ps.pool.Workers()
	if m.Config.Parameters() > sharedDecoderParams && len(prompts) < ownDecoderSequences*workers {
		if ps.sharedDecoder == nil {
			ps.sharedDecoder = newDecoder(ps.pool)
		}
		ps.sharedDecoder.run(j, min(maxSlots, len(prompts)))
		return j.samples
	}
	for len(ps.decoders) < workers {
		ps.decoders = append(ps.decoders, newDecoder(nil))
	}
	slots := min(maxSlots, (len(prompts)+workers-1)/workers)
	ps.pool.Run(workers, func(task, _ int) { ps.decoders[task].run(j, slots) })
	return j.samples
}

// generation is one call of Generate.
type generation struct {
	m          *Model
	prompts    [][]int32
	options    SampleOptions
	src        draw.Source
	base       uint64
	weights    *packedWeights
	nextPrompt atomic.Int64 // the next prompt to be taken up
	samples    []Sample
}

// maxNewTokens is how many tokens prompt i may be continued with.
func (j *generation) maxNewTokens(i int) int {
	return min(j.options.MaxNewTokens, j.m.Config.Context-len(j.prompts[i]))
}

// decoder samples sequences side by side with its own Pass and cache, on one
// worker, or on all of them when its Pass has the pool.
type decoder struct {
	ps         *Pass
	gen        *generation
	cache      kvCache
	active     []sequence
	freeSlots  []int // slots of the cache
	work       []decoderScratch
	logits     []float32 // (active, V)
	lastRows   []int     // rows of hidden to choose tokens after
	lastHidden []float32 // (active, C)
	tokens     []int32
	first      int // of the active sequences that are being read or chosen for

	attendTask, sampleTask func(task, worker int)
}

// decoderScratch is one worker's.
type decoderScratch struct {
	sampler sampler
	scores  []float32 // of cache.attend
}

func newDecoder(pool *tensor.Pool) *decoder {
	ln := &decoder{ps: NewPass(pool), work: make([]decoderScratch, pool.Workers())}
	ln.ps.decoder = ln
	ln.attendTask, ln.sampleTask = ln.attendCachedRow, ln.sampleRow
	return ln
}

// sequence is one prompt being continued.
type sequence struct {
	prompt int
	slot   int
	length int // tokens whose keys and values are cached

	sampledToken // the last
}

func (ln *decoder) run(j *generation, slots int) {
	ln.gen = j
	ln.ps.weights, ln.ps.numerics = j.weights, j.weights.numerics
	ln.active, ln.freeSlots = ln.active[:0], ln.freeSlots[:0]
	longest := 0
	for i := range j.prompts {
		longest = max(longest, len(j.prompts[i])+j.maxNewTokens(i))
	}
	ln.cache.size(j.m.Config, slots, longest)
	for s := range slots {
		ln.freeSlots = append(ln.freeSlots, slots-1-s)
	}
	for i := range ln.work {
		ln.work[i].sampler.size(j.m.Config.Vocab)
		resize(&ln.work[i].scores, ln.cache.scratch())
	}
	for {
		if 4*len(ln.freeSlots) >= slots {
			ln.schedule()
		}
		if len(ln.active) == 0 {
			return
		}
		ln.step()
	}
}

// schedule takes up prompts for the free slots, reads them and samples their
// first tokens.
func (ln *decoder) schedule() {
	j := ln.gen
	for len(ln.freeSlots) > 0 {
		first, rows := len(ln.active), 0
		for len(ln.freeSlots) > 0 && rows < prefillRows {
			i := int(j.nextPrompt.Add(1) - 1)
			if i >= len(j.prompts) {
				break
			}
			if len(j.prompts[i]) == 0 {
				panic(fmt.Sprintf("model.Generate: prompt %d is empty: begin it with the end-of-text token", i))
			}
			if j.maxNewTokens(i) <= 0 {
				continue
			}
			slot := ln.freeSlots[len(ln.freeSlots)-1]
			ln.freeSlots = ln.freeSlots[:len(ln.freeSlots)-1]
			ln.active = append(ln.active, sequence{prompt: i, slot: slot, length: len(j.prompts[i])})
			rows += len(j.prompts[i])
		}
		if first == len(ln.active) {
			return
		}
		ln.prefill(first)
	}
}

// prefill reads the prompts of the sequences from first on, fills their caches
// and samples a token for each.
func (ln *decoder) prefill(first int) {
	var b Batch
	ln.first = first
	ln.lastRows = ln.lastRows[:0]
	for _, s := range ln.active[first:] {
		b.Add(ln.gen.prompts[s.prompt])
		ln.lastRows = append(ln.lastRows, len(b.OutputRows))
		b.OutputRows = append(b.OutputRows, b.Rows()-1)
	}
	b.check(ln.gen.m.Config)
	ln.ps.infer = true
	ln.ps.forward(ln.gen.m, b)
	ln.sampleNext(first)
}

// sampleNext samples a token for each sequence from first on, after the rows of
// hidden listed in keep, and lets go of the sequences that end with it.
func (ln *decoder) sampleNext(first int) {
	j, c, v := ln.gen, ln.gen.m.Config.Width, ln.gen.m.Config.Vocab
	n := len(ln.lastRows)
	resize(&ln.lastHidden, n*c)
	resize(&ln.logits, n*v)
	for i, r := range ln.lastRows {
		copy(ln.lastHidden[i*c:(i+1)*c], ln.ps.hidden[r*c:(r+1)*c])
	}
	j.weights.linear(ln.ps.pool, ln.logits, tensor.Start{}, ln.lastHidden, &j.weights.head, n)
	ln.first = first
	ln.ps.pool.Run(n, ln.sampleTask)
	kept := ln.active[:first]
	for _, s := range ln.active[first:] {
		if j.appendToken(s) {
			kept = append(kept, s)
		} else {
			ln.freeSlots = append(ln.freeSlots, s.slot)
		}
	}
	ln.active = kept
}

// sampleRow chooses the next token of one sequence.
func (ln *decoder) sampleRow(i, worker int) {
	j, s, v := ln.gen, &ln.active[ln.first+i], ln.gen.m.Config.Vocab
	t := len(j.samples[s.prompt].Tokens)
	u := j.src.At(j.base+uint64(s.prompt), uint64(t)).Float64()
	s.sampledToken = ln.work[worker].sampler.sample(ln.logits[i*v:(i+1)*v], &j.options, u)
}

// appendToken adds the token chosen last to its sample and says whether the sequence
// goes on.
func (j *generation) appendToken(s sequence) bool {
	out, room := &j.samples[s.prompt], j.maxNewTokens(s.prompt)
	if out.Tokens == nil {
		out.Tokens = make([]int32, 0, room)
		numbers := make([]float32, 2*room)
		out.LogProbs, out.Entropies = numbers[:0:room], numbers[room:room]
	}
	out.Tokens = append(out.Tokens, s.token)
	out.LogProbs = append(out.LogProbs, s.logp)
	out.Entropies = append(out.Entropies, s.entropy)
	out.Stopped = slices.Contains(j.options.StopTokens, s.token)
	return !out.Stopped && len(out.Tokens) < room
}
