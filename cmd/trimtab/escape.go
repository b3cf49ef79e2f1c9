package main

import (
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/trimtab/trimtab"
)

// escapeLine spells out everything in s that could move the cursor, colour
// the screen or change the reading direction: control characters, escape
// sequences, invalid UTF-8, bidirectional and invisible formatting. The
// result is one line: a line feed becomes \n.
//
// Every string that did not originate in this program goes through it, or
// through escapeText, on its way to a terminal. A model's answer may hold any
// bytes, and a terminal obeys them.
func escapeLine(s string) string { return escapeControls(s, false) }

// escapeText is escapeLine, but keeps line feeds and expands tabs to four
// spaces.
func escapeText(s string) string { return escapeControls(s, true) }

// escapeControls implements escapeLine and escapeText. Text without anything
// to escape, the usual case, is returned as it is.
func escapeControls(s string, lines bool) string {
	if !strings.ContainsFunc(s, func(r rune) bool { return r == utf8.RuneError || trimtab.Unseen(r) }) {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); {
		r, size := utf8.DecodeRuneInString(s[i:])
		switch {
		case r == utf8.RuneError && size == 1:
			fmt.Fprintf(&b, `\x%02x`, s[i])
		case r == '\n' && lines:
			b.WriteByte('\n')
		case r == '\n':
			b.WriteString(`\n`)
		case r == '\t' && lines:
			b.WriteString("    ")
		case r == '\t':
			b.WriteString(`\t`)
		case trimtab.Unseen(r):
			b.WriteString(escapeRune(r))
		default:
			b.WriteString(s[i : i+size])
		}
		i += size
	}
	return b.String()
}

// escapeRune writes r as Go writes it in a string literal.
func escapeRune(r rune) string {
	if r < 0x80 {
		return fmt.Sprintf(`\x%02x`, r)
	}
	if r > 0xffff {
		return fmt.Sprintf(`\U%08x`, r)
	}
	return fmt.Sprintf(`\u%04x`, r)
}

// escapeJSON rewrites encoded JSON so that characters that escapeLine would
// spell out appear as \uXXXX: the same value, safe to print. Characters
// beyond the basic plane become surrogate pairs, as JSON requires. The line
// feeds of indented JSON stay.
func escapeJSON(doc []byte) []byte {
	if !strings.ContainsFunc(string(doc), func(r rune) bool { return r >= 0x7f && trimtab.Unseen(r) }) {
		return doc
	}
	var b strings.Builder
	for _, r := range string(doc) {
		switch {
		case r < 0x7f || !trimtab.Unseen(r):
			b.WriteRune(r)
		case r > 0xffff:
			hi, lo := (r-0x10000)>>10+0xd800, (r-0x10000)&0x3ff+0xdc00
			fmt.Fprintf(&b, `\u%04x\u%04x`, hi, lo)
		default:
			fmt.Fprintf(&b, `\u%04x`, r)
		}
	}
	return []byte(b.String())
}

// escapeFormula keeps a spreadsheet from evaluating a cell: text that begins
// like a formula gets an apostrophe in front; numbers stay as they are. See
// OWASP, "CSV Injection".
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
	// Some spreadsheets normalise the full-width forms before they look.
	if r, _ := utf8.DecodeRuneInString(cell); strings.ContainsRune("＝＋－＠", r) {
		return "'" + cell
	}
	return cell
}
