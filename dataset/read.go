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

// record is one row of a file, by column.
type record struct {
	// line is where the record begins, counted from 1.
	line int
	// fields hold string, json.Number, bool, nil, []any or map[string]any.
	fields map[string]any
	// table marks a row of a table, whose lists are written as strings.
	table bool
}

// reader parses records, emits their items and collects the problems.
type reader struct {
	kind    trimtab.Kind
	name    string // of the file; its extension is the format
	options ReadOptions
	// each receives the items; it is the caller's.
	each func(trimtab.Item, trimtab.Digest) error
	// digests counts distinct items.
	digests *digestCounter
	// votes collects numeric votes, which only the whole file can explain.
	votes voteStats
	// emitted counts the items passed to each, duplicates included.
	emitted int
	// callbackErr is an error of each or of the temporary file. It ends the
	// reading at once, and is returned unchanged.
	callbackErr error
	report      ScanReport
}

// Scan reads the items of one kind from r and calls each with every item and
// its digest, in the order of the file. The extension of name gives the format,
// and name appears in messages. Memory does not grow with the file: an item
// that occurs twice is passed to each twice, and is counted as a duplicate.
//
// Problems of single records are in ScanReport.Rejected. The error is about the
// whole file: an unknown format, a failed read, not a single usable record,
// votes that are ambiguous, or what each returned. The report is valid
// alongside it and covers what was read before.
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
	distinct, countErr := in.digests.count()
	in.report.Accepted = distinct
	in.report.Duplicates = in.emitted - distinct
	switch {
	// Then the counts are wrong, whatever else happened.
	case countErr != nil:
		return in.report, countErr
	case err != nil:
		return in.report, err
	}
	if err := in.votes.checkAmbiguous(in.name, in.options); err != nil {
		return in.report, err
	}
	return in.report, in.emptyError()
}

// Read is Scan for files that fit into memory. It returns the items, each once.
func Read(kind trimtab.Kind, name string, r io.Reader, o ReadOptions) (ReadResult, error) {
	var result ReadResult
	seen := map[trimtab.Digest]bool{}
	var err error
	result.ScanReport, err = Scan(kind, name, r, o, func(item trimtab.Item, digest trimtab.Digest) error {
		if !seen[digest] {
			seen[digest] = true
			result.Items = append(result.Items, item)
		}
		return nil
	})
	return result, err
}

// file reads r in the format of the extension ext.
func (in *reader) file(ext string, r io.Reader) error {
	if ext == ".gz" {
		unzipped, err := gzip.NewReader(r)
		if err != nil {
			return in.wrapError(err)
		}
		// The name without .gz gives the format inside.
		return in.file(path.Ext(strings.TrimSuffix(strings.ToLower(in.name), ".gz")), unzipped)
	}
	read := map[string]func(*boundedReader) error{
		".jsonl": in.readJSONLines, ".ndjson": in.readJSONLines, ".json": in.readJSON,
		".csv": in.readCSV, ".tsv": in.readTSV,
		".txt": in.readText, ".text": in.readText, ".md": in.readText,
	}[ext]
	if read == nil {
		remedy := "give the file one of the extensions .jsonl, .json, .csv, .tsv or .txt (and .gz after it)"
		if slices.Contains([]string{".parquet", ".arrow", ".xlsx", ".xls", ".zip", ".zst", ".xz", ".bz2"}, ext) {
			remedy = "convert it to JSON lines (.jsonl) or CSV (.csv) first"
		}
		return trimtab.NewError(trimtab.Usage, "dataset_format_unknown", remedy,
			"reading %s: the extension %q is not that of a known format", in.name, ext)
	}
	decoded, err := decode(r)
	if err != nil {
		return in.wrapError(err)
	}
	return in.wrapError(read(newBoundedReader(decoded)))
}

// wrapError makes an error of the whole file of err, with the file's name.
func (in *reader) wrapError(err error) error {
	if err == nil {
		return nil
	}
	if e, ok := errors.AsType[*trimtab.Error](err); ok {
		// It has a type and a remedy of its own.
		return e
	}
	if f, ok := errors.AsType[recordError](err); ok {
		return trimtab.NewError(trimtab.Invalid, "dataset_unreadable", f.remedy, "reading %s: %w", in.name, err)
	}
	return trimtab.NewError(trimtab.Invalid, "dataset_unreadable", "check that the file is complete",
		"reading %s: %w", in.name, err)
}

// emptyError returns the error of a file without a usable record; nil if it has
// any.
func (in *reader) emptyError() error {
	o := &in.report
	if o.Accepted > 0 || o.Undecided > 0 || o.Equal > 0 {
		return nil
	}
	if len(o.Rejected) == 0 {
		return trimtab.NewError(trimtab.Invalid, "dataset_empty", "check that it is the right file",
			"reading %s: the file has no records", in.name)
	}
	first := o.Rejected[0]
	return trimtab.NewError(trimtab.Invalid, "dataset_empty", first.Remedy,
		"reading %s: none of its %d records is usable; the first: %s",
		in.name, len(o.Rejected)+o.Unlisted, Problem{File: first.File, Line: first.Line, Reason: first.Reason}.Error())
}

// problem returns err as a Problem of this file.
func (in *reader) problem(line int, err error) Problem {
	p := Problem{File: in.name, Line: line, Reason: err.Error()}
	if f, ok := errors.AsType[recordError](err); ok {
		p.Remedy = f.remedy
	}
	return p
}

// reject lists a problem, or counts it once MaxProblems are listed.
func (in *reader) reject(line int, err error) {
	if len(in.report.Rejected) == MaxProblems {
		in.report.Unlisted++
		return
	}
	in.report.Rejected = append(in.report.Rejected, in.problem(line, err))
}

// record emits a record's items: all of them, or none if one is not valid.
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
	// Only records of rankings give no item without an error.
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

// contradiction reports, and counts, a ranking that has to be left out because
// it ranks identical responses differently.
func (in *reader) contradiction(line int, item trimtab.Item) bool {
	r, ok := item.(trimtab.Ranking)
	if !ok || !r.Contradicts() {
		return false
	}
	in.report.Equal++
	if len(in.report.Contradictions) < MaxProblems {
		in.report.Contradictions = append(in.report.Contradictions,
			in.problem(line, recordErrorf("", "two identical responses have different ranks; left out")))
	}
	return true
}

// emit passes an item on.
func (in *reader) emit(item trimtab.Item) error {
	d := trimtab.DigestOf(item.Canonical())
	in.emitted++
	if err := in.digests.add(d); err != nil {
		return err
	}
	return in.each(item, d)
}

// items parses a record as the kind of item that was asked for.
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

// singleItem returns one item as a list.
func singleItem[T trimtab.Item](item T, err error) ([]trimtab.Item, error) {
	return []trimtab.Item{item}, err
}

// validateItems validates every item, checks that responses are text, and
// bounds the size of all items together: a long conversation repeats its
// beginning in each of its items.
func validateItems(items []trimtab.Item) error {
	size := 0
	for _, item := range items {
		if err := item.Validate(); err != nil {
			return recordErrorf("fix the record or leave it out", "%v", err)
		}
		switch item := item.(type) {
		case trimtab.Demonstration:
			size += len(item.Prompt) + len(item.Response)
		case trimtab.Ranking:
			size += len(item.Prompt)
			for i, resp := range item.Responses {
				if err := checkBytes(string(resp.Bytes)); err != nil {
					return recordErrorf("fix the record or leave it out", "response %d %v", i+1, err)
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

// tooLargeError returns the error of a record beyond MaxItems.
func tooLargeError() error {
	return recordErrorf("cut the record into smaller ones", "the record makes items of more than %d MiB", MaxItems>>20)
}

// voteStats are the numeric votes seen in a file.
type voteStats struct {
	zero, one, two bool
	// line is that of the first vote 0, for the message.
	line int
}

// observe notes the number of a vote.
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

// checkAmbiguous returns the error of votes that cannot be interpreted: 0 and 1
// are the two responses, or a tie and the first one. Choosing wrong would
// invert what a reward model learns.
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
