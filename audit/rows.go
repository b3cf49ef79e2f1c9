package audit

import (
	"encoding/binary"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Table is a table whose rows events record. Columns are in the order in
// which the bytes of a row are hashed. A column that a later migration added
// would change what earlier events hashed; such data needs a table of its
// own.
type Table struct {
	Name    string
	Columns []Column
	Key     []string // columns that identify a row
	// Mutable is set if its rows change, with an event each time. The last
	// event about a row holds.
	Mutable bool
	// Shared is set if several events may record the same row.
	Shared bool
}

// Column is a column of an audited table.
type Column struct {
	Name string
	Type string // Postgres's name of the type, the base type of a domain
	Null bool   // the column may be null
}

// fixedSizes are the types that are hashed as Postgres sends them in binary
// format, without a length, by their size in bytes.
var fixedSizes = map[string]int{"int2": 2, "int4": 4, "int8": 8, "float4": 4, "float8": 8, "bool": 1, "timestamptz": 8}

// variableTypes are the types that are hashed as a field. Arrays are hashed
// as Postgres sends them in binary format, all others as text.
var variableTypes = []string{"text", "bytea", "json", "numeric", "int4[]", "float4[]"}

// AppendRow appends the bytes of a row that are hashed. values are in the order of t.Columns, nil for null, each as
// Postgres sends it in its binary format, but for numeric, which is text.
//
// A column that is never null and of a fixed size is its bytes; every other is a field, and null the length ffffffff.
// A bigint that may be null is written in decimal digits.
func (t *Table) AppendRow(b []byte, values [][]byte) ([]byte, error) {
	if len(values) != len(t.Columns) {
		return b, fmt.Errorf("a row of %s has %d columns, not %d", t.Name, len(values), len(t.Columns))
	}
	for i, c := range t.Columns {
		v := values[i]
		size := fixedSizes[c.Type]
		switch {
		case v == nil:
			b = binary.BigEndian.AppendUint32(b, 1<<32-1)
		case size > 0 && len(v) != size:
			return b, fmt.Errorf("column %s.%s has %d bytes, not the %d of %s", t.Name, c.Name, len(v), size, c.Type)
		case size > 0 && !c.Null:
			b = append(b, v...)
		case c.Type == "int8":
			b = appendField(b, strconv.FormatInt(int64(binary.BigEndian.Uint64(v)), 10))
		default:
			b = appendField(b, v)
		}
	}
	return b, nil
}

// ColumnIndex is the index of a column, or -1.
func (t *Table) ColumnIndex(name string) int {
	return slices.IndexFunc(t.Columns, func(c Column) bool { return c.Name == name })
}

// Tables are the audited tables in order of name, in the notation of
// readTables.
var Tables = readTables(`
artifact: id* int8, digest text, kind text, name text, run text null, stage text, attempt int8 null, parameters int8,
	actor text, created_at timestamptz
attempt: id* int8, run text, stage text, kind text, number int4, config text, cache_key text, reused_from int8 null,
	from_checkpoint text, reason text, actor text, created_at timestamptz
attempt_input: attempt* int8, position* int4, name text, digest text
attempt_metric: attempt* int8, position* int4, name text, value float8
attempt_output: attempt* int8, position* int4, name text, digest text
attempt_state: attempt* int8, status text, steps int4, build text, error json null, started_at timestamptz null,
	ended_at timestamptz null
checkpoint: attempt* int8, step* int4, digest text, created_at timestamptz
dataset: name* text, kind text, created_at timestamptz
dataset_freeze: id* int8, dataset text, version text, actor text, created_at timestamptz
dataset_item: dataset* text, item* text, actor text, added_at timestamptz, event int8
dataset_version: digest* text, kind text, items int4
dataset_version_item: version* text, item* text, copies int4
demonstration: digest* text, prompt text, completion text, demonstrator text, split text
document: digest* text, body bytea, created_at timestamptz
erasure: relation* text, digest* text, event int8, dataset text, seal bytea, remains bytea
evaluation: id* int8, run text, attempt int8 null, document text, created_at timestamptz
metric: attempt* int8, step* int4, name* text, value float8
prompt: digest* text, prompt text, split text, tag text
ranking: digest* text, prompt text, labeller text, guideline text, split text, grouping text, seconds float8
ranking_response: ranking* text, position* int2, response text, rank int2
response: digest* text, bytes bytea null, tokens int4[] null, tokenizer text, model text, text text
rollout: attempt* int8, step* int4, index* int4, ended bool, score float4, raw_score float4, prompt text,
	prompt_tokens int4[] null, tokens int4[] null, bytes bytea null, text text, logprobs float4[] null,
	ref_logprobs float4[] null, kl float4[] null, values float4[] null, rewards float4[] null, advantages float4[] null,
	returns float4[] null
run: id* text, name text, seed numeric, spec json, spec_digest text, origin text null, reason text, actor text,
	created_at timestamptz
run_plan: run* text, revision* int4, plan json, actor text, reason text, created_at timestamptz
run_state: run* text, status text, next text, error json null, started_at timestamptz null, ended_at timestamptz null
step: attempt* int8, step* int4, metrics int4, rollouts int4
text_item: digest* text, body text
timing: attempt* int8, step* int4, name* text, seconds float8`)

// mutableTables are the tables whose rows change, with an event each time;
// sharedTables are those whose rows several events may record.
var (
	mutableTables = []string{"attempt_state", "run_state"}
	sharedTables  = []string{"dataset_version", "dataset_version_item", "demonstration", "prompt", "ranking",
		"ranking_response", "response", "text_item"}
)

// readTables parses tables. Each is a line, continued on lines that begin
// with a tab: the name of the table and its columns with their types, a star
// at those of the key, and "null" at those that may be null. It panics on a
// type that has no encoding, when the program starts.
func readTables(text string) (list []*Table) {
	for line := range strings.SplitSeq(strings.TrimSpace(strings.ReplaceAll(text, "\n\t", " ")), "\n") {
		name, columns, _ := strings.Cut(line, ": ")
		t := &Table{Name: name, Mutable: slices.Contains(mutableTables, name),
			Shared: slices.Contains(sharedTables, name)}
		for one := range strings.SplitSeq(columns, ", ") {
			words := strings.Fields(one)
			c := Column{Name: strings.TrimSuffix(words[0], "*"), Type: words[1], Null: len(words) == 3}
			if fixedSizes[c.Type] == 0 && !slices.Contains(variableTypes, c.Type) {
				panic("audit: column " + one + " of " + name)
			}
			if strings.HasSuffix(words[0], "*") {
				t.Key = append(t.Key, c.Name)
			}
			t.Columns = append(t.Columns, c)
		}
		list = append(list, t)
	}
	return list
}

// TableOf returns the audited table of a name, nil if there is none.
func TableOf(name string) *Table {
	i, ok := slices.BinarySearchFunc(Tables, name,
		func(t *Table, name string) int { return strings.Compare(t.Name, name) })
	if !ok {
		return nil
	}
	return Tables[i]
}
