package main

import (
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/trimtab/trimtab"
)

// escapeLine spells out whatever in s could move the cursor, colour the screen or
// turn the reading direction: control characters, escape sequences, invalid
// bytes, bidirectional and invisible formatting. The result is one line.
func escapeLine(s string) string { return escapeControls(s, false) }

// escapeText is clean, but keeps line feeds.
func escapeText(s string) string { return escapeControls(s, true) }

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

func escapeRune(r rune) string {
	if r < 0x80 {
		return fmt.Sprintf(`\x%02x`, r)
	}
	if r > 0xffff {
		return fmt.Sprintf(`\U%08x`, r)
	}
	return fmt.Sprintf(`\u%04x`, r)
}

// escapeJSON writes characters that clean would spell out as \uXXXX inside
// encoded JSON: the same value, safe to look at. The line feeds of indented JSON stay.
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
