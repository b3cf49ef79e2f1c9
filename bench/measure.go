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

// Result is what was measured of a workload. A run is one call of Workload.Run.
type Result struct {
	// Number of timed runs.
	Runs int
	// Tokens of one run.
	Tokens int
	// Wall-clock seconds of one run, the median.
	Seconds float64
	// Floating-point operations of one run, counted by formula.
	FLOPs float64
	// Heap allocations of the second run, when all buffers exist.
	Allocations uint64
	// Peak resident set size, bytes; 0 where the system does not report it.
	Resident int64
	// Bytes of the Go heap in use after the runs.
	Heap int64
	// Where the processor time went.
	Parts []Part
}

// TokensPerSecond is the throughput of the median run.
func (r Result) TokensPerSecond() float64 { return float64(r.Tokens) / r.Seconds }

// FLOPsPerSecond is the arithmetic throughput of the median run.
func (r Result) FLOPsPerSecond() float64 { return r.FLOPs / r.Seconds }

// minTime is the least total time of the timed runs. The profiler samples 100
// times a second, so this gives the profile at least about 100 samples a busy
// core.
const minTime = time.Second

// Measure prepares a workload and runs it: once to fill buffers and caches,
// once to count allocations, and then at least runs times and for at least
// minTime, under the clock and the CPU profiler.
//
// progress may be nil; otherwise it is called after each run with the number of
// runs so far and the time of that one. Only one CPU profile can be taken in a
// process at a time, so Measure fails while another one is running. prepare is
// called after the memory of earlier measurements was returned to the system.
func Measure(prepare func() (*Workload, error), runs int, progress func(run int, took time.Duration)) (Result, error) {
	debug.FreeOSMemory() // so that the peak is not that of an earlier measurement
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
	parts, err := m.runProfiled(runs)
	if err != nil {
		return Result{}, err
	}
	r := Result{
		Runs:        len(m.took),
		Tokens:      m.tokens,
		Seconds:     median(m.took),
		FLOPs:       w.FLOPs,
		Allocations: allocations,
		Resident:    PeakResident(),
		Heap:        int64(readMemStats().HeapInuse),
		Parts:       parts,
	}
	runtime.KeepAlive(w) // Heap counts the workload's memory, which must not be collected before
	return r, nil
}

// measurement is a workload while it is being measured.
type measurement struct {
	w        *Workload
	progress func(run int, took time.Duration)
	// Runs done, warm-up included.
	run int
	// Tokens of the last run.
	tokens int
	// Seconds of each run.
	took []float64
}

// runOnce does one timed run.
func (m *measurement) runOnce() error {
	start := time.Now()
	tokens, err := m.w.Run(m.run)
	if err != nil {
		return fmt.Errorf("bench: run %d of %s: %w", m.run, m.w.Name, err)
	}
	took := time.Since(start)
	m.run++
	m.tokens = tokens
	m.took = append(m.took, took.Seconds())
	if m.progress != nil {
		m.progress(m.run, took)
	}
	return nil
}

// runProfiled runs the workload at least runs times and for at least minTime
// under the CPU profiler, and attributes the samples to parts.
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

// readMemStats reads the runtime's memory statistics, which stops the world.
func readMemStats() (m runtime.MemStats) {
	runtime.ReadMemStats(&m)
	return m
}

// median returns the upper median of x, which must not be empty. x is not changed.
func median(x []float64) float64 {
	x = slices.Clone(x)
	slices.Sort(x)
	return x[len(x)/2]
}
