package storage

import (
	"context"
	"regexp"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/trimtab/trimtab"
	"github.com/trimtab/trimtab/failpoint"
	"github.com/trimtab/trimtab/redact"
)

const (
	maxConns       = 8
	connectTimeout = 5 * time.Second
	// A transaction holds its run's events and its attempt's fence. One whose
	// process was frozen in the middle would hold up its successor for ever.
	idleTimeout = "20s"
)

// idleParam is the timeout after which the server ends a session that is idle
// inside a transaction.
const idleParam = "idle_in_transaction_session_timeout"

// jitParam is just-in-time compilation, which takes many times as long as any
// query of this program.
const jitParam = "jit"

// Store is the record in one database. It is safe for concurrent use: it
// holds nothing but a pool of connections.
type Store struct {
	pool *pgxpool.Pool
}

// Open connects to a migrated database, normally as trimtab_app. It fails
// with Unavailable if the server does not answer, and with Conflict
// "schema_outdated" or "schema_newer" if the schema is not this program's.
func Open(ctx context.Context, url string) (*Store, error) {
	config, err := poolConfig(url)
	if err != nil {
		return nil, err
	}
	pool, err := pgxpool.NewWithConfig(ctx, config)
	if err != nil {
		return nil, wrapError(ctx, "opening the database", err)
	}
	s := &Store{pool: pool}
	// Also the first connection: an address that does not work fails here.
	if err := s.checkSchema(ctx); err != nil {
		pool.Close()
		return nil, err
	}
	return s, nil
}

// poolConfig parses an address and applies the settings of session.go.
// Timestamps are read as UTC, so that equal instants are equal values.
func poolConfig(url string) (*pgxpool.Config, error) {
	config, err := pgxpool.ParseConfig(url)
	if err != nil {
		return nil, invalidAddress(url, parseFailure(url, err))
	}
	// the rest of a password, which would be shown as the database's name
	if strings.Contains(url, "://") && strings.Contains(config.ConnConfig.Database, "@") {
		return nil, invalidAddress(url, "there is an @ behind the host")
	}
	config.MaxConns = maxConns
	applySettings(config.ConnConfig)
	config.AfterConnect = func(_ context.Context, c *pgx.Conn) error {
		c.TypeMap().RegisterType(&pgtype.Type{
			Name: "timestamptz", OID: pgtype.TimestamptzOID,
			Codec: &pgtype.TimestamptzCodec{ScanLocation: time.UTC},
		})
		return nil
	}
	return config, nil
}

// invalidAddress is the error for an address that cannot be used. It shows no
// password.
func invalidAddress(url, why string) error {
	return trimtab.NewError(trimtab.Usage, "postgres_url",
		"write it as postgres://user:password@host:port/database, with / ? # and @ in a password as %2F %3F %23 "+
			"and %40",
		"reading the database address %s: %s", redact.Address(url), why)
}

// parseFailure is pgx's reason for refusing an address, without the address
// and whatever it quotes of it: either may contain the password.
func parseFailure(url string, err error) string {
	why := err.Error()
	if i := strings.LastIndex(why, "`: "); i >= 0 {
		why = why[i+len("`: "):]
	}
	return redact.New([]string{url}, nil).Text(quotes.ReplaceAllString(why, "…"))
}

// quotes matches what pgx quotes in an error.
var quotes = regexp.MustCompile("`[^`]*`|\"[^\"]*\"")

// Close waits until all connections are returned and closes them.
func (s *Store) Close() { s.pool.Close() }

// Ping checks that the server answers.
func (s *Store) Ping(ctx context.Context) error {
	return wrapError(ctx, "asking the database", s.pool.Ping(ctx))
}

// write runs f in one transaction, and any error undoes all of it. It is for
// writes that need no lease; those of a worker go through Lease.write. doing
// says in an error what was attempted. The failpoints are where tests kill the
// process: before the commit, and after it but before the caller knows.
func (s *Store) write(ctx context.Context, doing string, f func(tx pgx.Tx) error) error {
	err := pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		if err := f(tx); err != nil {
			return err
		}
		return failpoint.At("before_commit")
	})
	if err == nil {
		err = failpoint.At("after_commit")
	}
	return wrapError(ctx, doing, err)
}

// read runs f in a read-only transaction that sees the database as of one
// instant.
func (s *Store) read(ctx context.Context, doing string, f func(tx pgx.Tx) error) error {
	options := pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly}
	return wrapError(ctx, doing, pgx.BeginTxFunc(ctx, s.pool, options, f))
}

// querier is a pool or a transaction.
type querier interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}

// queryRows returns all rows of a query, each read with scan.
func queryRows[T any](ctx context.Context, q querier, scan func(pgx.CollectableRow) (T, error), sql string,
	args ...any) ([]T, error) {
	rows, err := q.Query(ctx, sql, args...)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, scan)
}
