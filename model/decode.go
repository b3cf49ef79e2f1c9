package model

// step feeds the last token of every active sequence and samples the next. It
// runs the chains of Pass.Forward for those rows.
func (ln *lane) step() {
	ps := ln.ps
	ln.tokens, ln.keep = ln.tokens[:0], ln.keep[:0]
	for r, s := range ln.active {
		ln.tokens = append(ln.tokens, s.token)
		ln.keep = append(ln.keep, r)
	}
	ps.prepareStep(ln.j.m, ln.tokens)
	for r, s := range ln.active {
		ps.offset[r] = int32(s.length)
	}
	ps.cached = true
	sp := ps.everything()
	ps.forwardSpan(&sp)
	ps.cached = false
	for r := range ln.active {
		ln.active[r].length++
	}
	ln.choose(0)
}

// attendAll is the attention of every row to the cache.
func (ln *lane) attendAll(sp *span, l int) {
	ln.ps.l = l
	sp.pool.Run(len(ln.active), ln.attend)
}

// attendRow caches the key and value of one row and runs its attention.
func (ln *lane) attendRow(r, worker int) {
	ps, s, c := ln.ps, &ln.active[r], ln.j.m.Config.Width
	a := ps.acts(ps.l)
	qkv := a.qkv[r*3*c : (r+1)*3*c]
	ln.cache.store(ps.l, s.slot, s.length, qkv)
	next, _ := ln.cache.slot(ps.l, ln.active[(r+1)%len(ln.active)].slot)
	ln.cache.attend(ps.l, s.slot, s.length+1, qkv, a.att[r*c:(r+1)*c], ln.work[worker].scores, next)
}

// keepKeys caches the keys and values of prompts that have just been read.
func (ln *lane) keepKeys(sp *span, l int) {
	ps, c := ln.ps, ln.j.m.Config.Width
	qkv := ps.acts(l).qkv
	for i := sp.first; i < sp.last; i++ {
		from := ps.batch.Starts[i]
		for t := range ps.batch.Starts[i+1] - from {
			ln.cache.store(l, ln.active[ln.first+i].slot, t, qkv[(from+t)*3*c:])
		}
	}
}
