package main

import (
	"io"
	"slices"
	"strings"

	"github.com/jedib0t/go-pretty/v6/text"
)

// How a table and lines of text are laid out on a terminal. Nothing is cut: a
// cell that is too long goes on in the next line, and where the columns do not
// fit side by side each row is a record of lines.

const (
	columnGap     = 2  // cells of the screen between columns
	minTextWidth  = 16 // how narrow a column of text may become
	minValueWidth = 8  // of a value in a record, or of a line, however narrow the terminal is
)

// render draws the grid in at most width cells of the screen; 0 is no limit.
func (g grid) render(width int) string {
	natural := g.widths(text.StringWidth)
	if width <= 0 || tableWidth(natural) <= width {
		return g.String()
	}
	least := g.widths(minCellWidth)
	if tableWidth(least) > width {
		return g.records(width)
	}
	widths := slices.Clone(natural)
	for tableWidth(widths) > width {
		widest := -1 // of those that can give way
		for i, w := range widths {
			if w > least[i] && (widest < 0 || w > widths[widest]) {
				widest = i
			}
		}
		widths[widest]--
	}
	return g.wrapped(widths).String()
}

func tableWidth(widths []int) int {
	n := -columnGap
	for _, w := range widths {
		n += w + columnGap
	}
	return n
}

// minCellWidth is how narrow a cell may become: as wide as its longest word, and
// not so narrow that a sentence becomes a column of words.
func minCellWidth(cell string) int {
	longest := 0
	for _, word := range strings.Fields(cell) {
		longest = max(longest, text.StringWidth(word))
	}
	return max(longest+text.StringWidth(indentOf(cell)), min(text.StringWidth(cell), minTextWidth))
}

// widths is the largest measure of the cells of each column, its head among them.
func (g grid) widths(measure func(string) int) []int {
	widths := make([]int, len(g.head))
	for _, row := range append([][]string{g.head}, g.rows...) {
		for i, cell := range row {
			widths[i] = max(widths[i], measure(cell))
		}
	}
	return widths
}

// wrapped is the grid with line feeds in the cells that are wider than their column.
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

// records draws each row as lines of head and value. Empty cells are left out.
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

func indentOf(s string) string { return s[:len(s)-len(strings.TrimLeft(s, " "))] }

// wrapText breaks s at spaces into lines of at most width cells; a longer word is
// broken anywhere. Nothing is lost but the spaces at the breaks.
func wrapText(s string, width int) []string {
	width = max(width, minValueWidth)
	var lines []string
	for text.StringWidth(s) > width {
		used, end, space := 0, 0, -1
		for i, r := range s {
			if used += text.RuneWidth(r); used > width && i > 0 {
				if r == ' ' { // the line ends just here
					space = i
				}
				end = i
				break
			}
			if r == ' ' && strings.TrimSpace(s[:i]) != "" {
				space = i
			}
		}
		if end == 0 { // of zero width from here on
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

// wrapHanging is fold with an indent before all lines but the first.
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

// printText writes a line of text that is clean already; on a terminal it goes on under an indent where it does not
// fit.
func (a *app) printText(line, indent string) {
	lines := []string{line}
	if width, ok := terminal(a.out); ok {
		lines = wrapHanging(line, width, indent)
	}
	// as fmt.Fprintln elsewhere: who stopped reading is told by the next write that matters
	_, _ = io.WriteString(a.out, strings.Join(lines, "\n")+"\n")
}
