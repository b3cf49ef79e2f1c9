package model

import "github.com/trimtab/trimtab/tensor"

// ScalarHead is score·hidden + bias at each of rows; the result is a view that
// the next call overwrites.
func (ps *Pass) ScalarHead(m *Model, rows []int) []float32 {
	m.mustScalar()
	ps.mustMatch(m)
	c := m.Config.Width
	resize(&ps.scores, len(rows))
	for i, r := range rows {
		at := ps.outputIndex(r) * c
		ps.scores[i] = tensor.Dot(ps.hidden[at:at+c], m.w.scorew) + m.w.scoreb[0]
	}
	return ps.scores
}

// ScalarBackward accumulates the gradients of ScalarHead, given those of its
// results, into g and DHidden, rows in order.
func (ps *Pass) ScalarBackward(m *Model, g []float32, rows []int, dscore []float32) {
	m.mustScalar()
	ps.mustHold(m)
	c := m.Config.Width
	g = g[:len(m.Slab)]
	dw, db := g[len(g)-1-c:len(g)-1], g[len(g)-1:]
	for i, r := range rows {
		at := ps.outputIndex(r) * c
		tensor.Axpy(dw, dscore[i], ps.hidden[at:at+c])
		db[0] += dscore[i]
		tensor.Axpy(ps.dhidden[at:at+c], dscore[i], m.w.scorew)
	}
}

func (m *Model) mustScalar() {
	if !m.Scalar {
		panic("model: no scalar head: make the model with New(config, true) or ToScalar")
	}
}
