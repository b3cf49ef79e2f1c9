package main

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/trimtab/trimtab/tensor"
)

// numericsSpeed is the matrix-product throughput under one numeric contract.
type numericsSpeed struct {
	// Numerics is the name of the contract.
	Numerics string `json:"numerics"`
	// Speed is in FLOP/s, where a multiply-add counts as two.
	Speed float64 `json:"flops_per_second"`
}

// numericsSpeeds are the throughputs of all contracts, on one machine at one
// time: comparable with one another.
type numericsSpeeds []numericsSpeed

// measureNumericsSpeeds measures a 512×512×512 product under each contract,
// on all cores, in about 0.4 seconds. It takes the median of at least three
// runs of each. The contracts take turns, so that all are affected alike by
// whatever else runs on the machine.
func measureNumericsSpeeds() numericsSpeeds {
	// Large enough to reach the throughput of training, small enough for the
	// cache.
	const m, n, k = 512, 512, 512
	pool := tensor.NewPool(0)
	defer pool.Close()
	c, x, y := make([]float32, m*n), make([]float32, m*k), make([]float32, k*n)
	// Any finite values will do: the time does not depend on them.
	for i := range x {
		x[i], y[i] = float32(i%7), float32(i%5)
	}
	rates := make([][]float64, len(numericsNames))
	enough := 400 * time.Millisecond
	// At least three rounds, unless the machine is so slow that these take
	// seconds.
	for start := time.Now(); len(rates[0]) == 0 || time.Since(start) < enough || len(rates[0]) < 3 &&
		time.Since(start) < 5*enough; {
		for i, contract := range numericsNames {
			at := time.Now()
			tensor.Product{Numerics: tensor.Numerics(contract), M: m, N: n, K: k, A: x, B: y, C: c}.Run(pool)
			rates[i] = append(rates[i], 2*m*n*k/time.Since(at).Seconds())
		}
	}
	var speeds numericsSpeeds
	for i, contract := range numericsNames {
		slices.Sort(rates[i])
		speeds = append(speeds, numericsSpeed{Numerics: contract, Speed: rates[i][len(rates[i])/2]})
	}
	return speeds
}

// of is the throughput under a contract, or 0 if it was not measured.
func (s numericsSpeeds) of(numerics string) float64 {
	for _, c := range s {
		if c.Numerics == numerics {
			return c.Speed
		}
	}
	return 0
}

// fastest is the contract with the highest throughput.
func (s numericsSpeeds) fastest() numericsSpeed {
	return slices.MaxFunc(s, func(a, b numericsSpeed) int { return cmp.Compare(a.Speed, b.Speed) })
}

// sentence says which contract is the fastest here, with the figures.
func (s numericsSpeeds) sentence() string {
	figures := make([]string, len(s))
	for i, c := range s {
		figures[i] = fmt.Sprintf("%s %sFLOP/s", c.Numerics, formatCount(c.Speed))
	}
	return fmt.Sprintf("fastest numerics on this machine: %s (matrix products: %s)", s.fastest().Numerics,
		strings.Join(figures, ", "))
}
