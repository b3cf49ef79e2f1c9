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

// Peak is how many floating-point operations a second fused multiply-adds of
// float32 from register to register reach: on one core, and on all of pool's
// workers at once. Both are 0 where there is no kernel to measure it with.
func Peak(pool *tensor.Pool) (one, all float64) {
	operations := make([]float64, pool.Workers())
	run := func(task, _ int) { operations[task] = tensor.Peak(peakSteps) }
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
