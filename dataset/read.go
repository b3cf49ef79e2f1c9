package dataset

import (
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"path"
	"slices"
	"strings"

	"github.com/trimtab/trimtab"
)

// A record is one row of a file, by column.
type record struct {
	line   int
	fields map[string]any // string, json.Number, bool, nil, []any, map[string]any
	table  bool           // of a table: its lists are written as strings
}

// reader hands on items and collects problems.
type reader struct {
	kind        trimtab.Kind
	name        string
	options     ReadOptions
	each        func(trimtab.Item, trimtab.Digest) error
	digests     *digestCounter
	votes       voteStats
	emitted     int   // items handed on
	callbackErr error // what each or the temporary file said
	report      ScanReport
}

// Scan reads the items of one kind out of a file and calls each with every
// one of them and its digest, in the order of the file. name says by its
// extension what the file is, and is used in problems. Memory does not grow
// with the file: an item that comes twice is given twice, and counted once in
// the report. What is wrong with single records is in Report.Rejected; the
// error, which comes with whatever was read before it, is about the whole
// file: a format that is not known, a failed read, no usable record at all, or
// what each returned.
func Scan(kind trimtab.Kind, name string, r io.Reader, o ReadOptions,
	each func(trimtab.Item, trimtab.Digest) error) (ScanReport, error) {
	in := &reader{kind: kind, name: name, options: o, each: each, digests: newDigestCounter()}
	defer in.digests.close()
	if !slices.Contains(trimtab.Kinds, kind) {
		return in.report, trimtab.NewError(trimtab.Usage, "dataset_kind_unknown",
			"use text, demonstrations, prompts or rankings",
			"reading %s: kind %q is not known", name, kind)
	}
	err := in.file(strings.ToLower(path.Ext(name)), r)
	if in.callbackErr != nil {
		return in.report, in.callbackErr
	}
	different, lost := in.digests.count()
	in.report.Accepted, in.report.Duplicates = different, in.emitted-different
	switch {
	case lost != nil:
		return in.report, lost
	case err != nil:
		return in.report, err
	}
	if err := in.votes.checkAmbiguous(in.name, in.options); err != nil {
		return in.report, err
	}
	return in.report, in.emptyError()
}

// Read is Scan for files that fit into memory: it returns the items, each once.
func Read(kind trimtab.Kind, name string, r io.Reader, o ReadOptions) (ReadResult, error) {
	var im ReadResult
	seen := map[trimtab.Digest]bool{}
	var err error
	im.ScanReport, err = Scan(kind, name, r, o, func(item trimtab.Item, digest trimtab.Digest) error {
		if !seen[digest] {
			seen[digest] = true
			im.Items = append(im.Items, item)
		}
		return nil
	})
	return im, err
}

// file reads r as what its extension says it is.
func (in *reader) file(ext string, r io.Reader) error {
	if ext == ".gz" {
		inner, err := gzip.NewReader(r)
		if err != nil {
			return in.wrapError(err)
		}
		return in.file(strings.ToLower(path.Ext(strings.TrimSuffix(strings.ToLower(in.name), ".gz"))), inner)
	}
	read := map[string]func(*boundedReader) error{
		".jsonl": in.readJSONLines, ".ndjson": in.readJSONLines, ".json": in.readJSON, ".csv": in.readCSV,
		".tsv": in.readTSV,
		".txt": in.readText, ".text": in.readText, ".md": in.readText,
	}[ext]
	if read == nil {
		remedy := "give the file one of the endings .jsonl, .json, .csv, .tsv or .txt (and .gz after it)"
		if slices.Contains([]string{".parquet", ".arrow", ".xlsx", ".xls", ".zip", ".zst", ".xz", ".bz2"}, ext) {
			remedy = "write what is in it as JSON lines (.jsonl) or CSV (.csv) first"
		}
		return trimtab.NewError(trimtab.Usage, "dataset_format_unknown", remedy,
			"reading %s: the ending %q says no format", in.name, ext)
	}
	decoded, err := decode(r)
	if err != nil {
		return in.wrapError(err)
	}
	return in.wrapError(read(newBoundedReader(decoded)))
}

func (in *reader) wrapError(err error) error {
	if err == nil {
		return nil
	}
	if e, ok := errors.AsType[*trimtab.Error](err); ok {
		return e
	}
	if f, ok := errors.AsType[recordError](err); ok {
		return trimtab.NewError(trimtab.Invalid, "dataset_unreadable", f.remedy, "reading %s: %w", in.name, err)
	}
	return trimtab.NewError(trimtab.Invalid, "dataset_unreadable", "check that the file is whole", "reading %s: %w",
		in.name, err)
}

// emptyError is the error of a file that gave nothing.
func (in *reader) emptyError() error {
	o := &in.report
	if o.Accepted > 0 || o.Undecided > 0 || o.Equal > 0 {
		return nil
	}
	if len(o.Rejected) == 0 {
		return trimtab.NewError(trimtab.Invalid, "dataset_empty", "check that it is the right file",
			"reading %s: there is no record in it", in.name)
	}
	first := o.Rejected[0]
	return trimtab.NewError(trimtab.Invalid, "dataset_empty", first.Remedy,
		"reading %s: none of its %d records is usable; the first: %s",
		in.name, len(o.Rejected)+o.Unlisted, Problem{File: first.File, Line: first.Line, Reason: first.Reason}.Error())
}

// problem is a Problem of this file.
func (in *reader) problem(line int, err error) Problem {
	p := Problem{File: in.name, Line: line, Reason: err.Error()}
	if f, ok := errors.AsType[recordError](err); ok {
		p.Remedy = f.remedy
	}
	return p
}

// reject lists a problem.
func (in *reader) reject(line int, err error) {
	if len(in.report.Rejected) == MaxProblems {
		in.report.Unlisted++
		return
	}
	in.report.Rejected = append(in.report.Rejected, in.problem(line, err))
}

// record hands on a record's items, all of them or none.
func (in *reader) record(r record) error {
	if in.callbackErr != nil {
		return in.callbackErr
	}
	items, err := in.items(r)
	if err == nil {
		err = validateItems(items)
	}
	switch {
	case err != nil:
		in.reject(r.line, err)
		return nil
	case len(items) == 0:
		in.report.Undecided++
	}
	for _, item := range items {
		if in.contradiction(r.line, item) {
			continue
		}
		if in.callbackErr = in.emit(item); in.callbackErr != nil {
			return in.callbackErr
		}
	}
	return nil
}

// contradiction counts a ranking that is left out.
func (in *reader) contradiction(line int, item trimtab.Item) bool {
	r, ok := item.(trimtab.Ranking)
	if !ok || !r.Contradicts() {
		return false
	}
	in.report.Equal++
	if len(in.report.Contradictions) < MaxProblems {
		in.report.Contradictions = append(in.report.Contradictions,
			in.problem(line, recordErrorf("", "two equal responses are ranked apart; left out")))
	}
	return true
}

// emit hands an item on.
func (in *reader) emit(item trimtab.Item) error {
	d := trimtab.DigestOf(item.Canonical())
	in.emitted++
	if err := in.digests.add(d); err != nil {
		return err
	}
	return in.each(item, d)
}

// items reads a record as what the kind wants of it.
func (in *reader) items(r record) ([]trimtab.Item, error) {
	f := newFields(renameColumns(r.fields, in.options.Map))
	f.votes, f.votesMean, f.line = &in.votes, in.options.Votes, r.line
	if r.table {
		if err := f.parseListColumns(); err != nil {
			return nil, err
		}
	}
	switch in.kind {
	case trimtab.KindText:
		return singleItem(textItem(f))
	case trimtab.KindPrompts:
		return singleItem(promptItem(f))
	case trimtab.KindDemonstrations:
		return demonstrationItems(f)
	}
	return rankingItems(f)
}

func singleItem[T trimtab.Item](item T, err error) ([]trimtab.Item, error) {
	return []trimtab.Item{item}, err
}

// validateItems is every item's own Validate, for a ranking that its responses are text, and for all that they are no
// more than a record may give: a long conversation repeats its beginning in each of its items.
func validateItems(items []trimtab.Item) error {
	size := 0
	for _, item := range items {
		if err := item.Validate(); err != nil {
			return recordErrorf("leave the record out or mend it", "%v", err)
		}
		switch item := item.(type) {
		case trimtab.Demonstration:
			size += len(item.Prompt) + len(item.Response)
		case trimtab.Ranking:
			size += len(item.Prompt)
			for i, resp := range item.Responses {
				if err := checkBytes(string(resp.Bytes)); err != nil {
					return recordErrorf("leave the record out or mend it", "response %d %v", i+1, err)
				}
				size += len(resp.Bytes)
			}
		}
		if size > MaxItems {
			return tooLargeError()
		}
	}
	return nil
}

func tooLargeError() error {
	return recordErrorf("cut the record into smaller ones", "the record makes items of more than %d MiB", MaxItems>>20)
}

// voteStats are the numbers that stood for one of two responses, over a file.
type voteStats struct {
	zero, one, two bool
	line           int // of the first 0
}

// observe takes a number of a vote.
func (v *voteStats) observe(number float64, line int) {
	switch number {
	case 0:
		if !v.zero {
			v.line = line
		}
		v.zero = true
	case 1:
		v.one = true
	case 2:
		v.two = true
	}
}

// checkAmbiguous is the error of votes whose meaning nobody can know: 0 and 1 are the two responses, or a tie and the
// first.
func (v *voteStats) checkAmbiguous(name string, o ReadOptions) error {
	if o.Votes != "" || !v.zero || !v.one || v.two {
		return nil
	}
	return trimtab.NewError(trimtab.Usage, "votes_ambiguous",
		fmt.Sprintf("pass --votes %s if 0 is the first response and 1 the second, or --votes %s if 1 is the first "+
			"and 0 a tie", ZeroBased, OneBased),
		"reading %s: its votes are 0 (line %d) and 1 and never 2: they do not say which response is meant", name,
		v.line)
}
