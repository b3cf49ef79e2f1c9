package main

import (
	"context"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/trimtab/trimtab"
	"github.com/trimtab/trimtab/audit"
)

// dataProveCmd is "trimtab data prove": it prints a proof of membership, or
// checks one with --offline.
//
// A proof lets the owner of one item, say of a demonstration that they wrote,
// check that it is in a version that a model was trained on, without seeing
// anybody else's item. It is about as long as the logarithm of the number of
// items.
func (a *app) dataProveCmd() *cobra.Command {
	var offline string
	cmd := &cobra.Command{
		Use:   "prove [NAME[@VERSION] DIGEST]",
		Short: "prove that an item is in a frozen version, without revealing the others",
		Args:  argCount(0, 2),
		Long: `Print a proof that the item with this digest is in a frozen version. The version's digest
is the root of a Merkle tree over its items, and the proof is the list of sibling hashes on
the path from the item to the root. With --offline, check such a file; no database is
needed.`,
		Example: "  trimtab data prove my-demos 1a2b3c… > member.json\n  trimtab data prove --offline member.json",
		RunE: func(cmd *cobra.Command, args []string) error {
			if offline != "" {
				return a.checkMembership(offline)
			}
			if len(args) != 2 {
				return usagef("pass a dataset and the digest of an item", "data prove needs an item: got %s",
					plural(len(args), "argument"))
			}
			d, err := trimtab.ParseDigest(args[1])
			if err != nil {
				return usagef("use the full digest", "%w", err)
			}
			return a.withStore(cmd, func(ctx context.Context, s *session) error {
				return a.proveMembership(ctx, s, args[0], d)
			})
		},
	}
	cmd.Flags().StringVar(&offline, "offline", "", "check the proof in this file")
	return cmd
}

// proveMembership prints a proof that an item is in a frozen version. It
// checks the proof before printing it: if it does not lead to the version's
// digest, the database was changed, which is exit code 5.
func (a *app) proveMembership(ctx context.Context, s *session, ref string, item trimtab.Digest) error {
	v, err := s.store.ResolveDataset(ctx, ref)
	if err != nil {
		return err
	}
	digests, err := s.store.Leaves(ctx, v.Digest)
	if err != nil {
		return err
	}
	// The tree is over the digests of the items in the order of the version.
	leaves := make([]string, len(digests))
	for i, d := range digests {
		leaves[i] = string(d)
	}
	m, err := audit.ProveMembership(string(v.Digest), string(item), leaves)
	if err != nil {
		return trimtab.NewError(trimtab.NotFound, "item_not_found", "", "%w", err)
	}
	if err := m.Check(); err != nil {
		return trimtab.NewError(trimtab.Verification, "dataset_digest_mismatch", "run `trimtab audit verify`",
			"%w", err)
	}
	return a.printJSON(m)
}

// checkMembership checks the proof in a file, without a database. The
// version's digest in the proof is what the reader has to compare with the
// digest that they trust, for example in a model's card.
func (a *app) checkMembership(path string) error {
	raw, err := os.ReadFile(path)
	if err != nil {
		return fileError(path, err)
	}
	// Parsing is strict: a proof with unknown fields may mean something that
	// this build does not check.
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
	fmt.Fprintf(a.out, "item %s is item %d of %d in version %s\n", m.Item, m.Index+1, m.Items, m.Version)
	return nil
}
