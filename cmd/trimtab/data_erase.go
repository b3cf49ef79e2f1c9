package main

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/trimtab/trimtab"
	"github.com/trimtab/trimtab/storage"
)

// dataEraseCmd is "trimtab data erase". Erasure is the one operation that
// removes something from the record. Digests stay, which is why the record
// can still be verified; that the text cannot be recovered from a digest
// holds only for text that cannot be guessed.
func (a *app) dataEraseCmd() *cobra.Command {
	var containing, reason string
	var dry, yes bool
	cmd := &cobra.Command{
		Use: "erase NAME [DIGEST …]", Short: "erase the text of items, keeping their digests",
		Args: argCount(1, noLimit),
		Long: `Erase items of a dataset, for example because a person asked for it. Their text is deleted
from the database; their digests and a tombstone stay, so that versions containing them can
still be verified. Such versions can no longer be trained on: freeze the dataset again.
This cannot be undone.

Models that were trained on the items are not changed; "trimtab data used-by" names them.
Also left alone are prompts that ppo recorded with its rollouts (their number is reported),
database dumps, and files that were exported or imported.`,
		Example: `  trimtab data erase my-demos --containing 'Jane Doe' --dry-run
  trimtab data erase my-demos 1a2b3c… --reason 'asked for on 3 May'`,
		RunE: func(cmd *cobra.Command, args []string) error {
			switch {
			case containing == "" && len(args) == 1:
				return usagef("pass digests or --containing", "no items are named")
			case containing != "" && len(args) > 1:
				return usagef("drop one of them", "digests and --containing are given together")
			}
			return a.withStore(cmd, func(ctx context.Context, s *session) error {
				return a.erase(ctx, s, args[0], args[1:], containing, reason, dry, yes)
			})
		},
	}
	f := cmd.Flags()
	f.StringVar(&containing, "containing", "", "erase every item that contains exactly this text")
	f.StringVar(&reason, "reason", "", "why, for the record; do not name the person concerned")
	f.BoolVar(&dry, "dry-run", false, "show what would be erased, and stop")
	f.BoolVar(&yes, "yes", false, "do not ask")
	return cmd
}

// erasure is what was erased, or would be, as one document.
type erasure struct {
	Schema  string `json:"schema"`
	Dataset string `json:"dataset"`
	// Items are the digests of the erased items.
	Items []trimtab.Digest `json:"items"`
	// Already are those whose text had been erased before.
	Already []trimtab.Digest `json:"already"`
	// Rows is the number of database rows that held the text.
	Rows int `json:"rows"`
	// Versions are the frozen versions that contain the items.
	Versions []trimtab.Digest `json:"versions"`
	// Rollouts is the number of recorded rollouts that keep one of the
	// prompts.
	Rollouts int  `json:"rollouts"`
	DryRun   bool `json:"dry_run"`
}

// erasureOf converts what the store erased.
func erasureOf(name string, e storage.ErasureResult, dry bool) erasure {
	return erasure{"trimtab.erasure/v1", name, e.Items, e.Already, e.Rows, e.Versions, e.Rollouts, dry}
}

// erase shows what would be erased, asks unless --yes was given, and erases.
// It runs the deletion twice: as a dry run, so that the question names
// numbers, and then in earnest. Items that were erased in between are counted
// as already erased.
func (a *app) erase(
	ctx context.Context, s *session, name string, refs []string, containing, reason string, dry, yes bool,
) error {
	items, err := itemsToErase(ctx, s, name, refs, containing)
	if err != nil {
		return err
	}
	// The last argument makes it a dry run: counts, without a change.
	erased, err := s.store.Erase(ctx, name, items, a.actor(), reason, true)
	if err != nil {
		return err
	}
	if !dry && len(erased.Items) > 0 {
		if !yes {
			err := a.askYesNo("erase their text permanently?",
				fmt.Sprintf("this would permanently erase the text of %s of %s", plural(len(erased.Items), "item"),
					escapeLine(name)),
				func() error {
					a.printErasure(erasureOf(name, erased, true))
					return nil
				})
			if err != nil {
				return err
			}
		}
		if erased, err = s.store.Erase(ctx, name, items, a.actor(), reason, false); err != nil {
			return err
		}
	}
	doc := erasureOf(name, erased, dry)
	if a.wantsJSON() {
		return a.printDocument(doc)
	}
	a.printErasure(doc)
	return nil
}

// printErasure prints what was erased, or would be: for people the same text
// serves as the question and as the answer.
func (a *app) printErasure(doc erasure) {
	verb := "erased"
	if doc.DryRun {
		verb = "would be erased"
	}
	fmt.Fprintf(a.out, "%s %s", plural(len(doc.Items), "item"), verb)
	if len(doc.Already) > 0 {
		fmt.Fprintf(a.out, ", %d erased before", len(doc.Already))
	}
	fmt.Fprintf(a.out, "; %s with them cannot be trained on any more\n", plural(len(doc.Versions), "frozen version"))
	// Digests, not texts: the output may be kept in a log.
	for _, d := range doc.Items {
		fmt.Fprintln(a.out, "  "+d)
	}
	if doc.Rollouts > 0 {
		fmt.Fprintf(a.out, "kept: %s with the prompt of one of them\n", plural(doc.Rollouts, "recorded rollout"))
	}
}

// itemsToErase returns the digests of the items named by digest, or of those
// that contain a text. The text is searched for as it is, without
// normalisation or patterns: what is erased should be what the user saw.
func itemsToErase(
	ctx context.Context, s *session, name string, refs []string, containing string,
) (items []trimtab.Digest, err error) {
	for _, ref := range refs {
		// The beginning of a digest is not accepted here, unlike elsewhere: a
		// mistake cannot be undone.
		d, err := trimtab.ParseDigest(ref)
		if err != nil {
			return nil, usagef("use full digests, as --containing with --dry-run prints them", "%w", err)
		}
		items = append(items, d)
	}
	if containing == "" {
		return items, nil
	}
	// Nearly every item contains a space.
	if strings.TrimSpace(containing) == "" {
		return nil, usagef("give the text to look for", "--containing is empty")
	}
	found, err := s.store.FindItems(ctx, name, containing)
	for _, f := range found {
		items = append(items, f.Digest)
	}
	if err == nil && len(items) == 0 {
		err = trimtab.NewError(trimtab.NotFound, "item_not_found", "", "no item of %s contains that text", name)
	}
	return items, err
}
