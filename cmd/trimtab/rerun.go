package main

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/trimtab/trimtab/recipes"
	"github.com/trimtab/trimtab/runs"
)

// rerunCmd is "trimtab rerun". What a rerun does depends on the run: an open
// run gets a new attempt of the stage, and the attempts after it become
// stale; a closed one is never changed, so a new run refers to it as its
// origin.
//
// --plan guards against a race between people: the token is a digest of
// everything that the dry run was based on, and the service compares it again
// when it carries the rerun out.
func (a *app) rerunCmd() *cobra.Command {
	var req runs.RerunRequest
	var watch bool
	cmd := &cobra.Command{
		Use: "rerun RUN STAGE", Short: "run a stage again: a new attempt in an open run, a new run of a closed one",
		Args: argCount(2, 2),
		Long: `Run a stage again, and then every stage that depends on its output. If the run is still
open, the stage gets a new attempt; if it is closed, a new run is created that reuses the
unchanged stages. Runs are reproducible to the bit: a rerun that changes nothing is refused
unless --force is given.

--dry-run prints a token of its plan. With --plan TOKEN and the same flags, exactly that
plan is carried out, or nothing: the rerun is refused if anything that the plan depends on
has changed since.`,
		Example: `  trimtab rerun my-assistant ppo --from-checkpoint latest
  trimtab rerun my-assistant reward --set reward.num_train_epochs=2 --reason "the gate was missed"
  trimtab rerun my-assistant sft --data demos-v2 --dry-run`,
		RunE: func(cmd *cobra.Command, args []string) error {
			req.Run, req.Stage, req.Actor = args[0], args[1], a.actor()
			if err := checkSetPaths(req.Sets, req.Stage); err != nil {
				return err
			}
			// A reason is required where the result will mean something else.
			// A dry run changes nothing and needs none.
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
	f.StringVar(&req.FromCheckpoint, "from-checkpoint", "", "resume from a checkpoint: latest, or its digest")
	f.StringArrayVar(&req.Sets, "set", nil,
		"change a setting: path=value, for example reward.num_train_epochs=2 (may be repeated)")
	f.StringArrayVar(&req.Data, "data", nil, "use another dataset: NAME, or kind=NAME (may be repeated)")
	f.StringVar(&req.Reason, "reason", "", "why, for the record")
	f.BoolVar(&req.DryRun, "dry-run", false, "show what would run and what would be reused, and stop")
	f.StringVar(&req.Plan, "plan", "", "token printed by a dry run: do exactly that, or nothing")
	f.BoolVar(&req.Force, "force", false, "run again even if nothing changed")
	f.BoolVar(&watch, "watch", false, "follow the run to its end")
	return cmd
}

// checkSetPaths rejects a setting of a stage that lacks the stage in front,
// as in num_train_epochs=2 for reward.num_train_epochs=2, where the stage's name is that of its
// kind. The service would reject it too, but only after the servers were
// started.
func checkSetPaths(sets []string, stage string) error {
	for _, set := range sets {
		key, value, ok := strings.Cut(set, "=")
		if !ok || strings.Contains(key, ".") || recipes.IsKey(key) {
			continue
		}
		// Settings lists the paths under the stage that end in this key:
		// usually one, but for example two learning rates for ppo.
		if paths := recipes.Settings(stage, key); len(paths) > 0 {
			return usagef(fmt.Sprintf("write --set %s=%s", strings.Join(paths, " or "), value),
				"--set %s names no stage", set)
		}
	}
	return nil
}

// rerunDocument is what a rerun did, or would do.
type rerunDocument struct {
	Schema string `json:"schema"`
	// Run is the run that the rerun belongs to: a new one if NewRun is true.
	Run    string `json:"run"`
	NewRun bool   `json:"new_run"`
	// Attempt is the number of the new attempt in an open run.
	Attempt int  `json:"attempt,omitempty"`
	DryRun  bool `json:"dry_run"`
	// Plan is the token for --plan.
	Plan   string       `json:"plan"`
	Stages []rerunStage `json:"stages"`
}

// rerunStage says what happens with a stage, and why.
type rerunStage struct {
	Name string `json:"name"`
	// Action is keep, reuse or run.
	Action string `json:"action"`
	Reason string `json:"reason"`
}

// printRerun prints the stages with what happens to each, and then, on
// standard error, how to follow the rerun or how to carry the plan out.
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
		a.note("new run %s; to follow it: trimtab watch %s", r.Run, shortID(r.Run))
	default:
		a.note("attempt %d of %s; to follow it: trimtab watch %s", r.Attempt, req.Stage, shortID(r.Run))
	}
	return err
}
