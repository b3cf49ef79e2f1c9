package model

import "github.com/trimtab/trimtab/tensor"

// The rows of a batch are spread over the workers in one of two ways: by
// groups of whole sequences, which a worker takes through every block without
// waiting for the others; or, where there are too few sequences for that or
// the weights are better read once by all together, one operation after the
// other, each spread over rows, heads or columns. Rows and sequences do not
// see each other: neither shows in any bit.

// span is some sequences of a batch, their rows, and who takes them: one
// worker, or, with a pool, all.
type span struct {
	seqFrom, seqTo int // sequences
	rowFrom, rowTo int // rows
	worker         int
	pool           *tensor.Pool
}

func (sp *span) rows() int { return sp.rowTo - sp.rowFrom }

// wholeBatch is the whole batch, one operation after the other.
func (ps *Pass) wholeBatch() span {
	return span{seqTo: ps.batch.Sequences(), rowTo: ps.n, pool: ps.pool}
}

// group is one group, for one worker.
func (ps *Pass) groupAt(i, worker int) span {
	first, last := ps.groupBounds[i], ps.groupBounds[i+1]
	return span{seqFrom: first, seqTo: last, rowFrom: ps.batch.Starts[first], rowTo: ps.batch.Starts[last],
		worker: worker}
}

// forRows does f for the rows of sp.
func (ps *Pass) forRows(sp *span, l int, f func(ps *Pass, l, from, to int)) {
	if sp.pool == nil {
		if sp.rows() > 0 {
			f(ps, l, sp.rowFrom, sp.rowTo)
		}
		return
	}
	ps.layer, ps.rowOp, ps.rowSpan = l, f, *sp
	sp.pool.Run((sp.rows()+ps.rowBlock-1)/ps.rowBlock, ps.op.rowTask)
}

// forHeads does f for every head of the sequences of sp.
func (ps *Pass) forHeads(sp *span, l int, f func(ps *Pass, l, head, worker int)) {
	heads := ps.m.Config.Heads
	if sp.pool == nil {
		for h := sp.seqFrom * heads; h < sp.seqTo*heads; h++ {
			f(ps, l, h, sp.worker)
		}
		return
	}
	ps.layer, ps.headOp = l, f
	sp.pool.Run(ps.batch.Sequences()*heads, ps.op.headTask)
}

// linear is y (N, out) = from + x (N, in) · w + bias for the rows of sp; from
// (N, out), which may be y, is left out if nil. A chain begins in from + bias.
func (ps *Pass) linear(sp *span, y, from, x []float32, w *weightMatrix, bias []float32) {
	start := tensor.Start{Bias: bias}
	if from != nil {
		start.From, start.LD = from[sp.rowFrom*w.out:sp.rowTo*w.out], w.out
	}
	ps.weights.linear(sp.pool, y[sp.rowFrom*w.out:sp.rowTo*w.out], start, x[sp.rowFrom*w.in:sp.rowTo*w.in], w,
		sp.rows())
}

// linearBackward is dx (N, in) = dy (N, out) · wᵀ for the rows of sp.
func (ps *Pass) linearBackward(sp *span, dx, dy []float32, w *weightMatrix) {
	ps.weights.linearBackward(sp.pool, dx[sp.rowFrom*w.in:sp.rowTo*w.in], dy[sp.rowFrom*w.out:sp.rowTo*w.out], w,
		sp.rows())
}

// rowsPerTask is how many rows a task of a row-wise pass takes: an eighth of a
// worker's share, so that the workers end together and a block's activations
// stay in the second cache, but enough to repay a pass over the weights.
func rowsPerTask(n, workers int) int {
	share := (n + workers - 1) / workers
	return max((share+7)/8, min(128, share), 1)
}

// rowTasks is the number of row blocks.
func (ps *Pass) rowTasks() int { return (ps.n + ps.rowBlock - 1) / ps.rowBlock }

// rowTask does one task of forRows.
func (ps *Pass) rowTask(task, _ int) {
	from := ps.rowSpan.rowFrom + task*ps.rowBlock
	ps.rowOp(ps, ps.layer, from, min(ps.rowSpan.rowTo, from+ps.rowBlock))
}

// formGroups puts the sequences into groups of about ps.block rows, a multiple of the
// workers' number, or into none when the largest would keep the others waiting
// or the weights are not in panels and so large that all should read them once.
func (ps *Pass) formGroups() {
	ps.groupBounds = ps.groupBounds[:0]
	workers, starts := ps.pool.Workers(), ps.batch.Starts
	groups := (ps.rowTasks() + workers - 1) / workers * workers
	groups = min(groups, ps.batch.Sequences()/workers*workers)
	if groups == 0 || workers > 1 && ps.weights.readOnce {
		return
	}
	at, largest := 0, 0
	ps.groupBounds = append(ps.groupBounds, 0)
	for i := 1; i <= groups; i++ {
		from, want := starts[at], ps.n*i/groups
		for at+1 < len(starts) && starts[at+1]-want <= want-starts[at] {
			at++
		}
		if i == groups {
			at = len(starts) - 1
		}
		largest = max(largest, starts[at]-from)
		ps.groupBounds = append(ps.groupBounds, at)
	}
	if workers > 1 && 4*largest*groups > 5*ps.n && groups < 8*workers {
		ps.groupBounds = ps.groupBounds[:0]
	}
}

// groupCount is their number, 0 when rows are spread by operations.
func (ps *Pass) groupCount() int { return max(0, len(ps.groupBounds)-1) }

// forwardGroup takes one group through the model.
func (ps *Pass) forwardGroup(task, worker int) {
	sp := ps.groupAt(task, worker)
	if sp.rows() > 0 {
		ps.forwardSpan(&sp)
	}
}

// forwardSpan takes sp through the model. One block, with x the stream:
//
//	mid = x + attention(LN1(x)·attn + attnb)·proj + projb
//	out = mid + gelu(LN2(mid)·fc + fcb)·out + outb
func (ps *Pass) forwardSpan(sp *span) {
	ps.forRows(sp, 0, (*Pass).embed)
	for l := range ps.weights.layers {
		ps.forRows(sp, l, (*Pass).attentionNorm)
		ps.linear(sp, ps.activationsOf(l).qkv, nil, ps.ln1, &ps.weights.layers[l].qkv, ps.m.w.layers[l].qkvb)
		ps.attention(sp, l)
		ps.projectAndMLP(sp, l)
	}
	up := ps.selectedRows(sp, len(ps.weights.layers)-1)
	ps.forRows(&up, 0, (*Pass).finalNorm)
}

// projectAndMLP is the rest of block l, for the rows that go on.
func (ps *Pass) projectAndMLP(sp *span, l int) {
	w, b := &ps.weights.layers[l], &ps.m.w.layers[l]
	up, u, x, mid := ps.selectedRows(sp, l), ps.postAttention(l), ps.residualIn(l), ps.residualMid(l)
	if ps.selectsRows(l) {
		ps.forRows(&up, l, (*Pass).gatherSelected)
		x = mid
	}
	ps.linear(&up, mid, x, u.att, &w.attproj, b.attprojb)
	ps.forRows(&up, l, (*Pass).mlpNorm)
	ps.linear(&up, u.fc, nil, ps.ln2Output(l), &w.fc, b.fcb)
	ps.forRows(&up, l, (*Pass).mlpGelu)
	ps.linear(&up, ps.residualOut(l), mid, ps.geluOutput(l), &w.fcproj, b.fcprojb)
}

// attention fills att: within the batch, or of each row to a lane's cache.
func (ps *Pass) attention(sp *span, l int) {
	if ps.useCache {
		ps.decoder.attendCached(sp, l)
		return
	}
	ps.forHeads(sp, l, (*Pass).attend)
	if ps.decoder != nil {
		ps.decoder.cachePrompts(sp, l)
	}
}
