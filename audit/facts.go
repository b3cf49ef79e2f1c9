package audit

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"hash"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// RowSelector are rows of one table that an event tells of: those of its attempt, of its run, of its dataset, or what a
// digest names.
type RowSelector struct {
	Table *Table // nil for the items that an event added: the kind of the dataset says in which tables they are

	From, Until int64  // of tables that have steps: From ≤ step < Until
	Revision    int64  // of run_plan
	Digest      string // of artifact, document, evaluation, dataset_version and dataset_version_item
	Name        string // of artifact
	None        bool   // the event does not say which: there are none
}

// stepTables are the tables whose rows steps_committed tells of by their steps.
var stepTables = []string{"step", "metric", "timing", "rollout"}

// SealingTypes are the types of events that tell of rows.
var SealingTypes = []string{"artifact_made", "attempt_completed", "attempt_created", "attempt_started",
	"attempt_status",
	"dataset_created", "dataset_frozen", "document_kept", "evaluation_made", "items_added", "items_erased",
	"run_created", "run_planned", "run_status", "steps_committed"}

// Seals says which rows an event tells of, one Rows for each line of its facts and in their order, as facts_of in
// migrations/007_record.sql finds them. It fails when the event's body cannot be read.
func (e *Event) Seals() ([]RowSelector, error) {
	if !slices.Contains(SealingTypes, e.Type) {
		return nil, nil
	}
	body, err := readBody(e.Body)
	if err != nil {
		return nil, err
	}
	rows := func(names ...string) (list []RowSelector) {
		for _, name := range names {
			list = append(list, RowSelector{Table: TableOf(name)})
		}
		return list
	}
	var list []RowSelector
	switch e.Type {
	case "attempt_created", "attempt_started", "attempt_status", "attempt_completed", "steps_committed":
		if e.Attempt <= 0 {
			return nil, nil
		}
		return e.sealsOfAttempt(body, rows)
	case "run_created":
		list = append(rows("run_state", "run"), RowSelector{Table: TableOf("run_plan"),
			Revision: body.number("revision", 0)})
	case "run_planned":
		list = []RowSelector{{Table: TableOf("run_plan"), Revision: body.number("revision", 0)}}
	case "run_status":
		list = rows("run_state")
	case "artifact_made":
		none := !body.has("digest") || !body.has("name")
		list = []RowSelector{{Table: TableOf("artifact"), Digest: body.text("digest"), Name: body.text("name"),
			None: none}}
	case "evaluation_made":
		list = []RowSelector{{Table: TableOf("evaluation"), Digest: body.text("document"), None: !body.has("document")}}
	case "document_kept":
		list = []RowSelector{{Table: TableOf("document"), Digest: body.text("digest"), None: !body.has("digest")}}
	case "dataset_created":
		list = rows("dataset")
	case "dataset_frozen":
		list = rows("dataset_freeze", "dataset_version", "dataset_version_item")
		for i := range list[1:] {
			list[1+i].Digest, list[1+i].None = body.text("version"), !body.has("version")
		}
	case "items_erased":
		list = rows("erasure")
	case "items_added":
		list = append(rows("dataset_item"), RowSelector{})
	}
	return list, body.err
}

func (e *Event) sealsOfAttempt(body *eventBody, rows func(names ...string) []RowSelector) (list []RowSelector,
	err error) {
	if e.Type != "steps_committed" {
		list = rows("attempt_state")
	}
	if e.Type == "attempt_created" {
		list = append(list, rows("attempt", "attempt_input")...)
	}
	if e.Type == "attempt_completed" || e.Type == "attempt_created" && body.text("status") == "reused" {
		list = append(list, rows("attempt_output", "attempt_metric")...)
	}
	if e.Type == "steps_committed" {
		list = append(list, body.sealsOfSteps()...)
	}
	return list, body.err
}

// sealsOfSteps are the steps and the checkpoint of a commit.
func (b *eventBody) sealsOfSteps() (list []RowSelector) {
	from, until := b.number("first", b.number("from", 0)), b.number("until", -1)
	if (b.has("first") || b.has("from")) && b.has("until") && from < until {
		for _, name := range stepTables {
			list = append(list, RowSelector{Table: TableOf(name), From: from, Until: until})
		}
	}
	if _, ok := b.fields["checkpoint"]; ok {
		c, err := readBody(b.fields["checkpoint"])
		if err != nil {
			c = &eventBody{}
		}
		step := c.number("step", 0)
		list = append(list, RowSelector{Table: TableOf("checkpoint"), From: step, Until: step + 1,
			None: !c.has("step")})
		b.fail(c.err)
	}
	return list
}

// eventBody is the body of an event. The first thing in it that cannot be read is kept in err.
type eventBody struct {
	fields map[string]json.RawMessage
	err    error
}

func readBody(raw []byte) (*eventBody, error) {
	b := &eventBody{}
	if err := json.Unmarshal(raw, &b.fields); err != nil {
		return b, fmt.Errorf("its body is no JSON object: %w", err)
	}
	return b, nil
}

func (b *eventBody) fail(err error) {
	if b.err == nil {
		b.err = err
	}
}

// has reports whether a field is there and not null.
func (b *eventBody) has(name string) bool {
	raw, ok := b.fields[name]
	return ok && !bytes.Equal(raw, []byte("null"))
}

// text is a string, or what else stands in a field as it is written; empty for none.
func (b *eventBody) text(name string) string {
	if !b.has(name) {
		return ""
	}
	var s string
	if json.Unmarshal(b.fields[name], &s) == nil {
		return s
	}
	return string(b.fields[name])
}

// number is an integer, or otherwise where the field is not there.
func (b *eventBody) number(name string, otherwise int64) int64 {
	if !b.has(name) {
		return otherwise
	}
	n, err := strconv.ParseInt(b.text(name), 10, 64)
	if err != nil {
		b.fail(fmt.Errorf("%s in its body is %.40s, not an integer", name, b.fields[name]))
	}
	return n
}

// ItemTables are the tables in which the items of a dataset's kind are, in the order of facts; none for another word.
func ItemTables(kind string) []*Table {
	switch kind {
	case "text":
		return []*Table{TableOf("text_item")}
	case "prompts":
		return []*Table{TableOf("prompt")}
	case "demonstrations":
		return []*Table{TableOf("demonstration")}
	case "rankings":
		return []*Table{TableOf("ranking"), TableOf("ranking_response"), TableOf("response")}
	}
	return nil
}

// DatasetOf is the name of the dataset whose stream this is: what follows its first eight characters, which are
// "dataset/".
func DatasetOf(stream string) string {
	for range len("dataset/") {
		_, n := utf8.DecodeRuneInString(stream)
		stream = stream[n:]
	}
	return stream
}

// A Seal is a line of facts: a table, how many rows of it an event tells of, and the digest of their digests.
type Seal struct {
	Table  string
	Rows   int64
	Digest Hash
}

// ExportLine is the seal as it stands in the facts of an event.
func (s Seal) Line() string { return fmt.Sprintf("%s %d %s\n", s.Table, s.Rows, s.Digest) }

// ParseSeals reads the facts of an event.
func ParseSeals(facts []byte) ([]Seal, error) {
	var list []Seal
	for line := range strings.Lines(string(facts)) {
		var s Seal
		words := strings.Split(strings.TrimSuffix(line, "\n"), " ")
		if len(words) != 3 {
			return nil, fmt.Errorf("the line %.80q of its facts is no table, number and digest", line)
		}
		s.Table = words[0]
		var err error
		if s.Rows, err = strconv.ParseInt(words[1], 10, 64); err == nil {
			err = s.Digest.UnmarshalText([]byte(words[2]))
		}
		if err != nil || s.Rows < 0 || s.Line() != line {
			return nil, fmt.Errorf("the line %.80q of its facts is no table, number and digest", line)
		}
		list = append(list, s)
	}
	return list, nil
}

// Sum adds rows up to a Seal. Its zero value has none.
type Sum struct {
	rows   int64
	digest hash.Hash
}

// Add takes the SHA-256 of the next row.
func (s *Sum) Add(row []byte) {
	if s.digest == nil {
		s.digest = sha256.New()
	}
	s.rows++
	s.digest.Write(row)
}

// Seal is the line that stands for the rows.
func (s *Sum) Seal(table string) Seal {
	seal := Seal{Table: table, Rows: s.rows, Digest: sha256.Sum256(nil)}
	if s.digest != nil {
		s.digest.Sum(seal.Digest[:0])
	}
	return seal
}
