package main

import (
	"context"
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/trimtab/trimtab"
	"github.com/trimtab/trimtab/audit"
	"github.com/trimtab/trimtab/notary"
)

// verification is the report of audit verify as one document.
type verification struct {
	Schema string `json:"schema"`
	// Sound is true if no problem was found; notes do not count.
	Sound bool `json:"sound"`
	notary.Verification
	// Head is the largest signed head that verified.
	Head *headDocument `json:"head"`
	// OutOfScope lists what a verification cannot find out, a sentence each.
	OutOfScope []string `json:"out_of_scope"`
	// Seconds is how long the verification took.
	Seconds float64 `json:"seconds"`
}

// headDocument is a signed tree head: the number of events it covers, the
// root of the Merkle tree over them, and when it was signed.
type headDocument struct {
	// Size is the number of events under the head.
	Size int64 `json:"size"`
	// Root is the root of the Merkle tree over the hashes of those events.
	Root audit.Hash `json:"root"`
	// At is when the head was signed, in UTC; null where a head does not
	// say.
	At *time.Time `json:"at"`
}

// headOf converts a head, or returns nil for the zero head, which means that
// nothing has been signed yet.
func headOf(h audit.Head) *headDocument {
	if h.Size == 0 {
		return nil
	}
	e := &headDocument{Size: h.Size, Root: h.Root}
	if !h.At.IsZero() {
		at := h.At.UTC()
		e.At = &at
	}
	return e
}

// auditVerifyCmd is "trimtab audit verify".
func (a *app) auditVerifyCmd() *cobra.Command {
	var against, keys []string
	var offline string
	var noFiles bool
	cmd := &cobra.Command{
		Use: "verify", Short: "check whether anything in the record was changed", Args: argCount(0, 0),
		Long: `Follow the hash chain of every stream, rebuild the Merkle tree over all events and compare
it with every signed head: in the database, in store/tree-heads.jsonl, in the folders of
audit_copies, and in the files given with --against. Recompute the digests of all rows that
events describe, and report rows that no event describes. Compare the tables, functions,
triggers, privileges, roles and settings of the database with those that the migrations
create. Read the files of all models, and the newest checkpoint of each attempt.

The database is only asked for rows; everything compared is computed by this program.
Exit with 5, and name the place, if anything was changed or no signed head is left.
Oddities that change nothing in the record, such as an additional index, are notes. The
result is itself recorded as an event.`,
		Example: `  trimtab audit verify
  trimtab audit verify --against /mnt/safe/tree-heads.jsonl --key "$(cat /mnt/safe/key.txt)" -o json`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if offline != "" {
				return a.verifyExport(offline, against, keys)
			}
			return a.withStore(cmd, func(ctx context.Context, s *session) error {
				return a.verify(ctx, s, against, keys, !noFiles)
			})
		},
	}
	f := cmd.Flags()
	f.StringArrayVar(&against, "against", nil,
		"a file of signed heads, or one head, that was kept elsewhere; may be repeated")
	f.StringArrayVar(&keys, "key", nil, "a key that heads may be signed with (default: that of the data folder)")
	f.StringVar(&offline, "offline", "",
		"verify this folder of `audit export`; no database is needed, and no rows are compared")
	f.BoolVar(&noFiles, "no-files", false, "do not read the files of models and checkpoints")
	return cmd
}

// verify verifies the record in the database, and the files if asked to, and
// records the outcome as an event. That a verification took place is worth
// recording, but a database on which it cannot be recorded, for example a
// read-only replica, is verified all the same.
//
// A missing key is an error only where there is a signed head to verify with
// it: a new record has none. That signed heads which once existed are gone is
// found by the copies outside the database.
func (a *app) verify(ctx context.Context, s *session, against, keys []string, files bool) error {
	started := time.Now()
	// A mistyped path must not pass for "no heads were kept there".
	for _, path := range against {
		if _, err := os.Stat(path); err != nil {
			return fileError(path, err)
		}
	}
	v := notary.Verifier{Store: s.store, Progress: a.verifyProgress()}
	var err error
	if v.Saved, err = a.savedHeads(against); err != nil {
		return err
	}
	_, _, signed, err := s.store.NewestHead(ctx)
	if err != nil {
		return err
	}
	if v.Keys, err = a.verificationKeys(keys); err != nil && (signed || len(v.Saved) > 0) {
		return err
	}
	scope := notary.OutOfScope
	// Reading the files takes the longest: models have gigabytes.
	if files {
		v.State = s.runs.CheckNewestCheckpoint
		v.Model = func(d string) error {
			_, err := s.files.Files(trimtab.Digest(d))
			return err
		}
	} else {
		scope = append([]string{"the files of models and checkpoints (--no-files)"}, scope...)
	}
	rep, err := v.Verify(ctx)
	if err != nil {
		return err
	}
	// The event has the outcome, not the problems: those are for people to
	// look at.
	outcome := map[string]any{"events": rep.Events, "head": rep.Newest.Size, "problems": len(rep.Problems) + rep.More}
	if err := s.store.RecordEvent(ctx, notary.Stream, a.actor(), trimtab.EventAuditVerified, outcome); err != nil {
		a.note("record the verification: %v", err)
	}
	return a.finishVerification(rep, scope, started)
}

// finishVerification prints the report, and returns exit code 5 where
// problems were found.
func (a *app) finishVerification(rep notary.Verification, scope []string, started time.Time) error {
	if _, drawn := terminal(a.err); drawn {
		fmt.Fprint(a.err, "\r\x1b[K")
	}
	doc := verification{"trimtab.verification/v1", len(rep.Problems) == 0, rep, headOf(rep.Newest), scope,
		time.Since(started).Seconds()}
	if err := a.printVerification(doc); err != nil {
		return err
	}
	if !doc.Sound {
		// The report has been printed: only the exit code is left to give.
		return exitStatus(trimtab.ExitCode(trimtab.NewError(trimtab.Verification, "record_changed", "", "")))
	}
	return nil
}

// verifyExport verifies a folder written by audit export. It needs no
// database, and so it cannot compare the rows, the schema or the files.
func (a *app) verifyExport(folder string, against, keys []string) error {
	started := time.Now()
	verifiers, err := a.verificationKeys(keys)
	if err != nil {
		return err
	}
	saved, err := a.readHeads(against)
	if err != nil {
		return err
	}
	rep, err := notary.VerifyExport(folder, verifiers, saved)
	if err != nil {
		return fileError(folder, err)
	}
	scope := append([]string{"rows, the database schema, and files: an export contains only events and heads"},
		notary.OutOfScope[2:]...)
	return a.finishVerification(rep, scope, started)
}

// savedHeads reads the signed heads that are kept outside the database: in
// the data folder, in the folders of audit_copies, and in the files given
// with --against. Copies sent to a URL cannot be read back; the receiver has
// to save them to a file for --against.
func (a *app) savedHeads(against []string) (saved []notary.SavedHead, err error) {
	places := []string{a.headsFile()}
	for _, where := range a.auditCopies() {
		if !notary.IsAddress(where) {
			places = append(places, notary.HeadsIn(where))
		}
	}
	return a.readHeads(append(places, against...))
}

// readHeads reads files of signed heads, or those in folders. A file may hold
// torn lines from a crash, which are noted and skipped.
func (a *app) readHeads(places []string) (saved []notary.SavedHead, err error) {
	for _, path := range places {
		if info, err := os.Stat(path); err == nil && info.IsDir() {
			path = notary.HeadsIn(path)
		}
		notes, torn, err := notary.ReadHeads(path)
		if err != nil {
			return nil, fileError(path, err)
		}
		if torn > 0 {
			a.note("%s: skipped %s that do not hold a tree head", path, plural(torn, "line"))
		}
		for i, n := range notes {
			saved = append(saved, notary.SavedHead{Where: fmt.Sprintf("head %d of %s", i+1, path), Note: n})
		}
	}
	return saved, nil
}

// printVerification prints the report: what was verified, the newest signed
// head, and either the problems or what a verification cannot find out. The
// last line goes to standard error as an error, since the exit code will be
// 5.
func (a *app) printVerification(v verification) error {
	if a.wantsJSON() {
		return a.printDocument(v)
	}
	problems := list[notary.Problem]{items: v.Problems, columns: []column[notary.Problem]{
		{name: "where", full: func(p notary.Problem) string { return p.Where }},
		{name: "what", full: func(p notary.Problem) string { return p.What }},
	}}
	if a.format == formatCSV {
		return printCSV(a.out, problems)
	}
	rows := int64(0)
	for _, n := range v.Rows {
		rows += n
	}
	fmt.Fprintf(a.out, "verified %s events, %s of them in the tree, %s signed heads, %s rows in %d tables, "+
		"and the files of %d models and %d checkpoints in %.1f s\n",
		formatCount(float64(v.Events)), formatCount(float64(v.Leaves)), formatCount(float64(v.Verification.Heads)),
		formatCount(float64(rows)), len(v.Rows), v.Files, v.Checkpoints, v.Seconds)
	if h := v.Head; h != nil && h.At != nil {
		fmt.Fprintf(a.out, "newest signed head: %d events, %s, %s\n", h.Size, h.Root, h.At.Format(time.RFC3339))
	}
	for _, n := range v.Notes {
		fmt.Fprintf(a.out, "note: %s: %s\n", escapeLine(n.Where), escapeLine(n.What))
	}
	if v.Sound {
		fmt.Fprintln(a.out, "nothing was changed")
		fmt.Fprintln(a.out, "not covered by this verification:")
		for _, s := range v.OutOfScope {
			fmt.Fprintf(a.out, "  %s\n", s)
		}
		return nil
	}
	for _, p := range v.Problems {
		fmt.Fprintf(a.out, "  %s: %s\n", escapeLine(p.Where), escapeLine(p.What))
	}
	if v.More > 0 {
		fmt.Fprintf(a.out, "  and %d more\n", v.More)
	}
	fmt.Fprintf(a.err, "error: the record was changed: %s: %s\n", escapeLine(v.Problems[0].Where),
		escapeLine(v.Problems[0].What))
	return nil
}
