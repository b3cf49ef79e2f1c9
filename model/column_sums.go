package model

import "github.com/trimtab/trimtab/tensor"

// columnSum is a running sum of dy (n, cols) down its rows into the gradient of a bias; with x it is that of a norm,
// into the gradients of its parameters:
//
//	dbias += Σ dy,  dgamma += Σ dy·(x - mean)·rstd
//
// Each element is one chain over all rows in order, across micro-batches.
type columnSum struct {
	dbias, dy []float32 // (cols), (n, cols)
	dgamma    []float32 // (cols) of a norm; nil for a bias, as are the next two
	x         []float32 // (n, cols) the norm's input
	stats     normStats // (n) of its rows
	n         int       // rows

	// Of norms of queries or keys: each row of x and dy has per norms side by side, and rows are ld apart.
	per, ld, ldStats int
}

// biasGrad lists the sum of dy (n, len(dbias)) into the gradient of a bias, if there is one.
func (ps *Pass) biasGrad(dbias, dy []float32, n int) {
	if len(dbias) > 0 {
		ps.columnSums = append(ps.columnSums, columnSum{dbias: dbias, dy: dy[:n*len(dbias)], n: n})
	}
}

// normGrad lists the sums into the parameters of a norm of x (n, C), given its output's gradient dy (n, C).
func (ps *Pass) normGrad(g *normParams, dy, x []float32, s *normStats, n int) {
	c := len(g.weight)
	if c == 0 {
		return
	}
	ps.columnSums = append(ps.columnSums, columnSum{
		dbias: g.bias, dgamma: g.weight, dy: dy[:n*c], x: x[:n*c], stats: s.rows(0, n, &ps.m.dims), n: n,
	})
}

// queryKeyNormGrad lists the sums into the weights of the norms of queries and keys.
func (ps *Pass) queryKeyNormGrad(g *layerParams, a *activations, b *gradBuffers) {
	d := &ps.m.dims
	if d.qkNorm == NoQKNorm || ps.n == 0 {
		return
	}
	q, n := d.attention, d.queryNorms()
	ps.columnSums = append(ps.columnSums,
		columnSum{
			dgamma: g.queryNorm, dy: b.dNormedQK, x: a.rawQK, stats: normStats{rstd: a.qkRstd}, n: ps.n,
			per: n, ld: d.rawQK(), ldStats: d.qkNorms(),
		},
		columnSum{
			dgamma: g.keyNorm, dy: b.dNormedQK[q:], x: a.rawQK[q:], stats: normStats{rstd: a.qkRstd[n:]}, n: ps.n,
			per: d.qkNorms() - n, ld: d.rawQK(), ldStats: d.qkNorms(),
		})
}

// stripColumns is the number of columns that a task sums: strips of columns, since a chain cannot be divided.
const stripColumns = 128

// stripCount returns the number of strips of so many columns.
func stripCount(cols int) int { return (cols + stripColumns - 1) / stripColumns }

// sumTasks returns the number of tasks of the listed sums: one for a norm, one for each strip of a bias.
func (ps *Pass) sumTasks() (tasks int) {
	for i := range ps.columnSums {
		tasks += ps.columnSums[i].tasks()
	}
	return tasks
}

// tasks returns the number of tasks of the sum.
func (s *columnSum) tasks() int {
	if s.x != nil {
		return 1
	}
	return stripCount(len(s.dbias))
}

// addSumTask does one task of the listed sums, numbered from the first on.
func (ps *Pass) addSumTask(task int) {
	for i := range ps.columnSums {
		s := &ps.columnSums[i]
		if n := s.tasks(); task >= n {
			task -= n
			continue
		}
		s.add(task, &ps.m.dims)
		return
	}
}

// add does one task of the sum.
func (s *columnSum) add(strip int, d *dims) {
	// gamma, the last but few arguments, is read for dx only: any array of its length will do.
	switch cols := len(s.dgamma); {
	case s.per > 0:
		for r := range s.n {
			x, stats := s.x[r*s.ld:][:s.per*cols], s.stats.rstd[r*s.ldStats:][:s.per]
			tensor.RMSNormBackward(nil, s.dgamma, s.dy[r*s.ld:][:s.per*cols], x, stats, s.dgamma, d.normOffset, s.per,
				cols)
		}
		return
	case s.x != nil && d.rms:
		tensor.RMSNormBackward(nil, s.dgamma, s.dy, s.x, s.stats.rstd, s.dgamma, d.normOffset, s.n, cols)
		return
	case s.x != nil:
		tensor.LayerNormBackward(nil, s.dgamma, s.dbias, s.dy, s.x, s.stats.mean, s.stats.rstd, s.dgamma, s.n, cols)
		return
	}
	cols := len(s.dbias)
	from, to := strip*stripColumns, min(cols, (strip+1)*stripColumns)
	dbias := s.dbias[from:to]
	for r := range s.n {
		tensor.Add(dbias, s.dy[r*cols+from:r*cols+to])
	}
}
