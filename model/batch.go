package model

import "fmt"

// Batch is sequences end to end: sequence b is Tokens[Starts[b]:Starts[b+1]], its positions start at 0, and there is
// no padding. A row of the batch is a token.
type Batch struct {
	Tokens []int32 // (N)
	Starts []int   // (sequences + 1), from 0 to N

	// OutputRows lists the rows that heads will ask for, each once and in order; none means all rows. Forward and Infer
	// then compute the last block only as far as these rows need it, and return these rows only.
	OutputRows []int
}

// NewBatch lays seqs end to end, in a copy. Empty sequences are allowed and have no rows.
func NewBatch(seqs ...[]int32) Batch {
	b := Batch{Starts: make([]int, 1, len(seqs)+1)}
	for _, s := range seqs {
		b.Add(s)
	}
	return b
}

// Add appends a sequence. Reset and Add reuse the memory of a batch.
func (b *Batch) Add(seq []int32) {
	if len(b.Starts) == 0 {
		b.Starts = append(b.Starts, 0)
	}
	b.Tokens = append(b.Tokens, seq...)
	b.Starts = append(b.Starts, len(b.Tokens))
}

// ForHeads returns the batch with OutputRows set to the rows that a head will be asked for. rows must be in order;
// several may ask for one row of the batch.
func (b Batch) ForHeads(rows []HeadRow) Batch {
	b.OutputRows = make([]int, 0, len(rows))
	for _, r := range rows {
		if n := len(b.OutputRows); n == 0 || b.OutputRows[n-1] != r.Row {
			b.OutputRows = append(b.OutputRows, r.Row)
		}
	}
	return b
}

// Reset empties the batch and keeps its memory.
func (b *Batch) Reset() {
	b.Tokens, b.Starts, b.OutputRows = b.Tokens[:0], append(b.Starts[:0], 0), b.OutputRows[:0]
}

// Rows returns N, the number of tokens.
func (b Batch) Rows() int { return len(b.Tokens) }

// Sequences returns the number of sequences.
func (b Batch) Sequences() int { return max(0, len(b.Starts)-1) }

// check panics on a batch that a model of shape c cannot read: a bug of the caller.
func (b Batch) check(c Config) {
	if len(b.Starts) == 0 || b.Starts[0] != 0 || b.Starts[len(b.Starts)-1] != len(b.Tokens) {
		panic("model: Batch.Starts must run from 0 to len(Tokens): make batches with NewBatch")
	}
	for i := range b.Sequences() {
		if n := b.Starts[i+1] - b.Starts[i]; n < 0 || n > c.Context {
			panic(fmt.Sprintf("model: sequence %d has %d tokens, outside 0 to the context of %d", i, n, c.Context))
		}
	}
	for i, r := range b.OutputRows {
		if r < 0 || r >= len(b.Tokens) || i > 0 && r <= b.OutputRows[i-1] {
			panic(fmt.Sprintf("model: output row %d is outside the batch of %d rows, or out of order",
				r, len(b.Tokens)))
		}
	}
	for i, t := range b.Tokens {
		if t < 0 || int(t) >= c.Vocab {
			panic(fmt.Sprintf("model: token %d at row %d is outside the vocabulary of %d", t, i, c.Vocab))
		}
	}
}
