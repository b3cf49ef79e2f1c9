package model

import "github.com/trimtab/trimtab/tensor"

// embed begins the residual stream for some rows:
//
//	x[r] = scale·wte[token r] + wpe[position r]
//
// A model with other than learned positions adds none.
func (ps *Pass) embed(_, from, to int) {
	c := ps.m.dims.width
	x := ps.residualIn(0)
	for r := from; r < to; r++ {
		ps.m.embedRow(x[r*c:(r+1)*c], ps.batch.Tokens[r], int(ps.positions[r]))
	}
}

// embedRow writes one row (C) of the residual stream: token at position.
func (m *Model) embedRow(x []float32, token int32, position int) {
	c := m.dims.width
	if m.IsFrozen() {
		tensor.Widen(x, m.halves.wte[int(token)*c:(int(token)+1)*c])
	} else {
		copy(x, m.w.wte[int(token)*c:(int(token)+1)*c])
	}
	if m.dims.embeddingScale != 1 {
		tensor.Scale(x, m.dims.embeddingScale)
	}
	if m.dims.learned {
		tensor.Add(x, m.w.wpe[position*c:(position+1)*c])
	}
}

// embedTasks returns the number of tasks of embedBackward: none while there are blocks left to go through.
func (ps *Pass) embedTasks() int {
	if ps.layer >= 0 {
		return 0
	}
	return stripCount(ps.m.dims.width)
}

// embedBackward adds the gradient dx of the residual stream to the rows that it was made of, for one strip of
// columns:
//
//	dwte[token r] += scale·dx[r],  dwpe[position r] += dx[r]
//
// Rows are added in order, since several may have the same token. That is why tasks are strips of columns.
func (ps *Pass) embedBackward(task int) {
	c, all := ps.m.dims.width, ps.dOut(-1)
	from, to := task*stripColumns, min(c, (task+1)*stripColumns)
	for r, token := range ps.batch.Tokens {
		dx := all[r*c+from : r*c+to]
		t, p := int(token)*c, int(ps.positions[r])*c
		if scale := ps.m.dims.embeddingScale; scale == 1 {
			tensor.Add(ps.grad.wte[t+from:t+to], dx)
		} else {
			tensor.Axpy(ps.grad.wte[t+from:t+to], scale, dx)
		}
		if ps.m.dims.learned {
			tensor.Add(ps.grad.wpe[p+from:p+to], dx)
		}
	}
}
