package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/trimtab/trimtab"
	"github.com/trimtab/trimtab/dataset"
	"github.com/trimtab/trimtab/storage"
)

// maxShown is how many bad records of an import are listed for people; documents list all.
const maxShown = 20

// importFlags are those of data import.
type importFlags struct {
	kind                            string
	maps                            []string
	split                           string
	strict, skipBad, dryRun, freeze bool
}

func (a *app) dataImportCmd() *cobra.Command {
	var o importFlags
	cmd := &cobra.Command{
		Use: "import NAME FILE…", Short: "add the records of files to a dataset", Args: takes(2, many),
		Long: `Read files of JSON lines, JSON, CSV, TSV or plain text (by extension, .gz too) with
the columns that other tools use, and add their records to a dataset. With bad
records nothing is imported and each is named by file and line (--strict, the
default), or they are left out (--skip-bad). A dataset holds each record once.`,
		Example: `  trimtab data import demos --kind demonstrations demos.jsonl
  trimtab data import demos --kind demonstrations --map completion=answer qa.csv
  trimtab data import votes --kind rankings --skip-bad --freeze part1.jsonl part2.jsonl
  trimtab data import corpus --kind text --dry-run book.txt`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := plainName("the dataset's name", args[0]); err != nil {
				return err
			}
			return a.importData(cmd, args[0], args[1:], o)
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.kind, "kind", "", "text, demonstrations, prompts or rankings")
	f.StringArrayVar(&o.maps, "map", nil, "ours=theirs: a column of another name, for example completion=answer (may be repeated)")
	f.StringVar(&o.split, "split", "", "cut plain text into items by document, paragraph or line")
	f.BoolVar(&o.strict, "strict", false, "refuse the whole import if any record is bad (the default)")
	f.BoolVar(&o.skipBad, "skip-bad", false, "leave bad records out and report them")
	f.BoolVar(&o.dryRun, "dry-run", false, "read and report, and change nothing")
	f.BoolVar(&o.freeze, "freeze", false, "freeze the dataset afterwards")
	_ = cmd.RegisterFlagCompletionFunc("kind", cobra.FixedCompletions(kindNames(), cobra.ShellCompDirectiveNoFileComp))
	return cmd
}

func kindNames() []string {
	var names []string
	for _, k := range trimtab.Kinds {
		names = append(names, string(k))
	}
	return names
}

// importDocument reports an import.
type importDocument struct {
	Schema     string            `json:"schema"`
	Dataset    string            `json:"dataset"`
	Kind       trimtab.Kind      `json:"kind"`
	DryRun     bool              `json:"dry_run"`
	Files      []string          `json:"files"`
	Accepted   int               `json:"accepted"`   // records of the files that are good, each once
	Duplicates int               `json:"duplicates"` // equal to one before in the files
	Undecided  int               `json:"undecided"`  // rankings whose every vote was a tie
	Rejected   []dataset.Problem `json:"rejected"`
	Unlisted   int               `json:"unlisted,omitempty"` // rejected beyond the list
	Added      int               `json:"added"`              // new in the dataset
	Present    int               `json:"present"`            // in the dataset already
	Version    trimtab.Digest    `json:"version,omitempty"`  // with --freeze

	read []storage.ImportedFile // for the record
}

func (a *app) importData(cmd *cobra.Command, name string, files []string, o importFlags) error {
	kind, opts, err := o.check()
	if err != nil {
		return err
	}
	items, doc, err := a.readAllFiles(kind, files, opts, o.skipBad)
	if err != nil {
		return err
	}
	doc.Schema, doc.Dataset, doc.DryRun = "trimtab.import/v1", name, o.dryRun
	if len(doc.Rejected) > 0 && !o.skipBad {
		return a.refuse(doc)
	}
	if o.dryRun {
		return a.printImport(doc)
	}
	return a.withStore(cmd, func(ctx context.Context, s *session) error {
		if err := a.store(ctx, s.store, items, &doc, o.freeze); err != nil {
			return err
		}
		return a.printImport(doc)
	})
}

func (o importFlags) check() (trimtab.Kind, dataset.ReadOptions, error) {
	opts := dataset.ReadOptions{Split: o.split, Map: map[string]string{}}
	kind := trimtab.Kind(o.kind)
	if !slices.Contains(trimtab.Kinds, kind) {
		return "", opts, usagef("give --kind "+strings.Join(kindNames(), ", --kind "), "--kind is %q", o.kind)
	}
	if o.strict && o.skipBad {
		return "", opts, usagef("choose one", "--strict and --skip-bad are given together")
	}
	if !slices.Contains([]string{"", "document", "paragraph", "line"}, o.split) {
		return "", opts, usagef("use document, paragraph or line", "--split is %q", o.split)
	}
	for _, m := range o.maps {
		ours, theirs, ok := strings.Cut(m, "=")
		if !ok || ours == "" || theirs == "" {
			return "", opts, usagef("write --map completion=answer: our name, then the file's", "--map is %q", m)
		}
		opts.Map[ours] = theirs
	}
	return kind, opts, nil
}

// readAllFiles reads every file before anything is stored. Unless bad records
// may be skipped, an error about a whole file ends the import.
func (a *app) readAllFiles(kind trimtab.Kind, files []string, opts dataset.ReadOptions, skipBad bool) ([]trimtab.Item, importDocument, error) {
	doc := importDocument{Kind: kind, Files: files, Rejected: []dataset.Problem{}}
	var items []trimtab.Item
	for _, name := range files {
		got, file, err := a.readItems(kind, name, opts)
		file.Items = got.Accepted
		doc.read = append(doc.read, file)
		doc.Rejected = append(doc.Rejected, got.Rejected...)
		doc.Accepted += got.Accepted
		doc.Duplicates += got.Duplicates
		doc.Undecided += got.Undecided
		doc.Unlisted += got.Unlisted
		items = append(items, got.Items...)
		if err != nil && (!skipBad && len(got.Rejected) == 0 || skipBad && len(got.Items) == 0) {
			a.listProblems(doc)
			return nil, doc, err
		}
		if err != nil && skipBad { // what comes after the fault is lost: say so
			e := trimtab.AsError(err)
			doc.Rejected = append(doc.Rejected, dataset.Problem{File: name, Reason: e.Message, Remedy: e.Remedy})
		}
	}
	return items, doc, nil
}

// readItems reads a file, and tells for the record which bytes it had.
func (a *app) readItems(kind trimtab.Kind, name string, opts dataset.ReadOptions) (got dataset.Import, file storage.ImportedFile, err error) {
	in, path := a.in, name
	if name == "-" {
		path = "standard-input.jsonl"
	} else {
		f, err := os.Open(name)
		if err != nil {
			return got, file, fileError(name, err)
		}
		defer f.Close()
		if st, err := f.Stat(); err == nil && st.IsDir() {
			return got, file, trimtab.NewError(trimtab.Usage, "not_a_file", "name the files in it", "%s is a folder", name)
		}
		in = f
	}
	src := dataset.NewSource(in)
	got, err = dataset.Read(kind, path, src, opts)
	file.Name = filepath.Base(path)
	var rest error
	if file.Digest, file.Bytes, rest = src.End(); err == nil {
		err = rest
	}
	return got, file, err
}

// store adds the items, and freezes the dataset if that was asked for.
func (a *app) store(ctx context.Context, store *storage.Store, items []trimtab.Item, doc *importDocument, freeze bool) error {
	counts, err := store.AddItemsOf(ctx, doc.Dataset, doc.Kind, items, doc.read, a.actor())
	if err != nil {
		return err
	}
	doc.Added, doc.Present = counts.Added, counts.Present
	if !freeze {
		return nil
	}
	version, err := store.Freeze(ctx, doc.Dataset, a.actor())
	doc.Version = version.Digest
	return err
}

// refuse lists what is wrong and imports nothing.
func (a *app) refuse(doc importDocument) error {
	a.listProblems(doc)
	first := doc.Rejected[0]
	more := ""
	if n := len(doc.Rejected) + doc.Unlisted - 1; n > 0 {
		more = fmt.Sprintf(" (and %d more)", n)
	}
	remedy := "mend the file, or leave bad records out with --skip-bad"
	if first.Remedy != "" {
		remedy = first.Remedy + "; or leave bad records out with --skip-bad"
	}
	first.Remedy = ""
	return trimtab.NewError(trimtab.Invalid, "invalid_data", remedy, "%s%s; nothing was imported", first.Error(), more)
}

// listProblems names bad records on standard error.
func (a *app) listProblems(doc importDocument) {
	for i, p := range doc.Rejected {
		if i == maxShown {
			a.note("… and %d more", len(doc.Rejected)+doc.Unlisted-maxShown)
			return
		}
		a.note("%s", p.Error())
	}
}

func (a *app) printImport(doc importDocument) error {
	if a.documents() {
		return a.printDocument(doc)
	}
	a.listProblems(doc)
	fmt.Fprintf(a.out, "%s: %d accepted, %d duplicate, %d rejected", clean(doc.Dataset), doc.Accepted, doc.Duplicates, len(doc.Rejected)+doc.Unlisted)
	if doc.Undecided > 0 {
		fmt.Fprintf(a.out, ", %d undecided", doc.Undecided)
	}
	switch {
	case doc.DryRun:
		fmt.Fprintln(a.out, "; nothing was imported (--dry-run)")
	case doc.Version != "":
		fmt.Fprintf(a.out, "; %d new, %d present before\nfrozen as %s@%s\n", doc.Added, doc.Present, clean(doc.Dataset), doc.Version)
	default:
		fmt.Fprintf(a.out, "; %d new, %d present before\n", doc.Added, doc.Present)
		a.note("a run reads frozen versions: trimtab data freeze %s", doc.Dataset)
	}
	return nil
}
