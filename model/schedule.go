package model

import "github.com/trimtab/trimtab/tensor"

// The rows of a batch are spread over the workers in one of two ways.
//
// By groups: a worker takes a group of whole sequences through every block, without waiting for the others. This
// needs enough sequences, of lengths that allow equal shares.
//
// By operations: one operation after the other, each spread over rows, heads or columns, all workers waiting for the
// last. This reads large weights once instead of once for each worker.
//
// Rows of other sequences never meet in any chain, and so neither way shows in any bit.

// span is a run of sequences of a batch with their rows, and who computes them: one worker if pool is nil, otherwise
// all workers of pool.
type span struct {
	seqFrom, seqTo int // sequences
	rowFrom, rowTo int // their rows, among those of the batch, or among the W selected ones
	worker         int // which computes them, if pool is nil: whose scratch memory to use
	pool           *tensor.Pool
}

// rows returns the number of rows.
func (sp *span) rows() int { return sp.rowTo - sp.rowFrom }

// wholeBatch returns the span of the whole batch, for all workers: operation by operation.
func (ps *Pass) wholeBatch() span {
	return span{seqTo: ps.batch.Sequences(), rowTo: ps.n, pool: ps.pool}
}

// groupAt returns the span of group i, for one worker.
func (ps *Pass) groupAt(i, worker int) span {
	first, last := ps.groupBounds[i], ps.groupBounds[i+1]
	return span{
		seqFrom: first, seqTo: last,
		rowFrom: ps.batch.Starts[first], rowTo: ps.batch.Starts[last],
		worker: worker,
	}
}

// forRows calls f for the rows of sp: once, or for blocks of rows on all workers. f gets block l and a range of rows.
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

// forHeads calls f for every head of every sequence of sp, of which each sequence has that many; heads are numbered by
// sequence, then within it.
func (ps *Pass) forHeads(sp *span, l, heads int, f func(ps *Pass, l, head, worker int)) {
	if sp.pool == nil {
		for h := sp.seqFrom * heads; h < sp.seqTo*heads; h++ {
			f(ps, l, h, sp.worker)
		}
		return
	}
	ps.layer, ps.headOp = l, f
	sp.pool.Run(ps.batch.Sequences()*heads, ps.op.headTask)
}

// rowsPerTask returns how many rows a task of a row-wise operation takes: an eighth of a worker's share, so that
// workers end together and a block's activations stay in the second-level cache, but at least 128, if there are as
// many, to repay a pass over the weights.
func rowsPerTask(n, workers int) int {
	share := (n + workers - 1) / workers
	return max((share+7)/8, min(128, share), 1)
}

// rowTasks returns the number of row blocks of the batch.
func (ps *Pass) rowTasks() int { return (ps.n + ps.rowBlock - 1) / ps.rowBlock }

// rowTask does one task of forRows.
func (ps *Pass) rowTask(task, _ int) {
	from := ps.rowSpan.rowFrom + task*ps.rowBlock
	ps.rowOp(ps, ps.layer, from, min(ps.rowSpan.rowTo, from+ps.rowBlock))
}

// formGroups divides the sequences into groups of about ps.rowBlock rows, a multiple of the number of workers. It
// forms none if there are fewer sequences than workers; if the weights are large and not packed, so that all workers
// should read them once together; or if few groups are so unequal that the largest would keep the others waiting.
func (ps *Pass) formGroups() {
	ps.groupBounds = ps.groupBounds[:0]
	workers, starts := ps.pool.Workers(), ps.batch.Starts
	groups := (ps.rowTasks() + workers - 1) / workers * workers
	groups = min(groups, ps.batch.Sequences()/workers*workers)
	if groups == 0 || workers > 1 && ps.weights.readOnce {
		return
	}
	at, largest := 0, 0 // the next sequence, and the rows of the largest group
	ps.groupBounds = append(ps.groupBounds, 0)
	for i := 1; i <= groups; i++ {
		from, want := starts[at], ps.n*i/groups // the rows at which group i begins and should end
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

// groupCount returns the number of groups; with 0, rows are spread by operations.
func (ps *Pass) groupCount() int { return max(0, len(ps.groupBounds)-1) }

// forwardGroup takes one group through the model.
func (ps *Pass) forwardGroup(task, worker int) {
	sp := ps.groupAt(task, worker)
	if sp.rows() > 0 {
		ps.forwardSpan(&sp)
	}
}
