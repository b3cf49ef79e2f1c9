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

	"github.com/trimtab/trimtab"
)

// RowSelector says which rows of one table an event records: those of its
// attempt, run or dataset, or those that a digest names.
type RowSelector struct {
	// Table is nil for the items that an event added: the kind of the dataset
	// says in which tables they are.
	Table *Table

	From, Until int64  // of tables that have steps: From ≤ step < Until
	Revision    int64  // of run_plan
	Digest      string // of artifact, document, evaluation, dataset_version and dataset_version_item
	Name        string // of artifact
	None        bool   // the event does not say which, so there are none
}

// stepTables are the tables whose rows steps_committed records, by their
// steps.
var stepTables = []string{"step", "metric", "timing", "rollout"}

// SealingTypes are the types of the events that record rows. All others have
// empty facts.
var SealingTypes = []trimtab.EventType{
	trimtab.EventArtifactMade,
	trimtab.EventAttemptCompleted,
	trimtab.EventAttemptCreated,
	trimtab.EventAttemptStarted,
	trimtab.EventAttemptStatus,
	trimtab.EventDatasetCreated,
	trimtab.EventDatasetFrozen,
	trimtab.EventDocumentKept,
	trimtab.EventEvaluationMade,
	trimtab.EventItemsAdded,
	trimtab.EventItemsErased,
	trimtab.EventRunCreated,
	trimtab.EventRunPlanned,
	trimtab.EventRunStatus,
	trimtab.EventStepsCommitted,
}

// Seals returns which rows an event records: one RowSelector for each line of
// its facts, in their order. It is the counterpart of facts_of in
// migrations/007_record.sql, by which the database wrote the facts. It fails
// if the event's body cannot be read.
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
	case trimtab.EventAttemptCreated, trimtab.EventAttemptStarted, trimtab.EventAttemptStatus,
		trimtab.EventAttemptCompleted, trimtab.EventStepsCommitted:
		if e.Attempt <= 0 {
			return nil, nil
		}
		return e.sealsOfAttempt(body, rows)
	case trimtab.EventRunCreated:
		list = append(rows("run_state", "run"), RowSelector{Table: TableOf("run_plan"),
			Revision: body.number("revision", 0)})
	case trimtab.EventRunPlanned:
		list = []RowSelector{{Table: TableOf("run_plan"), Revision: body.number("revision", 0)}}
	case trimtab.EventRunStatus:
		list = rows("run_state")
	case trimtab.EventArtifactMade:
		none := !body.has("digest") || !body.has("name")
		list = []RowSelector{{Table: TableOf("artifact"), Digest: body.text("digest"), Name: body.text("name"),
			None: none}}
	case trimtab.EventEvaluationMade:
		list = []RowSelector{{Table: TableOf("evaluation"), Digest: body.text("document"), None: !body.has("document")}}
	case trimtab.EventDocumentKept:
		list = []RowSelector{{Table: TableOf("document"), Digest: body.text("digest"), None: !body.has("digest")}}
	case trimtab.EventDatasetCreated:
		list = rows("dataset")
	case trimtab.EventDatasetFrozen:
		list = rows("dataset_freeze", "dataset_version", "dataset_version_item")
		for i := range list[1:] {
			list[1+i].Digest, list[1+i].None = body.text("version"), !body.has("version")
		}
	case trimtab.EventItemsErased:
		list = rows("erasure")
	case trimtab.EventItemsAdded:
		list = append(rows("dataset_item"), RowSelector{})
	}
	return list, body.err
}

// sealsOfAttempt is Seals for events about an attempt. Each of them but a
// commit changes the attempt's state.
func (e *Event) sealsOfAttempt(body *eventBody, rows func(names ...string) []RowSelector) (list []RowSelector,
	err error) {
	if e.Type != trimtab.EventStepsCommitted {
		list = rows("attempt_state")
	}
	if e.Type == trimtab.EventAttemptCreated {
		list = append(list, rows("attempt", "attempt_input")...)
	}
	reused := e.Type == trimtab.EventAttemptCreated && body.text("status") == "reused"
	if e.Type == trimtab.EventAttemptCompleted || reused {
		list = append(list, rows("attempt_output", "attempt_metric")...)
	}
	if e.Type == trimtab.EventStepsCommitted {
		list = append(list, body.sealsOfSteps()...)
	}
	return list, body.err
}

// sealsOfSteps selects the new steps and the checkpoint of a commit. Events
// of the first builds have "from" and no "first".
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

// eventBody is the decoded body of an event. err is the first value in it
// that could not be read.
type eventBody struct {
	fields map[string]json.RawMessage
	err    error
}

// readBody decodes a body.
func readBody(raw []byte) (*eventBody, error) {
	b := &eventBody{}
	if err := json.Unmarshal(raw, &b.fields); err != nil {
		return b, fmt.Errorf("its body is not a JSON object: %w", err)
	}
	return b, nil
}

// fail keeps the first error.
func (b *eventBody) fail(err error) {
	if b.err == nil {
		b.err = err
	}
}

// has reports whether a field is present and not null.
func (b *eventBody) has(name string) bool {
	raw, ok := b.fields[name]
	return ok && !bytes.Equal(raw, []byte("null"))
}

// text is the value of a string field, the JSON of a field of another type,
// and empty if the field is absent: as the operator ->> of Postgres.
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

// number is the value of an integer field, or otherwise if it is absent.
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

// ItemTables returns the tables in which the items of a kind of dataset are
// stored, in the order of facts, and none for an unknown kind.
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

// DatasetOf is the name of the dataset whose stream this is: what follows its
// first eight characters, "dataset/". Characters are counted, not bytes, as
// the SQL function substr does.
func DatasetOf(stream string) string {
	for range len("dataset/") {
		_, n := utf8.DecodeRuneInString(stream)
		stream = stream[n:]
	}
	return stream
}

// Seal is a line of facts: a table, the number of rows of it that an event
// records, and the digest over their digests.
type Seal struct {
	Table  string
	Rows   int64
	Digest Hash
}

// Line is the seal as it is in the facts of an event.
func (s Seal) Line() string { return fmt.Sprintf("%s %d %s\n", s.Table, s.Rows, s.Digest) }

// ParseSeals reads the facts of an event. It accepts only what Line writes.
func ParseSeals(facts []byte) ([]Seal, error) {
	var list []Seal
	for line := range strings.Lines(string(facts)) {
		var s Seal
		words := strings.Split(strings.TrimSuffix(line, "\n"), " ")
		if len(words) != 3 {
			return nil, fmt.Errorf("the line %.80q of its facts is not a table, a number and a digest", line)
		}
		s.Table = words[0]
		var err error
		if s.Rows, err = strconv.ParseInt(words[1], 10, 64); err == nil {
			err = s.Digest.UnmarshalText([]byte(words[2]))
		}
		if err != nil || s.Rows < 0 || s.Line() != line {
			return nil, fmt.Errorf("the line %.80q of its facts is not a table, a number and a digest", line)
		}
		list = append(list, s)
	}
	return list, nil
}

// Sum computes a Seal row by row, in constant memory. The zero Sum has no
// rows.
type Sum struct {
	rows   int64
	digest hash.Hash
}

// Add adds the SHA-256 of the next row.
func (s *Sum) Add(row []byte) {
	if s.digest == nil {
		s.digest = sha256.New()
	}
	s.rows++
	s.digest.Write(row)
}

// Seal returns the line for the rows added so far.
func (s *Sum) Seal(table string) Seal {
	seal := Seal{Table: table, Rows: s.rows, Digest: sha256.Sum256(nil)}
	if s.digest != nil {
		s.digest.Sum(seal.Digest[:0])
	}
	return seal
}
