package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/trimtab/trimtab"
	"github.com/trimtab/trimtab/audit"
	"github.com/trimtab/trimtab/notary"
)

func (a *app) auditCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use: "audit", Short: "the record: verify it, read it, prove what is in it", RunE: group,
		Long: `Everything that happens is an event in the database, in the transaction of what it
tells of. Each event holds the digest of the rows that it tells of and of the event before
it in its stream, and all events are leaves of one Merkle tree. A worker signs the head of
the tree at the end of each stage and every minute, and keeps it in the database, in
store/tree-heads.jsonl of the data folder, and wherever audit_copies says. Keep one
copy, and the line that "audit key" prints, where nobody who can change the database
can change them.`,
		Example: "  trimtab audit verify\n  trimtab audit prove my-run 12 > proof.json\n  trimtab audit prove " +
			"--offline ./my-model --key \"$(cat key.txt)\"",
	}
	cmd.AddCommand(a.auditVerifyCmd(), a.auditLogCmd(), a.auditProveCmd(), a.auditExportCmd(), a.auditKeyCmd())
	return cmd
}

// keyPath is the file of the key that signs heads; empty where there can be none.
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

// headsFile is where signed heads are kept beside the database.
func (a *app) headsFile() string { return notary.HeadsIn(a.storeFolder()) }

// newNotary signs with the key of this data folder, which it makes if there is none.
func (a *app) newNotary(lg *slog.Logger, s *session) *notary.Notary {
	return notary.New(lg, s.store, programActor, a.keyPath(), a.headsFile(), a.auditCopies()...)
}

// auditCopies are the folders and addresses of audit_copies.
func (a *app) auditCopies() (list []string) {
	for _, where := range strings.Split(a.settings.value("audit_copies"), ",") {
		if where = strings.TrimSpace(where); where != "" {
			list = append(list, where)
		}
	}
	return list
}

// signHead signs a head now if the key is here; nothing else hangs on it.
func (a *app) signHead(ctx context.Context, s *session) error {
	if _, err := os.Stat(a.keyPath()); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return a.newNotary(slog.New(slog.DiscardHandler), s).SignHead(ctx, time.Now())
}

// verificationKeys are the keys given, else that of the data folder.
func (a *app) verificationKeys(given []string) ([]string, error) {
	for _, key := range given {
		if err := audit.CheckKey(strings.TrimSpace(key)); err != nil {
			return nil, usagef("give the line that `trimtab audit key` prints", "--key %.100q: %w", key, err)
		}
	}
	if len(given) > 0 {
		return given, nil
	}
	if _, err := os.Stat(a.keyPath()); errors.Is(err, fs.ErrNotExist) {
		return nil, trimtab.NewError(trimtab.NotFound, "audit_key_not_found",
			"give --key with the line that `trimtab audit key` prints where the workers run",
			"there is no key in %s", a.keyPath())
	}
	key, err := notary.OpenKey(a.keyPath())
	if err != nil {
		return nil, err
	}
	return []string{key.Verifier()}, nil
}

func (a *app) auditKeyCmd() *cobra.Command {
	return &cobra.Command{
		Use: "key", Short: "print the key that tree heads are verified with", Args: argCount(0, 0),
		Example: "  trimtab audit key > key.txt",
		RunE: func(cmd *cobra.Command, _ []string) error {
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

func (a *app) auditExportCmd() *cobra.Command {
	return &cobra.Command{
		Use: "export FOLDER", Short: "write all events and signed heads into a folder", Args: argCount(1, 1),
		Long: `Write every event that is in the tree to FOLDER/events.jsonl, in the order of the
tree, and the signed heads to FOLDER/tree-heads.jsonl. "audit verify --offline FOLDER" verifies them
anywhere.`,
		Example: "  trimtab audit export ./record-2026\n  trimtab audit verify --offline ./record-2026 --key \"$(cat " +
			"key.txt)\"",
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.withStore(cmd, func(ctx context.Context, s *session) error {
				if err := forNewFiles(args[0]); err != nil {
					return err
				}
				if err := a.signHead(ctx, s); err != nil {
					return err
				}
				n, err := notary.Export(ctx, s.store, args[0])
				if err != nil {
					return writeError(args[0], err)
				}
				if a.wantsJSON() {
					return a.printDocument(map[string]any{"schema": "trimtab.audit_export/v1", "events": n,
						"folder": args[0]})
				}
				fmt.Fprintf(a.out, "%d events are in %s\n", n, escapeLine(args[0]))
				return nil
			})
		},
	}
}

// logEntry is an event of any stream.
type logEntry struct {
	Stream string `json:"stream"`
	eventRow
	Facts string     `json:"facts"`
	Hash  audit.Hash `json:"hash"`
}

var logEntryColumns = []column[logEntry]{
	{name: "at", full: func(e logEntry) string { return e.At.Format(time.RFC3339Nano) },
		short: func(e logEntry) string { return e.At.Local().Format("01-02 15:04:05") }},
	{name: "stream", full: func(e logEntry) string { return e.Stream },
		short: func(e logEntry) string { return shortStream(e.Stream) }},
	{name: "sequence", full: func(e logEntry) string { return strconv.FormatInt(e.Sequence, 10) }, right: true},
	{name: "actor", full: func(e logEntry) string { return e.Actor }},
	{name: "type", full: func(e logEntry) string { return e.Type }},
	{name: "stage", full: func(e logEntry) string { return e.Stage }},
	{name: "attempt", full: func(e logEntry) string { return positive(e.Attempt) }, right: true},
	{name: "body", full: func(e logEntry) string { return string(e.Body) }, only: formatCSV},
	{name: "facts", full: func(e logEntry) string { return e.Facts }, only: formatCSV},
	{name: "hash", full: func(e logEntry) string { return e.Hash.String() },
		short: func(e logEntry) string { return e.Hash.String()[:12] }},
}

// shortStream leaves of a digest what people need.
func shortStream(s string) string {
	if name, d, ok := strings.Cut(s, "/sha256:"); ok && len(d) > 12 {
		return name + "/" + d[:12]
	}
	return s
}

func (a *app) auditLogCmd() *cobra.Command {
	var limit int
	cmd := &cobra.Command{
		Use: "log [STREAM]", Short: "the newest events of all streams, or of one, with their hashes",
		Args: argCount(0, 1),
		Long: `List events in order of time, the newest last. A stream is a run, dataset/NAME,
artifact/DIGEST, documents or audit. With --limit 0 all are listed.`,
		Example: "  trimtab audit log\n  trimtab audit log dataset/my-rankings --limit 0 -o jsonl",
		RunE: func(cmd *cobra.Command, args []string) error {
			if limit < 0 {
				return usagef("give 0 for all, or more", "--limit is %d", limit)
			}
			return a.withStore(cmd, func(ctx context.Context, s *session) error {
				stream := ""
				if len(args) == 1 {
					stream = resolveStream(ctx, s, args[0])
				}
				events, err := s.store.NewestEvents(ctx, stream, limit)
				if err != nil {
					return err
				}
				var items []logEntry
				for _, r := range events {
					e := r.Event
					items = append(items, logEntry{e.Stream,
						eventRow{e.Sequence, e.At.UTC(), e.Actor, e.Type, e.Stage, e.Attempt, json.RawMessage(e.Body)},
						string(e.Facts), r.Hash})
				}
				return printList(a, list[logEntry]{schema: "trimtab.audit_log/v1", key: "events", items: items,
					columns: logEntryColumns, empty: "no events"})
			})
		},
	}
	cmd.Flags().IntVar(&limit, "limit", 50, "how many of the newest; 0 is all")
	return cmd
}

// resolveStream takes a run's name or the beginning of its id for its stream.
func resolveStream(ctx context.Context, s *session, ref string) string {
	if run, err := s.store.Run(ctx, ref); err == nil {
		return run.ID
	}
	return ref
}
