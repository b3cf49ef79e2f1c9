package model

import "github.com/trimtab/trimtab/tensor"

// Guesses counts the targets that the model holds likeliest. The head tells
// log-probability and entropy H only, and they mostly decide: a token of more
// than 1/2 is the likeliest, and the likeliest has at least e^−H. The logits
// of the rows in between are computed again.
type Guesses struct {
	Right  int
	open   []HeadRow
	x, out []float32 // (R, C), (R, V)
}

// openRows is how many rows are looked up at once.
const openRows = 256

// Add takes what the head said of row.
func (q *Guesses) Add(row HeadRow, logp, entropy float32) {
	switch {
	case logp > -0.693: // just above 1/2
		q.Right++
	case logp < -entropy-1e-3: // below e^−H, by more than rounding
	default:
		q.open = append(q.open, row)
	}
}

// Settle looks up the open rows; hidden is (N, C), of the pass that the head spoke of.
func (q *Guesses) Settle(pool *tensor.Pool, m *Model, hidden []float32) {
	c, v := m.Config.Width, m.Config.Vocab
	wte := m.w.wte // (V, C)
	if q.x == nil {
		q.x, q.out = make([]float32, openRows*c), make([]float32, openRows*v)
	}
	for len(q.open) > 0 {
		n := min(openRows, len(q.open))
		for i, r := range q.open[:n] {
			copy(q.x[i*c:(i+1)*c], hidden[r.Row*c:])
		}
		tensor.MatMulNT(pool, q.out, v, q.x, c, wte, c, n, v, c, false)
		for i, r := range q.open[:n] {
			if z := q.out[i*v : (i+1)*v]; z[r.Target] >= tensor.Max(z) {
				q.Right++
			}
		}
		q.open = q.open[n:]
	}
}
