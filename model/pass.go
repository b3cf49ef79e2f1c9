package model

import (
	"fmt"

	"github.com/trimtab/trimtab/tensor"
)

// Pass runs a model over batches. It holds the activations that the backward
// pass needs and every scratch buffer; buffers only grow, so that a step of a
// shape seen before allocates nothing. A Pass serves one goroutine; it may
// serve several models in turn, but a backward pass belongs to the last
// Forward.
type Pass struct {
	pool     *tensor.Pool
	numerics tensor.Numerics
	op       operations

	m        *Model
	weights  *packed
	batch    Batch
	n        int     // rows
	wanted   []int   // rows (W) that go on after the last block's attention; nil for all
	infer    bool    // the last Forward kept no activations
	grad     weights // views into the gradient slab of the running backward pass
	l        int     // block the running operation works on, and the operation
	rowStep  func(ps *Pass, l, from, to int)
	rowSpan  span // that it is done for
	headStep func(ps *Pass, l, head, worker int)
	block    int     // rows a task
	cuts     []int   // sequences at which the groups begin and end that workers take whole; see cut
	offset   []int32 // (N) position of each row in its sequence

	layers []activations
	ln1    []float32 // (N, C) what is cheaper to compute again than to keep:
	ln2    []float32 // (N, C) the running block's inputs of its products
	act    []float32 // (N, 4C) fc after GELU
	x      []float32 // (N, C) the stream after the last block
	top    top       // instead, where not all rows are wanted
	hidden []float32 // (W, C) after ln_f
	mean   []float32 // (W) of ln_f
	rstd   []float32 // (W) of ln_f

	dhidden []float32 // (W, C) gradient of hidden

	dx    [3][]float32 // (N, C) gradient of the stream leaving a block; see leaving
	back  [2]backward  // of blocks of even and of odd number
	datt  []float32    // (N, C)
	tiles []tile
	sums  []sum
	last  int // tasks of the running backward pass that are groups

	work       []scratch // one a worker
	head       headBuffers
	score      []float32
	stepStarts []int
	stepWanted []int
	group      *Pass // the rows that go back together

	lane   *lane   // whose Pass this is, if any
	cached bool    // rows are single tokens that attend to the lane's cache
	lanes  []*lane // of Generate, a worker each
	wide   *lane   // or one for all
}

// activations of one block, kept for the backward pass: 10·C a row. When
// nothing is to be kept all blocks share one.
type activations struct {
	x            []float32 // (N, C) the stream entering the block
	mean1, rstd1 []float32 // (N)
	qkv          []float32 // (N, 3C)
	upper
}

// scratch of one worker.
type scratch struct {
	s, ds []float32 // (queryTile, T) scores or probabilities, and their gradient
}

// backward is what the backward pass of a block leaves for the gradients of
// its parameters. There are two: a block goes back while the parameters of the
// next one learn.
type backward struct {
	dmid []float32 // (N, C) gradient of the stream after attention
	dln1 []float32 // (N, C)
	dln2 []float32 // (N, C)
	dqkv []float32 // (N, 3C)
	dfc  []float32 // (N, 4C)
	ln1  []float32 // (N, C) computed again, as
	ln2  []float32 // (N, C)
	act  []float32 // (N, 4C)
}

// operations are the tasks given to the pool, bound once so that running one
// allocates nothing.
type operations struct {
	through, goBack     func(task, worker int)
	rows, heads         func(task, worker int)
	headProbs, headGrad func(task, worker int)
}

// NewPass is a Pass over pool's workers; nil runs on the caller.
func NewPass(pool *tensor.Pool) *Pass {
	ps := &Pass{pool: pool, numerics: tensor.V1, work: make([]scratch, pool.Workers()), weights: newPacked()}
	ps.op = operations{
		through: ps.through, goBack: ps.goBack,
		rows:      ps.rows,
		heads:     func(task, worker int) { ps.headStep(ps, ps.l, task, worker) },
		headProbs: ps.headProbabilities, headGrad: ps.headGradient,
	}
	return ps
}

// Under makes the Pass compute under that numeric contract from now on; a new
// one computes under tensor.V1. It returns ps and panics when there is no such
// contract.
func (ps *Pass) Under(n tensor.Numerics) *Pass {
	if !n.Valid() {
		panic(fmt.Sprintf("model: there is no numeric contract %q", n))
	}
	ps.numerics = n
	return ps
}

// Numerics is the contract the Pass computes under.
func (ps *Pass) Numerics() tensor.Numerics { return ps.numerics }

// Pool is the pool the Pass runs on.
func (ps *Pass) Pool() *tensor.Pool { return ps.pool }

// Forward runs m over b and returns the rows after the final LayerNorm (N, C),
// or those of b.Wanted, a view that the next Forward overwrites. DHidden is zeroed. The batch must
// stay as it is until its backward pass is done.
func (ps *Pass) Forward(m *Model, b Batch) (hidden []float32) {
	ps.infer = false
	b.check(m.Config)
	ps.weights.use(m, ps.numerics, ps.pool, b.Rows())
	ps.forward(m, b)
	slab(&ps.dhidden, ps.results()*m.Config.Width)
	clear(ps.dhidden)
	return ps.hidden
}

// Infer is Forward with the same bits and without activations: memory of one
// block instead of L. Heads may follow it with a nil gradient only.
func (ps *Pass) Infer(m *Model, b Batch) (hidden []float32) {
	ps.infer = true
	b.check(m.Config)
	ps.weights.use(m, ps.numerics, ps.pool, b.Rows())
	ps.forward(m, b)
	return ps.hidden
}

// forward runs m, which ps.weights are of, over b.
func (ps *Pass) forward(m *Model, b Batch) {
	ps.prepare(m, b)
	ps.cut()
	if ps.groups() > 0 {
		ps.pool.Run(ps.groups(), ps.op.through)
		return
	}
	sp := ps.everything()
	ps.forwardSpan(&sp)
}

// Backward is BackwardBody after dhidden (N, C), of the rows of Forward's result, has been put in DHidden.
func (ps *Pass) Backward(m *Model, g, dhidden []float32) {
	copy(ps.DHidden(), dhidden)
	ps.BackwardBody(m, g)
}

// DHidden is the gradient of the loss by Forward's result (N, C): zeroed by
// Forward, accumulated by the heads, consumed by BackwardBody.
func (ps *Pass) DHidden() []float32 { return ps.dhidden }

// BackwardBody takes DHidden back through the body and accumulates the
// gradient into g, a slab of m's layout (see Model.Gradient). It takes whole
// sequences, some rows at a time, all the way, so that what lies between two
// products is still near the processor: gradients are chains over rows in
// order, and the cut changes no bit.
func (ps *Pass) BackwardBody(m *Model, g []float32) {
	ps.mustHold(m)
	if ps.group == nil {
		ps.group = NewPass(ps.pool)
	}
	ps.weights.goBack(ps.pool)
	least := max(groupRows, 256*ps.pool.Workers())
	for from := 0; from < ps.batch.Sequences(); {
		to := from + 1
		for to < ps.batch.Sequences() && ps.batch.Starts[to]-ps.batch.Starts[from] < least {
			to++
		}
		ps.group.share(ps, from, to)
		ps.group.backward(g)
		from = to
	}
}

// groupRows is about how many rows go back together.
const groupRows = 512

// share makes ps a view of all's sequences from … to and their activations.
func (ps *Pass) share(all *Pass, from, to int) {
	c, r0, r1 := all.m.Config.Width, all.batch.Starts[from], all.batch.Starts[to]
	ps.m, ps.n = all.m, r1-r0
	ps.weights, ps.numerics = all.weights, all.numerics
	ps.stepStarts = ps.stepStarts[:0]
	for _, s := range all.batch.Starts[from : to+1] {
		ps.stepStarts = append(ps.stepStarts, s-r0)
	}
	ps.batch = Batch{Tokens: all.batch.Tokens[r0:r1], Starts: ps.stepStarts}
	ps.offset = all.offset[r0:r1]
	sized(&ps.layers, len(all.m.w.layers))
	for l := range ps.layers {
		ps.layers[l] = all.layers[l].rows(r0, r1, c)
	}
	ps.x = all.x[r0*c : r1*c]
	w0, w1 := r0, r1
	if ps.wanted = nil; all.wanted != nil {
		sp := all.above(&span{from: r0, to: r1}, len(ps.layers)-1)
		w0, w1 = sp.from, sp.to
		if ps.stepWanted = ps.stepWanted[:0]; ps.stepWanted == nil {
			ps.stepWanted = []int{} // a group of which no row is wanted
		}
		for _, r := range all.wanted[w0:w1] {
			ps.stepWanted = append(ps.stepWanted, r-r0)
		}
		ps.wanted = ps.stepWanted
		ps.top = top{upper: all.top.rows(w0, w1, c), out: all.top.out[w0*c : w1*c], datt: ps.top.datt}
	}
	ps.mean, ps.rstd = all.mean[w0:w1], all.rstd[w0:w1]
	ps.dhidden = all.dhidden[w0*c : w1*c]
	ps.block = blockRows(ps.n, ps.pool.Workers())
	ps.cut()
	ps.prepareBackward()
}

func (a *activations) rows(from, to, c int) activations {
	return activations{
		x: a.x[from*c : to*c], mean1: a.mean1[from:to], rstd1: a.rstd1[from:to],
		qkv: a.qkv[from*3*c : to*3*c], upper: a.upper.rows(from, to, c),
	}
}

// mustMatch panics when the last Forward or Infer was another model's.
func (ps *Pass) mustMatch(m *Model) {
	if ps.m != m {
		panic("model: a head needs a Forward or Infer of the same model just before it")
	}
}

// mustHold panics when there are no activations of m to go back through.
func (ps *Pass) mustHold(m *Model) {
	if ps.infer || ps.m != m {
		panic("model: a backward pass needs a Forward of the same model just before it")
	}
}

// prepare sizes the buffers for b. It allocates only when a buffer grows.
func (ps *Pass) prepare(m *Model, b Batch) {
	ps.m, ps.batch, ps.n = m, b, b.Rows()
	if ps.wanted = b.Wanted; len(b.Wanted) == 0 || len(b.Wanted) == ps.n {
		ps.wanted = nil
	}
	n, c, longest := ps.n, m.Config.Width, 0
	sized(&ps.offset, n)
	for s := range b.Sequences() {
		from, to := b.Starts[s], b.Starts[s+1]
		longest = max(longest, to-from)
		for r := from; r < to; r++ {
			ps.offset[r] = int32(r - from)
		}
	}
	kept := m.Config.Layers
	if ps.infer {
		kept = 1
	}
	for len(ps.layers) < kept {
		ps.layers = append(ps.layers, activations{})
	}
	for i := range kept {
		ps.layers[i].size(n, c, ps.infer)
	}
	slab(&ps.ln1, n*c)
	slab(&ps.ln2, n*c)
	slab(&ps.act, n*4*c)
	slab(&ps.x, n*c)
	if ps.wanted != nil {
		ps.top.size(len(ps.wanted), c)
	}
	slab(&ps.hidden, ps.results()*c)
	sized(&ps.mean, ps.results())
	sized(&ps.rstd, ps.results())
	for i := range ps.work {
		slab(&ps.work[i].s, queryTile*longest)
	}
	ps.block = blockRows(n, ps.pool.Workers())
}

// prepareStep is prepare for one token each of sequences whose earlier tokens
// are cached; their positions are for the caller to set.
func (ps *Pass) prepareStep(m *Model, tokens []int32) {
	ps.infer = true
	ps.stepStarts = append(ps.stepStarts[:0], 0, len(tokens))
	ps.prepare(m, Batch{Tokens: tokens, Starts: ps.stepStarts})
	ps.block = max(1, (ps.n+ps.pool.Workers()-1)/ps.pool.Workers())
}

func (a *activations) size(n, c int, infer bool) {
	if !infer { // otherwise the stream runs through Pass.x alone
		slab(&a.x, n*c)
		slab(&a.mid, n*c)
	}
	sized(&a.mean1, n)
	sized(&a.rstd1, n)
	slab(&a.qkv, n*3*c)
	slab(&a.att, n*c)
	sized(&a.mean2, n)
	sized(&a.rstd2, n)
	slab(&a.fc, n*4*c)
}

// sized makes *x n long, keeping its memory when that is large enough. The
// contents are unspecified.
func sized[T any](x *[]T, n int) {
	if cap(*x) < n {
		*x = make([]T, n)
	}
	*x = (*x)[:n]
}

// slab is sized for what may be large. What has to grow grows by a quarter
// more: batches of other lengths come, and each growth leaves the old memory
// behind for a while. What never grows is as large as it has to be.
func slab(x *[]float32, n int) {
	if have := cap(*x); have < n {
		want := n
		if have > 0 {
			want += n / 4
		}
		*x = tensor.Slab(want)
	}
	*x = (*x)[:n]
}

// acts is where block l keeps its activations.
func (ps *Pass) acts(l int) *activations {
	if ps.infer {
		l = 0
	}
	return &ps.layers[l]
}

// streamIn, streamMid and streamOut are the stream entering block l, after its
// attention, and leaving it (N, C). Without activations all are one array.
func (ps *Pass) streamIn(l int) []float32 {
	if ps.infer || l == len(ps.m.w.layers) {
		return ps.x
	}
	return ps.layers[l].x
}

func (ps *Pass) streamMid(l int) []float32 {
	switch {
	case ps.narrow(l):
		return ps.top.mid
	case ps.infer:
		return ps.x
	}
	return ps.layers[l].mid
}

func (ps *Pass) streamOut(l int) []float32 {
	if ps.narrow(l) {
		return ps.top.out
	}
	return ps.streamIn(l + 1)
}

// stream is what the final LayerNorm takes (W, C).
func (ps *Pass) stream() []float32 { return ps.streamOut(len(ps.m.w.layers) - 1) }
