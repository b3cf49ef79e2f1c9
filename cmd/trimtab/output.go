package main

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/jedib0t/go-pretty/v6/text"
)

// The formats of -o.
const (
	formatTable = "table"
	formatJSON  = "json"
	formatJSONL = "jsonl"
	formatCSV   = "csv"
)

// formats lists the values of -o, the default first.
var formats = []string{formatTable, formatJSON, formatJSONL, formatCSV}

// column is one column of a list of T. The same definition serves a table,
// where people read it, and CSV, where programs do.
type column[T any] struct {
	// name is the CSV heading, in snake_case; the table shows it with spaces.
	name string
	// full returns the exact value, as CSV has it.
	full func(T) string
	// short returns the value as a table shows it; nil means full.
	short func(T) string
	// right aligns the column to the right: for numbers.
	right bool
	// only restricts the column to formatTable or formatCSV; empty means both.
	only string
}

// list is a document whose main part is a list: in JSON {"schema": …, extra…,
// key: [items]}, in JSONL one item a line, else a table or CSV.
type list[T any] struct {
	// schema names the form of the document, and key the field of its items.
	schema, key string
	items       []T
	columns     []column[T]
	// empty is the line that is printed in place of a table without rows.
	empty string
	// extra holds further fields of the JSON document.
	extra map[string]any
}

// printList writes l to standard output in the format of -o. It is a function
// and not a method because methods cannot have type parameters.
func printList[T any](a *app, l list[T]) error {
	switch a.format {
	case formatJSON:
		doc := map[string]any{"schema": l.schema, l.key: l.items}
		if l.items == nil {
			doc[l.key] = []T{}
		}
		for k, v := range l.extra {
			doc[k] = v
		}
		return printOrdered(a.out, doc, l.key)
	case formatJSONL:
		for _, item := range l.items {
			if err := a.printJSONLine(item); err != nil {
				return err
			}
		}
		return nil
	case formatCSV:
		return printCSV(a.out, l)
	}
	if len(l.items) == 0 {
		_, err := fmt.Fprintln(a.out, l.empty)
		return err
	}
	return a.printTable(gridOf(l))
}

// printOrdered writes doc with "schema" first, the list last, and the other
// fields between them in alphabetical order. encoding/json sorts the keys of
// a map, which would put a long list in front of the fields that describe it.
func printOrdered(w io.Writer, doc map[string]any, last string) error {
	schema, items := doc["schema"], doc[last]
	delete(doc, "schema")
	delete(doc, last)
	rest, err := marshal(doc, "  ")
	if err != nil {
		return err
	}
	head, err := json.Marshal(schema)
	if err != nil {
		return err
	}
	body, err := marshal(items, "  ")
	if err != nil {
		return err
	}
	body = bytes.ReplaceAll(body, []byte("\n"), []byte("\n  "))
	// The fields between schema and list are encoded as a document of their
	// own, of which the braces are cut off.
	middle := ""
	if inner := strings.Trim(string(rest), "{}\n"); strings.TrimSpace(inner) != "" {
		middle = inner + ",\n"
	}
	_, err = fmt.Fprintf(w, "{\n  \"schema\": %s,\n%s  %q: %s\n}\n", head, middle, last, body)
	return err
}

// printDocument writes one document, indented for json and on one line for
// jsonl.
func (a *app) printDocument(doc any) error {
	if a.format == formatJSONL {
		return a.printJSONLine(doc)
	}
	b, err := marshal(doc, "  ")
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(a.out, "%s\n", b)
	return err
}

// printJSONLine writes one document on one line, whatever -o says.
func (a *app) printJSONLine(doc any) error {
	b, err := marshal(doc, "")
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(a.out, "%s\n", b)
	return err
}

// marshal encodes v without escaping HTML and with characters that could
// disturb a terminal written as \uXXXX; an indent of "" means one line.
func marshal(v any, indent string) ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", indent)
	if err := enc.Encode(v); err != nil {
		return nil, fmt.Errorf("print: %w", err)
	}
	return escapeJSON(bytes.TrimSuffix(b.Bytes(), []byte("\n"))), nil
}

// wantsJSON reports whether -o is json or jsonl.
func (a *app) wantsJSON() bool { return a.format == formatJSON || a.format == formatJSONL }

// printCSV writes a list as CSV: a heading, then a line for each item, with
// full values and with cells that a spreadsheet would evaluate defused.
func printCSV[T any](w io.Writer, l list[T]) error {
	c := csv.NewWriter(w)
	var cols []column[T]
	var head []string
	for _, col := range l.columns {
		if col.only == "" || col.only == formatCSV {
			cols = append(cols, col)
			head = append(head, col.name)
		}
	}
	if err := c.Write(head); err != nil {
		return err
	}
	row := make([]string, len(cols))
	for _, item := range l.items {
		for i, col := range cols {
			row[i] = escapeFormula(col.full(item))
		}
		if err := c.Write(row); err != nil {
			return err
		}
	}
	c.Flush()
	return c.Error()
}

// truncate cuts s to at most width terminal cells, ending with … when
// something is cut. Only progress lines use it, which are redrawn in place;
// answers are never cut.
func truncate(s string, width int) string {
	if text.StringWidth(s) <= width {
		return s
	}
	if width < 1 {
		return ""
	}
	var b strings.Builder
	used := 0
	for _, r := range s {
		w := text.RuneWidth(r)
		if used+w > width-1 {
			break
		}
		b.WriteRune(r)
		used += w
	}
	return b.String() + "…"
}

// sortedKeys returns the keys of m in ascending order.
func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
