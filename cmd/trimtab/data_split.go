package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/trimtab/trimtab"
	"github.com/trimtab/trimtab/dataset"
	"github.com/trimtab/trimtab/storage"
)

func (a *app) dataSplitCmd() *cobra.Command {
	var by string
	var share float64
	var seed uint64
	var dry bool
	cmd := &cobra.Command{
		Use: "split NAME", Short: "hold a share of the items out, and freeze the result", Args: argCount(1, 1),
		Long: `Give every item of a dataset that was imported without a split one, and freeze the result as the
newest version. What is held out never reaches training: a reward model is measured on held-out rankings, and
evaluate asks held-out prompts. All items of one prompt are on the same side, and with --by group all rankings of
one group. The side of a prompt or a group follows from itself, the share and the seed: it is the same in every
dataset that is split so, and stays when more is imported and split again.`,
		Example: `  trimtab data split votes --share 0.2 --dry-run
  trimtab data split votes --share 0.2 --by group`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if !(share > 0 && share < 1) { // NaN too
				return usagef("give a share above 0 and below 1, for example 0.2", "--share is %v", share)
			}
			if by != string(storage.SplitByPrompt) && by != string(storage.SplitByGroup) {
				return usagef("use prompt or group", "--by is %q", by)
			}
			rule := dataset.HoldOutShare(seed, share)
			return a.withStore(cmd, func(ctx context.Context, s *session) error {
				done, err := s.store.SplitDataset(ctx, args[0],
					storage.SplitRule{By: storage.SplitBy(by), Share: share, Seed: seed, Below: rule.Below},
					rule.Hash, a.actor(), dry)
				if err != nil {
					return err
				}
				return a.printSplit(args[0], done, dry)
			})
		},
	}
	f := cmd.Flags()
	f.Float64Var(&share, "share", 0.2, "the share of the items to hold out, about")
	f.StringVar(&by, "by", string(storage.SplitByGroup),
		"what is not torn apart: prompt, or group (a ranking's group, or without one its prompt)")
	f.Uint64Var(&seed, "seed", 1, "another seed holds out others")
	f.BoolVar(&dry, "dry-run", false, "count, and change nothing")
	_ = cmd.RegisterFlagCompletionFunc("by", cobra.FixedCompletions([]string{"prompt", "group"},
		cobra.ShellCompDirectiveNoFileComp))
	return cmd
}

// splitDocument says what a split did, or would do.
type splitDocument struct {
	Schema  string          `json:"schema"`
	Dataset string          `json:"dataset"`
	By      storage.SplitBy `json:"by"`
	Share   float64         `json:"share"`
	Seed    uint64          `json:"seed"`
	Items   int             `json:"items"`
	HeldOut int             `json:"held_out"`
	Units   int             `json:"units"`   // prompts or groups
	OfTest  int             `json:"of_test"` // of them
	DryRun  bool            `json:"dry_run"`
	Version trimtab.Digest  `json:"version,omitempty"`
}

func (a *app) printSplit(name string, done storage.SplitResult, dry bool) error {
	doc := splitDocument{Schema: "trimtab.split/v1", Dataset: name, By: done.Rule.By, Share: done.Rule.Share,
		Seed:  done.Rule.Seed,
		Items: done.Items, HeldOut: done.HeldOut, Units: done.Units, OfTest: done.TestUnits, DryRun: dry,
		Version: done.Version.Digest}
	if a.wantsJSON() {
		return a.printDocument(doc)
	}
	fmt.Fprintf(a.out, "%s: %d items for training, %d held out (%.3f); of %d %ss %d are held out\n",
		escapeLine(name), done.Items-done.HeldOut, done.HeldOut, float64(done.HeldOut)/float64(done.Items), done.Units,
		done.Rule.By, done.TestUnits)
	if dry {
		fmt.Fprintln(a.out, "nothing was changed (--dry-run)")
		return nil
	}
	fmt.Fprintf(a.out, "frozen as %s@%s (%d items)\n", escapeLine(name), done.Version.Digest, done.Version.Items)
	return nil
}
