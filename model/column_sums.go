package model

import "github.com/trimtab/trimtab/tensor"

// columnSum is a running sum of dy (N, cols) down its rows into the gradient of a
// bias; with x, into both gradients of a LayerNorm. Each element is one chain
// over all rows in order.
type columnSum struct {
	dbias, dy             []float32
	dgamma, x, mean, rstd []float32 // of a LayerNorm, otherwise nil
	n                     int
}

func biasSum(dbias, dy []float32, n int) columnSum {
	return columnSum{dbias: dbias, dy: dy[:n*len(dbias)], n: n}
}

func normParamSum(dgamma, dbeta, dy, x, mean, std []float32, n int) columnSum {
	c := len(dbeta)
	return columnSum{dbias: dbeta, dy: dy[:n*c], dgamma: dgamma, x: x[:n*c], mean: mean[:n], rstd: std[:n], n: n}
}

// stripColumns is the width of the column strips that sums down the rows are
// spread over.
const stripColumns = 128

func stripCount(cols int) int { return (cols + stripColumns - 1) / stripColumns }

// sumTasks is how many tasks the collected sums have: a LayerNorm one, a bias
// one for each strip of columns.
func (ps *Pass) sumTasks() (tasks int) {
	for i := range ps.columnSums {
		tasks += ps.columnSums[i].tasks()
	}
	return tasks
}

func (s *columnSum) tasks() int {
	if s.x != nil {
		return 1
	}
	return stripCount(len(s.dbias))
}

// addSumTask does one task of the collected sums.
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

func (s *columnSum) add(strip int) {
	cols := len(s.dbias)
	if s.x != nil {
		tensor.LayerNormBackward(nil, s.dgamma, s.dbias, s.dy, s.x, s.mean, s.rstd, s.dgamma, s.n, cols)
		return
	}
	from, to := strip*stripColumns, min(cols, (strip+1)*stripColumns)
	into := s.dbias[from:to]
	for r := range s.n {
		tensor.Add(into, s.dy[r*cols+from:r*cols+to])
	}
}
