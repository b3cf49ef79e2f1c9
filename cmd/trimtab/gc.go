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

// minGrace is how young a file may be at the least to be removed: one that is
// written is named in the record within minutes, and waits for a database that is away.
const minGrace = 10 * time.Minute

func (a *app) gcCmd() *cobra.Command {
	var keep runs.Retention
	var dry, yes bool
	cmd := &cobra.Command{
		Use: "gc", Short: "remove files that no run, model or record points to", Args: argCount(0, 0),
		Long: `Remove from the store in the data folder what nothing points to any more: models that
no row, plan, spec, report or event names, and the files of such; all checkpoints of an
attempt but the newest two, or the last one when it was completed a week ago; rollouts
of attempts that are over; what was set aside as damaged a month ago; and what crashes
left. No file is touched that was written within the grace, since somebody may be
about to name it. A store that another database names is left alone.`,
		Example: "  trimtab gc --dry-run\n  trimtab gc --yes\n  trimtab gc --keep-states 24h --dry-run -o json",
		RunE: func(cmd *cobra.Command, _ []string) error {
			if keep.Grace < minGrace || keep.States < 0 || keep.Damaged < 0 {
				return usagef(fmt.Sprintf("give a grace of %s or more, and no age under 0", minGrace),
					"--grace is %s, --keep-states %s, --keep-damaged %s", keep.Grace, keep.States, keep.Damaged)
			}
			return a.withStore(cmd, func(ctx context.Context, s *session) error { return a.gc(ctx, s, keep, dry, yes) })
		},
	}
	f := cmd.Flags()
	f.BoolVar(&dry, "dry-run", false, "list what would go, and stop")
	f.BoolVar(&yes, "yes", false, "do not ask")
	f.DurationVar(&keep.States, "keep-states", 7*24*time.Hour,
		"age at which a completed attempt keeps only its last checkpoint")
	f.DurationVar(&keep.Damaged, "keep-damaged", 30*24*time.Hour,
		"age at which a file that was set aside as damaged goes")
	f.DurationVar(&keep.Grace, "grace", 24*time.Hour, "age under which no file is touched")
	return cmd
}

// unreferencedFile is a file that can go, as this program shows it.
type unreferencedFile struct {
	Path    string  `json:"path"` // in the store
	Size    int64   `json:"size"` // bytes
	Age     float64 `json:"age"`  // seconds
	Reason  string  `json:"reason"`
	Removed bool    `json:"removed"`
}

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

// shortPath leaves of a digest what people need to tell files apart.
func shortPath(p string) string {
	folder, name := path.Split(p)
	if len(name) >= 64 {
		name = name[:12] + name[64:]
	}
	return folder + name
}

func formatAge(seconds float64) string {
	if d := seconds / (24 * 3600); d >= 2 {
		return fmt.Sprintf("%.0f days", d)
	}
	return fmt.Sprintf("%.1f h", seconds/3600)
}

func (a *app) gc(ctx context.Context, s *session, keep runs.Retention, dry, yes bool) error {
	g, err := s.runs.FindGarbage(ctx, keep)
	if err != nil {
		return err
	}
	if dry || len(g.Files) == 0 {
		if err := a.printGarbage(g.Files, nil, dry); err != nil || len(g.Files) == 0 || a.format != formatTable {
			return err
		}
		a.note("%d files, %s; nothing was removed (--dry-run)", len(g.Files), formatBytes(totalBytes(g.Files)))
		return nil
	}
	if !yes {
		if err := a.confirmRemoval(g.Files); err != nil {
			return err
		}
	}
	removed, err := s.runs.RemoveGarbage(g)
	if err != nil {
		return fmt.Errorf("after %d of %d files: %w", len(removed), len(g.Files), err)
	}
	if yes { // else they have been listed
		err = a.printGarbage(g.Files, removed, dry)
	}
	if err == nil && a.format == formatTable {
		a.note("%d of %d files removed, %s", len(removed), len(g.Files), formatBytes(totalBytes(removed)))
	}
	return err
}

func totalBytes(files []checkpoint.UnreferencedFile) (bytes int64) {
	for _, f := range files {
		bytes += f.Size
	}
	return bytes
}

// confirmRemoval shows the files and asks.
func (a *app) confirmRemoval(files []checkpoint.UnreferencedFile) error {
	return a.askYesNo("remove them for ever?", fmt.Sprintf("%d files (%s) would be removed for ever", len(files),
		formatBytes(totalBytes(files))),
		func() error { return a.printGarbage(files, nil, true) })
}

// askYesNo shows what is at stake on a terminal and asks; elsewhere it refuses.
func (a *app) askYesNo(question, otherwise string, show func() error) error {
	in, ok := a.in.(*os.File)
	if !ok || !term.IsTerminal(int(in.Fd())) || a.format != formatTable {
		return usagef("look with --dry-run, then say --yes", "%s", otherwise)
	}
	if err := show(); err != nil {
		return err
	}
	fmt.Fprint(a.err, question+" [y/N] ")
	line, _ := bufio.NewReader(in).ReadString('\n')
	if answer := strings.ToLower(strings.TrimSpace(line)); answer != "y" && answer != "yes" {
		return usagef("answer y, or say --yes", "nothing was changed")
	}
	return nil
}

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
		columns: unreferencedColumns, empty: "everything in the store is pointed to, or young",
		extra: map[string]any{"store": a.storeFolder(), "dry_run": dry, "bytes": totalBytes(files),
			"bytes_removed": totalBytes(removed)}})
}
