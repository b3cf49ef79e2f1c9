package model

// The rows of a batch are spread over the workers in one of two ways: by
// groups of whole sequences, which a worker takes through every block without
// waiting for the others; or, where there are too few sequences for that, by
// blocks of rows and by heads, all of which end before the next operation.
// Rows and sequences do not see each other: neither shows in any bit.

// blockRows is how many rows a task of a row-wise pass takes: an eighth of a
// worker's share, so that the workers end together and a block's activations
// stay in the second cache, but enough to repay packing the weights.
func blockRows(n, workers int) int {
	share := (n + workers - 1) / workers
	return max((share+7)/8, min(128, share), 1)
}

// tasks is the number of row blocks.
func (ps *Pass) tasks() int { return (ps.n + ps.block - 1) / ps.block }

// rows is the half-open range of rows of a task.
func (ps *Pass) rows(task int) (from, to int) {
	return task * ps.block, min(ps.n, (task+1)*ps.block)
}

// cut puts the sequences into groups of about ps.block rows, a multiple of the
// workers' number, or into none when the largest would keep the others waiting.
func (ps *Pass) cut() {
	ps.cuts = ps.cuts[:0]
	workers, starts := ps.pool.Workers(), ps.batch.Starts
	groups := (ps.tasks() + workers - 1) / workers * workers
	groups = min(groups, ps.batch.Sequences()/workers*workers)
	if groups == 0 {
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

// groups is their number, 0 when rows are spread by blocks.
func (ps *Pass) groups() int { return max(0, len(ps.cuts)-1) }

// groupAt is the sequences first … last-1 of a group, and its rows.
func (ps *Pass) groupAt(i int) (first, last, from, to int) {
	first, last = ps.cuts[i], ps.cuts[i+1]
	return first, last, ps.batch.Starts[first], ps.batch.Starts[last]
}

// through takes one group through the model.
func (ps *Pass) through(task, worker int) {
	heads := ps.m.Config.Heads
	first, last, from, to := ps.groupAt(task)
	if from == to {
		return
	}
	ps.embed(0, from, to)
	for l := range ps.m.w.layers {
		ps.attentionIn(l, from, to)
		for h := first * heads; h < last*heads; h++ {
			ps.attend(l, h, worker)
		}
		ps.blockOut(l, from, to)
	}
	ps.finalNorm(0, from, to)
}
