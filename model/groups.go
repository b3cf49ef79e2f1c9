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
	first, last int // sequences
	from, to    int // rows
	worker      int
	pool        *tensor.Pool
}

func (sp *span) rows() int { return sp.to - sp.from }

// everything is the whole batch, one operation after the other.
func (ps *Pass) everything() span {
	return span{last: ps.batch.Sequences(), to: ps.n, pool: ps.pool}
}

// group is one group, for one worker.
func (ps *Pass) groupAt(i, worker int) span {
	first, last := ps.cuts[i], ps.cuts[i+1]
	return span{first: first, last: last, from: ps.batch.Starts[first], to: ps.batch.Starts[last], worker: worker}
}

// byRows does f for the rows of sp.
func (ps *Pass) byRows(sp *span, l int, f func(ps *Pass, l, from, to int)) {
	if sp.pool == nil {
		if sp.rows() > 0 {
			f(ps, l, sp.from, sp.to)
		}
		return
	}
	ps.l, ps.rowStep, ps.rowSpan = l, f, *sp
	sp.pool.Run((sp.rows()+ps.block-1)/ps.block, ps.op.rows)
}

// byHeads does f for every head of the sequences of sp.
func (ps *Pass) byHeads(sp *span, l int, f func(ps *Pass, l, head, worker int)) {
	heads := ps.m.Config.Heads
	if sp.pool == nil {
		for h := sp.first * heads; h < sp.last*heads; h++ {
			f(ps, l, h, sp.worker)
		}
		return
	}
	ps.l, ps.headStep = l, f
	sp.pool.Run(ps.batch.Sequences()*heads, ps.op.heads)
}

// multiply is y (N, out) = from + x (N, in) · w + bias for the rows of sp; from
// (N, out), which may be y, is left out if nil. A chain begins in from + bias.
func (ps *Pass) multiply(sp *span, y, from, x []float32, w *matrix, bias []float32) {
	start := tensor.Start{Bias: bias}
	if from != nil {
		start.From, start.LD = from[sp.from*w.out:sp.to*w.out], w.out
	}
	ps.weights.multiply(sp.pool, y[sp.from*w.out:sp.to*w.out], start, x[sp.from*w.in:sp.to*w.in], w, sp.rows())
}

// multiplyBack is dx (N, in) = dy (N, out) · wᵀ for the rows of sp.
func (ps *Pass) multiplyBack(sp *span, dx, dy []float32, w *matrix) {
	ps.weights.multiplyBack(sp.pool, dx[sp.from*w.in:sp.to*w.in], dy[sp.from*w.out:sp.to*w.out], w, sp.rows())
}

// blockRows is how many rows a task of a row-wise pass takes: an eighth of a
// worker's share, so that the workers end together and a block's activations
// stay in the second cache, but enough to repay a pass over the weights.
func blockRows(n, workers int) int {
	share := (n + workers - 1) / workers
	return max((share+7)/8, min(128, share), 1)
}

// tasks is the number of row blocks.
func (ps *Pass) tasks() int { return (ps.n + ps.block - 1) / ps.block }

// rows does one task of byRows.
func (ps *Pass) rows(task, _ int) {
	from := ps.rowSpan.from + task*ps.block
	ps.rowStep(ps, ps.l, from, min(ps.rowSpan.to, from+ps.block))
}

// cut puts the sequences into groups of about ps.block rows, a multiple of the
// workers' number, or into none when the largest would keep the others waiting
// or the weights are not in panels and so large that all should read them once.
func (ps *Pass) cut() {
	ps.cuts = ps.cuts[:0]
	workers, starts := ps.pool.Workers(), ps.batch.Starts
	groups := (ps.tasks() + workers - 1) / workers * workers
	groups = min(groups, ps.batch.Sequences()/workers*workers)
	if groups == 0 || workers > 1 && ps.weights.far {
		return
	}
	at, largest := 0, 0
	ps.cuts = append(ps.cuts, 0)
	for i := 1; i <= groups; i++ {
		from, want := starts[at], ps.n*i/groups
		for at+1 < len(starts) && starts[at+1]-want <= want-starts[at] {
			at++
		}
		if i == groups {
			at = len(starts) - 1
		}
		largest = max(largest, starts[at]-from)
		ps.cuts = append(ps.cuts, at)
	}
	if workers > 1 && 4*largest*groups > 5*ps.n && groups < 8*workers {
		ps.cuts = ps.cuts[:0]
	}
}

// groups is their number, 0 when rows are spread by operations.
func (ps *Pass) groups() int { return max(0, len(ps.cuts)-1) }

// through takes one group through the model.
func (ps *Pass) through(task, worker int) {
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
	ps.byRows(sp, 0, (*Pass).embed)
	for l := range ps.weights.layers {
		ps.byRows(sp, l, (*Pass).attentionIn)
		ps.multiply(sp, ps.acts(l).qkv, nil, ps.ln1, &ps.weights.layers[l].attn, ps.m.w.layers[l].attnb)
		ps.attention(sp, l)
		ps.perceptron(sp, l)
	}
	up := ps.above(sp, len(ps.weights.layers)-1)
	ps.byRows(&up, 0, (*Pass).finalNorm)
}

// perceptron is the rest of block l, for the rows that go on.
func (ps *Pass) perceptron(sp *span, l int) {
	w, b := &ps.weights.layers[l], &ps.m.w.layers[l]
	up, u, x, mid := ps.above(sp, l), ps.up(l), ps.streamIn(l), ps.streamMid(l)
	if ps.narrow(l) {
		ps.byRows(&up, l, (*Pass).pick)
		x = mid
	}
	ps.multiply(&up, mid, x, u.att, &w.proj, b.projb)
	ps.byRows(&up, l, (*Pass).mlpIn)
	ps.multiply(&up, u.fc, nil, ps.ln2Of(l), &w.fc, b.fcb)
	ps.byRows(&up, l, (*Pass).mlpOut)
	ps.multiply(&up, ps.streamOut(l), mid, ps.actOf(l), &w.out, b.outb)
}

// attention fills att: within the batch, or of each row to a lane's cache.
func (ps *Pass) attention(sp *span, l int) {
	if ps.cached {
		ps.lane.attendAll(sp, l)
		return
	}
	ps.byHeads(sp, l, (*Pass).attend)
	if ps.lane != nil {
		ps.lane.keepKeys(sp, l)
	}
}
