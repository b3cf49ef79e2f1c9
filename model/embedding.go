package model

import "github.com/trimtab/trimtab/tensor"

// embed writes x[r] = wte[token r] + wpe[position r] for a block of rows.
func (ps *Pass) embed(_, from, to int) {
	c := ps.m.Config.Width
	x := ps.residualIn(0)
	for r := from; r < to; r++ {
		ps.m.embedRow(x[r*c:(r+1)*c], ps.batch.Tokens[r], int(ps.positions[r]))
	}
}

// embedRow writes one row of the stream: token at position.
func (m *Model) embedRow(x []float32, token int32, position int) {
	c := m.Config.Width
	copy(x, m.w.wte[int(token)*c:(int(token)+1)*c])
	tensor.Add(x, m.w.wpe[position*c:(position+1)*c])
}

// embedTasks is how many tasks embedBackward has: none until the last block is
// done.
func (ps *Pass) embedTasks() int {
	if ps.layer >= 0 {
		return 0
	}
	return stripCount(ps.m.Config.Width)
}

// embedBackward adds dx to the rows of wte and wpe that it came from, for one
// strip of columns.
func (ps *Pass) embedBackward(task int) {
	c, all := ps.m.Config.Width, ps.dOut(-1)
	from, to := task*stripColumns, min(c, (task+1)*stripColumns)
	for r, token := range ps.batch.Tokens {
		dx := all[r*c+from : r*c+to]
		t, p := int(token)*c, int(ps.positions[r])*c
		tensor.Add(ps.grad.wte[t+from:t+to], dx)
		tensor.Add(ps.grad.wpe[p+from:p+to], dx)
	}
}
