package model

// step feeds the last token of every active sequence and samples the next. It
// runs the chains of Pass.Forward for those rows.
func (ln *decoder) step() {
	ps := ln.ps
	ln.tokens, ln.lastRows = ln.tokens[:0], ln.lastRows[:0]
	for r, s := range ln.active {
		ln.tokens = append(ln.tokens, s.token)
		ln.lastRows = append(ln.lastRows, r)
	}
	ps.prepareStep(ln.gen.m, ln.tokens)
	for r, s := range ln.active {
		ps.positions[r] = int32(s.length)
	}
	ps.useCache = true
	sp := ps.wholeBatch()
	ps.forwardSpan(&sp)
	ps.useCache = false
	for r := range ln.active {
		ln.active[r].length++
	}
	ln.sampleNext(0)
}

// attendCached is the attention of every row to the cache.
func (ln *decoder) attendCached(sp *span, l int) {
	ln.ps.layer = l
	sp.pool.Run(len(ln.active), ln.attendTask)
}

// attendCachedRow caches the key and value of one row and runs its attention.
func (ln *decoder) attendCachedRow(r, worker int) {
	ps, s, c := ln.ps, &ln.active[r], ln.gen.m.Config.Width
	a := ps.activationsOf(ps.layer)
	qkv := a.qkv[r*3*c : (r+1)*3*c]
	ln.cache.store(ps.layer, s.slot, s.length, qkv)
	next, _ := ln.cache.slot(ps.layer, ln.active[(r+1)%len(ln.active)].slot)
	ln.cache.attend(ps.layer, s.slot, s.length+1, qkv, a.att[r*c:(r+1)*c], ln.work[worker].scores, next)
}

// cachePrompts caches the keys and values of prompts that have just been read.
func (ln *decoder) cachePrompts(sp *span, l int) {
	ps, c := ln.ps, ln.gen.m.Config.Width
	qkv := ps.activationsOf(l).qkv
	for i := sp.seqFrom; i < sp.seqTo; i++ {
		from := ps.batch.Starts[i]
		for t := range ps.batch.Starts[i+1] - from {
			ln.cache.store(l, ln.active[ln.first+i].slot, t, qkv[(from+t)*3*c:])
		}
	}
}
