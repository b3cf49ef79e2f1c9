package dataset

import (
	"compress/gzip"
	"errors"
	"io"
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/trimtab/trimtab"
)

// A record is one row of a file, by column.
type record struct {
	line   int
	fields map[string]any // string, json.Number, bool, nil, []any, map[string]any
}

// reader collects items and problems.
type reader struct {
	kind    trimtab.Kind
	name    string
	options ReadOptions
	seen    map[trimtab.Digest]bool
	out     Import
}

// Read reads the items of one kind out of a file. name says by its extension
// what the file is, and is used in problems. What is wrong with single
// records is in Import.Rejected; the error, which comes with whatever was
// read before it, is about the whole file: a format that is not known, a
// failed read, no usable record at all.
func Read(kind trimtab.Kind, name string, r io.Reader, o ReadOptions) (Import, error) {
	in := &reader{kind: kind, name: name, options: o, seen: map[trimtab.Digest]bool{}}
	if !slices.Contains(trimtab.Kinds, kind) {
		return in.out, trimtab.NewError(trimtab.Usage, "dataset_kind_unknown", "use text, demonstrations, prompts or rankings", "reading %s: kind %q is not known", name, kind)
	}
	err := in.file(strings.ToLower(path.Ext(name)), r)
	in.out.Accepted = len(in.out.Items)
	if err != nil {
		return in.out, err
	}
	return in.out, in.empty()
}

// file reads r as what its extension says it is.
func (in *reader) file(ext string, r io.Reader) error {
	if ext == ".gz" {
		inner, err := gzip.NewReader(r)
		if err != nil {
			return in.failed(err)
		}
		return in.file(strings.ToLower(path.Ext(strings.TrimSuffix(strings.ToLower(in.name), ".gz"))), inner)
	}
	b := newBounded(r)
	switch ext {
	case ".jsonl", ".ndjson":
		return in.failed(in.lines(b))
	case ".json":
		return in.failed(in.json(b))
	case ".csv":
		return in.failed(in.table(b, ','))
	case ".tsv":
		return in.failed(in.table(b, '\t'))
	case ".txt", ".text", ".md":
		return in.text(b)
	}
	return trimtab.NewError(trimtab.Usage, "dataset_format_unknown", "give the file one of the endings .jsonl, .json, .csv, .tsv or .txt (and .gz after it)",
		"reading %s: the ending %q says no format", in.name, ext)
}

func (in *reader) failed(err error) error {
	if err == nil {
		return nil
	}
	if e, ok := errors.AsType[*trimtab.Error](err); ok {
		return e
	}
	return trimtab.NewError(trimtab.Invalid, "dataset_unreadable", "check that the file is whole", "reading %s: %w", in.name, err)
}

// empty is the error of a file that gave nothing.
func (in *reader) empty() error {
	o := &in.out
	if o.Accepted > 0 || o.Undecided > 0 {
		return nil
	}
	if len(o.Rejected) == 0 {
		return trimtab.NewError(trimtab.Invalid, "dataset_empty", "check that it is the right file", "reading %s: there is no record in it", in.name)
	}
	first := o.Rejected[0]
	return trimtab.NewError(trimtab.Invalid, "dataset_empty", first.Remedy, "reading %s: none of its %d records is usable; the first: %s",
		in.name, len(o.Rejected)+o.Unlisted, Problem{File: first.File, Line: first.Line, Reason: first.Reason}.Error())
}

// reject lists a problem.
func (in *reader) reject(line int, err error) {
	p := Problem{File: in.name, Line: line, Reason: err.Error()}
	if f, ok := errors.AsType[fault](err); ok {
		p.Remedy = f.remedy
	}
	if len(in.out.Rejected) == MaxProblems {
		in.out.Unlisted++
		return
	}
	in.out.Rejected = append(in.out.Rejected, p)
}

// record makes a record's items, all of them or none.
func (in *reader) record(r record) {
	for _, ours := range slices.Sorted(maps.Keys(in.options.Map)) {
		if v, ok := r.fields[in.options.Map[ours]]; ok {
			r.fields[ours] = v
		}
	}
	items, err := in.items(r.fields)
	if err == nil {
		for _, item := range items {
			if err = check(item); err != nil {
				break
			}
		}
	}
	switch {
	case err != nil:
		in.reject(r.line, err)
	case len(items) == 0:
		in.out.Undecided++
	}
	if err == nil {
		for _, item := range items {
			in.accept(item)
		}
	}
}

// items reads fields as what the kind wants of them.
func (in *reader) items(fields map[string]any) ([]trimtab.Item, error) {
	f := fieldsOf(fields)
	switch in.kind {
	case trimtab.KindText:
		return one(textItem(f))
	case trimtab.KindPrompts:
		return one(promptItem(f))
	case trimtab.KindDemonstrations:
		return demonstrationItems(f)
	}
	return rankingItems(f)
}

func one[T trimtab.Item](item T, err error) ([]trimtab.Item, error) { return []trimtab.Item{item}, err }

// accept keeps an item unless an equal one was kept before.
func (in *reader) accept(item trimtab.Item) {
	d := trimtab.DigestOf(item.Canonical())
	if in.seen[d] {
		in.out.Duplicates++
		return
	}
	in.seen[d] = true
	in.out.Items = append(in.out.Items, item)
}

// check is the item's own Validate, and for a ranking that its responses are text.
func check(item trimtab.Item) error {
	if err := item.Validate(); err != nil {
		return faultf("leave the record out or mend it", "%v", err)
	}
	r, ok := item.(trimtab.Ranking)
	if !ok {
		return nil
	}
	for i, resp := range r.Responses {
		if err := checkBytes(string(resp.Bytes)); err != nil {
			return faultf("leave the record out or mend it", "response %d %v", i+1, err)
		}
	}
	return nil
}
