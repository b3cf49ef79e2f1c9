package main

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/trimtab/trimtab/bench"
	"github.com/trimtab/trimtab/tensor"
)

// slowRunTime is how long one run of a workload must take for its progress to
// be reported: on a large shape a measurement takes minutes.
const slowRunTime = 2 * time.Second

// benchFlags are the flags of bench.
type benchFlags struct {
	// shape names a model and its batch sizes; bench.Names lists them.
	shape string
	// work lists the kinds of work to measure.
	work []string
	// numerics is the contract to compute under.
	numerics string
	// workers is the number of workers; 0 means one for each processor.
	workers int
	// runs is the minimum number of timed runs.
	runs int
}

// benchCmd is "trimtab bench": throughput of the numerical core on this
// machine.
func (a *app) benchCmd() *cobra.Command {
	var o benchFlags
	cmd := &cobra.Command{
		Use: "bench", Short: "measure how fast this machine trains, scores and samples, and where the time goes",
		Args: argCount(0, 0),
		Long: `Measure the numerical core on this machine, on models with random weights. Nothing is
read or stored.

  train     training steps: forward, backward, AdamW
  score     log-probabilities of every token in a batch
  generate  sampling with a key-value cache
  ppo       whole iterations; tokens are the sampled ones

Each kind of work runs once to fill its buffers, once to count its allocations, and then
--runs times or for at least a second; the median is reported. The share of peak is
relative to the register-to-register throughput of fused multiply-adds on all workers, in
float32 or bfloat16 depending on --numerics, measured before and after each kind of work.
Time by part is processor time over all workers, from a profile sampled 100 times a second.

Shapes: ` + strings.Join(bench.Names(), ", ") + `. 0.9M-16x64 trains and scores the 0.9M model on batches
of the default run's size; 124M is the smallest GPT-2 with rows of 64 tokens, needs about
2.4 GB of memory and has no ppo.`,
		Example: `  trimtab bench
  trimtab bench --shape 13.9M --work train,generate
  trimtab bench --shape 124M --work train --runs 3 -o json`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			s, err := o.check(cmd.Flags().Changed("work"))
			if err != nil {
				return err
			}
			return a.bench(s, o)
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.shape, "shape", bench.Shapes[0].Name, "model architecture and batch sizes")
	f.StringSliceVar(&o.work, "work", bench.WorkNames, "kinds of work to measure")
	f.StringVar(&o.numerics, "numerics", string(tensor.V1), "numeric contract to compute under")
	f.IntVar(&o.workers, "workers", 0, "number of workers; 0 means one for each processor")
	f.IntVar(&o.runs, "runs", 5, "minimum number of timed runs of each")
	_ = cmd.RegisterFlagCompletionFunc("shape", cobra.FixedCompletions(bench.Names(),
		cobra.ShellCompDirectiveNoFileComp))
	_ = cmd.RegisterFlagCompletionFunc("work", cobra.FixedCompletions(bench.WorkNames,
		cobra.ShellCompDirectiveNoFileComp))
	_ = cmd.RegisterFlagCompletionFunc("numerics",
		cobra.FixedCompletions(numericsNames, cobra.ShellCompDirectiveNoFileComp))
	return cmd
}

// numericsNames are the numeric contracts that this build computes under, by
// name. tensor/doc.go defines them.
var numericsNames = []string{string(tensor.V1), string(tensor.V1BF16)}

// check rejects what cannot be measured. Work that the shape does not have,
// such as ppo at 124M, is an error if the user named it, and dropped if it is
// only part of the default.
func (o *benchFlags) check(named bool) (bench.Shape, error) {
	s, ok := bench.Find(o.shape)
	if !ok {
		return s, usagef("use one of "+strings.Join(bench.Names(), ", "), "--shape is %q: no such shape", o.shape)
	}
	for _, kind := range o.work {
		if !slices.Contains(bench.WorkNames, kind) {
			return s, usagef("choose from "+strings.Join(bench.WorkNames, ", "), "--work has %q: no such work", kind)
		}
		if named && !s.Has(kind) {
			return s, usagef("choose another --shape",
				"--work has %s, which cannot be measured at shape %s", kind, s.Name)
		}
	}
	o.work = slices.DeleteFunc(slices.Clone(o.work), func(kind string) bool { return !s.Has(kind) })
	switch {
	case len(o.work) == 0:
		return s, usagef("choose from "+strings.Join(bench.WorkNames, ", "), "--work is empty")
	case !slices.Contains(numericsNames, o.numerics):
		return s, usagef("use one of "+strings.Join(numericsNames, ", "),
			"--numerics is %q: no such contract", o.numerics)
	case o.workers < 0:
		return s, usagef("use 0 or more", "--workers is %d", o.workers)
	case o.runs < 1:
		return s, usagef("use 1 or more", "--runs is %d", o.runs)
	}
	return s, nil
}

// benchDocument is the report of bench.
type benchDocument struct {
	Schema string     `json:"schema"`
	Shape  benchShape `json:"shape"`
	// Numerics is the contract that everything was computed under.
	Numerics string       `json:"numerics"`
	Machine  benchMachine `json:"machine"`
	// Work has one element for each kind of work, in the order asked for.
	Work []benchWork `json:"work"`
}

// benchShape is the architecture that was measured.
type benchShape struct {
	Name string `json:"name"`
	// Parameters counts the weights of the model without a scalar head.
	Parameters int `json:"parameters"`
	Layers     int `json:"layers"`
	// Width is the size of the residual stream (n_embd of GPT-2).
	Width int `json:"width"`
	Heads int `json:"heads"`
	// Context is the longest sequence, in tokens.
	Context int `json:"context"`
	// Vocab is the number of token ids.
	Vocab int `json:"vocab"`
}

// benchMachine is the machine that was measured on.
type benchMachine struct {
	// Kernels is the implementation of the kernels that ran.
	Kernels string `json:"kernels"`
	// Workers is the number of goroutines that the work is spread over.
	Workers int `json:"workers"`
	// PeakOne and PeakAll are the multiply-add throughput of one worker and
	// of all at once, in FLOP/s under the numerics measured; 0 means that no
	// kernel can measure it.
	PeakOne float64 `json:"peak_flops_per_second_of_one_worker"`
	PeakAll float64 `json:"peak_flops_per_second"`
	// MatMul is the matrix-product throughput under every contract, on all
	// cores whatever --workers says.
	MatMul numericsSpeeds `json:"matrix_products"`
	// Fastest is the contract with the highest matrix-product throughput.
	Fastest string `json:"fastest_numerics"`
}

// measure measures the peaks once more and keeps the highest: other processes
// can only make them lower.
func (m *benchMachine) measure(pool *tensor.Pool, n tensor.Numerics) {
	one, all := bench.Peak(pool, n)
	m.PeakOne, m.PeakAll = max(m.PeakOne, one), max(m.PeakAll, all)
}

// benchWork is the measurement of one kind of work; times are medians over
// Runs runs.
type benchWork struct {
	Work string `json:"work"`
	// Runs is the number of timed runs that the medians are over.
	Runs int `json:"runs"`
	// Tokens is the number of tokens that one run processes.
	Tokens int `json:"tokens"`
	// Seconds is the median time of a run.
	Seconds float64 `json:"seconds"`
	// Rate is Tokens divided by Seconds.
	Rate float64 `json:"tokens_per_second"`
	// FLOPs is the number of floating-point operations of a run, computed
	// from the architecture.
	FLOPs float64 `json:"flops"`
	// Speed is FLOPs divided by Seconds.
	Speed float64 `json:"flops_per_second"`
	// PeakShare is Speed as a share of the machine's peak, or 0 if that is
	// unknown.
	PeakShare float64 `json:"share_of_peak,omitempty"`
	// Resident is the peak of the resident memory, in bytes; 0 where the
	// system does not report it.
	Resident int64 `json:"peak_resident_bytes,omitempty"`
	// Heap is the size of the Go heap in use after the runs, in bytes.
	Heap int64 `json:"heap_bytes"`
	// Allocations is the number of heap allocations in the second run, when
	// all buffers exist.
	Allocations uint64 `json:"allocations"`
	// Parts divides the processor time of the runs.
	Parts []benchPart `json:"parts"`
}

// benchPart is the processor time of one part of a run, over all workers, as
// a sampling profile sees it.
type benchPart struct {
	Part string `json:"part"`
	// Seconds is processor time per run.
	Seconds float64 `json:"seconds"`
	// Share is the part's share of the processor time, between 0 and 1.
	Share float64 `json:"share"`
}

// bench measures each kind of work in turn, with the peaks before, between
// and after them, and prints the report. Shares of the peak are computed at
// the end, when the highest peak is known.
func (a *app) bench(s bench.Shape, o benchFlags) error {
	pool := tensor.NewPool(o.workers)
	defer pool.Close()
	c := s.Config
	doc := benchDocument{
		Schema: "trimtab.bench/v1", Numerics: o.numerics,
		Shape:   benchShape{s.Name, c.Parameters(), c.Layers, c.Width, c.Heads, c.Context, c.Vocab},
		Machine: benchMachine{Kernels: tensor.Implementation(), Workers: pool.Workers()},
	}
	doc.Machine.measure(pool, tensor.Numerics(o.numerics))
	for _, kind := range o.work {
		w, err := a.benchOne(kind, s, pool, o)
		if err != nil {
			return err
		}
		doc.Work = append(doc.Work, w)
		doc.Machine.measure(pool, tensor.Numerics(o.numerics))
	}
	// Only now is the highest peak known.
	for i := range doc.Work {
		if doc.Machine.PeakAll > 0 {
			doc.Work[i].PeakShare = doc.Work[i].Speed / doc.Machine.PeakAll
		}
	}
	doc.Machine.MatMul = measureNumericsSpeeds()
	doc.Machine.Fastest = doc.Machine.MatMul.fastest().Numerics
	return a.printBench(doc)
}

// benchOne measures one kind of work, with a line of progress for each slow
// run.
func (a *app) benchOne(kind string, s bench.Shape, pool *tensor.Pool, o benchFlags) (benchWork, error) {
	a.note("measuring %s at shape %s", kind, s.Name)
	progress := func(run int, took time.Duration) {
		if took > slowRunTime {
			a.note("  %s: %d of %d runs done, the last in %s", kind, run, o.runs+2, formatSeconds(took.Seconds()))
		}
	}
	prepare := func() (*bench.Workload, error) { return bench.New(kind, s, pool, tensor.Numerics(o.numerics)) }
	r, err := bench.Measure(prepare, o.runs, progress)
	if err != nil {
		return benchWork{}, err
	}
	w := benchWork{
		Work: kind, Runs: r.Runs, Tokens: r.Tokens, Seconds: r.Seconds, Rate: r.TokensPerSecond(), FLOPs: r.FLOPs,
		Speed: r.FLOPsPerSecond(), Resident: r.Resident, Heap: r.Heap, Allocations: r.Allocations,
	}
	for _, p := range r.Parts {
		w.Parts = append(w.Parts, benchPart{p.Name, p.Seconds, p.Share})
	}
	return w, nil
}

// benchColumns are the columns of the table of work.
var benchColumns = []column[benchWork]{
	{name: "work", full: func(w benchWork) string { return w.Work }},
	{name: "runs", full: func(w benchWork) string { return fmt.Sprint(w.Runs) }, right: true},
	{name: "tokens", full: func(w benchWork) string { return fmt.Sprint(w.Tokens) }, right: true},
	{name: "seconds", full: func(w benchWork) string { return formatExact(w.Seconds) }, only: formatCSV},
	{name: "tokens/s", full: func(w benchWork) string { return fmt.Sprintf("%.0f", w.Rate) }, right: true},
	{name: "GFLOP/s", full: func(w benchWork) string { return fmt.Sprintf("%.1f", w.Speed/1e9) }, right: true},
	{name: "of_peak", full: func(w benchWork) string { return formatExact(w.PeakShare) },
		short: func(w benchWork) string { return unknownIfZero(w.PeakShare, formatPercent(w.PeakShare)) }, right: true},
	{name: "resident_bytes", full: func(w benchWork) string { return fmt.Sprint(w.Resident) }, only: formatCSV},
	{name: "resident", full: func(w benchWork) string { return unknownIfZero(w.Resident, formatBytes(w.Resident)) },
		only: formatTable, right: true},
	{name: "heap_bytes", full: func(w benchWork) string { return fmt.Sprint(w.Heap) }, only: formatCSV},
	{name: "heap", full: func(w benchWork) string { return formatBytes(w.Heap) }, only: formatTable, right: true},
	{name: "allocations", full: func(w benchWork) string { return fmt.Sprint(w.Allocations) }, right: true},
}

// printBench prints the report: a head, the table of work, and the share of
// time by part.
func (a *app) printBench(doc benchDocument) error {
	if a.wantsJSON() {
		return a.printDocument(doc)
	}
	if a.format == formatTable {
		a.printBenchHead(doc)
	}
	if err := printList(a, list[benchWork]{items: doc.Work, columns: benchColumns}); err != nil ||
		a.format == formatCSV {
		return err
	}
	fmt.Fprintln(a.out)
	return a.printTable(partsGrid(doc.Work))
}

// printBenchHead prints the shape, the machine and the peaks.
func (a *app) printBenchHead(doc benchDocument) {
	s, m := doc.Shape, doc.Machine
	fmt.Fprintf(a.out,
		"shape %s: %s parameters, %d layers, width %d, %d heads, context %d, vocabulary %d; numerics %s\n",
		s.Name, formatCount(float64(s.Parameters)), s.Layers, s.Width, s.Heads, s.Context, s.Vocab, doc.Numerics)
	peak := "peak unknown: these kernels cannot measure it"
	if m.PeakAll > 0 {
		peak = fmt.Sprintf("peak %sFLOP/s on one worker, %sFLOP/s on all", formatCount(m.PeakOne),
			formatCount(m.PeakAll))
	}
	fmt.Fprintf(a.out, "%s kernels, %d workers; %s\n", m.Kernels, m.Workers, peak)
	if len(m.MatMul) > 0 {
		fmt.Fprintln(a.out, m.MatMul.sentence())
	}
	fmt.Fprintln(a.out)
}

// partsGrid is the share of processor time by part, with a column for each
// kind of work. Parts that no work has are left out.
func partsGrid(work []benchWork) grid {
	g := grid{head: []string{"time by part"}, right: []bool{false}}
	for _, w := range work {
		g.head, g.right = append(g.head, w.Work), append(g.right, true)
	}
	for _, part := range bench.PartNames() {
		row, found := []string{part}, false
		for _, w := range work {
			i := slices.IndexFunc(w.Parts, func(p benchPart) bool { return p.Part == part })
			if i < 0 {
				row = append(row, "")
				continue
			}
			row, found = append(row, formatPercent(w.Parts[i].Share)), true
		}
		if found {
			g.rows = append(g.rows, row)
		}
	}
	return g
}
