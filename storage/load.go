package storage

import (
	"context"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"
)

// load says how many rows of one table are written at once.
type load struct {
	table   string
	key     []string // conflict means equal here
	columns []string // the rest, compared as exact values
	bits    []string // the rest, compared as bits: floating-point numbers and arrays of them
	silent  []string // the rest, not compared: the first one recorded stays
	of      string   // the attempt whose rows they are, in words, if they are one's
}

// about is the load for the rows of an attempt.
func (l load) about(of subject) load {
	l.of = of.named()
	return l
}

// place is the SQL of a row's key in words; the id of an attempt is left to of.
func (l load) place() string {
	var parts []string
	for _, c := range l.key {
		if c != "attempt" {
			parts = append(parts, fmt.Sprintf("'%s ' || s.%s", c, pgx.Identifier{c}.Sanitize()))
		}
	}
	return "concat_ws(', ', " + strings.Join(parts, ", ") + ")"
}

func (l load) all() []string {
	all := append([]string{}, l.key...)
	return append(append(append(all, l.columns...), l.bits...), l.silent...)
}

func (l load) stage() pgx.Identifier { return pgx.Identifier{"pg_temp", "stage_" + l.table} }

func list(columns []string, prefix string) string {
	quoted := make([]string, len(columns))
	for i, c := range columns {
		quoted[i] = prefix + pgx.Identifier{c}.Sanitize()
	}
	return strings.Join(quoted, ", ")
}

// twin is the SQL that makes the temporary table, empty at the end of each
// transaction; it lives as long as its connection.
func (l load) twin() string {
	return fmt.Sprintf("create temporary table if not exists %s on commit delete rows as select %s from %s with no data;",
		l.stage().Sanitize(), list(l.all(), ""), l.table)
}

func (l load) insert() string {
	columns := list(l.all(), "")
	return fmt.Sprintf("insert into %s (%s) select %s from %s order by %s on conflict (%s) do nothing",
		l.table, columns, columns, l.stage().Sanitize(), list(l.key, ""), list(l.key, ""))
}

// difference is the SQL that finds the first staged row that is not as stored,
// or null. It is an aggregate, since a limit would make the planner walk the
// unindexed temporary table in loops: 6.7 s instead of 11 ms for 8,000 rows.
func (l load) difference() string {
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
		l.place(), l.stage().Sanitize(), l.table, list(l.key, ""), strings.Join(differs, " or "))
}

// twins makes the temporary tables of several loads in one round trip.
func twins(ctx context.Context, tx pgx.Tx, loads ...load) error {
	var sql strings.Builder
	for _, l := range loads {
		sql.WriteString(l.twin())
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
	if added, err = l.settle(ctx, tx); err != nil {
		return 0, err
	}
	if added == n || len(l.columns)+len(l.bits) == 0 {
		return added, nil
	}
	return added, l.compare(ctx, tx)
}

// copy adds n rows to the temporary table.
func (l load) copy(ctx context.Context, tx pgx.Tx, n int, row func(i int) ([]any, error)) error {
	_, err := tx.CopyFrom(ctx, l.stage(), l.all(), pgx.CopyFromSlice(n, row))
	return err
}

// settle inserts what is in the temporary table and returns how many rows were new.
func (l load) settle(ctx context.Context, tx pgx.Tx) (int, error) {
	tag, err := tx.Exec(ctx, l.insert())
	return int(tag.RowsAffected()), err
}

// empty deletes what is in the temporary tables of loads.
func empty(ctx context.Context, tx pgx.Tx, loads ...load) error {
	stages := make([]string, len(loads))
	for i, l := range loads {
		stages[i] = l.stage().Sanitize()
	}
	_, err := tx.Exec(ctx, "truncate "+strings.Join(stages, ", "))
	return err
}

// compareBefore compares with the rows that were there before this transaction, of a table whose rows are named by all
// that they are.
func (l load) compareBefore(ctx context.Context, tx pgx.Tx) error {
	return l.compareIf(ctx, tx, " and t.xmin <> pg_current_xact_id()::xid")
}

func (l load) compare(ctx context.Context, tx pgx.Tx) error { return l.compareIf(ctx, tx, "") }

func (l load) compareIf(ctx context.Context, tx pgx.Tx, condition string) error {
	var key *string
	if err := tx.QueryRow(ctx, l.difference()+condition).Scan(&key); err != nil || key == nil {
		return err
	}
	of := ""
	if l.of != "" {
		of = " of " + l.of
	}
	return diverged("a row of %s%s is stored already and differs (%s)", strings.ReplaceAll(l.table, "_", " "), of, *key)
}

// clean makes text that Postgres can hold: no NUL, valid UTF-8.
func clean(s string) string {
	return strings.ToValidUTF8(strings.ReplaceAll(s, "\x00", "�"), "�")
}
