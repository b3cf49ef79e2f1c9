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

// maxListedProblems is how many bad records of an import are listed for people; documents list all.
const maxListedProblems = 20

// importFlags are those of data import.
type importFlags struct {
	kind                            string
	maps                            []string
	split, votes                    string
	strict, skipBad, dryRun, freeze bool
}

func (a *app) dataImportCmd() *cobra.Command {
	var o importFlags
	cmd := &cobra.Command{
		Use: "import NAME FILE…", Short: "add the records of files to a dataset", Args: argCount(2, noLimit),
		Long: `Read files of JSON lines, JSON, CSV, TSV or plain text (by extension, .gz too) with
the columns that other tools use, and add their records to a dataset. With bad
records nothing is imported and each is named by file and line (--strict, the
default), or they are left out (--skip-bad). A dataset holds each record once.`,
		Example: `  trimtab data import demos --kind demonstrations demos.jsonl
  trimtab data import demos --kind demonstrations --map completion=answer qa.csv
  trimtab data import votes --kind rankings --skip-bad --freeze part1.jsonl part2.jsonl
  trimtab data import corpus --kind text --dry-run book.txt`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := checkPlainName("the dataset's name", args[0]); err != nil {
				return err
			}
			return a.importData(cmd, args[0], args[1:], o)
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.kind, "kind", "", "text, demonstrations, prompts or rankings")
	f.StringArrayVar(&o.maps, "map", nil,
		"ours=theirs: a column of another name, for example completion=answer; ours=- leaves it out (may be repeated)")
	f.StringVar(&o.split, "split", "", "cut plain text into items by document, paragraph or line")
	f.StringVar(&o.votes, "votes", "",
		"what the numbers of votes mean: zero-based (0 the first response, 1 the second) or one-based (1, 2, and 0 a tie)")
	f.BoolVar(&o.strict, "strict", false, "refuse the whole import if any record is bad (the default)")
	f.BoolVar(&o.skipBad, "skip-bad", false, "leave bad records out and report them")
	f.BoolVar(&o.dryRun, "dry-run", false, "read and report, and change nothing")
	f.BoolVar(&o.freeze, "freeze", false, "freeze the dataset afterwards")
	_ = cmd.RegisterFlagCompletionFunc("votes", cobra.FixedCompletions([]string{dataset.ZeroBased, dataset.OneBased},
		cobra.ShellCompDirectiveNoFileComp))
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
	Schema     string       `json:"schema"`
	Dataset    string       `json:"dataset"`
	Kind       trimtab.Kind `json:"kind"`
	DryRun     bool         `json:"dry_run"`
	Files      []string     `json:"files"`
	Accepted   int          `json:"accepted"`   // records of the files that are good, each once
	Duplicates int          `json:"duplicates"` // equal to one before in the files
	// rankings whose every vote was a tie, or whose ranks are all equal
	Undecided int             `json:"undecided"`
	Equal     int             `json:"equal_responses"` // rankings left out because they rank two equal responses apart
	Rejected  []importProblem `json:"rejected"`
	LeftOut   []importProblem `json:"left_out,omitempty"` // the first of those counted as equal_responses
	Unlisted  int             `json:"unlisted,omitempty"` // rejected beyond the list
	Added     int             `json:"added"`              // new in the dataset
	Present   int             `json:"present"`            // in the dataset already
	Version   trimtab.Digest  `json:"version,omitempty"`  // with --freeze
}

type importProblem = dataset.Problem

// importData reads files once: what is good goes to the database as it is read, and stays there if nothing is bad, or
// what is bad may be left out.
func (a *app) importData(cmd *cobra.Command, name string, files []string, o importFlags) error {
	kind, opts, err := o.check()
	if err != nil {
		return err
	}
	for _, file := range files {
		if err := checkReadable(file); err != nil {
			return err
		}
	}
	im := importer{a: a, skipBad: o.skipBad, options: opts,
		doc: importDocument{Schema: "trimtab.import/v1", Dataset: name, Kind: kind,
			DryRun: o.dryRun, Files: files, Rejected: []importProblem{}}}
	if o.dryRun {
		if _, err := im.readAll(func(trimtab.Item, trimtab.Digest) error { return nil }); err != nil {
			return err
		}
		return a.printImport(im.doc)
	}
	return a.withStore(cmd, func(ctx context.Context, s *session) error {
		counts, err := s.store.ImportItems(ctx, name, kind, a.actor(),
			func(add storage.AddFunc) ([]storage.ImportedFile, error) { return im.readAll(add) })
		if err != nil {
			return err
		}
		im.doc.Added, im.doc.Present = counts.Added, im.doc.Accepted-counts.Added
		if o.freeze {
			version, err := s.store.Freeze(ctx, name, a.actor())
			if err != nil {
				return err
			}
			im.doc.Version = version.Digest
		}
		return a.printImport(im.doc)
	})
}

func (o importFlags) check() (trimtab.Kind, dataset.ReadOptions, error) {
	opts := dataset.ReadOptions{Split: o.split, Votes: o.votes, Map: map[string]string{}}
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
	if !slices.Contains([]string{"", dataset.ZeroBased, dataset.OneBased}, o.votes) {
		return "", opts, usagef("use "+dataset.ZeroBased+" or "+dataset.OneBased, "--votes is %q", o.votes)
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

// importer reads the files of one import.
type importer struct {
	a       *app
	skipBad bool
	options dataset.ReadOptions
	doc     importDocument
}

// readAll reads every file, and tells for the record which bytes each had. A
// bad record is an error, unless bad ones may be left out.
func (im *importer) readAll(add storage.AddFunc) ([]storage.ImportedFile, error) {
	var read []storage.ImportedFile
	for _, name := range im.doc.Files {
		got, file, err := im.read(name, add)
		file.Items = got.Accepted
		read = append(read, file)
		im.tally(got)
		if err == nil {
			continue
		}
		if !isPartialRead(err) || !im.skipBad && len(got.Rejected) == 0 || im.skipBad && got.Accepted == 0 {
			im.a.listProblems(im.doc)
			return nil, err
		}
		if im.skipBad { // what comes after the fault is lost: say so
			e := trimtab.AsError(err)
			im.doc.Rejected = append(im.doc.Rejected, dataset.Problem{File: name, Reason: e.Message, Remedy: e.Remedy})
		}
	}
	if len(im.doc.Rejected) > 0 && !im.skipBad {
		return nil, im.a.refuseImport(im.doc)
	}
	return read, nil
}

// isPartialRead reports whether what was read of a file before an error is sound by itself.
func isPartialRead(err error) bool {
	e := trimtab.AsError(err)
	return e.Type == "dataset_unreadable" || e.Type == "dataset_empty"
}

func (im *importer) tally(got dataset.ScanReport) {
	im.doc.Rejected = append(im.doc.Rejected, got.Rejected...)
	im.doc.LeftOut = append(im.doc.LeftOut, got.Contradictions...)
	im.doc.Accepted += got.Accepted
	im.doc.Duplicates += got.Duplicates
	im.doc.Undecided += got.Undecided
	im.doc.Equal += got.Equal
	im.doc.Unlisted += got.Unlisted
}

// checkReadable refuses a file that is not there, or is a folder, before anything is begun.
func checkReadable(name string) error {
	if name == "-" {
		return nil
	}
	st, err := os.Stat(name)
	if err != nil {
		return fileError(name, err)
	}
	if st.IsDir() {
		return trimtab.NewError(trimtab.Usage, "not_a_file", "name the files in it", "%s is a folder", name)
	}
	return nil
}

// read reads a file, and tells which bytes it had.
func (im *importer) read(name string, add storage.AddFunc) (got dataset.ScanReport, file storage.ImportedFile,
	err error) {
	in, path := im.a.in, name
	if name == "-" {
		path = "standard-input.jsonl"
	} else {
		f, err := os.Open(name)
		if err != nil {
			return got, file, fileError(name, err)
		}
		defer f.Close()
		in = f
	}
	src := dataset.NewHashingReader(in)
	got, err = dataset.Scan(im.doc.Kind, path, src, im.options, add)
	file.Name = filepath.Base(path)
	if err != nil && !isPartialRead(err) {
		return got, file, err
	}
	var rest error
	if file.Digest, file.Bytes, rest = src.Finish(); err == nil {
		err = rest
	}
	return got, file, err
}

// refuseImport lists what is wrong and imports nothing.
func (a *app) refuseImport(doc importDocument) error {
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
		if i == maxListedProblems {
			a.note("… and %d more", len(doc.Rejected)+doc.Unlisted-maxListedProblems)
			return
		}
		a.note("%s", p.Error())
	}
}

// listLeftOut names rankings that say nothing on standard error.
func (a *app) listLeftOut(doc importDocument) {
	for i, p := range doc.LeftOut {
		if i == maxListedProblems {
			a.note("… and %d more that rank two equal responses apart", doc.Equal-maxListedProblems)
			return
		}
		a.note("%s", p.Error())
	}
}

func (a *app) printImport(doc importDocument) error {
	if a.wantsJSON() {
		return a.printDocument(doc)
	}
	a.listProblems(doc)
	a.listLeftOut(doc)
	fmt.Fprintf(a.out, "%s: %d accepted, %d duplicate, %d rejected", escapeLine(doc.Dataset), doc.Accepted,
		doc.Duplicates, len(doc.Rejected)+doc.Unlisted)
	if doc.Undecided > 0 {
		fmt.Fprintf(a.out, ", %d undecided", doc.Undecided)
	}
	if doc.Equal > 0 {
		fmt.Fprintf(a.out, ", %d left out", doc.Equal)
	}
	switch {
	case doc.DryRun:
		fmt.Fprintln(a.out, "; nothing was imported (--dry-run)")
	case doc.Version != "":
		fmt.Fprintf(a.out, "; %d new, %d present before\nfrozen as %s@%s\n", doc.Added, doc.Present,
			escapeLine(doc.Dataset), doc.Version)
	default:
		fmt.Fprintf(a.out, "; %d new, %d present before\n", doc.Added, doc.Present)
		a.note("a run reads frozen versions: trimtab data freeze %s", doc.Dataset)
	}
	return nil
}
