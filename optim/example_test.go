package optim_test

import (
	"fmt"

	"github.com/trimtab/trimtab/optim"
)

// A warm-up of two steps, then a cosine to a tenth of the rate.
func ExampleLearningRate() {
	c := optim.Default()
	c.LR, c.Warmup = 1, 2
	for step := range 6 {
		fmt.Printf("%.3f ", optim.LearningRate(c, step, 6))
	}
	// Output:
	// 0.500 1.000 1.000 0.868 0.550 0.232
}
