package model

import (
	"fmt"
	"slices"
	"sync/atomic"

	"github.com/trimtab/trimtab/draw"
	"github.com/trimtab/trimtab/tensor"
)

// SampleOptions says how Generate chooses tokens. The zero value of a field switches it off, but for MaxNewTokens,
// which must be given.
type SampleOptions struct {
	Temperature    float32 // logits are divided by it; 0 takes the argmax
	TopK           int     // sample from the K most likely tokens only (Fan et al., 2018)
	TopP           float32 // sample from the fewest tokens that reach probability P together (Holtzman et al., 2020)
	MaxNewTokens   int     // tokens sampled at most, at least 1
	StopTokens     []int32 // tokens that end a sample and are part of it
	SuppressTokens []int32 // tokens that are never sampled
}

// Validate returns an error that names the first field out of its range.
func (o SampleOptions) Validate() error {
	switch {
	case !(o.Temperature >= 0 && o.Temperature <= 100):
		return fmt.Errorf("temperature: %g is outside 0 to 100", o.Temperature)
	case o.TopK < 0:
		return fmt.Errorf("top_k: %d is negative", o.TopK)
	case !(o.TopP >= 0 && o.TopP <= 1):
		return fmt.Errorf("top_p: %g is outside 0 to 1", o.TopP)
	case o.MaxNewTokens < 1:
		return fmt.Errorf("max_new_tokens: %d is below 1", o.MaxNewTokens)
	}
	return nil
}

// InvTemp returns the factor of the logits: 1/Temperature, or 1 where the argmax is taken. Give it to LMHead to
// compute a sample's log-probabilities again, bit for bit.
func (o SampleOptions) InvTemp() float32 {
	if o.Temperature == 0 {
		return 1
	}
	return 1 / o.Temperature
}

// Sample is the continuation of one prompt.
type Sample struct {
	Tokens    []int32   // with the stop token, if one was sampled
	LogProbs  []float32 // of each token, in nats, under the whole distribution at the sampling temperature
	Entropies []float32 // of those distributions, in nats
	Stopped   bool      // the last token is a stop token
}

// A decoder samples at most maxSlots sequences at once, and reads prompts of about prefillRows tokens together.
const (
	maxSlots    = 64
	prefillRows = 1024
)

// Each worker has a decoder of its own, and they never wait for each other. But where the model has more parameters
// than stay in a core's second-level cache, and too few sequences come to each worker to repay reading them, all
// workers share one decoder and so each pass over the weights.
var (
	sharedDecoderParams = 1 << 20 // above so many parameters,
	ownDecoderSequences = 24      // with fewer sequences for each worker, they share a decoder
)

// Generate continues each prompt by sampling from m. A sequence ends with a stop token, after MaxNewTokens tokens, or
// when the context is full; its slot then goes to the next prompt, so that the batch stays full (continuous
// batching).
//
// Token t of prompt i is chosen by the draw src.At(base+i, t). A continuation depends on its prompt, the model, the
// options and these draws alone: neither the other prompts nor the number of workers changes it. A prompt that fills
// the context has an empty Sample. Generate panics when a prompt is empty or the options are not valid.
func Generate(ps *Pass, m *Model, prompts [][]int32, o SampleOptions, src draw.Source, base uint64) []Sample {
	if err := o.Validate(); err != nil {
		panic("model.Generate: " + err.Error())
	}
	g := &generation{
		m:       m,
		prompts: prompts,
		options: o,
		src:     src,
		base:    base,
		weights: ps.weights,
		samples: make([]Sample, len(prompts)),
	}
	ps.weights.useAll(m, ps.numerics, ps.pool)
	workers := ps.pool.Workers()
	if m.Size() > sharedDecoderParams && len(prompts) < ownDecoderSequences*workers {
		if ps.sampling.shared == nil {
			ps.sampling.shared = newDecoder(ps.pool)
		}
		ps.sampling.shared.run(g, min(maxSlots, len(prompts)))
		return g.samples
	}
	decoders := ps.sampling.decoders
	for len(decoders) < workers {
		decoders = append(decoders, newDecoder(nil))
	}
	ps.sampling.decoders = decoders
	slots := min(maxSlots, (len(prompts)+workers-1)/workers)
	ps.pool.Run(workers, func(task, _ int) { decoders[task].run(g, slots) })
	return g.samples
}

// sampling is what a Pass keeps from one Generate to the next: a decoder for each worker, and one for all together.
type sampling struct {
	decoders []*decoder
	shared   *decoder
}

// generation is one call of Generate, which its decoders share. samples[i] is written by the decoder that took prompt
// i.
type generation struct {
	m          *Model
	prompts    [][]int32
	options    SampleOptions
	src        draw.Source
	base       uint64
	weights    *packedWeights
	nextPrompt atomic.Int64 // the next prompt to be given a slot
	samples    []Sample
}

// maxNewTokens returns the number of tokens that prompt i may be continued with.
func (g *generation) maxNewTokens(i int) int {
	return min(g.options.MaxNewTokens, g.m.Config.Context-len(g.prompts[i]))
}

// decoder samples sequences in parallel with a Pass and a cache of its own: on one worker, or on all of them when its
// Pass has the pool.
type decoder struct {
	ps         *Pass
	gen        *generation // the running one
	cache      kvCache
	active     []sequence       // those that hold a slot, in the order of the rows of a step
	slots      int              // sequences at once, at most
	work       []decoderScratch // one for each worker
	tokens     []int32          // (active) input of a step
	lastRows   []int            // rows of hidden that the next tokens are sampled from
	lastHidden []float32        // (active, C) those rows
	logits     []float32        // (active, V)
	first      int              // of the active sequences, the first that is being read or sampled for
	stepping   bool             // rows are single tokens, which attend to the cache; otherwise they are prompts

	attendTask, sampleTask func(task, worker int)
}

// decoderScratch is the scratch memory of one worker.
type decoderScratch struct {
	sampler sampler
	scores  []float32 // scratch of kvCache.attend
}

// newDecoder returns a decoder on the workers of pool, or on the caller if pool is nil.
func newDecoder(pool *tensor.Pool) *decoder {
	d := &decoder{ps: NewPass(pool), work: make([]decoderScratch, pool.Workers())}
	d.ps.attender = d
	d.attendTask, d.sampleTask = d.attendCachedRow, d.sampleRow
	return d
}

// sequence is a prompt that is being continued.
type sequence struct {
	prompt int     // its number
	pages  []int32 // of the cache
	length int     // tokens whose keys and values are cached

	sampledToken // the last one, not cached yet
}

// run samples prompts of g, so many at once, until none is left. Other decoders take prompts from the same counter.
func (d *decoder) run(g *generation, slots int) {
	d.gen, d.slots = g, slots
	d.ps.weights, d.ps.numerics = g.weights, g.weights.numerics
	d.active = d.active[:0]
	longest := 0
	for i := range g.prompts {
		longest = max(longest, len(g.prompts[i])+g.maxNewTokens(i))
	}
	d.cache.reset(g.m, longest)
	d.ps.rotary.prepare(g.m, longest)
	for i := range d.work {
		d.work[i].sampler.size(g.m.Config.Vocab)
		resize(&d.work[i].scores, d.cache.scratch(longest))
	}
	for {
		if 4*(slots-len(d.active)) >= slots { // wait for a quarter of them: prompts are read faster together
			d.schedule()
		}
		if len(d.active) == 0 {
			return
		}
		d.step()
	}
}

// schedule gives the free slots to the next prompts, reads these and samples their first tokens.
func (d *decoder) schedule() {
	g := d.gen
	for len(d.active) < d.slots {
		first, rows := len(d.active), 0
		for len(d.active) < d.slots && rows < prefillRows {
			i := int(g.nextPrompt.Add(1) - 1)
			if i >= len(g.prompts) {
				break
			}
			if len(g.prompts[i]) == 0 {
				panic(fmt.Sprintf("model.Generate: prompt %d is empty: begin it with the end-of-text token", i))
			}
			if g.maxNewTokens(i) <= 0 {
				continue
			}
			pages := d.cache.reserve(nil, len(g.prompts[i]))
			d.active = append(d.active, sequence{prompt: i, pages: pages, length: len(g.prompts[i])})
			rows += len(g.prompts[i])
		}
		if first == len(d.active) {
			return
		}
		d.prefill(first)
	}
}

// prefill reads the prompts of the sequences from first on, which fills their pages of the cache, and samples a token
// for each. Of the last block only each prompt's last row is computed.
func (d *decoder) prefill(first int) {
	var b Batch
	d.first = first
	d.lastRows = d.lastRows[:0]
	for _, s := range d.active[first:] {
		b.Add(d.gen.prompts[s.prompt])
		d.lastRows = append(d.lastRows, len(b.OutputRows))
		b.OutputRows = append(b.OutputRows, b.Rows()-1)
	}
	b.check(d.gen.m.Config)
	d.ps.infer = true
	d.ps.forward(d.gen.m, b)
	d.sampleNext(first)
}

// sampleNext samples a token for each sequence from first on, from the rows of hidden listed in lastRows, and frees
// the pages of sequences that end with it.
func (d *decoder) sampleNext(first int) {
	g, c, v := d.gen, d.gen.m.dims.width, d.gen.m.dims.vocab
	n := len(d.lastRows) // sequences
	resize(&d.lastHidden, n*c)
	resize(&d.logits, n*v)
	for i, r := range d.lastRows {
		copy(d.lastHidden[i*c:(i+1)*c], d.ps.hidden[r*c:(r+1)*c])
	}
	g.weights.linear(d.logits, d.lastHidden, &g.weights.head, n).Run(d.ps.pool)
	d.first = first
	d.ps.pool.Run(n, d.sampleTask)
	kept := d.active[:first]
	for _, s := range d.active[first:] {
		if g.appendToken(s) {
			kept = append(kept, s)
		} else {
			d.cache.release(s.pages)
		}
	}
	d.active = kept
}

// sampleRow samples the next token of one sequence.
func (d *decoder) sampleRow(i, worker int) {
	g, s, v := d.gen, &d.active[d.first+i], d.gen.m.Config.Vocab
	t := len(g.samples[s.prompt].Tokens)
	u := g.src.At(g.base+uint64(s.prompt), uint64(t)).Float64()
	logits := d.logits[i*v : (i+1)*v]
	g.m.dims.finishLogits(logits)
	s.sampledToken = d.work[worker].sampler.sample(logits, &g.options, u)
}

// appendToken adds the token sampled last to its sample and reports whether the sequence continues.
func (g *generation) appendToken(s sequence) bool {
	out, limit := &g.samples[s.prompt], g.maxNewTokens(s.prompt)
	if out.Tokens == nil { // one allocation for all that is to come
		out.Tokens = make([]int32, 0, limit)
		numbers := make([]float32, 2*limit)
		out.LogProbs, out.Entropies = numbers[:0:limit], numbers[limit:limit]
	}
	out.Tokens = append(out.Tokens, s.token)
	out.LogProbs = append(out.LogProbs, s.logp)
	out.Entropies = append(out.Entropies, s.entropy)
	out.Stopped = slices.Contains(g.options.StopTokens, s.token)
	return !out.Stopped && len(out.Tokens) < limit
}

// step feeds the last token of every active sequence to the model and samples the next one. It runs the chains of
// Pass.Forward for those rows.
func (d *decoder) step() {
	ps := d.ps
	d.tokens, d.lastRows = d.tokens[:0], d.lastRows[:0]
	for r := range d.active {
		s := &d.active[r]
		d.tokens = append(d.tokens, s.token)
		d.lastRows = append(d.lastRows, r)
		s.pages = d.cache.reserve(s.pages, s.length+1)
	}
	ps.prepareStep(d.gen.m, d.tokens)
	for r, s := range d.active {
		ps.positions[r] = int32(s.length)
	}
	d.stepping = true
	sp := ps.wholeBatch()
	ps.forwardSpan(&sp)
	d.stepping = false
	for r := range d.active { // its token is cached now
		d.active[r].length++
	}
	d.sampleNext(0)
}

// attend is the attention of block l: of the rows of a step to the cache, or of prompts within themselves, whose keys
// and values are cached.
func (d *decoder) attend(sp span, l int) {
	if d.stepping {
		d.ps.layer = l
		sp.pool.Run(len(d.active), d.attendTask)
		return
	}
	d.ps.attend(sp, l)
	d.cachePrompts(&sp, l)
}

// attendCachedRow caches the key and value of one row and computes its attention. Meanwhile it prefetches the keys of
// the row after it, which is most likely the next task.
func (d *decoder) attendCachedRow(r, worker int) {
	ps, s, dims := d.ps, &d.active[r], &d.gen.m.dims
	a, l := ps.activationsOf(ps.layer), ps.layer
	qkv := a.qkv[r*dims.qkv : (r+1)*dims.qkv]
	d.cache.store(l, s.pages, s.length, qkv)
	next, _ := d.cache.page(l, d.active[(r+1)%len(d.active)].pages[0])
	d.cache.attend(l, s.pages, s.length+1, d.gen.m.windows[l], qkv, a.att[r*dims.attention:(r+1)*dims.attention],
		d.work[worker].scores, next)
}

// cachePrompts caches the keys and values that block l has computed for the prompts of sp.
func (d *decoder) cachePrompts(sp *span, l int) {
	ps, width := d.ps, d.gen.m.dims.qkv
	qkv := ps.activationsOf(l).qkv
	for i := sp.seqFrom; i < sp.seqTo; i++ {
		from := ps.batch.Starts[i]
		for t := range ps.batch.Starts[i+1] - from {
			d.cache.store(l, d.active[d.first+i].pages, t, qkv[(from+t)*width:])
		}
	}
}
