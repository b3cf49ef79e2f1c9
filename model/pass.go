package model

import (
	"fmt"

	"github.com/trimtab/trimtab/tensor"
)

// Pass runs a model over batches. It holds the activations that the backward pass needs and every scratch buffer.
// Buffers only grow, so that a step of shapes seen before allocates nothing.
//
// A Pass serves one goroutine at a time; it may serve several models in turn, but a backward pass belongs to the last
// Forward. Packed copies of the weights are made anew by each Forward: the weights may change between steps without
// notice.
type Pass struct {
	pool     *tensor.Pool
	numerics tensor.Numerics
	op       operations

	// Of the last Forward or Infer. N is the number of rows of the batch, W that of the rows that heads ask for.
	m          *Model
	weights    *packedWeights
	batch      Batch
	n          int     // N
	outputRows []int   // (W) the rows that continue after the last block's attention; nil for all of them
	infer      bool    // it kept no activations
	positions  []int32 // (N) position of each row in its sequence

	// How rows are spread over the workers: see groups.go.
	rowBlock    int   // rows of a task
	groupBounds []int // sequences at which groups begin, and the last one ends; empty where there are no groups
	layer       int   // the block that the running operation works on
	rowOp       func(ps *Pass, l, from, to int)
	rowSpan     span // that rowOp runs over
	headOp      func(ps *Pass, l, head, worker int)

	// Activations. ln1, ln2 and act are cheaper to compute again than to keep: every block overwrites them.
	layers       []activations
	ln1          []float32 // (N, C) the norm that attention reads
	ln2          []float32 // (N, C) the norm that the MLP reads
	act          []float32 // (N, I) output of the MLP's activation
	lastResidual []float32 // (N, C) the residual stream after the last block
	lastBlock    lastBlock // in place of lastResidual where only W rows continue
	hidden       []float32 // (W, C) after the final norm: what Forward returns
	finalNorm    normStats // (W)
	dhidden      []float32 // (W, C) gradient of hidden

	// Backward pass.
	grad           params         // views into the gradient slab
	dResidual      [3][]float32   // (N, C) gradients of the residual stream: see dOut
	gradBufs       [2]gradBuffers // of blocks of even and of odd number: see gradBuffers
	datt           []float32      // (N, H·D) gradient of the running block's attention
	gradTiles      []gradTile     // tasks of the running block's weight gradients
	columnSums     []columnSum    // tasks of its bias and norm gradients
	backwardGroups int            // how many of the running tasks take a group through a block
	backwardView   *Pass          // the sequences that go through the backward pass together

	work          []scratch   // one for each worker
	head          headBuffers // of LogProbs
	scores        []float32   // what ScalarHead returns
	startsBuf     []int       // memory for batch.Starts of views and steps
	outputRowsBuf []int       // memory for outputRows of views

	rotary   rotaryTables
	attender attender // what attends: the Pass itself, or the decoder whose Pass it is
	sampling sampling // what Generate keeps from one call to the next
}

// activations holds what one block keeps for its backward pass. When nothing is to be kept, one set serves all blocks.
type activations struct {
	residualIn []float32 // (N, C) the residual stream that enters the block
	attentionActivations
	postAttention
}

// scratch is the scratch memory of one worker.
type scratch struct {
	s, ds  []float32 // (queryTile, T) attention probabilities, and their gradient
	capped []float32 // (queryTile, T) capped scores, where the model caps them
}

// operations are the tasks given to the pool: method values, bound once so that running one allocates nothing.
type operations struct {
	forwardGroup, backwardTask func(task, worker int) // a group through the model, and a task of a backward step
	rowTask, headTask          func(task, worker int) // rowOp for some rows, headOp for an attention head
	headProbs, headGrad        func(task, worker int) // a row of the language-model head
}

// NewPass returns a Pass that runs on the workers of pool, or on the caller if pool is nil, under tensor.V1.
func NewPass(pool *tensor.Pool) *Pass {
	ps := &Pass{pool: pool, numerics: tensor.V1, work: make([]scratch, pool.Workers()), weights: newPacked()}
	ps.attender = ps
	ps.op = operations{
		forwardGroup: ps.forwardGroup,
		backwardTask: ps.backwardTask,
		rowTask:      ps.rowTask,
		headTask:     func(task, worker int) { ps.headOp(ps, ps.layer, task, worker) },
		headProbs:    ps.headProbabilities,
		headGrad:     ps.headGradient,
	}
	return ps
}

// WithNumerics makes the Pass compute under the numeric contract n from now on, and returns ps. It panics when there
// is no such contract.
func (ps *Pass) WithNumerics(n tensor.Numerics) *Pass {
	if !n.Valid() {
		panic(fmt.Sprintf("model: there is no numeric contract %q", n))
	}
	ps.numerics = n
	return ps
}

// Numerics returns the contract that the Pass computes under.
func (ps *Pass) Numerics() tensor.Numerics { return ps.numerics }

// Pool returns the pool that the Pass runs on.
func (ps *Pass) Pool() *tensor.Pool { return ps.pool }

// Forward runs m over b and returns the rows after the final LayerNorm, (N, C), or (W, C) of b.OutputRows where those
// are given: a view that the next Forward overwrites. It keeps the activations for a backward pass, for which b must
// not change, and sets DHidden to zero.
func (ps *Pass) Forward(m *Model, b Batch) (hidden []float32) {
	if m.IsFrozen() {
		panic("model: a frozen model has no backward pass: run it with Infer")
	}
	ps.infer = false
	b.check(m.Config)
	ps.weights.useBody(m, ps.numerics, ps.pool, b.Rows())
	ps.forward(m, b)
	resizeSlab(&ps.dhidden, ps.outputCount()*m.dims.width)
	clear(ps.dhidden)
	return ps.hidden
}

// Infer is Forward with the same bits and without activations: it takes the memory of one block instead of L. Heads
// may follow with a nil gradient only.
func (ps *Pass) Infer(m *Model, b Batch) (hidden []float32) {
	if m.IsFrozen() && ps.numerics != tensor.V1 {
		panic(fmt.Sprintf("model: a frozen model is computed under numerics v1, not %s: widen it", ps.numerics))
	}
	ps.infer = true
	b.check(m.Config)
	ps.weights.useBody(m, ps.numerics, ps.pool, b.Rows())
	ps.forward(m, b)
	return ps.hidden
}

// forward runs m, whose weights ps.weights holds, over b: by groups where there are any, otherwise operation by
// operation.
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

// Backward is BackwardBody with dhidden, the gradient of the rows that Forward returned, in place of what heads have
// put into DHidden.
func (ps *Pass) Backward(m *Model, g, dhidden []float32) {
	copy(ps.DHidden(), dhidden)
	ps.BackwardBody(m, g)
}

// DHidden returns the gradient of the loss with respect to Forward's result, of the same shape: set to zero by
// Forward, accumulated by the heads, read by BackwardBody.
func (ps *Pass) DHidden() []float32 { return ps.dhidden }

// BackwardBody takes DHidden through the backward pass of the body and accumulates the gradient into g, a slab of m's
// layout (see Model.NewGradient).
//
// It takes some whole sequences at a time from the last block down to the embeddings, so that what lies between two
// products is still in the caches. Gradients are chains over rows in order, and so this division changes no bit.
func (ps *Pass) BackwardBody(m *Model, g []float32) {
	ps.mustHold(m)
	if ps.backwardView == nil {
		ps.backwardView = NewPass(ps.pool)
	}
	ps.weights.packBodyTransposed(ps.pool)
	minRows := max(backwardRows, 256*ps.pool.Workers())
	for from := 0; from < ps.batch.Sequences(); {
		to := from + 1
		for to < ps.batch.Sequences() && ps.batch.Starts[to]-ps.batch.Starts[from] < minRows {
			to++
		}
		ps.backwardView.view(ps, from, to)
		ps.backwardView.backward(g)
		from = to
	}
}

// backwardRows is about how many rows go through the backward pass together; more where there are many workers.
const backwardRows = 512

// view makes ps a view of all's sequences from … to and of their activations, with buffers of its own for the
// backward pass. It is what lets BackwardBody run a part of the batch as if it were a whole one.
func (ps *Pass) view(all *Pass, from, to int) {
	d := &all.m.dims
	c := d.width
	r0, r1 := all.batch.Starts[from], all.batch.Starts[to] // rows of the batch
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
		ps.layers[l] = all.layers[l].rows(r0, r1, d)
	}
	ps.lastResidual = all.lastResidual[r0*c : r1*c]
	w0, w1 := r0, r1 // rows after the last block
	if ps.outputRows = nil; all.outputRows != nil {
		sp := all.selectedRows(&span{rowFrom: r0, rowTo: r1}, len(ps.layers)-1)
		w0, w1 = sp.rowFrom, sp.rowTo
		if ps.outputRowsBuf = ps.outputRowsBuf[:0]; ps.outputRowsBuf == nil {
			ps.outputRowsBuf = []int{} // not nil, which would mean all rows: these sequences may have none
		}
		for _, r := range all.outputRows[w0:w1] {
			ps.outputRowsBuf = append(ps.outputRowsBuf, r-r0)
		}
		ps.outputRows = ps.outputRowsBuf
		ps.lastBlock = lastBlock{
			postAttention: all.lastBlock.rows(w0, w1, d),
			residualIn:    all.lastBlock.residualIn[w0*c : w1*c],
			residualOut:   all.lastBlock.residualOut[w0*c : w1*c],
			datt:          ps.lastBlock.datt,
		}
	}
	ps.finalNorm, ps.rotary = all.finalNorm.rows(w0, w1, d), all.rotary
	ps.dhidden = all.dhidden[w0*c : w1*c]
	ps.rowBlock = rowsPerTask(ps.n, ps.pool.Workers())
	ps.formGroups()
	ps.prepareBackward()
}

// rows returns views of rows from … to.
func (a *activations) rows(from, to int, d *dims) activations {
	return activations{
		residualIn:           a.residualIn[from*d.width : to*d.width],
		attentionActivations: a.attentionActivations.rows(from, to, d),
		postAttention:        a.postAttention.rows(from, to, d),
	}
}

// mustMatch panics when the last Forward or Infer was another model's: a bug of the caller.
func (ps *Pass) mustMatch(m *Model) {
	if ps.m != m {
		panic("model: a head needs a Forward or Infer of the same model just before it")
	}
}

// mustHold panics when there are no activations of m for a backward pass: a bug of the caller.
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
	n, d := ps.n, &m.dims
	longest := 0 // tokens of a sequence
	resize(&ps.positions, n)
	for s := range b.Sequences() {
		from, to := b.Starts[s], b.Starts[s+1]
		longest = max(longest, to-from)
		for r := from; r < to; r++ {
			ps.positions[r] = int32(r - from)
		}
	}
	ps.rotary.prepare(m, longest)
	ps.prepareLayers()
	for _, x := range [...]*[]float32{&ps.ln1, &ps.ln2, &ps.lastResidual} {
		resizeSlab(x, n*d.width)
	}
	resizeSlab(&ps.act, n*d.inner)
	if ps.outputRows != nil {
		ps.lastBlock.size(len(ps.outputRows), d)
	}
	resizeSlab(&ps.hidden, ps.outputCount()*d.width)
	ps.finalNorm.size(ps.outputCount(), d)
	for i := range ps.work {
		resizeSlab(&ps.work[i].s, queryTile*longest)
	}
	ps.rowBlock = rowsPerTask(n, ps.pool.Workers())
}

// prepareLayers sizes the activations of the blocks: one set of all of them where none are kept.
func (ps *Pass) prepareLayers() {
	kept := ps.m.Config.Layers
	if ps.infer {
		kept = 1
	}
	for len(ps.layers) < kept {
		ps.layers = append(ps.layers, activations{})
	}
	for i := range kept {
		ps.layers[i].size(ps.n, &ps.m.dims, ps.infer)
	}
}

// prepareStep is prepare for a decoding step: one token of each of some sequences whose earlier tokens are cached.
// The caller sets their positions.
func (ps *Pass) prepareStep(m *Model, tokens []int32) {
	ps.infer = true
	ps.startsBuf = append(ps.startsBuf[:0], 0, len(tokens))
	ps.prepare(m, Batch{Tokens: tokens, Starts: ps.startsBuf})
	ps.rowBlock = max(1, (ps.n+ps.pool.Workers()-1)/ps.pool.Workers())
}

// size sizes the buffers for n rows.
func (a *activations) size(n int, d *dims, infer bool) {
	if !infer { // otherwise the residual stream stays in Pass.lastResidual
		resizeSlab(&a.residualIn, n*d.width)
		resizeSlab(&a.residualMid, n*d.width)
	}
	a.attentionActivations.size(n, d)
	a.postAttention.size(n, d)
}

// resize makes *x n long and keeps its memory when that is large enough. The contents are unspecified.
func resize[T any](x *[]T, n int) {
	if cap(*x) < n {
		*x = make([]T, n)
	}
	*x = (*x)[:n]
}

// resizeSlab is resize for what may be large. A buffer that has to grow gets a quarter more than it needs: batches of
// other lengths follow, and each growth leaves the old memory to the garbage collector for a while. A buffer that
// never grows is exactly as large as it has to be.
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

// activationsOf returns where block l keeps its activations.
func (ps *Pass) activationsOf(l int) *activations {
	if ps.infer {
		l = 0
	}
	return &ps.layers[l]
}

// residualIn returns the residual stream (N, C) that enters block l. Without activations, residualIn, residualMid and
// residualOut of every block are one array, which is updated in place.
func (ps *Pass) residualIn(l int) []float32 {
	if ps.infer || l == len(ps.m.w.layers) {
		return ps.lastResidual
	}
	return ps.layers[l].residualIn
}

// residualMid returns the residual stream of block l after its attention: (N, C), or (W, C) in the last block.
func (ps *Pass) residualMid(l int) []float32 {
	switch {
	case ps.selectsRows(l):
		return ps.lastBlock.residualMid
	case ps.infer:
		return ps.lastResidual
	}
	return ps.layers[l].residualMid
}

// residualOut returns the residual stream that leaves block l: (N, C), or (W, C) from the last block.
func (ps *Pass) residualOut(l int) []float32 {
	if ps.selectsRows(l) {
		return ps.lastBlock.residualOut
	}
	return ps.residualIn(l + 1)
}

// finalResidual returns the input of the final LayerNorm (W, C).
func (ps *Pass) finalResidual() []float32 { return ps.residualOut(len(ps.m.w.layers) - 1) }
