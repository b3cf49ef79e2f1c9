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

// verification is what `audit verify` found, as one document.
type verification struct {
	Schema string `json:"schema"`
	Sound  bool   `json:"sound"`
	notary.Verification
	Head       *headDocument `json:"head"`         // the largest signed one
	OutOfScope []string      `json:"out_of_scope"` // what a verification does not find out
	Seconds    float64       `json:"seconds"`
}

type headDocument struct {
	Size int64      `json:"size"`
	Root audit.Hash `json:"root"`
	At   *time.Time `json:"at"`
}

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

func (a *app) auditVerifyCmd() *cobra.Command {
	var against, keys []string
	var offline string
	var noFiles bool
	cmd := &cobra.Command{
		Use: "verify", Short: "find out whether anything of the record was changed", Args: argCount(0, 0),
		Long: `Follow the hash chain of every stream, build the Merkle tree over all events again and
compare it with every signed head: those in the database, in store/tree-heads.jsonl, in
the folders of audit_copies, and in the files given with --against. Take the digests of
all rows that events tell of again, and name rows of which none tells. Hold the tables,
functions, triggers, rights, roles and settings of the database against those that the
migrations make. Read the files of all models, and the newest checkpoint of each attempt.

The database is asked for rows and no more: what is compared is computed here. Exit with
5 if anything is not what it was, or no signed head is left, and name it. What is odd and
changes nothing of the record, such as an index of your own, is a note. The result is an
event itself.`,
		Example: "  trimtab audit verify\n  trimtab audit verify --against /mnt/safe/tree-heads.jsonl --key \"$(cat " +
			"/mnt/safe/key.txt)\" -o json",
		RunE: func(cmd *cobra.Command, _ []string) error {
			if offline != "" {
				return a.verifyExport(offline, against, keys)
			}
			return a.withStore(cmd, func(ctx context.Context,
				s *session) error {
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

func (a *app) verify(ctx context.Context, s *session, against, keys []string, files bool) error {
	started := time.Now()
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
	told := map[string]any{"events": rep.Events, "head": rep.Newest.Size, "problems": len(rep.Problems) + rep.More}
	if err := s.store.RecordEvent(ctx, notary.Stream, a.actor(), "audit_verified", told); err != nil {
		a.note("the verification could not be recorded: %v", err)
	}
	return a.finishVerification(rep, scope, started)
}

// verifyProgress shows how far a verification is, when it takes long.
func (a *app) verifyProgress() func(doing string, done, of int64) {
	shown := time.Now()
	width, drawn := terminal(a.err)
	return func(doing string, done, of int64) {
		every := lineEvery
		if drawn {
			every = time.Second
		}
		if time.Since(shown) < every {
			return
		}
		shown = time.Now()
		line := fmt.Sprintf("verifying: %d %s", done, doing)
		if of > 0 {
			line = fmt.Sprintf("verifying: %d of %d %s", done, of, doing)
		}
		if drawn {
			fmt.Fprintf(a.err, "\r\x1b[K%s\r", truncate(line, width-1))
		} else {
			a.note("%s", line)
		}
	}
}

// finishVerification prints what was found and exits with it.
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
		return exitStatus(trimtab.ExitCode(trimtab.NewError(trimtab.Verification, "record_changed", "", "")))
	}
	return nil
}

// verifyExport verifies a folder that audit export made.
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
	scope := append([]string{"the rows that events tell of, the schema of the database and the files: an export has none"}, notary.OutOfScope[2:]...)
	return a.finishVerification(rep, scope, started)
}

// savedHeads reads the heads that are kept outside the database.
func (a *app) savedHeads(against []string) (saved []notary.SavedHead, err error) {
	places := []string{a.headsFile()}
	for _, where := range a.auditCopies() {
		if !notary.IsAddress(where) {
			places = append(places, notary.HeadsIn(where))
		}
	}
	return a.readHeads(append(places, against...))
}

// readHeads reads files of heads, or those in folders.
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
			a.note("%d lines of %s are no tree heads", torn, path)
		}
		for i, n := range notes {
			saved = append(saved, notary.SavedHead{Where: fmt.Sprintf("head %d of %s", i+1, path), Note: n})
		}
	}
	return saved, nil
}

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
	fmt.Fprintf(a.out,
		"%s events in order, %s of them in the tree, %s signed heads, %s rows in %d tables, the files of %d models "+
			"and %d checkpoints; %.1f s\n",
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
		fmt.Fprintln(a.out, "what this does not find out:")
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
	fmt.Fprintf(a.err, "error: the record is not what it was: %s: %s\n", escapeLine(v.Problems[0].Where),
		escapeLine(v.Problems[0].What))
	return nil
}
