package main

import (
	"context"
	"io"
	"log/slog"
	"os/signal"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"

	"github.com/trimtab/trimtab"
	"github.com/trimtab/trimtab/activities"
	"github.com/trimtab/trimtab/devstack"
	"github.com/trimtab/trimtab/storage"
	"github.com/trimtab/trimtab/tensor"
	"github.com/trimtab/trimtab/workflows"
)

// stopTimeout is how long a worker may take to come to its next checkpoint when it is told to stop.
const stopTimeout = 60 * time.Second

// heartbeatEvery bounds how long a worker may not hear of a pause or a cancel: it is told with the answer to a
// heartbeat.
const heartbeatEvery = 2 * time.Second

func (a *app) workerCmd() *cobra.Command {
	var threads int
	cmd := &cobra.Command{
		Use: "worker", Short: "do the work of runs until told to stop", Args: argCount(0, 0),
		Long: `Take tasks from Temporal and do them: one training task at a time, and the small
ones beside it. On SIGINT or SIGTERM it goes on to the next checkpoint, for at
most a minute, and ends; the run goes on where another worker is.`,
		Example: "  trimtab worker --postgres-url postgres://trimtab_app@db/trimtab --temporal-address temporal:7233",
		RunE: func(cmd *cobra.Command, _ []string) error {
			if threads < 0 {
				return usagef("give 0 for all cores, or more", "--threads is %d", threads)
			}
			ctx, stop := signal.NotifyContext(cmd.Context(), syscall.SIGINT, syscall.SIGTERM)
			defer stop()
			return a.work(ctx, threads)
		},
	}
	cmd.Flags().IntVar(&threads, "threads", 0, "how many cores to compute on; 0 is all")
	return cmd
}

// costSum runs the workers of this process until ctx ends.
func (a *app) work(ctx context.Context, threads int) error {
	if err := tensor.InitError(); err != nil { // never train on other kernels than were asked for
		return trimtab.NewError(trimtab.Usage, "unknown_kernels", "unset TRIMTAB_KERNELS, or see trimtab doctor", "%w",
			err)
	}
	if err := devstack.CheckWorkerLimits(); err != nil {
		return err
	}
	e, err := a.locate(ctx)
	if err != nil {
		return err
	}
	lg := a.logger(a.err)
	s, err := a.open(ctx, e, false)
	if err != nil {
		return err
	}
	defer s.Close()
	if err := s.runs.RegisterDatabase(ctx); err != nil { // the disk may be full or read-only for now: runs wait for it
		lg.Warn("the store does not know this database", "error", err)
	}
	c, err := dialTemporal(ctx, e.temporal, lg)
	if err != nil {
		return err
	}
	defer c.Close()
	pool := tensor.NewPool(threads)
	defer pool.Close()
	n := a.newNotary(lg, s)
	if err := n.Open(ctx); err != nil {
		if trimtab.AsError(err).Type == "audit_key" {
			return err
		}
		lg.Warn("the record's tree heads cannot be signed for now", "error", err)
	}
	keeping, enough := context.WithCancel(ctx)
	kept := make(chan struct{})
	go func() { defer close(kept); n.Run(keeping) }()
	defer func() { enough(); <-kept }()
	told := a.newLineagePublisher(lg, s)
	defer told.close()
	acts := activities.New(lg, s.store, s.files, pool, buildID(), activities.WithChangeHook(told.notify),
		activities.WithEndHook(n.SignNow))
	return serve(ctx, lg, s.store, c, acts)
}

// serve polls both task queues: training, one task at a time, and everything small.
func serve(ctx context.Context, lg *slog.Logger, store *storage.Store, c client.Client,
	acts *activities.Activities) error {
	fatal := make(chan error, 2)
	onFatal := func(err error) {
		select {
		case fatal <- err:
		default:
		}
	}
	small := worker.New(c, activities.SmallQueue, worker.Options{WorkerStopTimeout: stopTimeout, OnFatalError: onFatal})
	small.RegisterWorkflowWithOptions(workflows.Run, workflow.RegisterOptions{})
	small.RegisterWorkflowWithOptions(workflows.Stage, workflow.RegisterOptions{})
	train := worker.New(c, activities.TrainQueue, worker.Options{
		WorkerStopTimeout: stopTimeout, OnFatalError: onFatal, DisableWorkflowWorker: true,
		MaxConcurrentActivityExecutionSize: 1,
		MaxHeartbeatThrottleInterval:       heartbeatEvery,
	})
	// Told to stop, it first takes no more workflow tasks, so that what follows from the end of its segment is not
	// given to it.
	for _, w := range []worker.Worker{train, small} {
		w.RegisterActivity(acts)
		if err := w.Start(); err != nil {
			return err
		}
		defer w.Stop()
	}
	lg.Info("worker ready", "kernels", tensor.Implementation())
	select {
	case <-ctx.Done():
		lg.Info("worker stopping", "at_most", stopTimeout.String())
		return nil
	case err := <-fatal:
		return err
	}
}

// logger writes as the settings say.
func (a *app) logger(w io.Writer) *slog.Logger {
	var level slog.Level
	_ = level.UnmarshalText([]byte(a.settings.value("log_level"))) // one of four words, checked when it was read
	o := &slog.HandlerOptions{Level: level, ReplaceAttr: a.redactAttr}
	if a.settings.value("log_format") == "json" {
		return slog.New(slog.NewJSONHandler(w, o))
	}
	return slog.New(slog.NewTextHandler(w, o))
}
