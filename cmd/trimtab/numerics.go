package main

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/trimtab/trimtab/tensor"
)

// numericsSpeed is how fast matrix products are under one numeric contract.
type numericsSpeed struct {
	Numerics string  `json:"numerics"`
	Speed    float64 `json:"flops_per_second"`
}

// numericsSpeeds are those of every contract, on one machine at one time.
type numericsSpeeds []numericsSpeed

// measureNumericsSpeeds takes the FLOP/s of this machine's matrix products under each
// numeric contract, the median of several, in about two fifths of a second. The
// contracts take turns, so that all of them see the same machine.
func measureNumericsSpeeds() numericsSpeeds {
	const m, n, k = 512, 512, 512
	pool := tensor.NewPool(0)
	defer pool.Close()
	c, x, y := make([]float32, m*n), make([]float32, m*k), make([]float32, k*n)
	for i := range x {
		x[i], y[i] = float32(i%7), float32(i%5)
	}
	rates := make([][]float64, len(numericsNames))
	enough := 400 * time.Millisecond
	for start := time.Now(); len(rates[0]) == 0 || time.Since(start) < enough || len(rates[0]) < 3 &&
		time.Since(start) < 5*enough; {
		for i, contract := range numericsNames {
			at := time.Now()
			tensor.MatMulUnder(tensor.Numerics(contract), pool, c, n, x, k, y, n, m, n, k, false)
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

// subject is the speed under a contract; 0 under one that was not measured.
func (s numericsSpeeds) of(numerics string) float64 {
	for _, c := range s {
		if c.Numerics == numerics {
			return c.Speed
		}
	}
	return 0
}

// fastest is the contract with the fastest products.
func (s numericsSpeeds) fastest() numericsSpeed {
	return slices.MaxFunc(s, func(a, b numericsSpeed) int { return cmp.Compare(a.Speed, b.Speed) })
}

// sentence says which contract is the fastest here, with the figures.
func (s numericsSpeeds) sentence() string {
	figures := make([]string, len(s))
	for i, c := range s {
		figures[i] = fmt.Sprintf("%s %sFLOP/s", c.Numerics, formatCount(c.Speed))
	}
	return fmt.Sprintf("the fastest numerics here: %s (%s in matrix products)", s.fastest().Numerics,
		strings.Join(figures, ", "))
}
