package dataset

import (
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/trimtab/trimtab"
)

// fields are the columns of a record, under their own names and under their
// names in lower case. Columns that are null are kept apart.
type fields struct {
	byName map[string]any
	// null are the columns that are null, in lower case.
	null map[string]bool
	// names are the columns that are not null, as the file spells them, sorted.
	names []string

	// votes collects the numeric votes of the whole file; votesMean is
	// ReadOptions.Votes. Records of other kinds leave both alone.
	votes     *voteStats
	votesMean string
	// line is that of the record, for voteStats.
	line int
}

// newFields returns the columns of m. Where two names differ in case alone, the
// first in sorted order gets the lower-case name.
func newFields(m map[string]any) fields {
	f := fields{byName: map[string]any{}, null: map[string]bool{}, votes: &voteStats{}}
	for _, name := range slices.Sorted(maps.Keys(m)) {
		lower := strings.ToLower(name)
		if m[name] == nil {
			f.null[lower] = true
			continue
		}
		f.names = append(f.names, name)
		if f.byName[lower] == nil {
			f.byName[lower] = m[name]
		}
	}
	// A column's own spelling wins over the lower case of another one.
	for _, name := range f.names {
		f.byName[name] = m[name]
	}
	return f
}

// renameColumns gives columns our names, as ReadOptions.Map says. In a task of
// Label Studio it renames the columns of its data.
func renameColumns(m map[string]any, names map[string]string) map[string]any {
	if len(names) == 0 {
		return m
	}
	if data, ok := m["data"].(map[string]any); ok && m["annotations"] != nil {
		m["data"] = renameColumns(data, names)
	}
	out := maps.Clone(m)
	for _, ours := range slices.Sorted(maps.Keys(names)) {
		theirs := names[ours]
		if theirs == NoColumn {
			maps.DeleteFunc(out, func(name string, _ any) bool { return strings.EqualFold(name, ours) })
		} else if v := m[theirs]; v != nil {
			out[ours] = v
		}
	}
	return out
}

// hasValue reports whether a column exists and is neither an empty string nor
// an empty list.
func (f fields) hasValue(name string) bool {
	switch v := f.byName[name].(type) {
	case nil:
		return false
	case string:
		return v != ""
	case []any:
		return len(v) > 0
	}
	return true
}

// exists reports whether a column exists, even if it is empty.
func (f fields) exists(name string) bool {
	_, ok := f.byName[name]
	return ok
}

// firstWithValue returns the first of names that has a value, or "".
func (f fields) firstWithValue(names ...string) string {
	for _, name := range names {
		if f.hasValue(name) {
			return name
		}
	}
	return ""
}

// aliases are names that other datasets use for our columns. The remedy for a
// missing column proposes them; they are never taken silently, since the
// meaning may differ. For chosen nothing is proposed: a name does not say which
// of two responses is the better one.
var aliases = map[string][]string{
	"completion": {"response", "answer", "output", "target", "canonical_solution", "best answer", "text", "chosen"},
	"prompt":     {"question", "instruction", "input", "query", "context", "text"},
	"answer":     {"best answer", "response", "output", "completion"},
	"output":     {"response", "completion", "answer"},
	"responses":  {"completions", "answers", "outputs"},
	"rank":       {"ranking", "order"},
	"text":       {"content", "body", "document", "completion", "prompt"},
}

// missingError returns the error of a record that lacks a column, or has
// nothing in it, with the --map flag that would probably help.
func (f fields) missingError(name string) error {
	switch {
	case f.null[name]:
		return recordErrorf("give it a value, or leave the record out", "field %q is null", name)
	case f.exists(name):
		return recordErrorf("give it a value, or leave the record out", "field %q is empty", name)
	}
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
	return recordErrorf("rename it or pass --map "+pass, "field %q is missing (have: %s)", name, f.columnList())
}

// columnList lists the columns of a record for a message, at most 20 of them.
func (f fields) columnList() string {
	if len(f.names) > 20 {
		return strings.Join(f.names[:20], ", ") + fmt.Sprintf(" and %d more", len(f.names)-20)
	}
	return strings.Join(f.names, ", ")
}

// text returns a column that must hold a string.
func (f fields) text(name string) (string, error) {
	if !f.exists(name) {
		return "", f.missingError(name)
	}
	return asString(name, f.byName[name])
}

// optional returns the string in the first of names that has a value, or its
// number as it is written; "" if none has. Any other value is an error:
// dropping it silently would lose data.
func (f fields) optional(names ...string) (string, error) {
	name := f.firstWithValue(names...)
	switch v := f.byName[name].(type) {
	case nil:
		return "", nil
	case string:
		return v, nil
	case json.Number:
		return v.String(), nil
	default:
		return "", recordErrorf(fmt.Sprintf("write it as a string, or leave it out with --map %s=%s", name, NoColumn),
			"field %q is %s, not a string", name, typeName(v))
	}
}

// list returns a column that must hold a list.
func (f fields) list(name string) ([]any, error) {
	if !f.exists(name) {
		return nil, f.missingError(name)
	}
	list, ok := f.byName[name].([]any)
	if !ok {
		return nil, recordErrorf("write it as a list: [ … ]", "field %q is %s, not a list",
			name, typeName(f.byName[name]))
	}
	return list, nil
}

// asString returns v, the value of a column, as the string that it must be.
func asString(name string, v any) (string, error) {
	s, ok := v.(string)
	if !ok {
		return "", recordErrorf("write it in quotes, or leave the record out", "field %q is %s, not a string",
			name, typeName(v))
	}
	return s, nil
}

// typeName describes a JSON value in a message.
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

// parseNumber reads a finite number, written as a number or, as in a table, as
// a string.
func parseNumber(name string, v any) (float64, error) {
	var s string
	switch v := v.(type) {
	case nil:
		return 0, recordErrorf("give it a number, or leave the record out", "field %q is missing or null", name)
	case json.Number:
		s = v.String()
	case string:
		s = strings.TrimSpace(v)
	default:
		return 0, recordErrorf("write it as a number", "field %q is %s, not a number", name, typeName(v))
	}
	x, err := strconv.ParseFloat(s, 64)
	if err != nil || math.IsNaN(x) || math.IsInf(x, 0) {
		return 0, recordErrorf("write it as a number", "field %q is %q, not a number", name, s)
	}
	return x, nil
}

// readSplit reads the column split. Names of validation and test splits count
// as the test split: only training data trains.
func readSplit(f fields) (string, error) {
	s, err := f.optional("split")
	if err != nil {
		return "", err
	}
	switch s = strings.ToLower(s); {
	case s == "":
		return "", nil
	case s == "train" || s == "training":
		return trimtab.SplitTrain, nil
	case s == "dev" || strings.HasPrefix(s, "test") || strings.HasPrefix(s, "valid"):
		return trimtab.SplitTest, nil
	}
	return "", recordErrorf("use train or test", "field %q is %q", "split", s)
}

// readGroup returns the group that a split must keep together: the column
// group, or else the part of an id "debate_side/pair" that names the debate.
func readGroup(f fields) (string, error) {
	if g, err := f.optional("group"); g != "" || err != nil {
		return g, err
	}
	id, _ := f.byName["id"].(string)
	whole, _, ok := strings.Cut(id, "/")
	if !ok {
		return "", nil
	}
	debate, _, _ := strings.Cut(whole, "_")
	return debate, nil
}

// readLabeller returns who made the record's choice, under one of the usual
// names.
func readLabeller(f fields) (string, error) {
	return f.optional("labeller", "labeler", "annotator", "worker")
}

// nth names element i of a list in a message, counted from 1.
func nth(name string, i int) string { return fmt.Sprintf("%s %d", name, i+1) }

// listColumns are the columns that always hold a list or an object.
var listColumns = []string{"messages", "conversations", "responses", "rank", "ranks", "votes", "completions",
	"answers", "summaries", "info", "history", "instances", "annotations", "data", "conversation_a", "conversation_b"}

// parseListColumns parses the columns of a table that hold a list, which a
// table can only write as a string: those of listColumns, and any that begins
// like a list of messages. The column text is never parsed.
func (f fields) parseListColumns() error {
	for _, name := range slices.Sorted(maps.Keys(f.byName)) {
		s, ok := f.byName[name].(string)
		like := looksLikeMessages(s)
		if lower := strings.ToLower(name); !ok || lower == "text" || !like && !slices.Contains(listColumns, lower) {
			continue
		}
		value, err := parseLiteral(s)
		switch {
		case err == nil:
			f.byName[name] = value
		case like:
			// A list column that does not parse stays a string: the code that
			// reads it says what it needs. Broken messages would become a prompt.
			return recordErrorf("write it as JSON, or leave the record out",
				"column %q begins like a message and cannot be read: %v", name, err)
		}
	}
	return nil
}

// looksLikeMessages reports whether s begins like a message or a list of
// messages, in JSON or Python: [{"role": …. Prose that begins with a bracket
// does not.
func looksLikeMessages(s string) bool {
	const space = " \t\r\n"
	s = strings.TrimSpace(s)
	s = strings.TrimLeft(strings.TrimPrefix(s, "["), space)
	s, ok := strings.CutPrefix(s, "{")
	if !ok {
		return false
	}
	s = strings.TrimLeft(s, space)
	if s == "" || s[0] != '\'' && s[0] != '"' {
		return false
	}
	// The quote that opened the key closes it.
	key, rest, ok := strings.Cut(s[1:], s[:1])
	return ok && strings.HasPrefix(strings.TrimLeft(rest, space), ":") &&
		slices.Contains([]string{"role", "content", "from", "value", "selected"}, key)
}
