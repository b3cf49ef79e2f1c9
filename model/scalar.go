package model

import "github.com/trimtab/trimtab/tensor"

// ScalarHead is the head of reward and value models: it returns, for each of rows,
//
//	score = score.weight·hidden + score.bias
//
// The result is a view that the next call overwrites. It follows a Forward or Infer of m whose batch had these rows.
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

// ScalarBackward accumulates the gradients of ScalarHead into g and DHidden, given those of its results, row by row
// in order:
//
//	dweight += dscore·hidden,  dbias += dscore,  dhidden += dscore·weight
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

// mustScalar panics if m has no scalar head: a bug of the caller.
func (m *Model) mustScalar() {
	if !m.Scalar {
		panic("model: no scalar head: make the model with New(config, true) or ToScalar")
	}
}
