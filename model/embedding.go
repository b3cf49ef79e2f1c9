package model

import "github.com/trimtab/trimtab/tensor"

// embed writes x[r] = wte[token r] + wpe[position r] for a block of rows.
func (ps *Pass) embed(task, _ int) {
	from, to := ps.rows(task)
	c := ps.m.Config.Width
	x := ps.streamIn(0)
	for r := from; r < to; r++ {
		ps.m.embedRow(x[r*c:(r+1)*c], ps.batch.Tokens[r], int(ps.offset[r]))
	}
}

// embedRow writes one row of the stream: token at position.
func (m *Model) embedRow(x []float32, token int32, position int) {
	c := m.Config.Width
	copy(x, m.w.wte[int(token)*c:(int(token)+1)*c])
	tensor.Add(x, m.w.wpe[position*c:(position+1)*c])
}

// embeddingGradients adds dx to the rows of wte and wpe that it came from.
func (ps *Pass) embeddingGradients(g []float32) {
	ps.grad.wte = ps.m.embeddingShare(g)
	ps.pool.Run(strips(ps.m.Config.Width), ps.op.embedBack)
}

// embedBackward is the backward of embed for one strip of columns.
func (ps *Pass) embedBackward(task, _ int) {
	c := ps.m.Config.Width
	from, to := task*columnTask, min(c, (task+1)*columnTask)
	for r, token := range ps.batch.Tokens {
		dx := ps.dx[r*c+from : r*c+to]
		t, p := int(token)*c, int(ps.offset[r])*c
		tensor.Add(ps.grad.wte[t+from:t+to], dx)
		tensor.Add(ps.grad.wpe[p+from:p+to], dx)
	}
}
