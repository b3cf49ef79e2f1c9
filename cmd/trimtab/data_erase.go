package main

import (
	"context"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/trimtab/trimtab"
	"github.com/trimtab/trimtab/audit"
	"github.com/trimtab/trimtab/storage"
)

func (a *app) dataEraseCmd() *cobra.Command {
	var containing, reason string
	var dry, yes bool
	cmd := &cobra.Command{
		Use: "erase NAME [DIGEST …]", Short: "take the text out of items, and keep their digests",
		Args: argCount(1, 1<<20),
		Long: `Erase items of a dataset because a person asked for it: their text is gone from the
database, their digests and a tombstone stay, so that versions that hold them can still be
verified. Such versions cannot be trained on any more: freeze the dataset again. It cannot be
undone. Models that learned from them have learned; "trimtab data used-by" names them. Not touched are
prompts that ppo has recorded with its rollouts (their number is told), dumps of the database, and files that were
exported or imported from.`,
		Example: "  trimtab data erase my-demos --containing 'Jane Doe' --dry-run\n  trimtab data erase my-demos " +
			"1a2b3c… --reason 'asked for on 3 May'",
		RunE: func(cmd *cobra.Command, args []string) error {
			if (containing == "") == (len(args) == 1) {
				return usagef("give digests or --containing, and not both", "which items?")
			}
			return a.withStore(cmd, func(ctx context.Context, s *session) error {
				return a.erase(ctx, s, args[0], args[1:], containing, reason, dry, yes)
			})
		},
	}
	f := cmd.Flags()
	f.StringVar(&containing, "containing", "", "erase every item that holds this text, as it is written")
	f.StringVar(&reason, "reason", "", "why, for the record; no name of whom it is about")
	f.BoolVar(&dry, "dry-run", false, "say what would go, and stop")
	f.BoolVar(&yes, "yes", false, "do not ask")
	return cmd
}

// erasure is what was erased, or would be, as one document.
type erasure struct {
	Schema   string           `json:"schema"`
	Dataset  string           `json:"dataset"`
	Items    []trimtab.Digest `json:"items"`
	Already  []trimtab.Digest `json:"already"`
	Rows     int              `json:"rows"`
	Versions []trimtab.Digest `json:"versions"`
	Rollouts int              `json:"rollouts"`
	DryRun   bool             `json:"dry_run"`
}

func erasureOf(name string, e storage.ErasureResult, dry bool) erasure {
	return erasure{"trimtab.erasure/v1", name, e.Items, e.Already, e.Rows, e.Versions, e.Rollouts, dry}
}

func (a *app) erase(ctx context.Context, s *session, name string, refs []string, containing, reason string, dry,
	yes bool) error {
	items, err := itemsToErase(ctx, s, name, refs, containing)
	if err != nil {
		return err
	}
	look, err := s.store.Erase(ctx, name, items, a.actor(), reason, true)
	if err != nil {
		return err
	}
	if !dry && len(look.Items) > 0 {
		if !yes {
			err := a.askYesNo("erase their text for ever?",
				fmt.Sprintf("the text of %d items of %s would be erased for ever", len(look.Items), escapeLine(name)),
				func() error {
					a.printErasure(erasureOf(name, look, true))
					return nil
				})
			if err != nil {
				return err
			}
		}
		if look, err = s.store.Erase(ctx, name, items, a.actor(), reason, false); err != nil {
			return err
		}
	}
	doc := erasureOf(name, look, dry)
	if a.wantsJSON() {
		return a.printDocument(doc)
	}
	a.printErasure(doc)
	return nil
}

func (a *app) printErasure(doc erasure) {
	verb := "erased"
	if doc.DryRun {
		verb = "would be erased"
	}
	fmt.Fprintf(a.out, "%d items %s", len(doc.Items), verb)
	if len(doc.Already) > 0 {
		fmt.Fprintf(a.out, ", %d had been before", len(doc.Already))
	}
	fmt.Fprintf(a.out, "; %d frozen versions hold them and cannot be trained on any more\n", len(doc.Versions))
	for _, d := range doc.Items {
		fmt.Fprintln(a.out, "  "+d)
	}
	if doc.Rollouts > 0 {
		fmt.Fprintf(a.out, "%d recorded rollouts show the prompt of one of them, and keep it\n", doc.Rollouts)
	}
}

// itemsToErase are those named by their digests, or by a text that they hold.
func itemsToErase(ctx context.Context, s *session, name string, refs []string,
	containing string) (items []trimtab.Digest, err error) {
	for _, ref := range refs {
		d, err := trimtab.ParseDigest(ref)
		if err != nil {
			return nil, usagef("give whole digests, as --containing with --dry-run prints them", "%w", err)
		}
		items = append(items, d)
	}
	if containing == "" {
		return items, nil
	}
	if strings.TrimSpace(containing) == "" {
		return nil, usagef("give a text", "--containing is empty")
	}
	found, err := s.store.FindItems(ctx, name, containing)
	for _, f := range found {
		items = append(items, f.Digest)
	}
	if err == nil && len(items) == 0 {
		err = trimtab.NewError(trimtab.NotFound, "item_not_found", "", "no item of %s holds that text", name)
	}
	return items, err
}

func (a *app) dataProveCmd() *cobra.Command {
	var offline string
	cmd := &cobra.Command{
		Use: "prove [NAME[@VERSION] DIGEST]", Short: "prove that an item is in a frozen version, without the others",
		Args: argCount(0, 2),
		Long: `Print a proof that the item with this digest is in a frozen version: the hashes beside
its way to the version's digest, which is the root of a Merkle tree over its items. With --offline, check
such a file; no database is needed.`,
		Example: "  trimtab data prove my-demos 1a2b3c… > member.json\n  trimtab data prove --offline member.json",
		RunE: func(cmd *cobra.Command, args []string) error {
			if offline != "" {
				return a.checkMembership(offline)
			}
			if len(args) != 2 {
				return usagef("give a dataset and the digest of an item", "which item?")
			}
			d, err := trimtab.ParseDigest(args[1])
			if err != nil {
				return usagef("give a whole digest", "%w", err)
			}
			return a.withStore(cmd, func(ctx context.Context,
				s *session) error {
				return a.proveMembership(ctx, s, args[0], d)
			})
		},
	}
	cmd.Flags().StringVar(&offline, "offline", "", "check this proof")
	return cmd
}

func (a *app) proveMembership(ctx context.Context, s *session, ref string, item trimtab.Digest) error {
	v, err := s.store.ResolveDataset(ctx, ref)
	if err != nil {
		return err
	}
	digests, err := s.store.Leaves(ctx, v.Digest)
	if err != nil {
		return err
	}
	leaves := make([]string, len(digests))
	for i, d := range digests {
		leaves[i] = string(d)
	}
	m, err := audit.ProveMembership(string(v.Digest), string(item), leaves)
	if err != nil {
		return trimtab.NewError(trimtab.NotFound, "item_not_found", "", "%w", err)
	}
	if err := m.Check(); err != nil {
		return trimtab.NewError(trimtab.Verification, "dataset_digest_mismatch", "run `trimtab audit verify`", "%w",
			err)
	}
	return a.printJSON(m)
}

func (a *app) checkMembership(path string) error {
	raw, err := os.ReadFile(path)
	if err != nil {
		return fileError(path, err)
	}
	m, err := audit.ParseMembership(raw)
	if err == nil {
		err = m.Check()
	}
	if err != nil {
		return trimtab.NewError(trimtab.Verification, "proof_fails", "", "%s: %w", path, err)
	}
	if a.wantsJSON() {
		return a.printDocument(m)
	}
	fmt.Fprintf(a.out, "item %s is item %d of the %d of version %s\n", m.Item, m.Index+1, m.Items, m.Version)
	return nil
}
