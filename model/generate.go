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
	Tokens   []int32   // with the stop token, if it came
	LogProbs []float32 // of each token under the whole distribution at the sampling temperature
	Stopped  bool      // ended by a stop token
}

// A lane samples at most laneSlots sequences at once; it reads prompts of at
// most prefillRows tokens together.
const (
	laneSlots   = 64
	prefillRows = 1024
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
	j.turn(ps)
	workers := ps.pool.Workers()
	for len(ps.lanes) < workers {
		ps.lanes = append(ps.lanes, &lane{ps: NewPass(nil)})
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
	head    []float32    // (C, V) wte turned, for products that stream it
	next    atomic.Int64 // the next prompt to be taken up
	out     []Sample
}

// turn makes head. The product is the same chain of FMAs as the language-model
// head's over wte itself; only its rows are few here, and turning wte for each
// token would cost as much as the product.
func (j *sampling) turn(ps *Pass) {
	const strip = 64
	c, v := j.m.Config.Width, j.m.Config.Vocab
	sized(&ps.turned, c*v)
	j.head = ps.turned
	ps.pool.Run((v+strip-1)/strip, func(task, _ int) {
		from, to := task*strip, min(v, (task+1)*strip)
		for k := range c {
			row := j.head[k*v+from : k*v+to]
			for i := range row {
				row[i] = j.m.w.wte[(from+i)*c+k]
			}
		}
	})
}

// room is how many tokens prompt i may be continued with.
func (j *sampling) room(i int) int {
	return min(j.o.MaxNew, j.m.Config.Context-len(j.prompts[i]))
}

// lane samples sequences side by side on one worker, with its own Pass.
type lane struct {
	ps     *Pass
	j      *sampling
	cache  cache
	active []sequence
	free   []int // slots of the cache
	pick   picker
	logits []float32 // (active, V)
	keep   []int     // rows of hidden to choose tokens after
	gather []float32 // (active, C)
	tokens []int32
}

// sequence is one prompt being continued.
type sequence struct {
	prompt int
	slot   int
	length int // tokens whose keys and values are cached
}

func (ln *lane) run(j *sampling, slots int) {
	ln.j = j
	ln.active, ln.free = ln.active[:0], ln.free[:0]
	longest := 0
	for i := range j.prompts {
		longest = max(longest, len(j.prompts[i])+j.room(i))
	}
	ln.cache.size(j.m.Config, slots, longest)
	for s := range slots {
		ln.free = append(ln.free, slots-1-s)
	}
	ln.pick.size(j.m.Config.Vocab)
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
	ps, m := ln.ps, ln.j.m
	var b Batch
	ln.keep = ln.keep[:0]
	for _, s := range ln.active[first:] {
		b.Add(ln.j.prompts[s.prompt])
		ln.keep = append(ln.keep, b.Rows()-1)
	}
	ps.infer = true
	ps.forwardWith(m, b, func(l int) {
		for i, s := range ln.active[first:] {
			for t := range s.length {
				ln.cache.store(l, s.slot, t, ps.acts(l).qkv[(b.Starts[i]+t)*3*m.Config.Width:])
			}
		}
	})
	ln.choose(first)
}

// step feeds the last token of every active sequence and samples the next.
func (ln *lane) step() {
	ps, m := ln.ps, ln.j.m
	n, c := len(ln.active), m.Config.Width
	ln.tokens, ln.keep = ln.tokens[:0], ln.keep[:0]
	for r, s := range ln.active {
		t := ln.j.out[s.prompt].Tokens
		ln.tokens = append(ln.tokens, t[len(t)-1])
		ln.keep = append(ln.keep, r)
	}
	ps.prepareStep(m, ln.tokens)
	for r, s := range ln.active {
		ps.offset[r] = int32(s.length)
	}
	ps.embed(0, 0)
	for l := range m.Config.Layers {
		ps.l = l
		ps.attentionIn(0, 0)
		a := ps.acts(l)
		for r := range n {
			s := &ln.active[r]
			ln.cache.store(l, s.slot, s.length, a.qkv[r*3*c:])
			ln.cache.attend(l, s.slot, s.length+1, a.qkv[r*3*c:], a.att[r*c:(r+1)*c])
		}
		ps.blockOut(0, 0)
	}
	ps.finalNorm(0, 0)
	for r := range ln.active {
		ln.active[r].length++
	}
	ln.choose(0)
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
	tensor.MatMul(nil, ln.logits, v, ln.gather, c, j.head, v, n, v, c, false)
	kept := ln.active[:first]
	for i, s := range ln.active[first:] {
		if ln.sample(s, ln.logits[i*v:(i+1)*v]) {
			kept = append(kept, s)
		} else {
			ln.free = append(ln.free, s.slot)
		}
	}
	ln.active = kept
}

// sample chooses the next token of s and says whether the sequence goes on.
func (ln *lane) sample(s sequence, logits []float32) bool {
	j, out := ln.j, &ln.j.out[s.prompt]
	t := len(out.Tokens)
	if t == 0 {
		out.Tokens = make([]int32, 0, j.room(s.prompt))
		out.LogProbs = make([]float32, 0, j.room(s.prompt))
	}
	u := j.src.At(j.base+uint64(s.prompt), uint64(t)).Float64()
	token, logp := ln.pick.choose(logits, &j.o, u)
	out.Tokens = append(out.Tokens, token)
	out.LogProbs = append(out.LogProbs, logp)
	out.Stopped = slices.Contains(j.o.Stop, token)
	return !out.Stopped && len(out.Tokens) < j.room(s.prompt)
}
