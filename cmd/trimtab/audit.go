package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/trimtab/trimtab"
	"github.com/trimtab/trimtab/audit"
	"github.com/trimtab/trimtab/notary"
	"github.com/trimtab/trimtab/workflows"
)

// auditCmd is "trimtab audit", the group of commands about the record.
func (a *app) auditCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use: "audit", Short: "the record: verify it, read it, prove what it contains", RunE: group,
		Long: `Everything that happens is recorded as an event, in the same database transaction as the
change it describes. Each event holds the digest of the rows it describes and the hash of
the preceding event in its stream, and all events are the leaves of one Merkle tree. A
worker signs the head of the tree at the end of each stage and every minute, and writes it
to the database, to store/tree-heads.jsonl in the data folder, and to each location in
audit_copies. Keep one copy of the heads, and the line printed by "audit key", in a place
that nobody with access to the database can change.`,
		Example: `  trimtab audit verify
  trimtab audit prove my-run 12 > proof.json
  trimtab audit prove --offline ./my-model --key "$(cat key.txt)"`,
	}
	cmd.AddCommand(a.auditVerifyCmd(), a.auditLogCmd(), a.auditProveCmd(), a.auditExportCmd(), a.auditKeyCmd())
	return cmd
}

// keyPath is the file of the key that signs tree heads: the setting
// audit_key, or audit.key in the data folder. It is empty where there is no
// data folder either.
func (a *app) keyPath() string {
	if p := a.settings.value("audit_key"); p != "" {
		return p
	}
	data, err := a.settings.dataFolder()
	if err != nil {
		return ""
	}
	return filepath.Join(data, "audit.key")
}

// headsFile is the file in the data folder that signed heads are appended to.
func (a *app) headsFile() string { return notary.HeadsIn(a.storeFolder()) }

// newNotary returns a notary that signs with this data folder's key, and
// writes heads to the database, to the data folder and to the copies. The
// notary creates the key on first use, so that a machine that never signs has
// none.
func (a *app) newNotary(lg *slog.Logger, s *session) *notary.Notary {
	return notary.New(lg, s.store, workflows.SystemActor, a.keyPath(), a.headsFile(), a.auditCopies()...)
}

// auditCopies returns the folders and addresses of the setting audit_copies.
// A copy that nobody with access to the database can reach is what makes a
// change of the past detectable.
func (a *app) auditCopies() (list []string) {
	for _, where := range strings.Split(a.settings.value("audit_copies"), ",") {
		if where = strings.TrimSpace(where); where != "" {
			list = append(list, where)
		}
	}
	return list
}

// signHead signs a tree head now, so that what was just recorded can be
// proved at once and not only after the worker's next head, a minute later.
// Where the key is not on this machine it does nothing: the worker's machine
// signs.
func (a *app) signHead(ctx context.Context, s *session) error {
	if _, err := os.Stat(a.keyPath()); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return a.newNotary(slog.New(slog.DiscardHandler), s).SignHead(ctx, time.Now())
}

// verificationKeys returns the given public keys, or else the one that
// belongs to the data folder's signing key. It never creates a key: verifying
// against a key that was made a moment ago would prove nothing. Several keys
// are accepted because a record may have been signed by several machines.
func (a *app) verificationKeys(given []string) ([]string, error) {
	for _, key := range given {
		if err := audit.CheckKey(strings.TrimSpace(key)); err != nil {
			return nil, usagef("use the line that `trimtab audit key` prints", "--key is %.100q: %w", key, err)
		}
	}
	if len(given) > 0 {
		return given, nil
	}
	if _, err := os.Stat(a.keyPath()); errors.Is(err, fs.ErrNotExist) {
		return nil, trimtab.NewError(trimtab.NotFound, "audit_key_not_found",
			"pass --key with the line that `trimtab audit key` prints on the machine of the workers",
			"find the verification key: there is no key file %s", a.keyPath())
	}
	key, err := notary.OpenKey(a.keyPath())
	if err != nil {
		return nil, err
	}
	return []string{key.Verifier()}, nil
}

// auditKeyCmd is "trimtab audit key". It creates the key if there is none
// yet, so that the public key can be put in a safe place before the first
// run. Only the public part is ever printed.
func (a *app) auditKeyCmd() *cobra.Command {
	return &cobra.Command{
		Use: "key", Short: "print the public key that verifies tree heads", Args: argCount(0, 0),
		Example: "  trimtab audit key > key.txt",
		RunE: func(cmd *cobra.Command, _ []string) error {
			// The key is created in the data folder, which therefore must be
			// one.
			if a.settings.value("audit_key") == "" {
				if _, err := a.claimDataFolder(); err != nil {
					return err
				}
			}
			key, err := notary.OpenKey(a.keyPath())
			if err != nil {
				return err
			}
			if a.wantsJSON() {
				return a.printDocument(map[string]any{"schema": "trimtab.key/v1", "verifier": key.Verifier()})
			}
			fmt.Fprintln(a.out, key.Verifier())
			return nil
		},
	}
}

// auditExportCmd is "trimtab audit export": all events and heads as files,
// which can be verified without a database, and years after it is gone.
func (a *app) auditExportCmd() *cobra.Command {
	return &cobra.Command{
		Use: "export FOLDER", Short: "write all events and signed heads to a folder", Args: argCount(1, 1),
		Long: `Write every event in the tree to FOLDER/events.jsonl, in tree order, and the signed heads
to FOLDER/tree-heads.jsonl. "audit verify --offline FOLDER" verifies them on any machine,
without a database.`,
		Example: `  trimtab audit export ./record-2026
  trimtab audit verify --offline ./record-2026 --key "$(cat key.txt)"`,
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.withStore(cmd, func(ctx context.Context, s *session) error {
				if err := forNewFiles(args[0]); err != nil {
					return err
				}
				if err := a.signHead(ctx, s); err != nil {
					return err
				}
				// The export ends with the newest event that is in the tree.
				n, err := notary.Export(ctx, s.store, args[0])
				if err != nil {
					return writeError(args[0], err)
				}
				if a.wantsJSON() {
					return a.printDocument(map[string]any{"schema": "trimtab.audit_export/v1", "events": n,
						"folder": args[0]})
				}
				fmt.Fprintf(a.out, "wrote %d events to %s\n", n, escapeLine(args[0]))
				return nil
			})
		},
	}
}
