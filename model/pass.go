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

	m           *Model
	weights     *packedWeights
	batch       Batch
	n           int    // rows
	outputRows  []int  // rows (W) that go on after the last block's attention; nil for all
	infer       bool   // the last Forward kept no activations
	grad        params // views into the gradient slab of the running backward pass
	layer       int    // block the running operation works on, and the operation
	rowOp       func(ps *Pass, l, from, to int)
	rowSpan     span // that it is done for
	headOp      func(ps *Pass, l, head, worker int)
	rowBlock    int     // rows a task
	groupBounds []int   // sequences at which the groups begin and end that workers take whole; see cut
	positions   []int32 // (N) position of each row in its sequence

	layers       []activations
	ln1          []float32 // (N, C) what is cheaper to compute again than to keep:
	ln2          []float32 // (N, C) the running block's inputs of its products
	act          []float32 // (N, 4C) fc after GELU
	lastResidual []float32 // (N, C) the stream after the last block
	lastBlock    lastBlock // instead, where not all rows are wanted
	hidden       []float32 // (W, C) after ln_f
	mean         []float32 // (W) of ln_f
	rstd         []float32 // (W) of ln_f

	dhidden []float32 // (W, C) gradient of hidden

	dResidual      [3][]float32   // (N, C) gradient of the stream leaving a block; see leaving
	gradBufs       [2]gradBuffers // of blocks of even and of odd number
	datt           []float32      // (N, C)
	gradTiles      []gradTile
	columnSums     []columnSum
	backwardGroups int // tasks of the running backward pass that are groups

	work          []scratch // one a worker
	head          headBuffers
	scores        []float32
	startsBuf     []int
	outputRowsBuf []int
	backwardView  *Pass // the rows that go back together

	decoder       *decoder   // whose Pass this is, if any
	useCache      bool       // rows are single tokens that attend to the lane's cache
	decoders      []*decoder // of Generate, a worker each
	sharedDecoder *decoder   // or one for all
}

// activations of one block, kept for the backward pass: 10·C a row. When
// nothing is to be kept all blocks share one.
type activations struct {
	residualIn   []float32 // (N, C) the stream entering the block
	mean1, rstd1 []float32 // (N)
	qkv          []float32 // (N, 3C)
	postAttention
}

// scratch of one worker.
type scratch struct {
	s, ds []float32 // (queryTile, T) scores or probabilities, and their gradient
}

// gradBuffers is what the backward pass of a block leaves for the gradients of
// its parameters. There are two: a block goes back while the parameters of the
// next one learn.
type gradBuffers struct {
	dResidualMid []float32 // (N, C) gradient of the stream after attention
	dln1         []float32 // (N, C)
	dln2         []float32 // (N, C)
	dqkv         []float32 // (N, 3C)
	dfc          []float32 // (N, 4C)
	ln1          []float32 // (N, C) computed again, as
	ln2          []float32 // (N, C)
	act          []float32 // (N, 4C)
}

// operations are the tasks given to the pool, bound once so that running one
// allocates nothing.
type operations struct {
	forwardGroup, backwardTask func(task, worker int)
	rowTask, headTask          func(task, worker int)
	headProbs, headGrad        func(task, worker int)
}

// NewPass is a Pass over pool's workers; nil runs on the caller.
func NewPass(pool *tensor.Pool) *Pass {
	ps := &Pass{pool: pool, numerics: tensor.V1, work: make([]scratch, pool.Workers()), weights: newPacked()}
	ps.op = operations{
		forwardGroup: ps.forwardGroup, backwardTask: ps.backwardTask,
		rowTask:   ps.rowTask,
		headTask:  func(task, worker int) { ps.headOp(ps, ps.layer, task, worker) },
		headProbs: ps.headProbabilities, headGrad: ps.headGradient,
	}
	return ps
}

// WithNumerics makes the Pass compute under that numeric contract from now on; a new
// one computes under tensor.V1. It returns ps and panics when there is no such
// contract.
func (ps *Pass) WithNumerics(n tensor.Numerics) *Pass {
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
	ps.weights.useBody(m, ps.numerics, ps.pool, b.Rows())
	ps.forward(m, b)
	resizeSlab(&ps.dhidden, ps.outputCount()*m.Config.Width)
	clear(ps.dhidden)
	return ps.hidden
}

// Infer is Forward with the same bits and without activations: memory of one
// block instead of L. Heads may follow it with a nil gradient only.
func (ps *Pass) Infer(m *Model, b Batch) (hidden []float32) {
	ps.infer = true
	b.check(m.Config)
	ps.weights.useBody(m, ps.numerics, ps.pool, b.Rows())
	ps.forward(m, b)
	return ps.hidden
}

// forward runs m, which ps.weights are of, over b.
func (ps *Pass) forward(m *Model, b Batch) {
	ps.prepare(m, b)
	ps.formGroups()
	if ps.groupCount() > 0 {
		ps.pool.Run(ps.groupCount(), ps.op.forwardGroup)
		return
	}
	sp := ps.wholeBatch()
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
	if ps.backwardView == nil {
		ps.backwardView = NewPass(ps.pool)
	}
	ps.weights.packBodyTransposed(ps.pool)
	least := max(backwardRows, 256*ps.pool.Workers())
	for from := 0; from < ps.batch.Sequences(); {
		to := from + 1
		for to < ps.batch.Sequences() && ps.batch.Starts[to]-ps.batch.Starts[from] < least {
			to++
		}
		ps.backwardView.view(ps, from, to)
		ps.backwardView.backward(g)
		from = to
	}
}

// backwardRows is about how many rows go back together.
const backwardRows = 512

// view makes ps a view of all's sequences from … to and their activations.
func (ps *Pass) view(all *Pass, from, to int) {
	c, r0, r1 := all.m.Config.Width, all.batch.Starts[from], all.batch.Starts[to]
	ps.m, ps.n = all.m, r1-r0
	ps.weights, ps.numerics = all.weights, all.numerics
	ps.startsBuf = ps.startsBuf[:0]
	for _, s := range all.batch.Starts[from : to+1] {
		ps.startsBuf = append(ps.startsBuf, s-r0)
	}
	ps.batch = Batch{Tokens: all.batch.Tokens[r0:r1], Starts: ps.startsBuf}
	ps.positions = all.positions[r0:r1]
	resize(&ps.layers, len(all.m.w.layers))
	for l := range ps.layers {
		ps.layers[l] = all.layers[l].rows(r0, r1, c)
	}
	ps.lastResidual = all.lastResidual[r0*c : r1*c]
	w0, w1 := r0, r1
	if ps.outputRows = nil; all.outputRows != nil {
		sp := all.selectedRows(&span{rowFrom: r0, rowTo: r1}, len(ps.layers)-1)
		w0, w1 = sp.rowFrom, sp.rowTo
		if ps.outputRowsBuf = ps.outputRowsBuf[:0]; ps.outputRowsBuf == nil {
			ps.outputRowsBuf = []int{} // a group of which no row is wanted
		}
		for _, r := range all.outputRows[w0:w1] {
			ps.outputRowsBuf = append(ps.outputRowsBuf, r-r0)
		}
		ps.outputRows = ps.outputRowsBuf
		ps.lastBlock = lastBlock{postAttention: all.lastBlock.rows(w0, w1, c),
			residualOut: all.lastBlock.residualOut[w0*c : w1*c], datt: ps.lastBlock.datt}
	}
	ps.mean, ps.rstd = all.mean[w0:w1], all.rstd[w0:w1]
	ps.dhidden = all.dhidden[w0*c : w1*c]
	ps.rowBlock = rowsPerTask(ps.n, ps.pool.Workers())
	ps.formGroups()
	ps.prepareBackward()
}

func (a *activations) rows(from, to, c int) activations {
	return activations{
		residualIn: a.residualIn[from*c : to*c], mean1: a.mean1[from:to], rstd1: a.rstd1[from:to],
		qkv: a.qkv[from*3*c : to*3*c], postAttention: a.postAttention.rows(from, to, c),
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
	if ps.outputRows = b.OutputRows; len(b.OutputRows) == 0 || len(b.OutputRows) == ps.n {
		ps.outputRows = nil
	}
	n, c, longest := ps.n, m.Config.Width, 0
	resize(&ps.positions, n)
	for s := range b.Sequences() {
		from, to := b.Starts[s], b.Starts[s+1]
		longest = max(longest, to-from)
		for r := from; r < to; r++ {
			ps.positions[r] = int32(r - from)
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
	resizeSlab(&ps.ln1, n*c)
	resizeSlab(&ps.ln2, n*c)
	resizeSlab(&ps.act, n*4*c)
	resizeSlab(&ps.lastResidual, n*c)
	if ps.outputRows != nil {
		ps.lastBlock.size(len(ps.outputRows), c)
	}
	resizeSlab(&ps.hidden, ps.outputCount()*c)
	resize(&ps.mean, ps.outputCount())
	resize(&ps.rstd, ps.outputCount())
	for i := range ps.work {
		resizeSlab(&ps.work[i].s, queryTile*longest)
	}
	ps.rowBlock = rowsPerTask(n, ps.pool.Workers())
}

// prepareStep is prepare for one token each of sequences whose earlier tokens
// are cached; their positions are for the caller to set.
func (ps *Pass) prepareStep(m *Model, tokens []int32) {
	ps.infer = true
	ps.startsBuf = append(ps.startsBuf[:0], 0, len(tokens))
	ps.prepare(m, Batch{Tokens: tokens, Starts: ps.startsBuf})
	ps.rowBlock = max(1, (ps.n+ps.pool.Workers()-1)/ps.pool.Workers())
}

func (a *activations) size(n, c int, infer bool) {
	if !infer { // otherwise the stream runs through Pass.x alone
		resizeSlab(&a.residualIn, n*c)
		resizeSlab(&a.residualMid, n*c)
	}
	resize(&a.mean1, n)
	resize(&a.rstd1, n)
	resizeSlab(&a.qkv, n*3*c)
	resizeSlab(&a.att, n*c)
	resize(&a.mean2, n)
	resize(&a.rstd2, n)
	resizeSlab(&a.fc, n*4*c)
}

// resize makes *x n long, keeping its memory when that is large enough. The
// contents are unspecified.
func resize[T any](x *[]T, n int) {
	if cap(*x) < n {
		*x = make([]T, n)
	}
	*x = (*x)[:n]
}

// resizeSlab is sized for what may be large. What has to grow grows by a quarter
// more: batches of other lengths come, and each growth leaves the old memory
// behind for a while. What never grows is as large as it has to be.
func resizeSlab(x *[]float32, n int) {
	if have := cap(*x); have < n {
		want := n
		if have > 0 {
			want += n / 4
		}
		*x = tensor.Slab(want)
	}
	*x = (*x)[:n]
}

// activationsOf is where block l keeps its activations.
func (ps *Pass) activationsOf(l int) *activations {
	if ps.infer {
		l = 0
	}
	return &ps.layers[l]
}

// residualIn, residualMid and residualOut are the stream entering block l, after its
// attention, and leaving it (N, C). Without activations all are one array.
func (ps *Pass) residualIn(l int) []float32 {
	if ps.infer || l == len(ps.m.w.layers) {
		return ps.lastResidual
	}
	return ps.layers[l].residualIn
}

func (ps *Pass) residualMid(l int) []float32 {
	switch {
	case ps.selectsRows(l):
		return ps.lastBlock.residualMid
	case ps.infer:
		return ps.lastResidual
	}
	return ps.layers[l].residualMid
}

func (ps *Pass) residualOut(l int) []float32 {
	if ps.selectsRows(l) {
		return ps.lastBlock.residualOut
	}
	return ps.residualIn(l + 1)
}

// finalResidual is what the final LayerNorm takes (W, C).
func (ps *Pass) finalResidual() []float32 { return ps.residualOut(len(ps.m.w.layers) - 1) }
