package storage

import (
	"context"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"
)

// load describes how rows of one table are written in bulk: COPY into a
// temporary staging table, insert … on conflict do nothing, and a comparison
// of the rows that were there already. Its SQL is made from the lists of
// columns.
type load struct {
	table string
	// key is the unique key of the table. In these tables, rows with equal keys
	// must be equal rows.
	key []string
	// columns are compared as exact values.
	columns []string
	// bits are floating-point columns, and arrays of them, compared by bits.
	bits []string
	// uncompared columns keep the value that was recorded first.
	uncompared []string
	// owner names, in errors, the attempt whose rows they are; empty for items.
	owner string
}

// forAttempt is the load for the rows of one attempt, which errors then name.
func (l load) forAttempt(of subject) load {
	l.owner = of.displayName()
	return l
}

// keyText is an SQL expression for the key of a staged row as people read it.
// The id of an attempt is left out: the owner is named in its place.
func (l load) keyText() string {
	var parts []string
	for _, c := range l.key {
		if c != "attempt" {
			parts = append(parts, fmt.Sprintf("'%s ' || s.%s", c, pgx.Identifier{c}.Sanitize()))
		}
	}
	return "concat_ws(', ', " + strings.Join(parts, ", ") + ")"
}

// allColumns are the columns in the order of the values of a row.
func (l load) allColumns() []string {
	all := append([]string{}, l.key...)
	return append(append(append(all, l.columns...), l.bits...), l.uncompared...)
}

// staging is the staging table.
func (l load) staging() pgx.Identifier { return pgx.Identifier{"pg_temp", "stage_" + l.table} }

// columnList is a list of quoted columns, each with a prefix such as "s.".
func columnList(columns []string, prefix string) string {
	quoted := make([]string, len(columns))
	for i, c := range columns {
		quoted[i] = prefix + pgx.Identifier{c}.Sanitize()
	}
	return strings.Join(quoted, ", ")
}

// createStaging is the SQL that makes the staging table unless the connection
// has it. It has the column types of the table but none of its constraints,
// and is emptied at the end of each transaction.
func (l load) createStaging() string {
	return fmt.Sprintf("create temporary table if not exists %s on commit delete rows "+
		"as select %s from %s with no data;",
		l.staging().Sanitize(), columnList(l.allColumns(), ""), l.table)
}

// insertQuery inserts the staged rows in order of their key, so that two
// transactions with the same rows lock them in the same order.
func (l load) insertQuery() string {
	columns := columnList(l.allColumns(), "")
	return fmt.Sprintf("insert into %s (%s) select %s from %s order by %s on conflict (%s) do nothing",
		l.table, columns, columns, l.staging().Sanitize(), columnList(l.key, ""), columnList(l.key, ""))
}

// differenceQuery finds the first staged row that differs from the stored one
// of the same key, or null. It is an aggregate: with a limit the planner
// would walk the unindexed staging table in a nested loop, 6.7 s instead of
// 11 ms for 8,000 rows.
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

// createStagingTables makes the staging tables of several loads in one round
// trip.
func createStagingTables(ctx context.Context, tx pgx.Tx, loads ...load) error {
	var sql strings.Builder
	for _, l := range loads {
		sql.WriteString(l.createStaging())
	}
	// The simple protocol runs several statements at once.
	_, err := tx.Conn().PgConn().Exec(ctx, sql.String()).ReadAll()
	return err
}

// write loads n rows, whose values are in the order of allColumns, and
// returns how many were new. A row that is stored already and differs is
// "replay_diverged". The staging table must exist.
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
	// All rows were new, or the rows are nothing but their keys.
	if added == n || len(l.columns)+len(l.bits) == 0 {
		return added, nil
	}
	return added, l.compare(ctx, tx)
}

// copy appends n rows to the staging table.
func (l load) copy(ctx context.Context, tx pgx.Tx, n int, row func(i int) ([]any, error)) error {
	_, err := tx.CopyFrom(ctx, l.staging(), l.allColumns(), pgx.CopyFromSlice(n, row))
	return err
}

// merge inserts the staged rows into the table and returns how many were new.
func (l load) merge(ctx context.Context, tx pgx.Tx) (int, error) {
	tag, err := tx.Exec(ctx, l.insertQuery())
	return int(tag.RowsAffected()), err
}

// truncateStaging empties the staging tables of loads within a transaction.
func truncateStaging(ctx context.Context, tx pgx.Tx, loads ...load) error {
	stages := make([]string, len(loads))
	for i, l := range loads {
		stages[i] = l.staging().Sanitize()
	}
	_, err := tx.Exec(ctx, "truncate "+strings.Join(stages, ", "))
	return err
}

// compareExisting compares the staged rows with those that were there before
// this transaction. xmin, the id of the transaction that wrote a row,
// distinguishes them. It is for tables whose key is a digest of the whole row.
func (l load) compareExisting(ctx context.Context, tx pgx.Tx) error {
	return l.compareIf(ctx, tx, " and t.xmin <> pg_current_xact_id()::xid")
}

// compare compares the staged rows with those of the table.
func (l load) compare(ctx context.Context, tx pgx.Tx) error { return l.compareIf(ctx, tx, "") }

// compareIf compares the staged rows with the rows of the table that meet a
// condition.
func (l load) compareIf(ctx context.Context, tx pgx.Tx, condition string) error {
	var key *string
	if err := tx.QueryRow(ctx, l.differenceQuery()+condition).Scan(&key); err != nil || key == nil {
		return err
	}
	of := ""
	if l.owner != "" {
		of = " of " + l.owner
	}
	return diverged("a row of %s%s is already stored with other values (%s)",
		strings.ReplaceAll(l.table, "_", " "), of, *key)
}

// storableText is a text as Postgres can store it: NUL and bytes that are not
// UTF-8 are replaced by U+FFFD. Texts that matter bit for bit are stored as
// bytea beside it.
func storableText(s string) string {
	return strings.ToValidUTF8(strings.ReplaceAll(s, "\x00", "�"), "�")
}
