package model

// step feeds the last token of every active sequence to the model and samples the next one. It runs the chains of
// Pass.Forward for those rows.
func (d *decoder) step() {
	ps := d.ps
	d.tokens, d.lastRows = d.tokens[:0], d.lastRows[:0]
	for r, s := range d.active {
		d.tokens = append(d.tokens, s.token)
		d.lastRows = append(d.lastRows, r)
	}
	ps.prepareStep(d.gen.m, d.tokens)
	for r, s := range d.active {
		ps.positions[r] = int32(s.length)
	}
	ps.useCache = true
	sp := ps.wholeBatch()
	ps.forwardSpan(&sp)
	ps.useCache = false
	for r := range d.active { // its token is cached now
		d.active[r].length++
	}
	d.sampleNext(0)
}

// attendCached is the attention of every row of a step to the cache.
func (d *decoder) attendCached(sp *span, l int) {
	d.ps.layer = l
	sp.pool.Run(len(d.active), d.attendTask)
}

// attendCachedRow caches the key and value of one row and computes its attention. Meanwhile it prefetches the keys of
// the row after it, which is most likely the next task.
func (d *decoder) attendCachedRow(r, worker int) {
	ps, s, c := d.ps, &d.active[r], d.gen.m.Config.Width
	a := ps.activationsOf(ps.layer)
	qkv := a.qkv[r*3*c : (r+1)*3*c]
	d.cache.store(ps.layer, s.slot, s.length, qkv)
	next, _ := d.cache.slot(ps.layer, d.active[(r+1)%len(d.active)].slot)
	d.cache.attend(ps.layer, s.slot, s.length+1, qkv, a.att[r*c:(r+1)*c], d.work[worker].scores, next)
}

// cachePrompts caches the keys and values that block l has computed for the prompts of sp.
func (d *decoder) cachePrompts(sp *span, l int) {
	ps, c := d.ps, d.gen.m.Config.Width
	qkv := ps.activationsOf(l).qkv
	for i := sp.seqFrom; i < sp.seqTo; i++ {
		from := ps.batch.Starts[i]
		for t := range ps.batch.Starts[i+1] - from {
			d.cache.store(l, d.active[d.first+i].slot, t, qkv[(from+t)*3*c:])
		}
	}
}
