package dataset

import (
	"slices"
	"strings"
	"testing"
	"unicode/utf16"

	"github.com/trimtab/trimtab"
)

// TestQuotesInTables has tables in which quotes are text, or open fields: nothing is swallowed.
func TestQuotesInTables(t *testing.T) {
	for _, c := range []struct {
		name, body string
		want       []string
		problems   []string // the beginnings
	}{
		{"x.tsv", "prompt\tcompletion\n\"Yes\" or no?\tYes\nSay hi\thi\nName a \"bird\"\towl\n",
			[]string{`"Yes" or no? → Yes`, "Say hi → hi", `Name a "bird" → owl`}, nil},
		{"x.tsv", "prompt\tcompletion\r\n\"quoted, \"\"so\"\"\"\t\"a\tb\"\r\n\"Yes\" or \"no\tno\r\n",
			[]string{`quoted, "so" → a` + "\tb", `"Yes" or "no → no`}, nil},
		{"x.tsv", "prompt\tcompletion\n\"never closed\tYes\nSay hi\thi\nName a bird\"\towl\n",
			[]string{"Say hi → hi"}, []string{"x.tsv:2: a quote is opened and not closed in its line",
				"x.tsv:4: the line may end a field that line 2 began"}},
		{"x.tsv", "prompt\tcompletion\n\"two\nlines\"\tYes\nSay hi\thi\n",
			[]string{"Say hi → hi"}, []string{"x.tsv:2: a quote is opened and not closed in its line",
				"x.tsv:3: the line may end a field that line 2 began"}},
		{"x.tsv", "prompt\tcompletion\n\na\tb\tc\nx\ty\n", []string{"x → y"},
			[]string{"x.tsv:3: the row has 3 columns, the header 2"}},
		{"x.tsv", "prompt\tcompletion\n\"\"\tYes\n\"a\"\t\"\"\n", nil,
			[]string{`x.tsv:2: field "prompt" is empty`, `x.tsv:3: field "completion" is empty`}},
		{"x.csv", "prompt,completion\r\n\"two\r\nlines, a \"\"q\"\"\",Yes\r\nSay \"hi\",hi\r\nfine,ok\r\n",
			[]string{"two\nlines, a \"q\" → Yes", "fine → ok"},
			[]string{"x.csv:4: an unquoted field contains a quote"}},
		{"x.csv", "prompt,completion\nfine,ok\n\"never closed,hi\nnext,row\n", []string{"fine → ok"},
			[]string{"x.csv:3: a quote is not closed"}},
		{"x.csv", "\ufeffprompt;completion\nq;a, b\n", []string{"q → a, b"}, nil},
		{"x.csv", "\"prompt\";\"a,b\";completion\nq;x;a\n", []string{"q → a"}, nil},
		{"x.csv", "sep=;\r\nprompt;completion\r\nq;a\r\nonly one\r\n", []string{"q → a"},
			[]string{"x.csv:4: the row does not have as many columns"}},
		{"x.csv", "prompt\tcompletion\n\"q\" x\ta\n", []string{`"q" x → a`}, nil},
		{"x.csv", "prompt,completion\nq,\"[{'role': 'assistant', 'content': 'No.'}]\"\n", []string{"q → No."}, nil},
		{"x.csv", "prompt,completion\nq,\"[{\"\"role\"\": \"\"assistant\"\", \"\"content\"\": \"\"Yes.\"\"}]\"\n",
			[]string{"q → Yes."}, nil},
		{"x.csv", "prompt,completion\nq,\"{'content': \"\"It's.\"\", 'role': 'assistant'}\"\n", []string{"q → It's."},
			nil},
		{"x.csv", "prompt,completion\nq,\"[{'role': 'assistant', 'content': 'cut\"\n", nil,
			[]string{`x.csv:2: column "completion" begins like a message and cannot be read`}},
		{"x.csv", "prompt,completion\nq,\"{\"\"name\"\": \"\"json\"\"}\"\nr,[1]\n",
			[]string{`q → {"name": "json"}`, "r → [1]"}, nil},
	} {
		im := read(t, trimtab.KindDemonstrations, c.name, c.body, ReadOptions{})
		var got, problems []string
		for _, item := range im.Items {
			got = append(got, show(item))
		}
		for _, p := range im.Rejected {
			problems = append(problems, p.Error())
		}
		ok := len(problems) == len(c.problems)
		for i := range min(len(problems), len(c.problems)) {
			ok = ok && strings.HasPrefix(problems[i], c.problems[i])
		}
		if !slices.Equal(got, c.want) || !ok {
			t.Errorf("%q\n gives %q\n want  %q\n problems %q", c.body, got, c.want, problems)
		}
	}
}

// Lists in the cells of a table, as JSON or as Python prints them.
func TestListsInTables(t *testing.T) {
	body := `prompt,responses,ranks,votes
p,"[""x"", ""y""]","[2, 1]",
q,"['x', ""it's""]","(1, 2)",
r,"['x', 'y']",,"[{'worker': 'w', 'vote': 'a2'}, {'worker': None, 'vote': 'equal'}]"
s,"not a list","[1, 2]",
`
	im := read(t, trimtab.KindRankings, "x.csv", body, ReadOptions{})
	var got []string
	for _, item := range im.Items {
		got = append(got, show(item))
	}
	if want := []string{"p → 2:x 1:y", "q → 1:x 2:it's", "r → 2:x 1:y [w]"}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
	if len(im.Rejected) != 1 ||
		im.Rejected[0].Error() != `x.csv:6: field "responses" is a string, not a list: write it as a list: [ … ]` &&
			im.Rejected[0].Line != 5 {
		t.Errorf("problems %v", im.Rejected)
	}
}

func TestLiteral(t *testing.T) {
	for s, want := range map[string]bool{
		`[1, 2]`: true, `[1 2]`: false, `[{'a': 1}` + "\n" + ` {'a': 2}]`: true, `{'a': 1, 'a': 2}`: false,
		`{'a': 1 'b': 2}`: false, `('a',)`: true,
		`[True, None, 1e3, -1.5]`: true, `[nan]`: false, `[inf]`: false, `[0x10]`: false, `['a' 'b']`: false,
		`'\x41\u00e9\U0001F600\n'`: true, `'\ud800'`: false,
		`'\q'`: false, "'a\nb'": false, `[`: false, ``: false, `[1] 2`: false, `__import__('os')`: false,
		strings.Repeat("[", 200) + strings.Repeat("]", 200): true,
		strings.Repeat("(", 200) + strings.Repeat(")", 200): false,
	} {
		if v, err := parseLiteral(s); (err == nil) != want {
			t.Errorf("%q: %v, %v", s, v, err)
		}
	}
	v, err := parseLiteral(`'\x41\u00e9\U0001F600\n\'"'`)
	if err != nil || v != "Aé😀\n'\"" {
		t.Errorf("%q, %v", v, err)
	}
}

// inUTF16 encodes with a byte order mark, if mark is set.
func inUTF16(s string, big, mark bool) string {
	units := utf16.Encode([]rune(s))
	if mark {
		units = append([]uint16{0xfeff}, units...)
	}
	var b []byte
	for _, u := range units {
		if big {
			b = append(b, byte(u>>8), byte(u))
		} else {
			b = append(b, byte(u), byte(u>>8))
		}
	}
	return string(b)
}

// TestEncodings has files that are not UTF-8: what says its encoding is read, and every other cause is named.
func TestEncodings(t *testing.T) {
	table := "prompt,completion\nCafé 😀?,Oui\n"
	for _, big := range []bool{false, true} {
		im := read(t, trimtab.KindDemonstrations, "x.csv", inUTF16(table, big, true), ReadOptions{})
		if im.Accepted != 1 || show(im.Items[0]) != "Café 😀? → Oui" {
			t.Errorf("UTF-16 with a mark, big-endian %v: %+v", big, im)
		}
	}
	broken := inUTF16("{\"text\": \"a\"}\n{\"text\": \"b", false, true) + "\x00\xd8" +
		inUTF16("\"}\n{\"text\": \"c\"}\n", false, false)
	im := read(t, trimtab.KindText, "x.jsonl", broken+"\n", ReadOptions{})
	// the last is an odd byte
	if im.Accepted != 2 || len(im.Rejected) != 2 || im.Rejected[0].Line != 2 || im.Rejected[1].Line != 4 {
		t.Errorf("half of a pair: %+v", im)
	}
	for _, c := range []struct{ name, body, reason, remedy string }{
		{"x.csv", inUTF16(table, false, false), "it is UTF-16 without a byte order mark", "iconv -f UTF-16LE -t UTF-8"},
		{"x.csv", inUTF16(table, true, false), "it is UTF-16 without a byte order mark", "iconv -f UTF-16BE -t UTF-8"},
		{"x.csv", "\xff\xfe\x00\x00p\x00\x00\x00", "it is UTF-32", "iconv -f UTF-32 -t UTF-8"},
		{"x.csv", "PK\x03\x04\x14\x00", "it is a zip file or a spreadsheet", "save the spreadsheet as CSV"},
		{"x.jsonl", "\x1f\x8b\x08\x00", "it is compressed with gzip", "add .gz to its name"},
		{"x.json", "PAR1\x15\x00", "it is a Parquet file", "JSON lines"},
		{"x.csv", "prompt\xe9,completion\nq,a\n", "its header is not valid UTF-8", "iconv -f WINDOWS-1252"},
		{"x.tsv", "prompt,completion\nq,a\n", `its header has one column, "prompt,completion"`,
			"commas or semicolons for .csv"},
		{"x.csv", "prompt,completion,prompt\nq,a,b\n", `its header has the column "prompt" twice`, "a name of its own"},
	} {
		_, err := Read(trimtab.KindDemonstrations, c.name, strings.NewReader(c.body), ReadOptions{})
		e := trimtab.AsError(err)
		if e.Type != "dataset_unreadable" || !strings.Contains(e.Message, c.reason) ||
			!strings.Contains(e.Remedy, c.remedy) {
			t.Errorf("%q: %v", c.body, err)
		}
	}
	im = read(t, trimtab.KindDemonstrations, "x.csv", "prompt,completion\nCaf\xe9,a\n", ReadOptions{})
	if len(im.Rejected) != 1 || !strings.Contains(im.Rejected[0].Error(), "it may be Latin-1 or Windows-1252") {
		t.Errorf("Latin-1: %v", im.Rejected)
	}
}
