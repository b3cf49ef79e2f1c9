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
			ps.columnSums = append(ps.columnSums, normParamSum(ps.grad.finalNorm.weight, ps.grad.finalNorm.bias, ps.dhidden,
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

// backwardSpan takes sp through the backward pass of block l. In the forward pass this was, with x the residual
// stream that enters the block,
//
//	qkv = LN1(x)·qkvw + qkvb,  att = attention(qkv),  mid = x + att·attprojw + attprojb
//	fc = LN2(mid)·fcw + fcb,  out = mid + gelu(fc)·fcprojw + fcprojb
//
// and so, from dout, the gradient of what leaves the block, to dx, that of what enters it,
//
//	dact = dout·fcprojwᵀ,  dfc = dact·gelu'(fc),  dln2 = dfc·fcwᵀ
//	dmid = dout + LN2's backward of dln2,  datt = dmid·attprojwᵀ
//	dqkv = attention's backward of datt,  dln1 = dqkv·qkvwᵀ
//	dx = dmid + LN1's backward of dln1
//
// Parameter gradients are left to listBlockGradients.
func (ps *Pass) backwardSpan(sp *span, l int) {
	w, b := &ps.weights.layers[l], ps.gradBuffers(l)
	selected := ps.selectedRows(sp, l)
	if l == len(ps.layers)-1 {
		ps.forRows(&selected, l, (*Pass).finalNormBackward)
	}
	ps.linearBackward(&selected, b.dfc, ps.dOut(l), &w.fcproj)
	ps.forRows(&selected, l, (*Pass).mlpGeluBackward)
	ps.linearBackward(&selected, b.dln2, b.dfc, &w.fc)
	ps.forRows(&selected, l, (*Pass).mlpNormBackward)
	datt := ps.datt
	if ps.selectsRows(l) {
		datt = ps.lastBlock.datt
	}
	ps.linearBackward(&selected, datt, b.dResidualMid, &w.attproj)
	if ps.selectsRows(l) {
		ps.forRows(sp, l, (*Pass).scatterAttentionGrad)
	}
	ps.forHeads(sp, l, (*Pass).attendBackward)
	ps.linearBackward(sp, b.dln1, b.dqkv, &w.qkv)
	ps.forRows(sp, l, (*Pass).attentionNormBackward)
}

// gradBuffers returns where block l keeps what its backward pass computes.
func (ps *Pass) gradBuffers(l int) *gradBuffers { return &ps.gradBufs[l&1] }

// dOut returns the gradient (N, C), or (W, C) for the last block, of the residual stream that leaves block l; for l =
// -1, that leaves the embeddings. Three are in use at once: block l's backward pass reads dOut(l) and writes
// dOut(l-1), while the parameter gradients of block l+1 read dOut(l+1).
func (ps *Pass) dOut(l int) []float32 { return ps.dResidual[(l+1)%3] }

// prepareBackward sizes the buffers of a backward pass.
func (ps *Pass) prepareBackward() {
	n, c := ps.n, ps.m.Config.Width
	longest := 0 // tokens of a sequence
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
