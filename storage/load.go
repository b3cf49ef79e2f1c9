package storage

import (
	"context"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"
)

// load says how many rows of one table are written at once.
type load struct {
	table      string
	key        []string // conflict means equal here
	columns    []string // the rest, compared as exact values
	bits       []string // the rest, compared as bits: floating-point numbers and arrays of them
	uncompared []string // the rest, not compared: the first one recorded stays
	owner      string   // the attempt whose rows they are, in words, if they are one's
}

// forAttempt is the load for the rows of an attempt.
func (l load) forAttempt(of subject) load {
	l.owner = of.displayName()
	return l
}

// keyText is the SQL of a row's key in words; the id of an attempt is left to of.
func (l load) keyText() string {
	var parts []string
	for _, c := range l.key {
		if c != "attempt" {
			parts = append(parts, fmt.Sprintf("'%s ' || s.%s", c, pgx.Identifier{c}.Sanitize()))
		}
	}
	return "concat_ws(', ', " + strings.Join(parts, ", ") + ")"
}

func (l load) allColumns() []string {
	all := append([]string{}, l.key...)
	return append(append(append(all, l.columns...), l.bits...), l.uncompared...)
}

func (l load) staging() pgx.Identifier { return pgx.Identifier{"pg_temp", "stage_" + l.table} }

func columnList(columns []string, prefix string) string {
	quoted := make([]string, len(columns))
	for i, c := range columns {
		quoted[i] = prefix + pgx.Identifier{c}.Sanitize()
	}
	return strings.Join(quoted, ", ")
}

// createStaging is the SQL that makes the temporary table, empty at the end of each
// transaction; it lives as long as its connection.
func (l load) createStaging() string {
	return fmt.Sprintf("create temporary table if not exists %s on commit delete rows as select %s from %s with no data;",
		l.staging().Sanitize(), columnList(l.allColumns(), ""), l.table)
}

func (l load) insertQuery() string {
	columns := columnList(l.allColumns(), "")
	return fmt.Sprintf("insert into %s (%s) select %s from %s order by %s on conflict (%s) do nothing",
		l.table, columns, columns, l.staging().Sanitize(), columnList(l.key, ""), columnList(l.key, ""))
}

// differenceQuery is the SQL that finds the first staged row that is not as stored,
// or null. It is an aggregate, since a limit would make the planner walk the
// unindexed temporary table in loops: 6.7 s instead of 11 ms for 8,000 rows.
func (l load) differenceQuery() string {
	var differs []string
	for _, c := range l.columns {
		q := pgx.Identifier{c}.Sanitize()
		differs = append(differs, fmt.Sprintf("s.%s is distinct from t.%s", q, q))
	}
	for _, c := range l.bits {
		q := pgx.Identifier{c}.Sanitize()
		differs = append(differs, fmt.Sprintf("bits(s.%s) is distinct from bits(t.%s)", q, q))
	}
	return fmt.Sprintf("select min(%s) from %s s join %s t using (%s) where (%s)",
		l.keyText(), l.staging().Sanitize(), l.table, columnList(l.key, ""), strings.Join(differs, " or "))
}

// createStagingTables makes the temporary tables of several loads in one round trip.
func createStagingTables(ctx context.Context, tx pgx.Tx, loads ...load) error {
	var sql strings.Builder
	for _, l := range loads {
		sql.WriteString(l.createStaging())
	}
	_, err := tx.Conn().PgConn().Exec(ctx, sql.String()).ReadAll()
	return err
}

// write loads n rows, whose values are in the order of l.all(), and returns
// how many were new. It needs twins before it.
func (l load) write(ctx context.Context, tx pgx.Tx, n int, row func(i int) ([]any, error)) (added int, err error) {
	if n == 0 {
		return 0, nil
	}
	if err := l.copy(ctx, tx, n, row); err != nil {
		return 0, err
	}
	if added, err = l.merge(ctx, tx); err != nil {
		return 0, err
	}
	if added == n || len(l.columns)+len(l.bits) == 0 {
		return added, nil
	}
	return added, l.compare(ctx, tx)
}

// copy adds n rows to the temporary table.
func (l load) copy(ctx context.Context, tx pgx.Tx, n int, row func(i int) ([]any, error)) error {
	_, err := tx.CopyFrom(ctx, l.staging(), l.allColumns(), pgx.CopyFromSlice(n, row))
	return err
}

// applySettings inserts what is in the temporary table and returns how many rows were new.
func (l load) merge(ctx context.Context, tx pgx.Tx) (int, error) {
	tag, err := tx.Exec(ctx, l.insertQuery())
	return int(tag.RowsAffected()), err
}

// truncateStaging deletes what is in the temporary tables of loads.
func truncateStaging(ctx context.Context, tx pgx.Tx, loads ...load) error {
	stages := make([]string, len(loads))
	for i, l := range loads {
		stages[i] = l.staging().Sanitize()
	}
	_, err := tx.Exec(ctx, "truncate "+strings.Join(stages, ", "))
	return err
}

// compareExisting compares with the rows that were there before this transaction, of a table whose rows are named by
// all
// that they are.
func (l load) compareExisting(ctx context.Context, tx pgx.Tx) error {
	return l.compareIf(ctx, tx, " and t.xmin <> pg_current_xact_id()::xid")
}

func (l load) compare(ctx context.Context, tx pgx.Tx) error { return l.compareIf(ctx, tx, "") }

func (l load) compareIf(ctx context.Context, tx pgx.Tx, condition string) error {
	var key *string
	if err := tx.QueryRow(ctx, l.differenceQuery()+condition).Scan(&key); err != nil || key == nil {
		return err
	}
	of := ""
	if l.owner != "" {
		of = " of " + l.owner
	}
	return diverged("a row of %s%s is stored already and differs (%s)", strings.ReplaceAll(l.table, "_", " "), of, *key)
}

// storableText makes text that Postgres can hold: no NUL, valid UTF-8.
func storableText(s string) string {
	return strings.ToValidUTF8(strings.ReplaceAll(s, "\x00", "�"), "�")
}
