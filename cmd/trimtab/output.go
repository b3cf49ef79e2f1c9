package main

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/jedib0t/go-pretty/v6/text"
)

// The forms of output.
const (
	formatTable = "table"
	formatJSON  = "json"
	formatJSONL = "jsonl"
	formatCSV   = "csv"
)

var formats = []string{formatTable, formatJSON, formatJSONL, formatCSV}

// column is one column of a list: full is its value as CSV has it, short (if
// set) as people read it.
type column[T any] struct {
	name  string // snake_case; the table shows it with spaces
	full  func(T) string
	short func(T) string
	right bool   // numbers
	only  string // formatTable or formatCSV: in that form alone
}

// list is a top-level document: {"schema": …, key: [items]}, a line per item, or a table.
type list[T any] struct {
	schema, key string
	items       []T
	columns     []column[T]
	empty       string         // what a table says when there is nothing
	extra       map[string]any // further fields of the JSON document
}

// printList writes l in the form that -o asks for.
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

// printOrdered writes doc with schema first, the scalars in order of name, and the list last.
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
	middle := ""
	if inner := strings.Trim(string(rest), "{}\n"); strings.TrimSpace(inner) != "" {
		middle = inner + ",\n"
	}
	_, err = fmt.Fprintf(w, "{\n  \"schema\": %s,\n%s  %q: %s\n}\n", head, middle, last, body)
	return err
}

// printDocument writes one document, indented for json and as one line for jsonl.
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

func (a *app) printJSONLine(doc any) error {
	b, err := marshal(doc, "")
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(a.out, "%s\n", b)
	return err
}

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

// wantsJSON reports whether the user asked for JSON in either form.
func (a *app) wantsJSON() bool { return a.format == formatJSON || a.format == formatJSONL }

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

// escapeFormula keeps a spreadsheet from taking a cell for a formula: text that
// begins like one gets an apostrophe in front; numbers stay as they are.
func escapeFormula(cell string) string {
	if cell == "" {
		return cell
	}
	if _, err := strconv.ParseFloat(cell, 64); err == nil {
		return cell
	}
	if strings.ContainsRune("=+-@\t\r\n|%", rune(cell[0])) {
		return "'" + cell
	}
	if r, _ := utf8.DecodeRuneInString(cell); strings.ContainsRune("＝＋－＠", r) { // full-width forms
		return "'" + cell
	}
	return cell
}

// grid is a table before it is drawn.
type grid struct {
	head  []string
	right []bool
	rows  [][]string
}

func gridOf[T any](l list[T]) grid {
	var g grid
	var cols []column[T]
	for _, col := range l.columns {
		if col.only == "" || col.only == formatTable {
			cols = append(cols, col)
			g.head = append(g.head, col.heading())
			g.right = append(g.right, col.right)
		}
	}
	for _, item := range l.items {
		row := make([]string, len(cols))
		for i, col := range cols {
			show := col.short
			if show == nil {
				show = col.full
			}
			row[i] = escapeLine(show(item))
		}
		g.rows = append(g.rows, row)
	}
	return g
}

// printTable draws g so that it fits a terminal, whole.
func (a *app) printTable(g grid) error {
	width, _ := terminal(a.out)
	_, err := fmt.Fprintln(a.out, g.render(width))
	return err
}

// headings are those of columns whose short form is in another unit than their name says.
var headings = map[string]string{"seconds": "time", "created_at": "created", "frozen_at": "frozen"}

func (c column[T]) heading() string {
	if h, ok := headings[c.name]; ok && c.short != nil {
		return h
	}
	return strings.ReplaceAll(c.name, "_", " ")
}

// String draws the grid without borders, two spaces between columns.
func (g grid) String() string {
	t := table.NewWriter()
	style := table.StyleDefault
	style.Options = table.OptionsNoBordersAndSeparators
	style.Box.PaddingLeft, style.Box.PaddingRight = "", "  "
	style.Format.Header = text.FormatDefault
	t.SetStyle(style)
	t.SuppressTrailingSpaces()
	configs := make([]table.ColumnConfig, len(g.head))
	head := make(table.Row, len(g.head))
	for i, h := range g.head {
		head[i] = h
		configs[i] = table.ColumnConfig{Number: i + 1}
		if g.right[i] {
			configs[i].Align, configs[i].AlignHeader = text.AlignRight, text.AlignRight
		}
	}
	t.SetColumnConfigs(configs)
	t.AppendHeader(head)
	for _, r := range g.rows {
		row := make(table.Row, len(r))
		for i, cell := range r {
			row[i] = cell
		}
		t.AppendRow(row)
	}
	return t.Render()
}

// truncate cuts s to at most width cells of the screen, ending with … when something is lost.
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

// formatMetric prints a metric: six significant digits for tables, all of them elsewhere.
func formatMetric(v float64) string { return strconv.FormatFloat(v, 'g', 6, 64) }
func formatExact(v float64) string  { return strconv.FormatFloat(v, 'g', -1, 64) }

// tally prints 1234567 as 1.2 M.
func formatCount(n float64) string {
	for _, unit := range []struct {
		size float64
		name string
	}{{1e18, " E"}, {1e15, " P"}, {1e12, " T"}, {1e9, " G"}, {1e6, " M"}, {1e3, " k"}} {
		if n >= unit.size {
			return fmt.Sprintf("%.3g%s", n/unit.size, unit.name)
		}
	}
	return fmt.Sprintf("%.0f", n)
}

// sortedKeys are the keys of m in order.
func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
