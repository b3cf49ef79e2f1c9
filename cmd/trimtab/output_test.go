package main

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"strings"
	"testing"

	"github.com/jedib0t/go-pretty/v6/text"
)

type fruit struct {
	Name  string `json:"name"`
	Price string `json:"price"`
}

func fruits(items ...fruit) list[fruit] {
	return list[fruit]{
		schema: "trimtab.fruits/v1", key: "fruits", items: items, empty: "no fruit",
		columns: []column[fruit]{
			{name: "the_name", full: func(f fruit) string { return f.Name }},
			{name: "price", full: func(f fruit) string { return f.Price }, right: true},
		},
		extra: map[string]any{"shop": "corner"},
	}
}

func printed(t *testing.T, format string, l list[fruit]) string {
	t.Helper()
	var out bytes.Buffer
	if err := printList(&app{out: &out, format: format}, l); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

func TestPrintList(t *testing.T) {
	l := fruits(fruit{"apple", "1.50"}, fruit{"=cmd|' /C calc'!A0", "-3"}, fruit{"mal\x1b[2Jus", "@2"})
	want := "the name            price\napple                1.50\n=cmd|' /C calc'!A0     " +
		"-3\nmal\\x1b[2Jus           @2\n"
	if got := printed(t, formatTable, l); got != want {
		t.Errorf("table:\n%s\nwant:\n%s", got, want)
	}
	records, err := csv.NewReader(strings.NewReader(printed(t, formatCSV, l))).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	if records[0][0] != "the_name" || records[2][0] != "'=cmd|' /C calc'!A0" || records[2][1] != "-3" ||
		records[3][1] != "'@2" {
		t.Errorf("csv: %q", records)
	}
	var doc struct {
		Schema, Shop string
		Fruits       []fruit
	}
	text := printed(t, formatJSON, l)
	if err := json.Unmarshal([]byte(text), &doc); err != nil {
		t.Fatalf("%v in %s", err, text)
	}
	if doc.Schema != "trimtab.fruits/v1" || doc.Shop != "corner" || len(doc.Fruits) != 3 ||
		doc.Fruits[2].Name != "mal\x1b[2Jus" {
		t.Errorf("json: %+v", doc)
	}
	if !strings.HasPrefix(text, "{\n  \"schema\"") {
		t.Errorf("schema is not first: %s", text)
	}
	if lines := strings.Count(printed(t, formatJSONL, l), "\n"); lines != 3 {
		t.Errorf("%d lines of jsonl, want 3", lines)
	}
}

func TestPrintNothing(t *testing.T) {
	if got := printed(t, formatTable, fruits()); got != "no fruit\n" {
		t.Errorf("table: %q", got)
	}
	if got := printed(t, formatJSON, fruits()); !strings.Contains(got, `"fruits": []`) {
		t.Errorf("json: %s", got)
	}
	if got := printed(t, formatCSV, fruits()); got != "the_name,price\n" {
		t.Errorf("csv: %q", got)
	}
}

func TestTableFitsTheTerminal(t *testing.T) {
	g := grid{
		head:  []string{"name", "what", "n"},
		right: []bool{false, false, true},
		rows: [][]string{
			{"short", strings.Repeat("a long story ", 20), "12"},
			{strings.Repeat("生命", 30), "x", "3"},
		},
	}
	for _, width := range []int{40, 60, 80, 132} {
		for _, line := range strings.Split(g.render(width), "\n") {
			if w := text.StringWidth(line); w > width {
				t.Errorf("width %d: a line of %d: %q", width, w, line)
			}
		}
	}
	if got := truncate("abcdef", 4); got != "abc…" {
		t.Errorf("shorten = %q", got)
	}
}

func TestCount(t *testing.T) {
	for n, want := range map[float64]string{12: "12", 1234: "1.23 k", 9e5: "900 k", 1.75e11: "175 G",
		3.1e23: "3.1e+05 E"} {
		if got := formatCount(n); got != want {
			t.Errorf("count(%g) = %q, want %q", n, got, want)
		}
	}
}
