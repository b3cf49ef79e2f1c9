package dataset

import "iter"

// MicroBatchTokens is about how many tokens a stage sends through a model at
// once. It bounds the memory of activations and is no setting: losses and
// gradients are sums over tokens in order, so where a batch is cut changes no
// bit of a result.
const MicroBatchTokens = 4096

// MicroBatches cuts items, in order, into consecutive slices of at most budget
// tokens, and of at least one item: an item longer than the budget is alone in
// its slice. The function tokens counts those of one item. The slices are views of items.
func MicroBatches[T any](items []T, budget int, tokens func(T) int) iter.Seq[[]T] {
	return func(yield func([]T) bool) {
		for rest := items; len(rest) > 0; {
			n, total := 1, tokens(rest[0])
			for n < len(rest) && total+tokens(rest[n]) <= budget {
				total += tokens(rest[n])
				n++
			}
			if !yield(rest[:n]) {
				return
			}
			rest = rest[n:]
		}
	}
}
