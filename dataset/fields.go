package dataset

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/trimtab/trimtab"
)

// fields are a record's columns: by their own names, or else in lower case.
type fields struct {
	byName map[string]any
	names  []string // as the file has them, sorted
}

func fieldsOf(m map[string]any) fields {
	f := fields{byName: map[string]any{}, names: slices.Sorted(maps.Keys(m))}
	for _, name := range f.names {
		if lower := strings.ToLower(name); f.byName[lower] == nil {
			f.byName[lower] = m[name]
		}
	}
	maps.Copy(f.byName, m)
	return f
}

// has reports whether there is anything in a column.
func (f fields) has(name string) bool {
	v := f.byName[name]
	return v != nil && v != ""
}

// exists reports whether there is such a column, if only an empty one.
func (f fields) exists(name string) bool {
	_, ok := f.byName[name]
	return ok
}

// first of names that has something.
func (f fields) first(names ...string) string {
	for _, name := range names {
		if f.has(name) {
			return name
		}
	}
	return ""
}

// aliases are names that others give to our columns; the remedy of a missing
// column proposes them. They are not taken silently.
var aliases = map[string][]string{
	"completion": {"response", "answer", "output", "target", "canonical_solution", "best answer", "text", "chosen"},
	"prompt":     {"question", "instruction", "input", "query", "context", "text"},
	"answer":     {"best answer", "response", "output", "completion"},
	"output":     {"response", "completion", "answer"},
	"chosen":     {"preferred", "winner", "better", "response_1", "response_a"},
	"rejected":   {"dispreferred", "loser", "worse", "response_2", "response_b"},
	"responses":  {"completions", "answers", "outputs"},
	"rank":       {"ranking", "order"},
	"text":       {"content", "body", "document", "completion", "prompt"},
}

// missing is the fault of a record without a column.
func (f fields) missing(name string) error {
	theirs := "COLUMN"
	for _, alias := range aliases[name] {
		if i := slices.IndexFunc(f.names, func(n string) bool { return strings.ToLower(n) == alias }); i >= 0 {
			theirs = f.names[i]
			break
		}
	}
	pass := name + "=" + theirs
	if strings.Contains(pass, " ") {
		pass = strconv.Quote(pass)
	}
	return faultf("rename it or pass --map "+pass, "field %q is missing (have: %s)", name, strings.Join(f.names[:min(len(f.names), 20)], ", "))
}

// text is a column that must hold a string.
func (f fields) text(name string) (string, error) {
	if !f.exists(name) {
		return "", f.missing(name)
	}
	return stringOf(name, f.byName[name])
}

// optional is a column's string or number; empty for anything else.
func (f fields) optional(names ...string) string {
	for _, name := range names {
		switch v := f.byName[name].(type) {
		case string:
			return v
		case json.Number:
			return v.String()
		}
	}
	return ""
}

// list is a column that must hold a list.
func (f fields) list(name string) ([]any, error) {
	if !f.exists(name) {
		return nil, f.missing(name)
	}
	list, ok := f.byName[name].([]any)
	if !ok {
		return nil, faultf("write it as a list: [ … ]", "field %q is %s, not a list", name, typeName(f.byName[name]))
	}
	return list, nil
}

func stringOf(name string, v any) (string, error) {
	s, ok := v.(string)
	if !ok {
		return "", faultf("write it in quotes, or leave the record out", "field %q is %s, not a string", name, typeName(v))
	}
	return s, nil
}

func typeName(v any) string {
	switch v := v.(type) {
	case nil:
		return "null"
	case bool:
		return strconv.FormatBool(v)
	case json.Number:
		return "the number " + v.String()
	case string:
		return "a string"
	case []any:
		return "a list"
	}
	return "an object"
}

// number is an integer or fraction, written as such or, as in a table, in a string.
func number(name string, v any) (float64, error) {
	var s string
	switch v := v.(type) {
	case json.Number:
		s = v.String()
	case string:
		s = strings.TrimSpace(v)
	default:
		return 0, faultf("write it as a number", "field %q is %s, not a number", name, typeName(v))
	}
	x, err := strconv.ParseFloat(s, 64)
	if err != nil || x != x {
		return 0, faultf("write it as a number", "field %q is %q, not a number", name, s)
	}
	return x, nil
}

// splitOf reads the split column: what is not for training is for tests.
func splitOf(f fields) (string, error) {
	s := strings.ToLower(f.optional("split"))
	switch {
	case s == "" || s == "train" || s == "training":
		return trimmedSplit(s), nil
	case s == "dev" || strings.HasPrefix(s, "test") || strings.HasPrefix(s, "valid"):
		return trimtab.SplitTest, nil
	}
	return "", faultf("use train or test", "field %q is %q", "split", s)
}

func trimmedSplit(s string) string {
	if s == "" {
		return ""
	}
	return trimtab.SplitTrain
}

// groupOf is what a split must not tear apart: the group column, or else the
// part of an id "debate_side/pair" that names the debate.
func groupOf(f fields) string {
	if g := f.optional("group"); g != "" {
		return g
	}
	whole, _, ok := strings.Cut(f.optional("id"), "/")
	if !ok {
		return ""
	}
	debate, _, _ := strings.Cut(whole, "_")
	return debate
}

func labellerOf(f fields) string {
	return f.optional("labeller", "labeler", "annotator", "worker")
}

// nth names an element of a list for people, who count from 1.
func nth(name string, i int) string { return fmt.Sprintf("%s %d", name, i+1) }
