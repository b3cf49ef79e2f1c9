package model

// backward takes dhidden back to the embeddings. A block's own way back and
// the gradients of the parameters of the block after it are independent, and
// their tasks run side by side.
func (ps *Pass) backward(g []float32) {
	ps.grad.bind(ps.m.Config, ps.m.Scalar, g[:len(ps.m.Slab)])
	ps.grad.wte = ps.m.embeddingShare(g)
	for l := len(ps.layers) - 1; l >= -1; l-- {
		ps.l = l
		ps.tiles, ps.sums = ps.tiles[:0], ps.sums[:0]
		if l+1 < len(ps.layers) {
			ps.blockGradients(l + 1)
		} else {
			ps.sums = append(ps.sums, normSum(ps.grad.lnf, ps.grad.lnfb, ps.dhidden, ps.stream(), ps.mean, ps.rstd, ps.results()))
		}
		ps.last = 0
		if l >= 0 {
			ps.last = ps.groups()
			if ps.last == 0 {
				sp := ps.everything()
				ps.backwardSpan(&sp, l)
			}
		}
		ps.pool.Run(ps.last+len(ps.tiles)+ps.embedTasks()+ps.sumTasks(), ps.op.goBack)
	}
}

// goBack is a group's way back through a block, or one task of the gradients
// of the next block's parameters.
func (ps *Pass) goBack(task, worker int) {
	if task < ps.last {
		ps.blockBackward(task, worker)
		return
	}
	if task -= ps.last; task < len(ps.tiles) {
		ps.tiles[task].add(ps.numerics)
		return
	}
	if task -= len(ps.tiles); task < ps.embedTasks() {
		ps.embedBackward(task)
		return
	}
	ps.addSums(task - ps.embedTasks())
}

// blockBackward takes one group back through block ps.l.
func (ps *Pass) blockBackward(task, worker int) {
	sp := ps.groupAt(task, worker)
	if sp.rows() > 0 {
		ps.backwardSpan(&sp, ps.l)
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
	w, b, up, datt := &ps.weights.layers[l], ps.of(l), ps.above(sp, l), ps.datt
	if l == len(ps.layers)-1 {
		ps.byRows(&up, l, (*Pass).finalNormBackward)
	}
	ps.multiplyBack(&up, b.dfc, ps.leaving(l), &w.out)
	ps.byRows(&up, l, (*Pass).mlpOutBackward)
	ps.multiplyBack(&up, b.dln2, b.dfc, &w.fc)
	ps.byRows(&up, l, (*Pass).mlpInBackward)
	if ps.narrow(l) {
		datt = ps.top.datt
	}
	ps.multiplyBack(&up, datt, b.dmid, &w.proj)
	if ps.narrow(l) {
		ps.byRows(sp, l, (*Pass).attentionOutBackward)
	}
	ps.byHeads(sp, l, (*Pass).attendBackward)
	ps.multiplyBack(sp, b.dln1, b.dqkv, &w.attn)
	ps.byRows(sp, l, (*Pass).attentionInBackward)
}

// of is where block l keeps what its backward pass computes.
func (ps *Pass) of(l int) *backward { return &ps.back[l&1] }

// leaving is the gradient of the stream that leaves block l, or the embeddings
// for -1. Three are in use at once.
func (ps *Pass) leaving(l int) []float32 { return ps.dx[(l+1)%3] }

// prepareBackward sizes the buffers of a backward pass.
func (ps *Pass) prepareBackward() {
	n, c, longest := ps.n, ps.m.Config.Width, 0
	for s := range ps.batch.Sequences() {
		longest = max(longest, ps.batch.Starts[s+1]-ps.batch.Starts[s])
	}
	for i := range ps.back {
		b := &ps.back[i]
		for _, x := range [...]*[]float32{&b.dmid, &b.dln1, &b.dln2, &b.ln1, &b.ln2} {
			slab(x, n*c)
		}
		slab(&b.dqkv, n*3*c)
		slab(&b.act, n*4*c)
		slab(&b.dfc, n*4*c)
	}
	for i := range ps.dx {
		slab(&ps.dx[i], n*c)
	}
	slab(&ps.datt, n*c)
	slab(&ps.top.datt, len(ps.wanted)*c)
	for i := range ps.work {
		sized(&ps.work[i].s, queryTile*longest)
		sized(&ps.work[i].ds, queryTile*longest)
	}
}
