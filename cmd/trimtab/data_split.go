package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/trimtab/trimtab"
	"github.com/trimtab/trimtab/dataset"
	"github.com/trimtab/trimtab/storage"
)

// dataSplitCmd is "trimtab data split": hold out a share of a dataset's
// items, and freeze the result.
//
// The split is a function of the item's prompt or group, not of its position,
// so that it survives further imports: an item never moves from test to
// train, where a model could already have been measured on it. Items that
// were imported with a split keep it.
func (a *app) dataSplitCmd() *cobra.Command {
	var by string
	var share float64
	var seed uint64
	var dry bool
	cmd := &cobra.Command{
		Use: "split NAME", Short: "hold out a share of the items, and freeze the result", Args: argCount(1, 1),
		Long: `Assign every item that was imported without a split to train or test, and freeze the
result as the newest version. Held-out items are never trained on: a reward model is
measured on held-out rankings, and evaluate samples from held-out prompts.

All items with the same prompt are on the same side, and with --by group all rankings of
the same group. The side is determined by a hash of the prompt or group with the seed, and
by the share: it is the same in every dataset that is split this way, and does not change
when more items are imported and split again.`,
		Example: `  trimtab data split votes --share 0.2 --dry-run
  trimtab data split votes --share 0.2 --by group`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if !(share > 0 && share < 1) { // NaN too
				return usagef("use a share above 0 and below 1, for example 0.2", "--share is %v", share)
			}
			if by != string(storage.SplitByPrompt) && by != string(storage.SplitByGroup) {
				return usagef("use prompt or group", "--by is %q", by)
			}
			// The rule is recorded with the split: anybody can compute it
			// again.
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
	f.Float64Var(&share, "share", 0.2, "approximate share of items to hold out")
	f.StringVar(&by, "by", string(storage.SplitByGroup),
		"unit that is kept together: prompt, or group (a ranking's group, or its prompt if it has none)")
	f.Uint64Var(&seed, "seed", 1, "seed of the assignment; another seed holds out other items")
	f.BoolVar(&dry, "dry-run", false, "count, but change nothing")
	_ = cmd.RegisterFlagCompletionFunc("by", cobra.FixedCompletions([]string{"prompt", "group"},
		cobra.ShellCompDirectiveNoFileComp))
	return cmd
}

// splitDocument is what a split did, or would do.
type splitDocument struct {
	Schema  string `json:"schema"`
	Dataset string `json:"dataset"`
	// By is the unit that is kept together, a prompt or a group.
	By storage.SplitBy `json:"by"`
	// Share is the share that was asked for; HeldOut is what it came to.
	Share   float64 `json:"share"`
	Seed    uint64  `json:"seed"`
	Items   int     `json:"items"`
	HeldOut int     `json:"held_out"`
	// Units is the number of prompts or groups, which are never divided;
	// OfTest is the number of those held out.
	Units   int            `json:"units"`
	OfTest  int            `json:"of_test"`
	DryRun  bool           `json:"dry_run"`
	Version trimtab.Digest `json:"version,omitempty"`
}

// printSplit prints how many items, and how many prompts or groups, were held
// out. The share can differ from the one asked for, since groups have
// different sizes.
func (a *app) printSplit(name string, done storage.SplitResult, dry bool) error {
	doc := splitDocument{Schema: "trimtab.split/v1", Dataset: name, By: done.Rule.By, Share: done.Rule.Share,
		Seed: done.Rule.Seed, Items: done.Items, HeldOut: done.HeldOut, Units: done.Units, OfTest: done.TestUnits,
		DryRun: dry, Version: done.Version.Digest}
	if a.wantsJSON() {
		return a.printDocument(doc)
	}
	fmt.Fprintf(a.out, "%s: %d items for training, %d held out (%.3f); %d of %d %ss are held out\n",
		escapeLine(name), done.Items-done.HeldOut, done.HeldOut, float64(done.HeldOut)/float64(done.Items),
		done.TestUnits, done.Units, done.Rule.By)
	if dry {
		fmt.Fprintln(a.out, "nothing was changed (--dry-run)")
		return nil
	}
	fmt.Fprintf(a.out, "frozen as %s@%s (%s)\n", escapeLine(name), done.Version.Digest,
		plural(done.Version.Items, "item"))
	return nil
}
