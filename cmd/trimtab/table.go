package main

import (
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/jedib0t/go-pretty/v6/text"
)

// Layout of tables and text on a terminal. Nothing is cut: a cell that is too
// long continues on the next line, and where the columns do not fit side by
// side, each row is printed as a record of "heading  value" lines. Widths are
// in terminal cells, which are not bytes or runes: a CJK character takes two
// and a combining mark none.

const (
	// columnGap is the number of cells between columns.
	columnGap = 2
	// minTextWidth is the width below which a column of text is not squeezed.
	minTextWidth = 16
	// minValueWidth is the width that a line of text has at least, however
	// narrow the terminal is; below it, lines overflow.
	minValueWidth = 8
)

// render draws the grid in at most width cells; 0 means no limit. While the
// table is too wide, the widest column that can still shrink gives up a cell;
// if none can, the rows are printed as records.
func (g grid) render(width int) string {
	natural := g.widths(text.StringWidth)
	if width <= 0 || tableWidth(natural) <= width {
		return g.String()
	}
	// Below these widths a table would be unreadable: records are better.
	least := g.widths(minCellWidth)
	if tableWidth(least) > width {
		return g.records(width)
	}
	widths := slices.Clone(natural)
	for tableWidth(widths) > width {
		widest := -1 // among the columns that are wider than their minimum
		for i, w := range widths {
			if w > least[i] && (widest < 0 || w > widths[widest]) {
				widest = i
			}
		}
		widths[widest]--
	}
	return g.wrapped(widths).String()
}

// tableWidth is the width of a table with columns of these widths.
func tableWidth(widths []int) int {
	n := -columnGap
	for _, w := range widths {
		n += w + columnGap
	}
	return n
}

// minCellWidth is how narrow a cell may become: as wide as its longest word
// and its indent, and wide enough that a sentence does not turn into a column
// of single words.
func minCellWidth(cell string) int {
	longest := 0
	for _, word := range strings.Fields(cell) {
		longest = max(longest, text.StringWidth(word))
	}
	return max(longest+text.StringWidth(indentOf(cell)), min(text.StringWidth(cell), minTextWidth))
}

// widths returns, for each column, the maximum of measure over its cells, the
// heading included.
func (g grid) widths(measure func(string) int) []int {
	widths := make([]int, len(g.head))
	for _, row := range append([][]string{g.head}, g.rows...) {
		for i, cell := range row {
			widths[i] = max(widths[i], measure(cell))
		}
	}
	return widths
}

// wrapped is the grid with line feeds in the cells that are wider than their
// column. Continuation lines keep the cell's indent.
func (g grid) wrapped(widths []int) grid {
	fit := func(row []string) []string {
		out := make([]string, len(row))
		for i, cell := range row {
			out[i] = strings.Join(wrapHanging(cell, widths[i], indentOf(cell)), "\n")
		}
		return out
	}
	out := grid{right: g.right, head: fit(g.head)}
	for _, row := range g.rows {
		out.rows = append(out.rows, fit(row))
	}
	return out
}

// records draws each row as lines of heading and value, with a blank line
// between rows. Empty cells are left out.
func (g grid) records(width int) string {
	label := 0
	for _, h := range g.head {
		label = max(label, text.StringWidth(h))
	}
	var b strings.Builder
	for n, row := range g.rows {
		if n > 0 {
			b.WriteByte('\n')
		}
		for i, cell := range row {
			if cell == "" {
				continue
			}
			for j, line := range wrapText(strings.TrimSpace(cell), max(width-label-columnGap, minValueWidth)) {
				head := ""
				if j == 0 {
					head = g.head[i]
				}
				b.WriteString(strings.TrimRight(text.Pad(head, label, ' ')+strings.Repeat(" ", columnGap)+line, " ") +
					"\n")
			}
		}
	}
	return strings.TrimSuffix(b.String(), "\n")
}

// indentOf returns the spaces at the beginning of s.
func indentOf(s string) string { return s[:len(s)-len(strings.TrimLeft(s, " "))] }

// wrapText breaks s at spaces into lines of at most width cells; a longer
// word is broken anywhere. Only the spaces at the breaks are dropped, so that
// a digest or a path that was broken is still whole: a fuzz test checks it.
func wrapText(s string, width int) []string {
	width = max(width, minValueWidth)
	var lines []string
	for text.StringWidth(s) > width {
		used, end, space := 0, 0, -1
		for i, r := range s {
			if used += text.RuneWidth(r); used > width && i > 0 {
				if r == ' ' { // the word ends exactly at the edge
					space = i
				}
				end = i
				break
			}
			if r == ' ' && strings.TrimSpace(s[:i]) != "" {
				space = i
			}
		}
		if end == 0 { // only characters of zero width are left
			break
		}
		if space > 0 {
			lines, s = append(lines, strings.TrimRight(s[:space], " ")), strings.TrimLeft(s[space:], " ")
		} else {
			lines, s = append(lines, s[:end]), s[end:]
		}
	}
	return append(lines, s)
}

// wrapHanging is wrapText with an indent before all lines but the first.
func wrapHanging(s string, width int, indent string) []string {
	if text.StringWidth(s) <= width {
		return []string{s}
	}
	rest := max(width-text.StringWidth(indent), minValueWidth)
	first := wrapText(s, width)
	lines := []string{first[0]}
	if len(first) == 1 {
		return lines
	}
	left := strings.TrimLeft(s[len(first[0]):], " ")
	for _, line := range wrapText(left, rest) {
		lines = append(lines, indent+line)
	}
	return lines
}

// printText writes a line of text, which the caller has escaped. On a
// terminal it wraps with a hanging indent. A write error is ignored, as
// fmt.Fprintln's is elsewhere: when the reader has gone away, the next write
// whose error is checked reports it.
func (a *app) printText(line, indent string) {
	lines := []string{line}
	if width, ok := terminal(a.out); ok {
		lines = wrapHanging(line, width, indent)
	}
	_, _ = io.WriteString(a.out, strings.Join(lines, "\n")+"\n")
}

// grid is a table of text before it is laid out: a row of headings and rows
// of cells, all equally long. Cells are escaped already.
type grid struct {
	// head has a heading for each column; an empty one is allowed.
	head []string
	// right says which columns are aligned to the right.
	right []bool
	// rows are as long as head.
	rows [][]string
}

// gridOf renders a list's items into a grid of short values.
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
			// Cells are escaped here, before their width is measured.
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

// printTable writes g so that it fits the width of the terminal, nothing cut.
func (a *app) printTable(g grid) error {
	width, _ := terminal(a.out)
	_, err := fmt.Fprintln(a.out, g.render(width))
	return err
}

// headings replaces the names of columns whose short form is in another unit
// than the name says.
var headings = map[string]string{"seconds": "time", "created_at": "created", "frozen_at": "frozen"}

// heading is the column's title in a table.
func (c column[T]) heading() string {
	if h, ok := headings[c.name]; ok && c.short != nil {
		return h
	}
	return strings.ReplaceAll(c.name, "_", " ")
}

// String draws the grid without borders, with two spaces between columns and
// no spaces at the ends of lines.
func (g grid) String() string {
	t := table.NewWriter()
	// Without borders, columns can be selected and cut with other tools.
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
