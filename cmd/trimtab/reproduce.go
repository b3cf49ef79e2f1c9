package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/trimtab/trimtab"
	"github.com/trimtab/trimtab/activities"
	"github.com/trimtab/trimtab/checkpoint"
	"github.com/trimtab/trimtab/runs"
	"github.com/trimtab/trimtab/tensor"
)

// reproduceFlags are the flags of reproduce.
type reproduceFlags struct {
	// attempt is 0 for the newest, and threads 0 for all cores.
	attempt, threads int
	// chain passes outputs from stage to stage, all continues after a
	// difference, and silent records no event.
	chain, all, silent bool
	// inputs are replacements of recorded inputs, as NAME=FOLDER.
	inputs []string
	// keep is a folder for the outputs; empty discards them.
	keep string
}

// reproduceCmd is "trimtab reproduce". It differs from rerun in that it
// changes nothing: its purpose is to find out whether the record describes
// what was computed. Exit code 5 means that it does not, or that this build
// computes something else.
func (a *app) reproduceCmd() *cobra.Command {
	var o reproduceFlags
	cmd := &cobra.Command{
		Use: "reproduce RUN [STAGE]", Short: "recompute stages from the record alone, and compare bit for bit",
		Args: argCount(1, 2),
		Long: `Recompute a stage, or every stage of a run in order, from its record: config, frozen data,
inputs by digest, and seed. After each step, its metrics and rollouts are compared with the
recorded rows, bit for bit; at every checkpoint the state, by digest, and array by array if
the file still exists; at the end every output and its measurements. Print "identical", or
the first step, array and index that differ, with both values, and exit with 5.

The record is not changed, except that an event of type reproduced is added to the run's
history. Outputs go to a temporary folder. Neither Temporal nor a worker is needed.

Each stage reads its recorded inputs, so that a stage that differs does not affect the
others; since those inputs are the outputs of earlier stages, the whole run is reproduced if
all stages are identical. With --chain, stages read what was computed here instead, for a
run whose models are gone. A stage that started from a checkpoint starts there again if the
file still exists, and otherwise where the attempt that wrote it started. For a reused stage,
the attempt that did the work is recomputed.`,
		Example: `  trimtab reproduce my-assistant
  trimtab reproduce my-assistant sft --threads 1 -o json
  trimtab reproduce my-assistant ppo --all --keep ./again
  trimtab reproduce my-assistant sft --input model=./other-model`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := o.check(len(args) == 2); err != nil {
				return err
			}
			// Build and kernels of this program go into the report and the
			// event: a difference is between two builds or two machines, and
			// both should be named.
			req := runs.ReproduceRequest{Run: args[0], Attempt: o.attempt, Chain: o.chain, KeepGoing: o.all,
				NoEvent: o.silent, Actor: a.actor(), Build: buildID(), Kernels: tensor.Implementation()}
			if len(args) == 2 {
				req.Stage = args[1]
			}
			return a.withStore(cmd, func(ctx context.Context, s *session) error { return a.reproduce(ctx, s, req, o) })
		},
	}
	f := cmd.Flags()
	f.IntVar(&o.attempt, "attempt", 0, "number of the attempt of STAGE; 0 means the newest")
	f.IntVar(&o.threads, "threads", 0, "number of cores to compute on; 0 means all")
	f.BoolVar(&o.chain, "chain", false, "let stages read what earlier stages computed here")
	f.BoolVar(&o.all, "all", false, "continue to the end after the first difference")
	f.StringArrayVar(&o.inputs, "input", nil, "let STAGE read another model: NAME=FOLDER (may be repeated)")
	f.StringVar(&o.keep, "keep", "", "write the outputs to this folder, by stage")
	f.BoolVar(&o.silent, "no-event", false, "do not record an event")
	return cmd
}

// check rejects flags that do not go together, and kernels that this machine
// does not have: silently comparing under others than TRIMTAB_KERNELS asks
// for would prove nothing about them.
func (o *reproduceFlags) check(oneStage bool) error {
	if err := tensor.InitError(); err != nil {
		return trimtab.NewError(trimtab.Usage, "unknown_kernels", "unset TRIMTAB_KERNELS, or see trimtab doctor",
			"%w", err)
	}
	switch {
	case o.threads < 0:
		return usagef("use 0 for all cores, or more", "--threads is %d", o.threads)
	case o.attempt < 0:
		return usagef("use a number that `trimtab show` prints", "--attempt is %d", o.attempt)
	case !oneStage && (o.attempt > 0 || len(o.inputs) > 0):
		return usagef("name the stage", "--attempt and --input need a STAGE")
	}
	for _, in := range o.inputs {
		if name, folder, ok := strings.Cut(in, "="); !ok || name == "" || folder == "" {
			return usagef("write --input NAME=FOLDER, for example model=./other-model", "--input is %q", in)
		}
	}
	// Hours of work should not end in a folder that cannot be written.
	if o.keep != "" {
		return forNewFiles(o.keep)
	}
	return nil
}

// reproduce recomputes into a temporary store, which is removed afterwards,
// also after an interrupt. The run's own store is only read: a model that is
// damaged there shows as an input that cannot be read, and is not repaired.
func (a *app) reproduce(ctx context.Context, s *session, req runs.ReproduceRequest, o reproduceFlags) error {
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	dir, err := os.MkdirTemp("", "trimtab-reproduce-")
	if err != nil {
		return err
	}
	// Deferred, so that interrupts and errors clean up as well.
	defer os.RemoveAll(dir)
	own, err := checkpoint.Open(dir)
	if err != nil {
		return err
	}
	// The number of threads does not affect the bits of the result.
	pool := tensor.NewPool(o.threads)
	defer pool.Close()
	req.Reproducer = activities.NewReproducer(slog.New(slog.DiscardHandler), s.store, s.files, own, pool)
	for _, in := range o.inputs {
		name, folder, _ := strings.Cut(in, "=")
		// A replaced input gets a digest like any other model, by which the
		// report and the record name it.
		digest, err := req.Reproducer.ImportModel(folder)
		if err != nil {
			return err
		}
		req.Inputs = append(req.Inputs, trimtab.Named{Name: name, Digest: digest})
	}
	// Outputs are exported stage by stage: after an interrupt, those of the
	// finished stages are there.
	req.Progress, req.StageDone = a.stepProgress(), func(st runs.ReproducedStage) error {
		if o.keep == "" {
			return nil
		}
		return req.Reproducer.Export(st.Outputs, filepath.Join(o.keep, st.Stage))
	}
	go keepStackAlive(ctx, s)
	doc, err := s.runs.Reproduce(ctx, req)
	// An interrupted reproduction proves nothing, and so leaves no event.
	if ctx.Err() != nil {
		a.note("interrupted: nothing was recorded")
		return exitStatus(exitInterrupted)
	}
	if err != nil {
		return err
	}
	return a.printReproduction(doc)
}

// keepStackAlive keeps the embedded stack from stopping during long work,
// until ctx ends. Reproducing a run needs the database for hours, but neither
// a run nor another command shows the stack that it is needed.
func keepStackAlive(ctx context.Context, s *session) {
	for s.keepAlive(); sleep(ctx, keepAliveEvery); {
		s.keepAlive()
	}
}

// reproductionColumns are the columns of reproduce: for each stage the
// result, and how much was compared.
var reproductionColumns = []column[runs.ReproducedStage]{
	{name: "stage", full: func(st runs.ReproducedStage) string { return st.Stage }},
	{name: "attempt", full: func(st runs.ReproducedStage) string { return strconv.Itoa(st.Attempt) }, right: true},
	{name: "result", full: func(st runs.ReproducedStage) string { return st.Result },
		short: func(st runs.ReproducedStage) string { return strings.ReplaceAll(st.Result, "_", " ") }},
	{name: "steps", full: func(st runs.ReproducedStage) string { return strconv.Itoa(st.Compared.Steps) }, right: true},
	{name: "metrics", full: func(st runs.ReproducedStage) string { return strconv.Itoa(st.Compared.Metrics) },
		right: true},
	{name: "rollouts", full: func(st runs.ReproducedStage) string { return strconv.Itoa(st.Compared.Rollouts) },
		right: true},
	{name: "states", full: func(st runs.ReproducedStage) string { return strconv.Itoa(st.Compared.States) },
		right: true},
	{name: "outputs", full: func(st runs.ReproducedStage) string { return strconv.Itoa(st.Compared.Outputs) },
		right: true},
	{name: "seconds", full: func(st runs.ReproducedStage) string { return formatExact(st.Seconds) },
		short: func(st runs.ReproducedStage) string { return formatSeconds(st.Seconds) }, right: true},
	{name: "detail", full: reproductionDetail},
}

// reproductionDetail is the column of everything else: why a stage was left
// out or failed, its first difference, or where its computation started if
// that was not the beginning of the attempt.
func reproductionDetail(st runs.ReproducedStage) string {
	switch {
	case st.Reason != "":
		return st.Reason
	case st.Error != nil:
		return st.Error.Message
	case len(st.Differences) > 0:
		return st.Differences[0].String()
	}
	var parts []string
	if st.ReusedFrom != nil {
		parts = append(parts, fmt.Sprintf("made by attempt %d of %s in run %s", st.ReusedFrom.Attempt,
			st.ReusedFrom.Stage, shortID(st.ReusedFrom.Run)))
	}
	if st.From > 0 || strings.Contains(st.Start, "checkpoint") {
		parts = append(parts, "from "+st.Start)
	}
	// An attempt that failed or was cancelled has no end that could be
	// compared.
	if !st.Whole {
		parts = append(parts, "as far as it is recorded")
	}
	return strings.Join(parts, "; ")
}

// printReproduction prints the report, and returns its error as an exit code;
// it has been printed with the report.
func (a *app) printReproduction(doc runs.ReproductionReport) error {
	err := a.printReproducedStages(doc)
	if err == nil && doc.Error != nil {
		err = exitStatus(trimtab.ExitCode(doc.Error))
	}
	return err
}

// printReproducedStages prints the stages, the differences, and notes about
// who computed what.
func (a *app) printReproducedStages(doc runs.ReproductionReport) error {
	if a.wantsJSON() {
		return a.printDocument(doc)
	}
	if err := printList(a, list[runs.ReproducedStage]{items: doc.Stages, columns: reproductionColumns,
		empty: "the run has no stages"}); err != nil {
		return err
	}
	if a.format == formatTable {
		a.printDifferences(doc)
	}
	a.note("run %s on %s kernels and %d cores, build %.12s: %s", doc.Run, doc.Kernels, doc.Threads, doc.Build,
		formatSeconds(doc.Seconds))
	a.noteOtherBuilds(doc)
	if !doc.Recorded {
		a.note("no event was recorded (--no-event)")
	}
	if doc.Identical {
		a.note("identical")
	}
	if doc.Error != nil {
		a.printError(doc.Error)
	}
	return nil
}

// printDifferences prints the differences of each stage, one on each line,
// and how many steps differ. Without --all there is one difference:
// recomputation stops there.
func (a *app) printDifferences(doc runs.ReproductionReport) {
	for _, st := range doc.Stages {
		for _, d := range st.Differences {
			fmt.Fprintf(a.out, "%s: %s\n", escapeLine(st.Stage), escapeLine(d.String()))
		}
		if n := st.Differing; n > 1 {
			fmt.Fprintf(a.out, "%s: %d of %d steps differ\n", escapeLine(st.Stage), n, st.Compared.Steps)
		}
	}
}

// noteOtherBuilds notes which stages were recorded by another build or on
// other kernels than those of this program. Neither should matter, by the
// numeric contract (tensor/doc.go), which makes it the first thing to know
// about a difference.
func (a *app) noteOtherBuilds(doc runs.ReproductionReport) {
	var makers []string
	made := map[string][]string{}
	for _, st := range doc.Stages {
		// Stages are grouped by their maker: usually all of them have the
		// same.
		maker := fmt.Sprintf("build %.12s", st.Build)
		if st.Kernels != "" {
			maker += " on " + st.Kernels + " kernels"
		}
		if st.Result == runs.LeftOut || st.Build == doc.Build && (st.Kernels == "" || st.Kernels == doc.Kernels) {
			continue
		}
		if made[maker] == nil {
			makers = append(makers, maker)
		}
		made[maker] = append(made[maker], st.Stage)
	}
	for _, maker := range makers {
		a.note("recorded by %s: %s", maker, strings.Join(made[maker], ", "))
	}
}
