package bench

import (
	"time"

	"github.com/trimtab/trimtab/tensor"
)

// A peak is the best of peakTries measurements of some milliseconds each, because
// other programs can only make a measurement slower.
const (
	peakTries = 50
	peakSteps = 1_000_000 // iterations of the kernel in one measurement
)

// Peak returns the peak arithmetic throughput in floating-point operations a
// second, on one core and on all of the pool's workers at once. It is measured
// with fused multiply-adds from register to register, which count as two
// operations each: of float32, or of pairs of bfloat16 under tensor.V1BF16.
// Both are 0 where there is no kernel to measure with.
func Peak(pool *tensor.Pool, n tensor.Numerics) (one, all float64) {
	operations := make([]float64, pool.Workers())
	peak := tensor.Peak
	if n == tensor.V1BF16 {
		peak = tensor.PeakBF16
	}
	run := func(task, _ int) { operations[task] = peak(peakSteps) }
	for range peakTries { // alternating, so that both see the machine in the same state
		one = max(one, rateOf(nil, operations[:1], run))
		all = max(all, rateOf(pool, operations, run))
	}
	return one, all
}

// rateOf returns the operations a second of len(operations) tasks on a pool; a nil
// pool runs them on the calling goroutine. run stores the operations that a task
// has done in operations.
func rateOf(pool *tensor.Pool, operations []float64, run func(task, worker int)) float64 {
	start := time.Now()
	pool.Run(len(operations), run)
	seconds, sum := time.Since(start).Seconds(), 0.
	for _, n := range operations {
		sum += n
	}
	return sum / seconds
}
