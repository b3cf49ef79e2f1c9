package model

// gradBuffers takes dhidden back to the embeddings. A block's own way back and
// the gradients of the parameters of the block after it are independent, and
// their tasks run side by side.
func (ps *Pass) backward(g []float32) {
	ps.grad.bind(ps.m.Config, ps.m.Scalar, g[:len(ps.m.Slab)])
	ps.grad.wte = ps.m.embeddingGradient(g)
	for l := len(ps.layers) - 1; l >= -1; l-- {
		ps.layer = l
		ps.gradTiles, ps.columnSums = ps.gradTiles[:0], ps.columnSums[:0]
		if l+1 < len(ps.layers) {
			ps.listBlockGradients(l + 1)
		} else {
			ps.columnSums = append(ps.columnSums, normParamSum(ps.grad.lnfw, ps.grad.lnfb, ps.dhidden,
				ps.finalResidual(), ps.mean, ps.rstd, ps.outputCount()))
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

// packBodyTransposed is a group's way back through a block, or one task of the gradients
// of the next block's parameters.
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

// backwardGroup takes one group back through block ps.l.
func (ps *Pass) backwardGroup(task, worker int) {
	sp := ps.groupAt(task, worker)
	if sp.rows() > 0 {
		ps.backwardSpan(&sp, ps.layer)
	}
}

// backwardSpan takes sp back through block l, from dx, the gradient of what
// leaves it, to that of what enters it:
//
//	dact = dx·outᵀ, dfc = dact·gelu'(fc), dln2 = dfc·fcᵀ
//	dmid = dx + LN2's backward of dln2, datt = dmid·projᵀ
//	dqkv = attention's backward of datt, dln1 = dqkv·attnᵀ
//	dx of the block before = dmid + LN1's backward of dln1
func (ps *Pass) backwardSpan(sp *span, l int) {
	w, b, up, datt := &ps.weights.layers[l], ps.gradBuffers(l), ps.selectedRows(sp, l), ps.datt
	if l == len(ps.layers)-1 {
		ps.forRows(&up, l, (*Pass).finalNormBackward)
	}
	ps.linearBackward(&up, b.dfc, ps.dOut(l), &w.fcproj)
	ps.forRows(&up, l, (*Pass).mlpGeluBackward)
	ps.linearBackward(&up, b.dln2, b.dfc, &w.fc)
	ps.forRows(&up, l, (*Pass).mlpNormBackward)
	if ps.selectsRows(l) {
		datt = ps.lastBlock.datt
	}
	ps.linearBackward(&up, datt, b.dResidualMid, &w.attproj)
	if ps.selectsRows(l) {
		ps.forRows(sp, l, (*Pass).scatterAttentionGrad)
	}
	ps.forHeads(sp, l, (*Pass).attendBackward)
	ps.linearBackward(sp, b.dln1, b.dqkv, &w.qkv)
	ps.forRows(sp, l, (*Pass).attentionNormBackward)
}

// gradBuffers is where block l keeps what its backward pass computes.
func (ps *Pass) gradBuffers(l int) *gradBuffers { return &ps.gradBufs[l&1] }

// dOut is the gradient of the stream that leaves block l, or the embeddings
// for -1. Three are in use at once.
func (ps *Pass) dOut(l int) []float32 { return ps.dResidual[(l+1)%3] }

// prepareBackward sizes the buffers of a backward pass.
func (ps *Pass) prepareBackward() {
	n, c, longest := ps.n, ps.m.Config.Width, 0
	for s := range ps.batch.Sequences() {
		longest = max(longest, ps.batch.Starts[s+1]-ps.batch.Starts[s])
	}
	for i := range ps.gradBufs {
		b := &ps.gradBufs[i]
		for _, x := range [...]*[]float32{&b.dResidualMid, &b.dln1, &b.dln2, &b.ln1, &b.ln2} {
			resizeSlab(x, n*c)
		}
		resizeSlab(&b.dqkv, n*3*c)
		resizeSlab(&b.act, n*4*c)
		resizeSlab(&b.dfc, n*4*c)
	}
	for i := range ps.dResidual {
		resizeSlab(&ps.dResidual[i], n*c)
	}
	resizeSlab(&ps.datt, n*c)
	resizeSlab(&ps.lastBlock.datt, len(ps.outputRows)*c)
	for i := range ps.work {
		resize(&ps.work[i].s, queryTile*longest)
		resize(&ps.work[i].ds, queryTile*longest)
	}
}
