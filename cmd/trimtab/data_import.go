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

// maxListedProblems is the number of rejected records that are listed for
// people; JSON documents list them all.
const maxListedProblems = 20

// importFlags are the flags of data import.
type importFlags struct {
	// kind is the kind of all records; a dataset holds one kind.
	kind string
	// maps are --map ours=theirs: names of columns.
	maps []string
	// split says how plain text is cut, and votes what vote numbers mean.
	split, votes string
	// strict is the default, spelled out; it excludes skipBad.
	strict, skipBad, dryRun, freeze bool
}

// dataImportCmd is "trimtab data import".
func (a *app) dataImportCmd() *cobra.Command {
	var o importFlags
	cmd := &cobra.Command{
		Use: "import NAME FILE…", Short: "add records from files to a dataset", Args: argCount(2, noLimit),
		Long: `Read JSON Lines, JSON, CSV, TSV or plain-text files (by extension; .gz too), with the
column names that other tools use, and add their records to a dataset. If any record is
bad, nothing is imported and each is reported by file and line (--strict, the default), or
bad records are skipped (--skip-bad). A dataset contains each record once.`,
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
		"field=column: read a field from a column of another name, for example completion=answer; field=- ignores it "+
			"(may be repeated)")
	f.StringVar(&o.split, "split", "", "split plain text into items by document, paragraph or line")
	f.StringVar(&o.votes, "votes", "",
		"meaning of vote numbers: zero-based (0 is the first response, 1 the second) or one-based (1, 2, and 0 for a "+
			"tie)")
	f.BoolVar(&o.strict, "strict", false, "refuse the whole import if any record is bad (the default)")
	f.BoolVar(&o.skipBad, "skip-bad", false, "skip bad records and report them")
	f.BoolVar(&o.dryRun, "dry-run", false, "read the files and report, but change nothing")
	f.BoolVar(&o.freeze, "freeze", false, "freeze the dataset afterwards")
	_ = cmd.RegisterFlagCompletionFunc("votes", cobra.FixedCompletions([]string{dataset.ZeroBased, dataset.OneBased},
		cobra.ShellCompDirectiveNoFileComp))
	_ = cmd.RegisterFlagCompletionFunc("kind", cobra.FixedCompletions(kindNames(), cobra.ShellCompDirectiveNoFileComp))
	return cmd
}

// kindNames are the kinds of datasets, as the flag --kind takes them.
func kindNames() []string {
	var names []string
	for _, k := range trimtab.Kinds {
		names = append(names, string(k))
	}
	return names
}

// importDocument is the report of an import.
type importDocument struct {
	Schema  string       `json:"schema"`
	Dataset string       `json:"dataset"`
	Kind    trimtab.Kind `json:"kind"`
	// DryRun is true if nothing was stored.
	DryRun bool `json:"dry_run"`
	// Files are the names as they were given.
	Files []string `json:"files"`
	// Accepted is the number of valid records, duplicates counted once.
	Accepted int `json:"accepted"`
	// Duplicates is the number of records that repeat an earlier one of these
	// files.
	Duplicates int `json:"duplicates"`
	// Undecided is the number of rankings without any preference: every vote
	// a tie, or all ranks equal.
	Undecided int `json:"undecided"`
	// Equal is the number of rankings left out because they rank two
	// identical responses differently.
	Equal int `json:"equal_responses"`
	// Rejected lists the first of the bad records.
	Rejected []importProblem `json:"rejected"`
	// LeftOut lists the first of those.
	LeftOut []importProblem `json:"left_out,omitempty"`
	// Unlisted is the number of rejected records beyond the list.
	Unlisted int `json:"unlisted,omitempty"`
	// Added is the number of items new to the dataset, and Present of those
	// that it had already.
	Added   int `json:"added"`
	Present int `json:"present"`
	// Version is the frozen version, with --freeze.
	Version trimtab.Digest `json:"version,omitempty"`
}

// importProblem is a rejected record: file, line and reason.
type importProblem = dataset.Problem

// importData reads the files once, in one transaction: records go to the
// database as they are read, and the transaction is rolled back if any record
// is bad, unless bad ones may be skipped. Files are checked for existence
// first, so that the second file's missing name does not come up after
// minutes of reading.
func (a *app) importData(cmd *cobra.Command, name string, files []string, o importFlags) error {
	kind, opts, err := o.check()
	if err != nil {
		return err
	}
	// A missing second file should not come up after minutes of reading the
	// first.
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
		// Reading happens within the transaction: a bad record rolls
		// everything back.
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

// check validates the flags and converts them to options of the dataset
// reader.
func (o importFlags) check() (trimtab.Kind, dataset.ReadOptions, error) {
	opts := dataset.ReadOptions{Split: o.split, Votes: o.votes, Map: map[string]string{}}
	kind := trimtab.Kind(o.kind)
	if !slices.Contains(trimtab.Kinds, kind) {
		return "", opts, usagef("use --kind "+strings.Join(kindNames(), ", --kind "), "--kind is %q", o.kind)
	}
	if o.strict && o.skipBad {
		return "", opts, usagef("drop one of them", "--strict and --skip-bad are given together")
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
			return "", opts, usagef("write --map FIELD=COLUMN, for example completion=answer", "--map is %q", m)
		}
		opts.Map[ours] = theirs
	}
	return kind, opts, nil
}

// importer reads the files of one import and collects its report.
type importer struct {
	// a is where problems are printed, and where standard input comes from.
	a       *app
	skipBad bool
	options dataset.ReadOptions
	// doc is the report so far.
	doc importDocument
}

// readAll reads every file and returns, for the record, which bytes each had:
// a digest and a size. A bad record is an error, unless bad ones may be
// skipped; a file that breaks off in the middle keeps, with --skip-bad, what
// was read.
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
		// A file of which nothing could be read, or an error that is not
		// about the file.
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

// isPartialRead reports whether the records read before an error are valid by
// themselves: the file ended in the middle, or held nothing.
func isPartialRead(err error) bool {
	e := trimtab.AsError(err)
	return e.Type == "dataset_unreadable" || e.Type == "dataset_empty"
}

// tally adds the report of one file to the document.
func (im *importer) tally(got dataset.ScanReport) {
	im.doc.Rejected = append(im.doc.Rejected, got.Rejected...)
	im.doc.LeftOut = append(im.doc.LeftOut, got.Contradictions...)
	im.doc.Accepted += got.Accepted
	im.doc.Duplicates += got.Duplicates
	im.doc.Undecided += got.Undecided
	im.doc.Equal += got.Equal
	im.doc.Unlisted += got.Unlisted
}

// checkReadable rejects a missing file or a folder before anything is
// started.
func checkReadable(name string) error {
	if name == "-" {
		return nil
	}
	st, err := os.Stat(name)
	if err != nil {
		return fileError(name, err)
	}
	if st.IsDir() {
		return trimtab.NewError(trimtab.Usage, "not_a_file", "name the files in it", "read %s: it is a folder", name)
	}
	return nil
}

// read reads one file, and computes the digest of all its bytes, also of
// those after the point where parsing stopped.
func (im *importer) read(name string, add storage.AddFunc) (got dataset.ScanReport, file storage.ImportedFile,
	err error) {
	in, path := im.a.in, name
	if name == "-" {
		// The extension decides the format: standard input is JSON lines.
		path = "standard-input.jsonl"
	} else {
		f, err := os.Open(name)
		if err != nil {
			return got, file, fileError(name, err)
		}
		defer f.Close()
		in = f
	}
	// The source computes the digest of the file's bytes while they are
	// parsed.
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

// refuseImport lists the rejected records and returns the error that aborts
// the import; it names the first of them.
func (a *app) refuseImport(doc importDocument) error {
	a.listProblems(doc)
	first := doc.Rejected[0]
	more := ""
	if n := len(doc.Rejected) + doc.Unlisted - 1; n > 0 {
		more = fmt.Sprintf(" (and %d more)", n)
	}
	remedy := "fix the file, or skip bad records with --skip-bad"
	if first.Remedy != "" {
		remedy = first.Remedy + "; or skip bad records with --skip-bad"
	}
	// The remedy has gone into the error's own.
	first.Remedy = ""
	return trimtab.NewError(trimtab.Invalid, "invalid_data", remedy, "%s%s; nothing was imported", first.Error(), more)
}

// listProblems lists rejected records on standard error.
func (a *app) listProblems(doc importDocument) {
	for i, p := range doc.Rejected {
		if i == maxListedProblems {
			a.note("… and %d more", len(doc.Rejected)+doc.Unlisted-maxListedProblems)
			return
		}
		a.note("%s", p.Error())
	}
}

// listLeftOut lists rankings that contradict themselves on standard error.
func (a *app) listLeftOut(doc importDocument) {
	for i, p := range doc.LeftOut {
		if i == maxListedProblems {
			a.note("… and %d more that rank two equal responses differently", doc.Equal-maxListedProblems)
			return
		}
		a.note("%s", p.Error())
	}
}

// printImport prints the report of an import that was done, or of a dry run.
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
		fmt.Fprintf(a.out, "; %d new, %d already present\nfrozen as %s@%s\n", doc.Added, doc.Present,
			escapeLine(doc.Dataset), doc.Version)
	default:
		fmt.Fprintf(a.out, "; %d new, %d already present\n", doc.Added, doc.Present)
		a.note("a run reads frozen versions: trimtab data freeze %s", doc.Dataset)
	}
	return nil
}
