package main

import (
	"context"
	"encoding/json"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/trimtab/trimtab/audit"
)

// logEntry is an event of any stream with its hashes: Facts is the digest of
// the database rows that the event describes, Hash the event's own place in
// the hash chain of its stream.
type logEntry struct {
	// Stream is the hash chain that the event belongs to, in full.
	Stream string `json:"stream"`
	eventRow
	// Facts is the digest of the database rows that the event describes.
	Facts string `json:"facts"`
	// Hash covers the event and the hash of the one before it in its stream.
	Hash audit.Hash `json:"hash"`
}

// logEntryColumns are the columns of audit log. Tables have the time of day
// in local time and the beginning of the hash; bodies and digests of facts
// are for CSV and JSON only.
var logEntryColumns = []column[logEntry]{
	{name: "at", full: func(e logEntry) string { return e.At.Format(time.RFC3339Nano) },
		short: func(e logEntry) string { return e.At.Local().Format("01-02 15:04:05") }},
	{name: "stream", full: func(e logEntry) string { return e.Stream },
		short: func(e logEntry) string { return shortStream(e.Stream) }},
	{name: "sequence", full: func(e logEntry) string { return strconv.FormatInt(e.Sequence, 10) }, right: true},
	{name: "actor", full: func(e logEntry) string { return e.Actor }},
	{name: "type", full: func(e logEntry) string { return string(e.Type) }},
	{name: "stage", full: func(e logEntry) string { return e.Stage }},
	{name: "attempt", full: func(e logEntry) string { return blankIfZero(e.Attempt) }, right: true},
	{name: "body", full: func(e logEntry) string { return string(e.Body) }, only: formatCSV},
	{name: "facts", full: func(e logEntry) string { return e.Facts }, only: formatCSV},
	{name: "hash", full: func(e logEntry) string { return e.Hash.String() },
		short: func(e logEntry) string { return e.Hash.String()[:12] }},
}

// shortStream shortens the digest in a stream's name to 12 digits.
func shortStream(s string) string {
	if name, d, ok := strings.Cut(s, "/sha256:"); ok && len(d) > 12 {
		return name + "/" + d[:12]
	}
	return s
}

// auditLogCmd is "trimtab audit log".
func (a *app) auditLogCmd() *cobra.Command {
	var limit int
	cmd := &cobra.Command{
		Use: "log [STREAM]", Short: "the newest events of all streams, or of one, with their hashes",
		Args: argCount(0, 1),
		Long: `List events in order of time, the newest last. STREAM is a run, dataset/NAME,
artifact/DIGEST, documents or audit.`,
		Example: "  trimtab audit log\n  trimtab audit log dataset/my-rankings --limit 0 -o jsonl",
		RunE: func(cmd *cobra.Command, args []string) error {
			if limit < 0 {
				return usagef("use 0 for all, or more", "--limit is %d", limit)
			}
			return a.withStore(cmd, func(ctx context.Context, s *session) error {
				// Empty means all streams.
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
					// The event's own fields come first, so that a line of
					// audit log reads like one of history.
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
	cmd.Flags().IntVar(&limit, "limit", 50, "maximum number of events, the newest ones; 0 means all")
	return cmd
}

// resolveStream returns the stream that ref names. A run's stream has the
// run's id as its name; instead of the id, the run's name or the beginning of
// the id may be given. Any other ref is taken for the name of a stream, which
// may turn out to have no events.
func resolveStream(ctx context.Context, s *session, ref string) string {
	if run, err := s.store.Run(ctx, ref); err == nil {
		return run.ID
	}
	return ref
}
