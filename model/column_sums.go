package model

import "github.com/trimtab/trimtab/tensor"

// columnSum is a running sum of dy (n, cols) down its rows into the gradient of a bias; with x it is that of a
// LayerNorm, into the gradients of both its parameters:
//
//	dbias += Σ dy,  dgamma += Σ dy·(x - mean)·rstd
//
// Each element is one chain over all rows in order, across micro-batches.
type columnSum struct {
	dbias, dy  []float32 // (cols), (n, cols)
	dgamma     []float32 // (cols) of a LayerNorm; nil for a bias, as are the next three
	x          []float32 // (n, cols) the LayerNorm's input
	mean, rstd []float32 // (n) of its rows
	n          int       // rows
}

// biasSum returns the sum of dy (n, len(dbias)) into a bias.
func biasSum(dbias, dy []float32, n int) columnSum {
	return columnSum{dbias: dbias, dy: dy[:n*len(dbias)], n: n}
}

// normParamSum returns the sums into the parameters of a LayerNorm of x (n, C), given its output's gradient dy (n,
// C).
func normParamSum(dgamma, dbeta, dy, x, mean, rstd []float32, n int) columnSum {
	c := len(dbeta)
	return columnSum{
		dbias: dbeta, dy: dy[:n*c], dgamma: dgamma,
		x: x[:n*c], mean: mean[:n], rstd: rstd[:n], n: n,
	}
}

// stripColumns is the number of columns that a task sums: strips of columns, since a chain cannot be divided.
const stripColumns = 128

// stripCount returns the number of strips of so many columns.
func stripCount(cols int) int { return (cols + stripColumns - 1) / stripColumns }

// sumTasks returns the number of tasks of the listed sums: one for a LayerNorm, one for each strip of a bias.
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
		s.add(task)
		return
	}
}

// add does one task of the sum.
func (s *columnSum) add(strip int) {
	cols := len(s.dbias)
	if s.x != nil {
		// gamma, the last array, is read for dx only: any array of its length will do.
		tensor.LayerNormBackward(nil, s.dgamma, s.dbias, s.dy, s.x, s.mean, s.rstd, s.dgamma, s.n, cols)
		return
	}
	from, to := strip*stripColumns, min(cols, (strip+1)*stripColumns)
	dbias := s.dbias[from:to]
	for r := range s.n {
		tensor.Add(dbias, s.dy[r*cols+from:r*cols+to])
	}
}
