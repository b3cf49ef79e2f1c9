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

// stopTimeout is how long a worker that is stopping may take to reach its
// next checkpoint. After it the attempt is interrupted, and resumes from the
// checkpoint before.
const stopTimeout = 60 * time.Second

// heartbeatEvery is the longest interval between heartbeats that reach
// Temporal. A worker learns of a pause or cancellation with the response to a
// heartbeat, and so within this time; Temporal's own default is much longer.
const heartbeatEvery = 2 * time.Second

// workerCmd is "trimtab worker".
func (a *app) workerCmd() *cobra.Command {
	var threads int
	cmd := &cobra.Command{
		Use: "worker", Short: "execute the stages of runs until stopped", Args: argCount(0, 0),
		Long: `Poll Temporal for tasks and execute them: one training task at a time, and small tasks
concurrently with it. On SIGINT or SIGTERM, continue to the next checkpoint, for at most a
minute, and exit; the run continues on another worker.`,
		Example: "  trimtab worker --postgres-url postgres://trimtab_app@db/trimtab --temporal-address temporal:7233",
		RunE: func(cmd *cobra.Command, _ []string) error {
			if threads < 0 {
				return usagef("use 0 for all cores, or more", "--threads is %d", threads)
			}
			ctx, stop := signal.NotifyContext(cmd.Context(), syscall.SIGINT, syscall.SIGTERM)
			defer stop()
			return a.work(ctx, threads)
		},
	}
	cmd.Flags().IntVar(&threads, "threads", 0, "number of cores to compute on; 0 means all")
	return cmd
}

// work opens everything a worker needs and serves both task queues until ctx
// ends. It refuses to start on other kernels than TRIMTAB_KERNELS asks for,
// and with resource limits so low that it would crash in the middle of its
// work.
//
// Failures that may pass do not keep it from starting, such as a store that
// is read-only for now. A key file that does not hold a key does.
func (a *app) work(ctx context.Context, threads int) error {
	if err := tensor.InitError(); err != nil {
		return trimtab.NewError(trimtab.Usage, "unknown_kernels", "unset TRIMTAB_KERNELS, or see trimtab doctor",
			"%w", err)
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
	// A full or read-only disk is no reason to stop: runs wait for it.
	if err := s.runs.RegisterDatabase(ctx); err != nil {
		lg.Warn("cannot register this database in the store", "error", err)
	}
	c, err := dialTemporal(ctx, e.temporal, lg)
	if err != nil {
		return err
	}
	defer c.Close()
	// One pool for all stages: training tasks come one at a time.
	pool := tensor.NewPool(threads)
	defer pool.Close()
	n := a.newNotary(lg, s)
	if err := n.Open(ctx); err != nil {
		if trimtab.AsError(err).Type == "audit_key" {
			return err
		}
		lg.Warn("cannot sign tree heads", "error", err)
	}
	// The notary signs in the background, and must have stopped before the
	// connections are closed.
	signing, stopSigning := context.WithCancel(ctx)
	signed := make(chan struct{})
	go func() { defer close(signed); n.Run(signing) }()
	defer func() { stopSigning(); <-signed }()
	lineage := a.newLineagePublisher(lg, s)
	defer lineage.close()
	acts := activities.New(lg, s.store, s.files, pool, buildID(), activities.WithChangeHook(lineage.notify),
		activities.WithEndHook(n.SignNow))
	return serve(ctx, lg, s.store, c, acts)
}

// serve polls both task queues until ctx ends or a poller fails for good:
// training, one task at a time, since a task uses all cores; and everything
// small, workflow tasks among them.
func serve(
	ctx context.Context, lg *slog.Logger, store *storage.Store, c client.Client, acts *activities.Activities,
) error {
	// One place for each worker, so that neither blocks in its callback.
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
	// Deferred calls run in reverse order: on shutdown, workflow tasks stop
	// first. Otherwise this worker would be given the workflow task that follows
	// the end of its own segment, and start the next segment.
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

// logger returns a logger in the format and at the level of the settings,
// with secrets removed.
func (a *app) logger(w io.Writer) *slog.Logger {
	var level slog.Level
	_ = level.UnmarshalText([]byte(a.settings.value("log_level"))) // readSettings has validated it
	o := &slog.HandlerOptions{Level: level, ReplaceAttr: a.redactAttr}
	if a.settings.value("log_format") == "json" {
		return slog.New(slog.NewJSONHandler(w, o))
	}
	return slog.New(slog.NewTextHandler(w, o))
}
