package tensor_test

import (
	"fmt"

	"github.com/trimtab/trimtab/tensor"
)

// A linear layer y = x·W + b, of two rows, and the gradient of its weight,
// added to what is there.
func ExampleProduct() {
	x := []float32{1, 2, 3, 4, 5, 6}  // (2, 3)
	w := []float32{1, 0, 0, 1, 1, -1} // (3, 2)
	b := []float32{10, 20}
	y := make([]float32, 4) // (2, 2)
	tensor.Product{M: 2, N: 2, K: 3, A: x, B: w, C: y, Bias: b}.Run(nil)
	fmt.Println(y)

	dy := []float32{1, 0, 0, 1} // (2, 2)
	dw := make([]float32, 6)    // (3, 2) += xᵀ·dy
	tensor.Product{M: 3, N: 2, K: 2, A: x, TransA: true, B: dy, C: dw, Accumulate: true}.Run(nil)
	fmt.Println(dw)
	// Output:
	// [14 19 20 19]
	// [1 4 2 5 3 6]
}

// Packing pays where one matrix is used by many products.
func ExamplePackedB() {
	w := []float32{1, 0, 0, 1, 1, -1} // (3, 2)
	var packed tensor.PackedB
	packed.Reset(tensor.V1, 3, 2)
	for task := range packed.Tasks() { // or on the workers of a pool
		packed.Pack(task, w, false)
	}
	y := make([]float32, 2)
	for _, x := range [][]float32{{1, 2, 3}, {4, 5, 6}} {
		tensor.Product{M: 1, A: x, Packed: &packed, C: y}.Run(nil)
		fmt.Println(y)
	}
	// Output:
	// [4 -1]
	// [10 -1]
}

// The results of Softmax give the logarithms of the probabilities without
// taking the logarithm of any small number.
func ExampleSoftmax() {
	logits := []float32{1, 2, 3}
	p := append([]float32(nil), logits...)
	max, sum := tensor.Softmax(p, 1)
	fmt.Printf("p %.4f, log p of the last %.4f\n", p, logits[2]-max-tensor.Log1(sum))
	// Output: p [0.0900 0.2447 0.6652], log p of the last -0.4076
}
