package main

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"path"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/trimtab/trimtab/checkpoint"
	"github.com/trimtab/trimtab/runs"
)

// minGrace is the smallest --grace. A file is written before the database
// names it, usually by minutes, and by more while the database is
// unavailable: younger files must never be removed.
const minGrace = 10 * time.Minute

// gcCmd is "trimtab gc": remove files that nothing refers to.
func (a *app) gcCmd() *cobra.Command {
	var keep runs.Retention
	var dry, yes bool
	cmd := &cobra.Command{
		Use: "gc", Short: "remove unreferenced files from the store", Args: argCount(0, 0),
		Long: `Remove files from the store in the data folder that nothing refers to any more: models
that no row, plan, spec, report or event names, with their files; checkpoints except the
newest two of each attempt, or the last one if the attempt completed a week ago; rollouts
of finished attempts; files that were set aside as damaged a month ago; and leftovers of
crashes. Files younger than --grace are never touched, since something may be about to
refer to them. A store that another database uses too is left alone.`,
		Example: "  trimtab gc --dry-run\n  trimtab gc --yes\n  trimtab gc --keep-states 24h --dry-run -o json",
		RunE: func(cmd *cobra.Command, _ []string) error {
			if keep.Grace < minGrace || keep.States < 0 || keep.Damaged < 0 {
				return usagef(fmt.Sprintf("use a --grace of %s or more, and ages of 0 or more", minGrace),
					"--grace is %s, --keep-states %s, --keep-damaged %s", keep.Grace, keep.States, keep.Damaged)
			}
			return a.withStore(cmd, func(ctx context.Context, s *session) error { return a.gc(ctx, s, keep, dry, yes) })
		},
	}
	f := cmd.Flags()
	f.BoolVar(&dry, "dry-run", false, "list what would be removed, and stop")
	f.BoolVar(&yes, "yes", false, "do not ask")
	f.DurationVar(&keep.States, "keep-states", 7*24*time.Hour,
		"age at which a completed attempt keeps only its last checkpoint")
	f.DurationVar(&keep.Damaged, "keep-damaged", 30*24*time.Hour,
		"age at which a file that was set aside as damaged goes")
	f.DurationVar(&keep.Grace, "grace", 24*time.Hour, "age under which no file is touched")
	return cmd
}

// unreferencedFile is a file of the store that may be removed.
type unreferencedFile struct {
	// Path is relative to the store.
	Path string `json:"path"`
	// Size is in bytes, and Age in seconds since the file was last written.
	Size int64   `json:"size"`
	Age  float64 `json:"age"`
	// Reason says why the file may go.
	Reason string `json:"reason"`
	// Removed is false in a dry run, and for a file that turned out to be in
	// use.
	Removed bool `json:"removed"`
}

// unreferencedColumns are the columns of gc. Digests are shortened for
// people; CSV has full paths, sizes in bytes and ages in seconds.
var unreferencedColumns = []column[unreferencedFile]{
	{name: "path", full: func(f unreferencedFile) string { return f.Path },
		short: func(f unreferencedFile) string { return shortPath(f.Path) }},
	{name: "size", full: func(f unreferencedFile) string { return strconv.FormatInt(f.Size, 10) },
		short: func(f unreferencedFile) string { return formatBytes(f.Size) }, right: true},
	{name: "age", full: func(f unreferencedFile) string { return formatExact(f.Age) },
		short: func(f unreferencedFile) string { return formatAge(f.Age) }, right: true},
	{name: "reason", full: func(f unreferencedFile) string { return f.Reason }},
	{name: "removed", full: func(f unreferencedFile) string { return strconv.FormatBool(f.Removed) }, only: formatCSV},
}

// shortPath shortens the digest in a path to its first 12 digits, which is
// enough to find the file in the store; the extension is kept.
func shortPath(p string) string {
	folder, name := path.Split(p)
	if len(name) >= 64 {
		name = name[:12] + name[64:]
	}
	return folder + name
}

// gc finds the unreferenced files, lists them, asks unless --yes was given,
// and removes them. Before each removal the store checks again that the file
// has not been rewritten in the meantime.
func (a *app) gc(ctx context.Context, s *session, keep runs.Retention, dry, yes bool) error {
	// The list is made first and used for everything: what is shown is what
	// is removed.
	g, err := s.runs.FindGarbage(ctx, keep)
	if err != nil {
		return err
	}
	// Nothing to ask about: print the list, which may be empty, and stop.
	if dry || len(g.Files) == 0 {
		if err := a.printGarbage(g.Files, nil, dry); err != nil || len(g.Files) == 0 || a.format != formatTable {
			return err
		}
		a.note("%s, %s; nothing was removed (--dry-run)", plural(len(g.Files), "file"),
			formatBytes(totalBytes(g.Files)))
		return nil
	}
	if !yes {
		if err := a.confirmRemoval(g.Files); err != nil {
			return err
		}
	}
	removed, err := s.runs.RemoveGarbage(g)
	if err != nil {
		return fmt.Errorf("remove files, %d of %d done: %w", len(removed), len(g.Files), err)
	}
	if yes { // otherwise they were listed with the question
		err = a.printGarbage(g.Files, removed, dry)
	}
	if err == nil && a.format == formatTable {
		a.note("removed %d of %s, %s", len(removed), plural(len(g.Files), "file"), formatBytes(totalBytes(removed)))
	}
	return err
}

// totalBytes is the sum of the sizes of files.
func totalBytes(files []checkpoint.UnreferencedFile) (bytes int64) {
	for _, f := range files {
		bytes += f.Size
	}
	return bytes
}

// confirmRemoval lists the files and asks.
func (a *app) confirmRemoval(files []checkpoint.UnreferencedFile) error {
	otherwise := fmt.Sprintf("this would permanently remove %s (%s)", plural(len(files), "file"),
		formatBytes(totalBytes(files)))
	return a.askYesNo("remove them permanently?", otherwise,
		func() error { return a.printGarbage(files, nil, true) })
}

// askYesNo shows what is at stake and asks a question on the terminal.
// Without a terminal, or where documents are asked for, it refuses, since
// nobody could answer: scripts pass --yes. Anything but y or yes is a no.
func (a *app) askYesNo(question, otherwise string, show func() error) error {
	in, ok := a.in.(*os.File)
	if !ok || !term.IsTerminal(int(in.Fd())) || a.format != formatTable {
		return usagef("look at it with --dry-run, then confirm with --yes", "%s", otherwise)
	}
	if err := show(); err != nil {
		return err
	}
	// The question goes to standard error: standard output may be redirected.
	fmt.Fprint(a.err, question+" [y/N] ")
	line, _ := bufio.NewReader(in).ReadString('\n')
	if answer := strings.ToLower(strings.TrimSpace(line)); answer != "y" && answer != "yes" {
		return usagef("answer y, or pass --yes", "not confirmed: nothing was changed")
	}
	return nil
}

// printGarbage prints the files, with those that were removed marked. A file
// that is not marked after a removal came into use in the meantime.
func (a *app) printGarbage(files, removed []checkpoint.UnreferencedFile, dry bool) error {
	gone := map[string]bool{}
	for _, f := range removed {
		gone[f.Path] = true
	}
	var items []unreferencedFile
	for _, f := range files {
		items = append(items, unreferencedFile{f.Path, f.Size, time.Since(f.ModTime).Seconds(), f.Reason, gone[f.Path]})
	}
	return printList(a, list[unreferencedFile]{schema: "trimtab.gc/v1", key: "files", items: items,
		columns: unreferencedColumns, empty: "nothing to remove: every file in the store is referenced, or too recent",
		extra: map[string]any{"store": a.storeFolder(), "dry_run": dry, "bytes": totalBytes(files),
			"bytes_removed": totalBytes(removed)}})
}
