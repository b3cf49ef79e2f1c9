package bench

import (
	"time"

	"github.com/trimtab/trimtab/tensor"
)

// A peak is the best of so many tries of so many steps, some milliseconds each.
const (
	peakTries = 50
	peakSteps = 1_000_000
)

// Peak is how many floating-point operations a second fused multiply-adds from
// register to register reach, of float32 or under tensor.V1BF16 of pairs of
// bfloat16: on one core, and on all of pool's workers at once. Both are 0 where
// there is no kernel to measure it with.
func Peak(pool *tensor.Pool, n tensor.Numerics) (one, all float64) {
	operations, peak := make([]float64, pool.Workers()), tensor.Peak
	if n == tensor.V1BF16 {
		peak = tensor.PeakBF16
	}
	run := func(task, _ int) { operations[task] = peak(peakSteps) }
	for range peakTries { // in turns, so that both see the same machine
		one = max(one, rateOf(nil, operations[:1], run))
		all = max(all, rateOf(pool, operations, run))
	}
	return one, all
}

func rateOf(pool *tensor.Pool, operations []float64, run func(task, worker int)) float64 {
	start := time.Now()
	pool.Run(len(operations), run)
	seconds, sum := time.Since(start).Seconds(), 0.
	for _, n := range operations {
		sum += n
	}
	return sum / seconds
}
