package model

// NextTokens lays seqs end to end for next-token prediction: the input of a
// sequence is its tokens but the last, after which nothing is predicted, and
// its targets are the tokens from index from[i] on, each predicted by the row
// of the token before it. A nil from is 1 for every sequence: all tokens but
// the first are targets. Indices are at least 1.
//
// The head rows are in order, sequence by sequence, and the batch asks for no
// other rows. An empty sequence has no row and no target.
func NextTokens(seqs [][]int32, from []int) (Batch, []HeadRow) {
	inputs := make([][]int32, len(seqs))
	var targets []HeadRow
	start := 0 // the row of the sequence's first token
	for i, seq := range seqs {
		inputs[i] = seq[:max(len(seq)-1, 0)]
		first := 1
		if from != nil {
			first = from[i]
		}
		for t := first; t < len(seq); t++ {
			targets = append(targets, HeadRow{Row: start + t - 1, Target: seq[t]})
		}
		start += len(inputs[i])
	}
	b := NewBatch(inputs...)
	if len(targets) == b.Rows() { // every row is wanted: the last block need not select any
		return b, targets
	}
	return b.ForHeads(targets), targets
}
