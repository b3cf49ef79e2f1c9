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
	"time"

	"github.com/spf13/cobra"

	"github.com/trimtab/trimtab"
	"github.com/trimtab/trimtab/activities"
	"github.com/trimtab/trimtab/checkpoint"
	"github.com/trimtab/trimtab/runs"
	"github.com/trimtab/trimtab/tensor"
)

// reproduceFlags are those of reproduce.
type reproduceFlags struct {
	attempt, threads   int
	chain, all, silent bool
	inputs             []string
	keep               string
}

func (a *app) reproduceCmd() *cobra.Command {
	var o reproduceFlags
	cmd := &cobra.Command{
		Use: "reproduce RUN [STAGE]", Short: "run stages again from the record alone, and compare bit for bit",
		Args: argCount(1, 2),
		Long: `Run a stage, or every stage of a run in order, again from what the record holds of
it: its config, its frozen data, its inputs by digest, its seed. After each step
what the step told is compared with its rows, bit for bit; at every checkpoint the
state, by its digest, and by its arrays where the file is still there; at the end
every output, and what was measured of it. It says identical, or names the first
step, array and index that differ, with both values, and exits with 5.

Nothing of the record changes but for one event of type reproduced in the run's
history. What is made goes to a temporary folder. Neither Temporal nor a worker is
needed.

Each stage reads its recorded inputs, so that one that differs spoils no other;
since those are the outputs of the stages before, all identical means the whole
run is. --chain lets stages read what was made here instead: for a run of which
models are gone. A stage that began from a checkpoint begins there again if the
file is still there, else where the attempt began that made it. A reused stage is
the attempt that did the work.`,
		Example: `  trimtab reproduce my-assistant
  trimtab reproduce my-assistant sft --threads 1 -o json
  trimtab reproduce my-assistant ppo --all --keep ./again
  trimtab reproduce my-assistant sft --input model=./other-model`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := o.check(len(args) == 2); err != nil {
				return err
			}
			req := runs.ReproduceRequest{Run: args[0], Attempt: o.attempt, Chain: o.chain, KeepGoing: o.all,
				NoEvent: o.silent, Actor: a.actor(),
				Build: buildID(), Kernels: tensor.Implementation()}
			if len(args) == 2 {
				req.Stage = args[1]
			}
			return a.withStore(cmd, func(ctx context.Context, s *session) error { return a.reproduce(ctx, s, req, o) })
		},
	}
	f := cmd.Flags()
	f.IntVar(&o.attempt, "attempt", 0, "which attempt of STAGE (default: the newest)")
	f.IntVar(&o.threads, "threads", 0, "how many cores to compute on; 0 is all")
	f.BoolVar(&o.chain, "chain", false, "let stages read what the stages before them made here")
	f.BoolVar(&o.all, "all", false, "go on after the first difference, to the end")
	f.StringArrayVar(&o.inputs, "input", nil, "let STAGE read another model: NAME=FOLDER (may be repeated)")
	f.StringVar(&o.keep, "keep", "", "write what was made to this folder, by stage")
	f.BoolVar(&o.silent, "no-event", false, "tell the record nothing")
	return cmd
}

// check refuses flags that do not go together, and kernels that are not there.
func (o *reproduceFlags) check(oneStage bool) error {
	if err := tensor.InitError(); err != nil { // never compare under other kernels than were asked for
		return trimtab.NewError(trimtab.Usage, "unknown_kernels", "unset TRIMTAB_KERNELS, or see trimtab doctor", "%w",
			err)
	}
	switch {
	case o.threads < 0:
		return usagef("give 0 for all cores, or more", "--threads is %d", o.threads)
	case o.attempt < 0:
		return usagef("give the number that `trimtab show` has", "--attempt is %d", o.attempt)
	case !oneStage && (o.attempt > 0 || len(o.inputs) > 0):
		return usagef("name the stage", "--attempt and --input are of one STAGE")
	}
	for _, in := range o.inputs {
		if name, folder, ok := strings.Cut(in, "="); !ok || name == "" || folder == "" {
			return usagef("write --input NAME=FOLDER, for example model=./other-model", "--input is %q", in)
		}
	}
	if o.keep != "" {
		return forNewFiles(o.keep)
	}
	return nil
}

// reproduce computes in a folder of its own, which it removes.
func (a *app) reproduce(ctx context.Context, s *session, req runs.ReproduceRequest, o reproduceFlags) error {
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	dir, err := os.MkdirTemp("", "trimtab-reproduce-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	own, err := checkpoint.Open(dir)
	if err != nil {
		return err
	}
	pool := tensor.NewPool(o.threads)
	defer pool.Close()
	req.Reproducer = activities.NewReproducer(slog.New(slog.DiscardHandler), s.store, s.files, own, pool)
	for _, in := range o.inputs {
		name, folder, _ := strings.Cut(in, "=")
		digest, err := req.Reproducer.ImportModel(folder)
		if err != nil {
			return err
		}
		req.Inputs = append(req.Inputs, trimtab.Named{Name: name, Digest: digest})
	}
	req.Progress, req.StageDone = a.stepProgress(), func(st runs.ReproducedStage) error {
		if o.keep == "" {
			return nil
		}
		return req.Reproducer.Export(st.Outputs, filepath.Join(o.keep, st.Stage))
	}
	go keepStackAlive(ctx, s)
	doc, err := s.runs.Reproduce(ctx, req)
	if ctx.Err() != nil {
		a.note("interrupted: nothing was recorded")
		return exitStatus(exitInterrupted)
	}
	if err != nil {
		return err
	}
	return a.printReproduction(doc)
}

// keepStackAlive keeps the embedded stack from ending by itself under long work.
func keepStackAlive(ctx context.Context, s *session) {
	for s.keepAlive(); sleep(ctx, keepAliveEvery); {
		s.keepAlive()
	}
}

// stepProgress shows how far a stage is, on standard error: in place on a terminal, else in a line now and then.
func (a *app) stepProgress() func(stage string, step, steps int) {
	shown := time.Now()
	width, drawn := terminal(a.err)
	every := lineEvery
	if drawn {
		every = time.Second
	}
	return func(stage string, step, steps int) {
		switch line := fmt.Sprintf("%-10s step %d of %d", escapeLine(stage), step, steps); {
		case drawn && step == steps:
			fmt.Fprint(a.err, "\r\x1b[K")
		case time.Since(shown) < every:
		case drawn:
			shown = time.Now()
			fmt.Fprintf(a.err, "\r\x1b[K%s", truncate(line, width-1))
		default:
			shown = time.Now()
			a.note("%s", line)
		}
	}
}

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

// reproductionDetail is what else there is to say of a stage, shortly.
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
	if !st.Whole {
		parts = append(parts, "as far as it is recorded")
	}
	return strings.Join(parts, "; ")
}

// printReproduction shows what came of it; what is not identical is an exit code.
func (a *app) printReproduction(doc runs.ReproductionReport) error {
	err := a.printReproducedStages(doc)
	if err == nil && doc.Error != nil {
		err = exitStatus(trimtab.ExitCode(doc.Error))
	}
	return err
}

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
		a.note("the record has no event of it")
	}
	if doc.Identical {
		a.note("identical")
	}
	if doc.Error != nil {
		a.printError(doc.Error)
	}
	return nil
}

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

// noteOtherBuilds says which stages were recorded by another build, or on other kernels.
func (a *app) noteOtherBuilds(doc runs.ReproductionReport) {
	var makers []string
	made := map[string][]string{}
	for _, st := range doc.Stages {
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
