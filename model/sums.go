package model

import "github.com/trimtab/trimtab/tensor"

// sum is a running sum of dy (N, cols) down its rows into the gradient of a
// bias; with x, into both gradients of a LayerNorm. Each element is one chain
// over all rows in order.
type sum struct {
	dbias, dy            []float32
	dgamma, x, mean, std []float32 // of a LayerNorm, otherwise nil
	n                    int
}

func biasSum(dbias, dy []float32, n int) sum { return sum{dbias: dbias, dy: dy[:n*len(dbias)], n: n} }

func normSum(dgamma, dbeta, dy, x, mean, std []float32, n int) sum {
	c := len(dbeta)
	return sum{dbias: dbeta, dy: dy[:n*c], dgamma: dgamma, x: x[:n*c], mean: mean[:n], std: std[:n], n: n}
}

// columnTask is the width of the column strips that sums down the rows are
// spread over.
const columnTask = 128

func strips(cols int) int { return (cols + columnTask - 1) / columnTask }

// sumTasks is how many tasks the collected sums have: a LayerNorm one, a bias
// one for each strip of columns.
func (ps *Pass) sumTasks() (tasks int) {
	for i := range ps.sums {
		tasks += ps.sums[i].tasks()
	}
	return tasks
}

func (s *sum) tasks() int {
	if s.x != nil {
		return 1
	}
	return strips(len(s.dbias))
}

// addSums does one task of the collected sums.
func (ps *Pass) addSums(task int) {
	for i := range ps.sums {
		s := &ps.sums[i]
		if n := s.tasks(); task >= n {
			task -= n
			continue
		}
		s.add(task)
		return
	}
}

func (s *sum) add(strip int) {
	cols := len(s.dbias)
	if s.x != nil {
		tensor.LayerNormBackward(nil, s.dgamma, s.dbias, s.dy, s.x, s.mean, s.std, s.dgamma, s.n, cols)
		return
	}
	from, to := strip*columnTask, min(cols, (strip+1)*columnTask)
	into := s.dbias[from:to]
	for r := range s.n {
		tensor.Add(into, s.dy[r*cols+from:r*cols+to])
	}
}
