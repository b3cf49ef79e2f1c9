package draw_test

import (
	"fmt"

	"github.com/trimtab/trimtab/draw"
)

// A draw is a function of the seed, a purpose and a place. It does not matter
// when, how often or in which process it is made.
func Example() {
	src := draw.New(7, "ppo", "sample")
	for row := range uint64(3) {
		fmt.Printf("row %d: %.6f\n", row, src.At(row).Float64())
	}
	fmt.Printf("row 1 again: %.6f\n", src.At(1).Float64())
	// Output:
	// row 0: 0.794049
	// row 1: 0.195627
	// row 2: 0.195736
	// row 1 again: 0.195627
}

// An epoch's order is its number's stream: nothing needs to be saved to resume
// in the middle of it.
func ExampleStream_Perm() {
	order := draw.New(7, "sft", "order")
	for epoch := range uint64(2) {
		fmt.Println(order.At(epoch).Perm(8))
	}
	// Output:
	// [5 3 4 6 7 1 2 0]
	// [4 7 0 2 6 3 5 1]
}

// Adding Gumbel noise to logits and taking the largest is sampling from their
// softmax.
func ExampleStream_Gumbel() {
	logits := []float64{2, 1, 0}
	src := draw.New(1, "example")
	var counts [3]int
	for i := range uint64(10000) {
		noise, best := src.At(i), 0
		largest := logits[0] + noise.Gumbel()
		for j := 1; j < len(logits); j++ {
			if z := logits[j] + noise.Gumbel(); z > largest {
				best, largest = j, z
			}
		}
		counts[best]++
	}
	fmt.Println(counts, "of 10000; the softmax is .665, .245, .090")
	// Output:
	// [6615 2467 918] of 10000; the softmax is .665, .245, .090
}
