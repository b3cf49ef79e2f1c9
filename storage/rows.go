package storage

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/trimtab/trimtab/audit"
)

// selectRow selects the columns of an audited table in the order in which
// audit.Table.AppendRow takes them. The database computes nothing but the
// text of a numeric; hashing is the program's.
func selectRow(t *audit.Table) string {
	var columns []string
	for _, c := range t.Columns {
		as := c.Type
		if c.Type == "numeric" {
			as = "numeric::text"
		}
		columns = append(columns, fmt.Sprintf("t.%s::%s", pgx.Identifier{c.Name}.Sanitize(), as))
	}
	return fmt.Sprintf("select %s from only public.%s t ", strings.Join(columns, ", "), t.Name)
}

// selectKey is selectRow with null in place of every column that is not
// needed to identify a row, so that large columns are not sent.
func selectKey(t *audit.Table) string {
	var columns []string
	for _, c := range t.Columns {
		if slices.Contains(t.Key, c.Name) || c.Name == "dataset" || c.Name == "event" {
			columns = append(columns, fmt.Sprintf("t.%s::%s", pgx.Identifier{c.Name}.Sanitize(), c.Type))
		} else {
			columns = append(columns, "null")
		}
	}
	return fmt.Sprintf("select %s from only public.%s t ", strings.Join(columns, ", "), t.Name)
}

// stepsCondition selects the rows of steps $2 ≤ step < $3 of attempt $1.
// Casts are explicit because parameters are sent as text.
const stepsCondition = `where t.attempt = $1 and t.step >= $2::int8 and t.step < $3::int8 order by t.step`

// rowConditions says, by table, which rows an event records and in which
// order they are hashed. They are the Go counterpart of facts_of in
// migrations/007_record.sql; a test compares the two.
var rowConditions = map[string]string{
	"attempt":              `where t.id = $1`,
	"attempt_state":        `where t.attempt = $1`,
	"attempt_input":        `where t.attempt = $1 order by t.position`,
	"attempt_output":       `where t.attempt = $1 order by t.position`,
	"attempt_metric":       `where t.attempt = $1 order by t.position`,
	"step":                 stepsCondition,
	"metric":               stepsCondition + `, t.name collate "C"`,
	"timing":               stepsCondition + `, t.name collate "C"`,
	"rollout":              stepsCondition + `, t.index`,
	"checkpoint":           stepsCondition,
	"run":                  `where t.id = $1`,
	"run_state":            `where t.run = $1`,
	"run_plan":             `where t.run = $1 and t.revision = $2::int8`,
	"document":             `where t.digest::text = $1`,
	"dataset":              `where t.name = $1`,
	"dataset_freeze":       `where t.dataset = $1 order by t.id limit 1 offset $2`,
	"dataset_version":      `where t.digest::text = $1`,
	"dataset_version_item": `where t.version::text = $1 order by t.item::text collate "C"`,
	"dataset_item":         `where t.dataset = $1 and t.event = $2 order by t.item::text collate "C"`,
	"erasure": `where t.dataset = $1 and t.event = $2 order by t.relation collate "C",
		t.digest::text collate "C"`,
	"artifact": `where t.digest::text = $1 and t.name = $2 and t.stage = $3 and coalesce(t.run, '') = $4
		and coalesce((select min(a.number) from only public.attempt a where a.id = t.attempt), 0) = $5::int8
			order by t.id`,
	// An attempt may have equal reports: an event records the first $5 of them.
	"evaluation": `where t.run = $1 and t.document::text = $2
		and coalesce((select min(a.number) from only public.attempt a
		where a.id = t.attempt), 0) = $3::int8
		and coalesce((select min(a.stage) from only public.attempt a where a.id = t.attempt), '') = $4
			order by t.id limit $5`,
}

// rowQueries are the statements that select the rows of rowConditions.
var rowQueries = func() map[string]string {
	statements := map[string]string{}
	for table, where := range rowConditions {
		statements[table] = selectRow(audit.TableOf(table)) + where
	}
	return statements
}()

// rowRequest asks for rows that one event records, or several events in a
// row. Each row is passed to row, in the order in which it is hashed.
type rowRequest struct {
	sql  string
	args []string
	row  func(values [][]byte) error
	done func() // is called after the last row
}

// requestsAtOnce is the number of requests in one batch: small enough that
// neither side blocks because the other does not read.
const requestsAtOnce = 100

// sendRequests sends requests in batches and reads the answers in order.
func (r Snapshot) sendRequests(ctx context.Context, requests []*rowRequest) error {
	for len(requests) > 0 {
		n := min(requestsAtOnce, len(requests))
		if err := r.sendBatch(ctx, requests[:n]); err != nil {
			return err
		}
		requests = requests[n:]
	}
	return nil
}

// sendBatch sends requests as one batch of prepared statements. It uses the
// protocol directly, since rows are wanted as the bytes that Postgres sends.
func (r Snapshot) sendBatch(ctx context.Context, requests []*rowRequest) error {
	var batch pgconn.Batch
	for _, q := range requests {
		sd, err := r.tx.Conn().Prepare(ctx, q.sql, q.sql)
		if err != nil {
			return err
		}
		args := make([][]byte, len(q.args))
		for i, a := range q.args {
			args[i] = []byte(a)
		}
		batch.ExecPrepared(sd.Name, args, nil, []int16{pgx.BinaryFormatCode})
	}
	results := r.tx.Conn().PgConn().ExecBatch(ctx, &batch)
	err := readAll(results, requests)
	if closed := results.Close(); closed != nil {
		return closed
	}
	return err
}

// readAll hands the rows of a batch to its requests.
func readAll(results *pgconn.MultiResultReader, requests []*rowRequest) error {
	for _, q := range requests {
		if !results.NextResult() {
			return nil // Close says why
		}
		rows := results.ResultReader()
		for rows.NextRow() {
			if err := q.row(rows.Values()); err != nil {
				return err
			}
		}
		q.done()
	}
	return nil
}

// rowHasher computes digests of rows with a buffer that is used again.
type rowHasher struct{ buf []byte }

// digest is the SHA-256 of a row as audit.Table.AppendRow encodes it.
func (h *rowHasher) digest(t *audit.Table, values [][]byte) (audit.Hash, error) {
	var err error
	h.buf, err = t.AppendRow(h.buf[:0], values)
	return sha256.Sum256(h.buf), err
}

// rowKey is the key of a row as people read it: the table and the columns
// that identify the row.
func rowKey(t *audit.Table, values [][]byte) string {
	words := []string{t.Name}
	for _, name := range t.Key {
		i := t.ColumnIndex(name)
		words = append(words, valueText(t.Columns[i].Type, values[i]))
	}
	return strings.Join(words, " ")
}

// valueText formats a value in Postgres's binary format: an integer in
// decimal digits, anything else as the text that it is.
func valueText(typ string, v []byte) string {
	switch {
	case typ == "int2" && len(v) == 2:
		return strconv.Itoa(int(int16(binary.BigEndian.Uint16(v))))
	case typ == "int4" && len(v) == 4:
		return strconv.Itoa(int(int32(binary.BigEndian.Uint32(v))))
	case typ == "int8" && len(v) == 8:
		return strconv.FormatInt(int64(binary.BigEndian.Uint64(v)), 10)
	}
	return string(v)
}
