package bench

import (
	"bytes"
	"fmt"
	"runtime"
	"runtime/debug"
	"runtime/pprof"
	"slices"
	"time"
)

// Result is what a workload was measured to do.
type Result struct {
	Runs        int     // timed
	Tokens      int     // of a run
	Seconds     float64 // of a run, the median
	FLOPs       float64 // of a run
	Allocations uint64  // of the second run
	Resident    int64   // the most bytes resident at once, 0 where the system does not say
	Heap        int64   // bytes of Go's heap in use after the runs
	Parts       []Part
}

// TokensPerSecond is the median rate of the timed runs.
func (r Result) TokensPerSecond() float64 { return float64(r.Tokens) / r.Seconds }

// FLOPsPerSecond is the median rate of floating-point work.
func (r Result) FLOPsPerSecond() float64 { return r.FLOPs / r.Seconds }

// minTime is how long the timed runs take together at the least, so that the
// profile, which looks 100 times a second, has something to say.
const minTime = time.Second

// Measure prepares a workload and runs it: once to fill buffers, once to
// count allocations, then at least that many times, and for a second, under the
// clock and the processor profile. progress, if not nil, hears of every run
// that has ended: how many, and how long it took. No other processor profile
// may be running.
func Measure(prepare func() (*Workload, error), runs int, progress func(run int, took time.Duration)) (Result, error) {
	debug.FreeOSMemory() // of what was measured before
	resetPeakResident()
	w, err := prepare()
	if err != nil {
		return Result{}, err
	}
	m := measurement{w: w, progress: progress, took: make([]float64, 0, 2)}
	if err := m.runOnce(); err != nil {
		return Result{}, err
	}
	before := readMemStats()
	if err := m.runOnce(); err != nil {
		return Result{}, err
	}
	allocations := readMemStats().Mallocs - before.Mallocs
	m.took = m.took[:0]
	took, err := m.runProfiled(runs)
	if err != nil {
		return Result{}, err
	}
	r := Result{
		Runs: len(m.took), Tokens: m.tokens, Seconds: median(m.took), FLOPs: w.FLOPs, Allocations: allocations,
		Resident: PeakResident(), Heap: int64(readMemStats().HeapInuse), Parts: took,
	}
	runtime.KeepAlive(w) // its memory is in use until here
	return r, nil
}

// measurement is a workload being measured.
type measurement struct {
	w        *Workload
	progress func(run int, took time.Duration)
	run      int
	tokens   int       // of the last run
	took     []float64 // seconds
}

func (m *measurement) runOnce() error {
	start := time.Now()
	tokens, err := m.w.Run(m.run)
	if err != nil {
		return fmt.Errorf("bench: run %d of %s: %w", m.run, m.w.Name, err)
	}
	took := time.Since(start)
	m.run, m.tokens, m.took = m.run+1, tokens, append(m.took, took.Seconds())
	if m.progress != nil {
		m.progress(m.run, took)
	}
	return nil
}

// runProfiled runs the work that many times at the least and for minTime.
func (m *measurement) runProfiled(runs int) ([]Part, error) {
	var profile bytes.Buffer
	if err := pprof.StartCPUProfile(&profile); err != nil {
		return nil, fmt.Errorf("bench: %w", err)
	}
	var err error
	for start := time.Now(); err == nil && (len(m.took) < runs || time.Since(start) < minTime); {
		err = m.runOnce()
	}
	pprof.StopCPUProfile()
	if err != nil {
		return nil, err
	}
	return attribute(&profile, len(m.took))
}

func readMemStats() (m runtime.MemStats) {
	runtime.ReadMemStats(&m)
	return m
}

func median(x []float64) float64 {
	x = slices.Clone(x)
	slices.Sort(x)
	return x[len(x)/2]
}
