package main

import (
	"encoding/json"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/trimtab/trimtab"
)

func TestClean(t *testing.T) {
	for _, c := range []struct{ in, line, lines string }{
		{"plain text, ünï, 生命 👩‍🚀", "plain text, ünï, 生命 👩‍🚀", "plain text, ünï, 生命 👩‍🚀"},
		{"a\x1b[31mred\x1b[0m", `a\x1b[31mred\x1b[0m`, `a\x1b[31mred\x1b[0m`},
		{"\x1b]0;title\a", `\x1b]0;title\x07`, `\x1b]0;title\x07`},
		{"one\ntwo\tthree", `one\ntwo\tthree`, "one\ntwo    three"},
		{"back\rover", `back\x0dover`, `back\x0dover`},
		{"a\u202eb\u2066c\u200ed", `a\u202eb\u2066c\u200ed`, `a\u202eb\u2066c\u200ed`},
		{"c1 \u009b31m", `c1 \u009b31m`, `c1 \u009b31m`},
		{"bad \xff\xfe bytes", `bad \xff\xfe bytes`, `bad \xff\xfe bytes`},
		{"tag \U000e0041", `tag \U000e0041`, `tag \U000e0041`},
		{"nul \x00 del \x7f", `nul \x00 del \x7f`, `nul \x00 del \x7f`},
	} {
		if got := escapeLine(c.in); got != c.line {
			t.Errorf("clean(%q) = %q, want %q", c.in, got, c.line)
		}
		if got := escapeText(c.in); got != c.lines {
			t.Errorf("cleanLines(%q) = %q, want %q", c.in, got, c.lines)
		}
	}
}

// The escapes of JSON change how a document looks, never what it says.
func FuzzEscapeJSON(f *testing.F) {
	for _, s := range []string{"", "plain", "\u202eevil", "\x1b[2J", "\u009b", "\x7f", "\U000e0041 \u2028", "👩‍🚀"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if !utf8.ValidString(s) {
			t.Skip()
		}
		doc, err := marshal(map[string]string{"text": s}, "")
		if err != nil {
			t.Fatal(err)
		}
		if strings.ContainsFunc(string(doc), trimtab.Unseen) {
			t.Errorf("%q: unsafe characters in %q", s, doc)
		}
		var back map[string]string
		if err := json.Unmarshal(doc, &back); err != nil || back["text"] != s {
			t.Errorf("%q came back as %q (%v) through %s", s, back["text"], err, doc)
		}
		if strings.ContainsFunc(escapeLine(s), trimtab.Unseen) {
			t.Errorf("clean(%q) = %q is not clean", s, escapeLine(s))
		}
	})
}
