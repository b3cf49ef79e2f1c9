package model

// backward takes dhidden down to the embeddings and accumulates the gradients of all parameters into g. The gradients
// of a block's parameters do not depend on the backward pass of the block below: their tasks run side by side, one
// block behind.
func (ps *Pass) backward(g []float32) {
	ps.grad.bind(ps.m.Config.Layers, ps.m.ranges, g[:len(ps.m.Slab)])
	ps.grad.wte = ps.m.embeddingGradient(g)
	for l := len(ps.layers) - 1; l >= -1; l-- { // -1 is the embeddings
		ps.layer = l
		ps.gradTiles, ps.columnSums = ps.gradTiles[:0], ps.columnSums[:0]
		if l+1 < len(ps.layers) {
			ps.listBlockGradients(l + 1)
		} else {
			ps.normGrad(&ps.grad.finalNorm, ps.dhidden, ps.finalResidual(), &ps.finalNorm, ps.outputCount())
		}
		ps.backwardGroups = 0
		if l >= 0 {
			ps.backwardGroups = ps.groupCount()
			if ps.backwardGroups == 0 {
				sp := ps.wholeBatch()
				ps.backwardSpan(&sp, l)
			}
		}
		ps.pool.Run(ps.backwardGroups+len(ps.gradTiles)+ps.embedTasks()+ps.sumTasks(), ps.op.backwardTask)
	}
}

// backwardTask takes a group through the backward pass of block ps.layer, or does one task of the parameter gradients
// of the block above. Tasks are numbered in the order below.
func (ps *Pass) backwardTask(task, worker int) {
	if task < ps.backwardGroups {
		ps.backwardGroup(task, worker)
		return
	}
	if task -= ps.backwardGroups; task < len(ps.gradTiles) {
		ps.gradTiles[task].accumulate(ps.numerics)
		return
	}
	if task -= len(ps.gradTiles); task < ps.embedTasks() {
		ps.embedBackward(task)
		return
	}
	ps.addSumTask(task - ps.embedTasks())
}

// backwardGroup takes one group through the backward pass of block ps.layer.
func (ps *Pass) backwardGroup(task, worker int) {
	sp := ps.groupAt(task, worker)
	if sp.rows() > 0 {
		ps.backwardSpan(&sp, ps.layer)
	}
}

// gradBuffers returns where block l keeps what its backward pass computes.
func (ps *Pass) gradBuffers(l int) *gradBuffers { return &ps.gradBufs[l&1] }

// dOut returns the gradient (N, C), or (W, C) for the last block, of the residual stream that leaves block l; for l =
// -1, that leaves the embeddings. Three are in use at once: block l's backward pass reads dOut(l) and writes
// dOut(l-1), while the parameter gradients of block l+1 read dOut(l+1).
func (ps *Pass) dOut(l int) []float32 { return ps.dResidual[(l+1)%3] }

// gradBuffers holds what the backward pass of a block leaves for the gradients of its parameters. There are two,
// since those gradients are computed while the block before goes through its own backward pass.
type gradBuffers struct {
	dMLPOut       []float32 // (N, C) gradient of what the MLP gives, where that is not dOut
	dact          []float32 // (N, I) gradient of the activation's output, of an MLP with a gate
	dup           []float32 // (N, up) of its input; without a gate first of its output
	dln2          []float32 // (N, C) of the MLP's input
	dResidualMid  []float32 // (N, C) of the residual stream after attention
	dAttentionOut []float32 // (N, C) of what attention gives, where that is not dResidualMid
	dqkv          []float32 // (N, qkvWidth)
	dNormedQK     []float32 // (N, (H+KV)·D) of normed queries and keys, where the model has such norms
	dln1          []float32 // (N, C) of attention's input

	// Inputs of the block's products, which the forward pass did not keep, computed again with the same bits.
	ln1 []float32 // (N, C)
	ln2 []float32 // (N, C)
	act []float32 // (N, I)
}

// size sizes the buffers for n rows.
func (b *gradBuffers) size(n int, d *dims) {
	for _, x := range [...]*[]float32{&b.dResidualMid, &b.dln1, &b.dln2, &b.ln1, &b.ln2} {
		resizeSlab(x, n*d.width)
	}
	if d.branches {
		resizeSlab(&b.dMLPOut, n*d.width)
		resizeSlab(&b.dAttentionOut, n*d.width)
	}
	if d.gated {
		resizeSlab(&b.dact, n*d.inner)
	}
	resizeSlab(&b.dqkv, n*d.qkv)
	resizeSlab(&b.dNormedQK, n*d.rawQK())
	resizeSlab(&b.act, n*d.inner)
	resizeSlab(&b.dup, n*d.up)
}

// dactivation returns where the gradient of the activation's output lies.
func (b *gradBuffers) dactivation(d *dims) []float32 {
	if d.gated {
		return b.dact
	}
	return b.dup
}

// prepareBackward sizes the buffers of a backward pass.
func (ps *Pass) prepareBackward() {
	n, d := ps.n, &ps.m.dims
	longest := 0 // tokens of a sequence
	for s := range ps.batch.Sequences() {
		longest = max(longest, ps.batch.Starts[s+1]-ps.batch.Starts[s])
	}
	for i := range ps.gradBufs {
		ps.gradBufs[i].size(n, d)
	}
	for i := range ps.dResidual {
		resizeSlab(&ps.dResidual[i], n*d.width)
	}
	resizeSlab(&ps.datt, n*d.attention)
	resizeSlab(&ps.lastBlock.datt, len(ps.outputRows)*d.attention)
	for i := range ps.work {
		resize(&ps.work[i].s, queryTile*longest)
		resize(&ps.work[i].ds, queryTile*longest)
		if d.attentionCap > 0 {
			resize(&ps.work[i].capped, queryTile*longest)
		}
	}
}
