package main

import (
	"context"
	"fmt"
	"slices"

	"github.com/spf13/cobra"

	"github.com/trimtab/trimtab"
	"github.com/trimtab/trimtab/runs"
)

// decision is a command by which a person decides about a run or a stage. The
// five of them differ in these fields only.
type decision struct {
	use, short, example string
	// pastTense is the decision as its result says it: "approved".
	pastTense string
	// stage is true if the command takes a stage after the run.
	stage bool
	// needsReason is true if the decision changes what the result means.
	needsReason bool
	// do carries the decision out.
	do func(ctx context.Context, s *session, run, stage, reason, actor string) error
}

// decisionCmd builds the command for a decision. A missing reason is reported
// before anything is started.
func (a *app) decisionCmd(d decision) *cobra.Command {
	n := 1
	if d.stage {
		n = 2
	}
	var reason string
	cmd := &cobra.Command{
		Use: d.use, Short: d.short, Example: d.example, Args: argCount(n, n),
		RunE: func(cmd *cobra.Command, args []string) error {
			stage := ""
			if d.stage {
				stage = args[1]
			}
			if d.needsReason {
				if err := a.requireReason(cmd.Name(), reason); err != nil {
					return err
				}
			}
			return a.withService(cmd, func(ctx context.Context, s *session) error {
				// The service records the request first, under the database
				// role of this connection; then the workflow accepts or
				// refuses it.
				if err := d.do(ctx, s, args[0], stage, reason, a.actor()); err != nil {
					return err
				}
				// The result is the state of the run after the decision.
				doc, err := s.runs.Show(ctx, args[0])
				if err != nil {
					return err
				}
				if a.wantsJSON() {
					return a.printDocument(doc)
				}
				fmt.Fprintln(a.out, escapeLine(d.result(doc)))
				return nil
			})
		},
	}
	cmd.Flags().StringVar(&reason, "reason", "", "why, for the record")
	return cmd
}

// requireReason rejects a decision without a reason, unless the setting
// require_reasons is false.
func (a *app) requireReason(what, reason string) error {
	if a.settings.value("require_reasons") == "false" {
		return nil
	}
	return runs.CheckReason(what, reason)
}

// result says what a decision led to. A running stage takes up to some
// seconds to learn of it, with the next heartbeat, and writes a checkpoint
// before it stops.
func (d decision) result(doc runs.View) string {
	working := slices.ContainsFunc(doc.Stages,
		func(st runs.StageView) bool { return st.Status == trimtab.AttemptRunning })
	switch {
	// The workflow cancels its stage and then records the end of the run.
	case d.pastTense == "cancelled" && doc.Status != trimtab.RunCancelled:
		return fmt.Sprintf("cancelling: %s stops within seconds", doc.Name)
	case doc.Status == trimtab.RunPaused && working:
		return fmt.Sprintf("%s: %s is %s; its stage stops within seconds", d.pastTense, doc.Name, doc.Status)
	}
	return fmt.Sprintf("%s: %s is %s", d.pastTense, doc.Name, doc.Status)
}

// approveCmd is "trimtab approve". The stage's outputs stay as they are; only
// the verdict of its gate is overruled, and by whom is recorded.
func (a *app) approveCmd() *cobra.Command {
	return a.decisionCmd(decision{
		use: "approve RUN STAGE", short: "let a stage that missed its gate pass", stage: true, needsReason: true,
		pastTense: "approved",
		example:   `  trimtab approve my-assistant reward --reason "small test set"`,
		do: func(ctx context.Context, s *session, run, stage, reason, actor string) error {
			return s.runs.Approve(ctx, run, stage, reason, actor)
		},
	})
}

// skipCmd is "trimtab skip". It is for stages whose output nobody reads, such
// as a failed evaluate; a stage that others depend on cannot be skipped.
func (a *app) skipCmd() *cobra.Command {
	return a.decisionCmd(decision{
		use: "skip RUN STAGE", short: "continue without a blocked stage that no later stage needs", stage: true,
		needsReason: true, pastTense: "skipped",
		example: `  trimtab skip my-assistant evaluate --reason "measured elsewhere"`,
		do: func(ctx context.Context, s *session, run, stage, reason, actor string) error {
			return s.runs.Skip(ctx, run, stage, reason, actor)
		},
	})
}

// cancelCmd is "trimtab cancel". A cancelled run is closed: its stages can be
// reused by a rerun, but it does not continue.
func (a *app) cancelCmd() *cobra.Command {
	return a.decisionCmd(decision{
		use: "cancel RUN", short: "end a run, keeping its outputs", needsReason: true, pastTense: "cancelled",
		example: `  trimtab cancel my-assistant --reason "wrong data"`,
		do: func(ctx context.Context, s *session, run, _, reason, actor string) error {
			return s.runs.Cancel(ctx, run, reason, actor)
		},
	})
}

// pauseCmd is "trimtab pause". It needs no reason, since nothing that the run
// computes changes by it.
func (a *app) pauseCmd() *cobra.Command {
	return a.decisionCmd(decision{
		use: "pause RUN", short: "checkpoint a run and stop it until it is resumed", pastTense: "paused",
		example: "  trimtab pause my-assistant",
		do: func(ctx context.Context, s *session, run, _, reason, actor string) error {
			return s.runs.Pause(ctx, run, reason, actor)
		},
	})
}

// resumeCmd is "trimtab resume".
func (a *app) resumeCmd() *cobra.Command {
	return a.decisionCmd(decision{
		use: "resume RUN", short: "continue a paused run", pastTense: "resumed",
		example: "  trimtab resume my-assistant",
		do: func(ctx context.Context, s *session, run, _, reason, actor string) error {
			return s.runs.Resume(ctx, run, reason, actor)
		},
	})
}
