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

// slowRunTime is how long a run of a workload takes to be worth a line of progress.
const slowRunTime = 2 * time.Second

// benchFlags are those of bench.
type benchFlags struct {
	shape    string
	work     []string
	numerics string
	workers  int
	runs     int
}

func (a *app) benchCmd() *cobra.Command {
	var o benchFlags
	cmd := &cobra.Command{
		Use: "bench", Short: "how fast this machine trains, scores and samples, and where the time goes",
		Args: argCount(0, 0),
		Long: `Measure the core on this machine, with models of random weights; nothing is read or
kept.

  train     training steps: forward, backward, AdamW
  score     log-probabilities of every token of a batch
  generate  sampling with cached keys and values
  ppo       whole iterations; the tokens are those sampled

Each is run once to fill its buffers, once to count its allocations, and then --runs times,
but for a second at the least; the median counts. The share of the peak is of what all
workers' fused multiply-adds reach from register to register, of float32 or of bfloat16 as
--numerics says, measured before and after each. The time by part is processor time, over all workers, from a profile that
looks a hundred times a second.

Shapes: ` + strings.Join(bench.Names(), ", ") + `. 0.9M-16x64 trains and scores 0.9M's model on the rows
of the default run; 124M is GPT-2's smallest with rows of 64, takes about 2.4 GB and has no ppo.`,
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
	f.StringVar(&o.shape, "shape", bench.Shapes[0].Name, "the model and the sizes of its work")
	f.StringSliceVar(&o.work, "work", bench.WorkNames, "what to measure")
	f.StringVar(&o.numerics, "numerics", string(tensor.V1), "the numeric contract to compute under")
	f.IntVar(&o.workers, "workers", 0, "workers to spread it over (0: one for each processor)")
	f.IntVar(&o.runs, "runs", 5, "timed runs of each, at the least")
	_ = cmd.RegisterFlagCompletionFunc("shape", cobra.FixedCompletions(bench.Names(),
		cobra.ShellCompDirectiveNoFileComp))
	_ = cmd.RegisterFlagCompletionFunc("work", cobra.FixedCompletions(bench.WorkNames,
		cobra.ShellCompDirectiveNoFileComp))
	_ = cmd.RegisterFlagCompletionFunc("numerics",
		cobra.FixedCompletions(numericsNames, cobra.ShellCompDirectiveNoFileComp))
	return cmd
}

// numericsNames are the numeric contracts by name.
var numericsNames = []string{string(tensor.V1), string(tensor.V1BF16)}

// check refuses what cannot be measured, and drops work that the shape lacks
// when none was asked for by name.
func (o *benchFlags) check(named bool) (bench.Shape, error) {
	s, ok := bench.Find(o.shape)
	if !ok {
		return s, usagef("give one of "+strings.Join(bench.Names(), ", "), "--shape is %q, which is no shape", o.shape)
	}
	for _, kind := range o.work {
		if !slices.Contains(bench.WorkNames, kind) {
			return s, usagef("give some of "+strings.Join(bench.WorkNames, ", "), "--work has %q, which is no work",
				kind)
		}
		if named && !s.Has(kind) {
			return s, usagef("give another --shape", "--work has %s, which is not measured at shape %s", kind, s.Name)
		}
	}
	o.work = slices.DeleteFunc(slices.Clone(o.work), func(kind string) bool { return !s.Has(kind) })
	switch {
	case len(o.work) == 0:
		return s, usagef("give some of "+strings.Join(bench.WorkNames, ", "), "--work names nothing")
	case !slices.Contains(numericsNames, o.numerics):
		return s, usagef("give one of "+strings.Join(numericsNames, ", "), "--numerics is %q, which is no contract",
			o.numerics)
	case o.workers < 0:
		return s, usagef("give 0 or more", "--workers is %d", o.workers)
	case o.runs < 1:
		return s, usagef("give 1 or more", "--runs is %d", o.runs)
	}
	return s, nil
}

// benchDocument is what was measured.
type benchDocument struct {
	Schema   string       `json:"schema"`
	Shape    benchShape   `json:"shape"`
	Numerics string       `json:"numerics"`
	Machine  benchMachine `json:"machine"`
	Work     []benchWork  `json:"work"`
}

type benchShape struct {
	Name       string `json:"name"`
	Parameters int    `json:"parameters"`
	Layers     int    `json:"layers"`
	Width      int    `json:"width"`
	Heads      int    `json:"heads"`
	Context    int    `json:"context"`
	Vocab      int    `json:"vocab"`
}

// benchMachine is what was measured on; peaks are in FLOP/s under the numerics
// measured, 0 where there is no kernel to measure them with.
type benchMachine struct {
	Kernels string         `json:"kernels"`
	Workers int            `json:"workers"`
	PeakOne float64        `json:"peak_flops_per_second_of_one_worker"`
	PeakAll float64        `json:"peak_flops_per_second"`
	MatMul  numericsSpeeds `json:"matrix_products"` // on all cores, whatever --workers says
	Fastest string         `json:"fastest_numerics"`
}

// measure takes the peaks once more: the best counts, since others may use the
// machine as well.
func (m *benchMachine) measure(pool *tensor.Pool, n tensor.Numerics) {
	one, all := bench.Peak(pool, n)
	m.PeakOne, m.PeakAll = max(m.PeakOne, one), max(m.PeakAll, all)
}

type benchWork struct {
	Work        string      `json:"work"`
	Runs        int         `json:"runs"`
	Tokens      int         `json:"tokens"`
	Seconds     float64     `json:"seconds"`
	Rate        float64     `json:"tokens_per_second"`
	FLOPs       float64     `json:"flops"`
	Speed       float64     `json:"flops_per_second"`
	PeakShare   float64     `json:"share_of_peak,omitempty"`
	Resident    int64       `json:"peak_resident_bytes,omitempty"`
	Heap        int64       `json:"heap_bytes"`
	Allocations uint64      `json:"allocations"`
	Parts       []benchPart `json:"parts"`
}

// benchPart is processor time of a run.
type benchPart struct {
	Part    string  `json:"part"`
	Seconds float64 `json:"seconds"`
	Share   float64 `json:"share"`
}

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
	for i := range doc.Work {
		if doc.Machine.PeakAll > 0 {
			doc.Work[i].PeakShare = doc.Work[i].Speed / doc.Machine.PeakAll
		}
	}
	doc.Machine.MatMul = measureNumericsSpeeds()
	doc.Machine.Fastest = doc.Machine.MatMul.fastest().Numerics
	return a.printBench(doc)
}

// benchOne measures one kind of work and says how it goes on where that is long.
func (a *app) benchOne(kind string, s bench.Shape, pool *tensor.Pool, o benchFlags) (benchWork, error) {
	a.note("measuring %s at shape %s", kind, s.Name)
	progress := func(run int, took time.Duration) {
		if took > slowRunTime {
			a.note("  %s: %d of %d runs, the last in %s", kind, run, o.runs+2, formatSeconds(took.Seconds()))
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

// unknownIfZero is the text of a value that was measured.
func unknownIfZero[T int64 | float64](v T, text string) string {
	if v == 0 {
		return "?"
	}
	return text
}

func formatPercent(share float64) string { return fmt.Sprintf("%.1f %%", 100*share) }

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

// printBenchHead says what was measured on what.
func (a *app) printBenchHead(doc benchDocument) {
	s, m := doc.Shape, doc.Machine
	fmt.Fprintf(a.out,
		"shape %s: %s parameters, %d layers, width %d, %d heads, context %d, vocabulary %d; numerics %s\n",
		s.Name, formatCount(float64(s.Parameters)), s.Layers, s.Width, s.Heads, s.Context, s.Vocab, doc.Numerics)
	peak := "no kernel to measure the peak with"
	if m.PeakAll > 0 {
		peak = fmt.Sprintf("peak %sFLOP/s of one worker, %sFLOP/s of all at once", formatCount(m.PeakOne),
			formatCount(m.PeakAll))
	}
	fmt.Fprintf(a.out, "%s kernels, %d workers; %s\n", m.Kernels, m.Workers, peak)
	if len(m.MatMul) > 0 {
		fmt.Fprintln(a.out, m.MatMul.sentence())
	}
	fmt.Fprintln(a.out)
}

// partsGrid is the shares of the processor time, a column for each work.
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
