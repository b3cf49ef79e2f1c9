package main

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/trimtab/trimtab"
	"github.com/trimtab/trimtab/recipes"
	"github.com/trimtab/trimtab/runs"
)

func (a *app) rerunCmd() *cobra.Command {
	var req runs.RerunRequest
	var watch bool
	cmd := &cobra.Command{
		Use: "rerun RUN STAGE", Short: "a new attempt of a failed stage, or a new run of a closed one",
		Args: argCount(2, 2),
		Long: `Run a stage again, and after it every stage that reads what it makes. A run that
is still open gets a new attempt; a closed one becomes a new run, and its
unchanged stages are reused. Runs repeat to the bit: a rerun that changes
nothing is refused unless --force is given.

--dry-run prints a token of its plan. With --plan TOKEN, and the same flags,
exactly that plan is done, or none: when anything it stands on has moved since,
the rerun is refused.`,
		Example: `  trimtab rerun my-assistant ppo --from-checkpoint latest
  trimtab rerun my-assistant reward --set reward.epochs=2 --reason "the gate was missed"
  trimtab rerun my-assistant sft --data demos-v2 --dry-run`,
		RunE: func(cmd *cobra.Command, args []string) error {
			req.Run, req.Stage, req.Actor = args[0], args[1], a.actor()
			if err := checkSetPaths(req.Sets, req.Stage); err != nil {
				return err
			}
			if changes := len(req.Sets)+len(req.Data) > 0; changes && !req.DryRun {
				if err := a.requireReason("rerun with other settings or data", req.Reason); err != nil {
					return err
				}
			}
			return a.withService(cmd, func(ctx context.Context, s *session) error {
				result, err := s.runs.Rerun(ctx, req)
				if err != nil {
					return err
				}
				if err := a.printRerun(req, result); err != nil || !watch || req.DryRun {
					return err
				}
				return a.follow(ctx, s, result.Run)
			})
		},
	}
	f := cmd.Flags()
	f.StringVar(&req.FromCheckpoint, "from-checkpoint", "", "go on from a checkpoint: latest, or its digest")
	f.StringArrayVar(&req.Sets, "set", nil,
		"change a setting: path=value, for example reward.epochs=2 (may be repeated)")
	f.StringArrayVar(&req.Data, "data", nil, "other data: NAME, or kind=NAME (may be repeated)")
	f.StringVar(&req.Reason, "reason", "", "why, for the record")
	f.BoolVar(&req.DryRun, "dry-run", false, "say what would run and what would be reused, and stop")
	f.StringVar(&req.Plan, "plan", "", "the token of a dry run: do exactly what it said, or nothing")
	f.BoolVar(&req.Force, "force", false, "run again even if nothing changed")
	f.BoolVar(&watch, "watch", false, "follow it to its end")
	return cmd
}

// checkSetPaths refuses, before anything is started, a setting of a stage without the
// stage before it, where the stage's name says its kind.
func checkSetPaths(sets []string, stage string) error {
	for _, set := range sets {
		key, value, ok := strings.Cut(set, "=")
		if !ok || strings.Contains(key, ".") || recipes.IsKey(key) {
			continue
		}
		if paths := recipes.Settings(stage, key); len(paths) > 0 {
			return usagef(fmt.Sprintf("write --set %s=%s", strings.Join(paths, " or "), value),
				"--set %s names no stage", set)
		}
	}
	return nil
}

// rerunDocument is what a rerun did, or would do.
type rerunDocument struct {
	Schema  string       `json:"schema"`
	Run     string       `json:"run"`
	NewRun  bool         `json:"new_run"`
	Attempt int          `json:"attempt,omitempty"`
	DryRun  bool         `json:"dry_run"`
	Plan    string       `json:"plan"` // for --plan
	Stages  []rerunStage `json:"stages"`
}

type rerunStage struct {
	Name   string `json:"name"`
	Action string `json:"action"`
	Reason string `json:"reason"`
}

func (a *app) printRerun(req runs.RerunRequest, r runs.RerunResult) error {
	doc := rerunDocument{"trimtab.rerun/v1", r.Run, r.NewRun, r.Attempt, req.DryRun, r.Plan, nil}
	for _, st := range r.Stages {
		doc.Stages = append(doc.Stages, rerunStage{st.Name, st.Action, st.Reason})
	}
	if a.wantsJSON() {
		return a.printDocument(doc)
	}
	err := printList(a, list[rerunStage]{items: doc.Stages, empty: "nothing to do", columns: []column[rerunStage]{
		{name: "stage", full: func(s rerunStage) string { return s.Name }},
		{name: "action", full: func(s rerunStage) string { return s.Action }},
		{name: "reason", full: func(s rerunStage) string { return s.Reason }},
	}})
	switch {
	case err != nil:
	case req.DryRun:
		a.note("nothing was changed (--dry-run); to do exactly this, add --plan %s", r.Plan)
	case r.NewRun:
		a.note("new run %s; follow it: trimtab watch %s", r.Run, shortID(r.Run))
	default:
		a.note("attempt %d of %s; follow it: trimtab watch %s", r.Attempt, req.Stage, shortID(r.Run))
	}
	return err
}

// decision is a command by which a person decides about a run or a stage.
type decision struct {
	use, short, example, pastTense string
	stage                          bool // it takes a stage after the run
	needsReason                    bool // it changes what the result means: a reason is required
	do                             func(ctx context.Context, s *session, run, stage, reason, actor string) error
}

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
				if err := d.do(ctx, s, args[0], stage, reason, a.actor()); err != nil {
					return err
				}
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

// requireReason refuses a decision without a reason, unless the settings ask for none.
func (a *app) requireReason(what, reason string) error {
	if a.settings.value("require_reasons") == "false" {
		return nil
	}
	return runs.CheckReason(what, reason)
}

// sentence tells what came of a decision. A stage that has to stop takes some
// seconds to hear of it, and makes a checkpoint.
func (d decision) result(doc runs.View) string {
	working := slices.ContainsFunc(doc.Stages,
		func(st runs.StageView) bool { return st.Status == trimtab.AttemptRunning })
	switch {
	case d.pastTense == "cancelled" && doc.Status != trimtab.RunCancelled:
		return fmt.Sprintf("%s will be cancelled: its stage stops within seconds", doc.Name)
	case doc.Status == trimtab.RunPaused && working:
		return fmt.Sprintf("%s: %s is %s; its stage stops within seconds", d.pastTense, doc.Name, doc.Status)
	}
	return fmt.Sprintf("%s: %s is %s", d.pastTense, doc.Name, doc.Status)
}

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

func (a *app) skipCmd() *cobra.Command {
	return a.decisionCmd(decision{
		use: "skip RUN STAGE", short: "go on without a blocked stage that no later one needs", stage: true,
		needsReason: true, pastTense: "skipped",
		example: `  trimtab skip my-assistant evaluate --reason "measured elsewhere"`,
		do: func(ctx context.Context, s *session, run, stage, reason, actor string) error {
			return s.runs.Skip(ctx, run, stage, reason, actor)
		},
	})
}

func (a *app) cancelCmd() *cobra.Command {
	return a.decisionCmd(decision{
		use: "cancel RUN", short: "end a run; what it made is kept", needsReason: true, pastTense: "cancelled",
		example: `  trimtab cancel my-assistant --reason "wrong data"`,
		do: func(ctx context.Context, s *session, run, _, reason, actor string) error {
			return s.runs.Cancel(ctx, run, reason, actor)
		},
	})
}

func (a *app) pauseCmd() *cobra.Command {
	return a.decisionCmd(decision{
		use: "pause RUN", short: "stop a run, with a checkpoint, until resume", pastTense: "paused",
		example: "  trimtab pause my-assistant",
		do: func(ctx context.Context, s *session, run, _, reason, actor string) error {
			return s.runs.Pause(ctx, run, reason, actor)
		},
	})
}

func (a *app) resumeCmd() *cobra.Command {
	return a.decisionCmd(decision{
		use: "resume RUN", short: "let a paused run go on", pastTense: "resumed",
		example: "  trimtab resume my-assistant",
		do: func(ctx context.Context, s *session, run, _, reason, actor string) error {
			return s.runs.Resume(ctx, run, reason, actor)
		},
	})
}
