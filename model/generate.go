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
	Temperature float32 // logits are divided by it; 0 takes the likeliest token
	TopK        int     // only the K likeliest tokens
	TopP        float32 // only the likeliest tokens that together reach probability P
	MaxNew      int     // tokens sampled at most
	Stop        []int32 // tokens that end a sample, and are part of it
	Ban         []int32 // tokens never sampled
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
	case o.MaxNew < 1:
		return fmt.Errorf("max_new: %d is below 1", o.MaxNew)
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

// A lane samples at most laneSlots sequences at once; it reads prompts of at
// most prefillRows tokens together.
const (
	laneSlots   = 64
	prefillRows = 1024
)

// Each worker samples a lane of its own, and they never wait. But where the
// weights are more floats than stay in a core's second cache, and a worker's
// sequences fewer than repay reading them, all sample one lane together and
// share each pass over the weights.
var (
	sharedWeights  = 1 << 20
	ownedSequences = 24
)

// Generate continues each prompt by sampling from m. A sequence ends with a
// stop token, after MaxNew tokens, or when the context is full; its place is
// then taken by the next prompt. Token t of prompt i is chosen by
// src.At(base+i, t), and what a prompt becomes depends on nothing but itself:
// neither the other prompts nor the workers show. Prompts must not be empty.
func Generate(ps *Pass, m *Model, prompts [][]int32, o SampleOptions, src draw.Source, base uint64) []Sample {
	if err := o.Validate(); err != nil {
		panic("model.Generate: " + err.Error())
	}
	j := &sampling{m: m, prompts: prompts, o: o, src: src, base: base, out: make([]Sample, len(prompts))}
	ps.weights.useAll(m, ps.numerics, ps.pool)
	j.w = ps.weights
	workers := ps.pool.Workers()
	if m.Config.Parameters() > sharedWeights && len(prompts) < ownedSequences*workers {
		if ps.wide == nil {
			ps.wide = newLane(ps.pool)
		}
		ps.wide.run(j, min(laneSlots, len(prompts)))
		return j.out
	}
	for len(ps.lanes) < workers {
		ps.lanes = append(ps.lanes, newLane(nil))
	}
	slots := min(laneSlots, (len(prompts)+workers-1)/workers)
	ps.pool.Run(workers, func(task, _ int) { ps.lanes[task].run(j, slots) })
	return j.out
}

// sampling is one call of Generate.
type sampling struct {
	m       *Model
	prompts [][]int32
	o       SampleOptions
	src     draw.Source
	base    uint64
	w       *packed
	next    atomic.Int64 // the next prompt to be taken up
	out     []Sample
}

// room is how many tokens prompt i may be continued with.
func (j *sampling) room(i int) int {
	return min(j.o.MaxNew, j.m.Config.Context-len(j.prompts[i]))
}

// lane samples sequences side by side with its own Pass and cache, on one
// worker, or on all of them when its Pass has the pool.
type lane struct {
	ps     *Pass
	j      *sampling
	cache  cache
	active []sequence
	free   []int // slots of the cache
	work   []laneScratch
	logits []float32 // (active, V)
	keep   []int     // rows of hidden to choose tokens after
	gather []float32 // (active, C)
	tokens []int32
	first  int // of the active sequences that are being read or chosen for

	attend, pick func(task, worker int)
}

// laneScratch is one worker's.
type laneScratch struct {
	pick   picker
	scores []float32 // of cache.attend
}

func newLane(pool *tensor.Pool) *lane {
	ln := &lane{ps: NewPass(pool), work: make([]laneScratch, pool.Workers())}
	ln.ps.lane = ln
	ln.attend, ln.pick = ln.attendRow, ln.pickRow
	return ln
}

// sequence is one prompt being continued.
type sequence struct {
	prompt int
	slot   int
	length int // tokens whose keys and values are cached

	choice // the last
}

func (ln *lane) run(j *sampling, slots int) {
	ln.j = j
	ln.ps.weights, ln.ps.numerics = j.w, j.w.numerics
	ln.active, ln.free = ln.active[:0], ln.free[:0]
	longest := 0
	for i := range j.prompts {
		longest = max(longest, len(j.prompts[i])+j.room(i))
	}
	ln.cache.size(j.m.Config, slots, longest)
	for s := range slots {
		ln.free = append(ln.free, slots-1-s)
	}
	for i := range ln.work {
		ln.work[i].pick.size(j.m.Config.Vocab)
		sized(&ln.work[i].scores, ln.cache.scratch())
	}
	for {
		if 4*len(ln.free) >= slots {
			ln.admit()
		}
		if len(ln.active) == 0 {
			return
		}
		ln.step()
	}
}

// admit takes up prompts for the free slots, reads them and samples their
// first tokens.
func (ln *lane) admit() {
	j := ln.j
	for len(ln.free) > 0 {
		first, rows := len(ln.active), 0
		for len(ln.free) > 0 && rows < prefillRows {
			i := int(j.next.Add(1) - 1)
			if i >= len(j.prompts) {
				break
			}
			if len(j.prompts[i]) == 0 {
				panic(fmt.Sprintf("model.Generate: prompt %d is empty: begin it with the end-of-text token", i))
			}
			if j.room(i) <= 0 {
				continue
			}
			slot := ln.free[len(ln.free)-1]
			ln.free = ln.free[:len(ln.free)-1]
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
func (ln *lane) prefill(first int) {
	var b Batch
	ln.first = first
	ln.keep = ln.keep[:0]
	for _, s := range ln.active[first:] {
		b.Add(ln.j.prompts[s.prompt])
		ln.keep = append(ln.keep, len(b.Wanted))
		b.Wanted = append(b.Wanted, b.Rows()-1)
	}
	b.check(ln.j.m.Config)
	ln.ps.infer = true
	ln.ps.forward(ln.j.m, b)
	ln.choose(first)
}

// choose samples a token for each sequence from first on, after the rows of
// hidden listed in keep, and lets go of the sequences that end with it.
func (ln *lane) choose(first int) {
	j, c, v := ln.j, ln.j.m.Config.Width, ln.j.m.Config.Vocab
	n := len(ln.keep)
	sized(&ln.gather, n*c)
	sized(&ln.logits, n*v)
	for i, r := range ln.keep {
		copy(ln.gather[i*c:(i+1)*c], ln.ps.hidden[r*c:(r+1)*c])
	}
	j.w.multiply(ln.ps.pool, ln.logits, tensor.Start{}, ln.gather, &j.w.head, n)
	ln.first = first
	ln.ps.pool.Run(n, ln.pick)
	kept := ln.active[:first]
	for _, s := range ln.active[first:] {
		if j.keep(s) {
			kept = append(kept, s)
		} else {
			ln.free = append(ln.free, s.slot)
		}
	}
	ln.active = kept
}

// pickRow chooses the next token of one sequence.
func (ln *lane) pickRow(i, worker int) {
	j, s, v := ln.j, &ln.active[ln.first+i], ln.j.m.Config.Vocab
	t := len(j.out[s.prompt].Tokens)
	u := j.src.At(j.base+uint64(s.prompt), uint64(t)).Float64()
	s.choice = ln.work[worker].pick.choose(ln.logits[i*v:(i+1)*v], &j.o, u)
}

// keep adds the token chosen last to its sample and says whether the sequence
// goes on.
func (j *sampling) keep(s sequence) bool {
	out, room := &j.out[s.prompt], j.room(s.prompt)
	if out.Tokens == nil {
		out.Tokens = make([]int32, 0, room)
		numbers := make([]float32, 2*room)
		out.LogProbs, out.Entropies = numbers[:0:room], numbers[room:room]
	}
	out.Tokens = append(out.Tokens, s.token)
	out.LogProbs = append(out.LogProbs, s.logp)
	out.Entropies = append(out.Entropies, s.entropy)
	out.Stopped = slices.Contains(j.o.Stop, s.token)
	return !out.Stopped && len(out.Tokens) < room
}
