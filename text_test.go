package trimtab_test

import (
	"strings"
	"testing"

	"github.com/trimtab/trimtab"
)

// What may be recorded: any script, whole; nothing that is not to be seen.
func TestCheckName(t *testing.T) {
	for _, s := range []string{"", "a", "café", "カフェ", "مقهى", "बातचीत", "👩‍🔬 lab", "می\u200cخواهم", "DOMAIN\\ann",
		"a  b", `"quoted", <b>`, "\ufffd", strings.Repeat("é", 200)} {
		if err := trimtab.CheckName(s); err != nil {
			t.Errorf("%q: %v", s, err)
		}
	}
	for s, want := range map[string]string{
		"caf\xe9":                  `byte 4, \xe9, is not UTF-8`,
		"\xff":                     `byte 1, \xff`,
		"a\x00b":                   "a NUL",
		"a\nb":                     "a line break",
		"a\rb":                     "a line break",
		"a\tb":                     "a tab",
		"a\x1b[31mb":               "U+001B",
		"a\u0085b":                 "U+0085",
		"a\u2028b":                 "U+2028",
		"a\u202eb":                 "U+202E",
		"a\u2066b":                 "U+2066",
		"a\ufeffb":                 "U+FEFF",
		"a\u200bb":                 "U+200B",
		"a\U000e0041b":             "U+E0041",
		"a\ue000b":                 "U+E000",
		" a":                       "space before or after",
		"a\u00a0":                  "space before or after",
		" ":                        "space before or after",
		strings.Repeat("é", 201):   "201 characters, and may have 200",
		strings.Repeat("a", 1<<20): "characters",
	} {
		if err := trimtab.CheckName(s); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.20q: %v, want %q", s, err, want)
		}
	}
}

// What passes comes back from JSON, from a terminal and from Postgres as it went in: it is UTF-8 without NUL, on one
// line.
func FuzzCheckName(f *testing.F) {
	for _, s := range []string{"café", "caf\xe9", "a\x00b", "\u202e", "👩‍🔬", "\xed\xa0\x80", "\xf4\x90\x80\x80"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if trimtab.CheckName(s) != nil {
			return
		}
		if strings.ToValidUTF8(s, "?") != s || strings.ContainsFunc(s, trimtab.Unseen) ||
			len([]rune(s)) > trimtab.MostName {
			t.Errorf("%q passes", s)
		}
	})
}
