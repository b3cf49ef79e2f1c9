package audit

import (
	"crypto/sha256"
	"slices"
	"strings"
	"testing"

	"github.com/trimtab/trimtab"
)

// The tables are sorted, each column once, and every table that is named elsewhere is among them.
func TestTables(t *testing.T) {
	if len(Tables) != 28 || !slices.IsSortedFunc(Tables,
		func(a, b *Table) int { return strings.Compare(a.Name, b.Name) }) {
		t.Errorf("%d tables", len(Tables))
	}
	for _, table := range Tables {
		seen := map[string]bool{}
		for _, c := range table.Columns {
			if seen[c.Name] {
				t.Errorf("column %s.%s twice", table.Name, c.Name)
			}
			seen[c.Name] = true
		}
		if TableOf(table.Name) != table || len(table.Key) == 0 {
			t.Errorf("table %s", table.Name)
		}
	}
	for _, name := range slices.Concat(mutableTables, sharedTables, stepTables) {
		if TableOf(name) == nil {
			t.Errorf("no table %s", name)
		}
	}
	if TableOf("fence") != nil {
		t.Error("fence is audited")
	}
}

func TestAppendRow(t *testing.T) {
	table := &Table{Name: "t", Columns: []Column{{"a", "int4", false}, {"b", "int8", true}, {"c", "text", false},
		{"d", "bytea", true}, {"e", "timestamptz", true}}}
	row, err := table.AppendRow(nil, [][]byte{{0, 0, 0, 7}, {255, 255, 255, 255, 255, 255, 255, 254}, []byte("xy"), nil,
		{1, 2, 3, 4, 5, 6, 7, 8}})
	if want := "\x00\x00\x00\x07" + "\x00\x00\x00\x02-2" + "\x00\x00\x00\x02xy" + "\xff\xff\xff\xff" +
		"\x00\x00\x00\x08\x01\x02\x03\x04\x05\x06\x07\x08"; err != nil || string(row) != want {
		t.Errorf("%q, %v; want %q", row, err, want)
	}
	for _, values := range [][][]byte{{{1}}, {{0, 0, 7}, nil, nil, nil, nil}, {{0, 0, 0, 7}, {1}, nil, nil, nil}} {
		if _, err := table.AppendRow(nil, values); err == nil {
			t.Errorf("%q is a row", values)
		}
	}
}

// No body makes Seals fail other than by an error, and no facts are read that would not be written so.
func FuzzSeals(f *testing.F) {
	f.Add("steps_committed", 1, `{"first":0,"until":4,"checkpoint":{"step":4}}`, "step 4 "+strings.Repeat("ab", 32)+
		"\n")
	f.Add("artifact_made", 0, `{"digest":"x","name":"\u0000"}`, "artifact 1 x\n")
	f.Add("run_planned", 0, `{"revision":"9"}`, "")
	f.Add("items_added", 0, `[1]`, "a -1 "+strings.Repeat("ab", 32)+"\n")
	f.Fuzz(func(t *testing.T, typ string, attempt int, body, facts string) {
		e := Event{Stream: "s", Type: trimtab.EventType(typ), Attempt: attempt, Body: []byte(body)}
		rows, err := e.Seals()
		for _, r := range rows {
			if r.Table == nil && typ != "items_added" {
				t.Errorf("%s of %s: no table, %v", typ, body, err)
			}
		}
		seals, err := ParseSeals([]byte(facts))
		if err != nil {
			return
		}
		var again strings.Builder
		for _, s := range seals {
			again.WriteString(s.Line())
		}
		if again.String() != facts {
			t.Errorf("%q is read as %q", facts, again.String())
		}
	})
}

func TestSum(t *testing.T) {
	var s Sum
	if got := s.Seal("x"); got.Rows != 0 || got.Digest != sha256.Sum256(nil) {
		t.Errorf("%+v", got)
	}
	a, b := sha256.Sum256([]byte("a")), sha256.Sum256([]byte("b"))
	s.Add(a[:])
	s.Add(b[:])
	if got := s.Seal("x"); got.Rows != 2 || got.Digest != sha256.Sum256(append(a[:], b[:]...)) {
		t.Errorf("%+v", got)
	}
}

func TestDatasetOf(t *testing.T) {
	for stream, want := range map[string]string{"dataset/x/y": "x/y", "dataset/": "", "short": "", "ünknown/ä": "ä"} {
		if got := DatasetOf(stream); got != want {
			t.Errorf("%q: %q", stream, got)
		}
	}
}
