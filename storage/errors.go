package storage

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/trimtab/trimtab"
)

// wrapError turns an error of pgx into one for people: what was being done
// and what to do about it. nil stays nil, and a trimtab.Error is returned as
// it is. An error that a repetition may not meet again becomes Unavailable,
// on which activities are retried.
func wrapError(ctx context.Context, doing string, err error) error {
	if err == nil {
		return nil
	}
	if e, ok := errors.AsType[*trimtab.Error](err); ok {
		return e
	}
	if ctx.Err() != nil {
		return contextError(ctx, doing)
	}
	if e, ok := errors.AsType[*pgconn.PgError](err); ok {
		return serverError(doing, e, err)
	}
	if isConnectionFault(err) {
		return unavailable(doing, err)
	}
	return fmt.Errorf("%s: %w", doing, err)
}

// contextError is the error of a call whose own context has ended, with the
// cause that the caller gave, if any.
func contextError(ctx context.Context, doing string) error {
	if cause := context.Cause(ctx); !errors.Is(cause, ctx.Err()) {
		return fmt.Errorf("%s: %w: %w", doing, ctx.Err(), cause)
	}
	return fmt.Errorf("%s: %w", doing, ctx.Err())
}

// serverError classifies the SQLSTATE of the server's answer. The codes
// matter, not the messages, since those may be in any language.
func serverError(doing string, e *pgconn.PgError, err error) error {
	switch {
	case isDiskFull(e):
		return trimtab.NewError(trimtab.Unavailable, "disk_full",
			"free some space, or files, on the disk of Postgres; the work resumes by itself",
			"%s: the disk of Postgres is full: %w", doing, err)
	case isTransient(e.Code), isFatalInternal(e):
		return unavailable(doing, err)
	case e.Code == "23503": // foreign key
		noun, _, _ := strings.Cut(e.TableName, "_")
		if _, of, ok := strings.Cut(e.ConstraintName, e.TableName+"_"); ok {
			noun = of
		}
		return trimtab.NewError(trimtab.NotFound, noun+"_not_found", "", "%s: there is no such %s: %w", doing, noun,
			err)
	case e.Code == "22021": // not the encoding's
		return trimtab.NewError(trimtab.Usage, "bad_text", "write it in UTF-8, without NUL",
			"%s: it contains bytes that are not UTF-8, or a NUL", doing)
	case strings.HasPrefix(e.Code, "22"), strings.HasPrefix(e.Code, "23"): // data, constraints
		return trimtab.NewError(trimtab.Invalid, "invalid_record", "", "%s: the record does not allow it: %w", doing,
			err)
	case e.Code == "42P01", e.Code == "3F000", e.Code == "42883": // undefined table, schema, function
		return trimtab.NewError(trimtab.Conflict, "schema_outdated", "run `trimtab migrate`",
			"%s: the database does not have this program's tables: %w", doing, err)
	case e.Code == "42501" && e.Routine == "check_enable_rls": // its message may be in any language
		return trimtab.NewError(trimtab.Verification, "rows_hidden",
			"run `trimtab audit verify`, which names what was changed; the owner turns it off with `alter table … "+
				"disable row level security`",
			"%s: row security would hide rows of a table from this program: %w", doing, err)
	case strings.HasPrefix(e.Code, "28"), e.Code == "3D000", e.Code == "42501": // login, no database, privilege
		return trimtab.NewError(trimtab.Usage, "postgres_refused",
			"check user, password and database in the address, and run `trimtab migrate` as the owner",
			"%s: Postgres refuses: %w", doing, err)
	}
	return fmt.Errorf("%s: %w", doing, err)
}

// IsUnavailable reports whether an error is due to a database that does not
// answer, or cannot answer now.
func IsUnavailable(err error) bool {
	if e, ok := errors.AsType[*pgconn.PgError](err); ok {
		return isTransient(e.Code) || isDiskFull(e) || isFatalInternal(e)
	}
	return isConnectionFault(err) || trimtab.AsError(err).Class == trimtab.Unavailable
}

// isTransient lists the SQLSTATEs after which the same call may succeed.
func isTransient(code string) bool {
	switch code {
	// shutdown, crash, cannot connect now, idle session or transaction
	case "57P01", "57P02", "57P03", "57P05", "25P03",
		"25006",          // a standby answered, or the server takes no writes
		"57014", "55P03", // statement or lock timeout
		"40001", "40P01": // serialization, deadlock
		return true
	}
	class := code[:min(2, len(code))]
	return class == "08" || class == "53" || class == "58" // connection, resources (disk full, too many), system
}

// isDiskFull reports whether the server ran out of space, inodes or quota.
// There is no SQLSTATE for a quota, and code paths differ in the one that
// they use for space, so that the message of the operating system decides.
func isDiskFull(e *pgconn.PgError) bool {
	if e.Code == "53100" {
		return true
	}
	said := e.Message + "\n" + e.Detail
	return (strings.HasPrefix(e.Code, "58") || e.Code == "XX000") &&
		(trimtab.SaysDiskFull(said) ||
			strings.Contains(said, "could not write init file")) // when a session begins; it says no more than that
}

// isFatalInternal reports whether the server ended the session because of an
// internal error.
func isFatalInternal(e *pgconn.PgError) bool {
	return (e.SeverityUnlocalized == "FATAL" || e.SeverityUnlocalized == "PANIC") && strings.HasPrefix(e.Code, "XX")
}

// isConnectionFault reports whether an error is about the connection and not
// about the statement. pgx has no type for a connection that it had closed
// itself, hence the comparison of the message.
func isConnectionFault(err error) bool {
	var connect *pgconn.ConnectError
	var network net.Error
	return errors.As(err, &connect) || errors.As(err, &network) || pgconn.Timeout(err) || pgconn.SafeToRetry(err) ||
		errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, net.ErrClosed) ||
		errors.Is(err, context.DeadlineExceeded) ||
		strings.Contains(err.Error(), "conn closed")
}

// unavailable is the error of a database that does not answer now.
func unavailable(doing string, err error) error {
	return trimtab.NewError(trimtab.Unavailable, "postgres_unavailable",
		"check that Postgres is running (`trimtab doctor`); the work resumes when it is back",
		"%s: Postgres is unavailable: %w", doing, err)
}

// notFound is the error for a name of nothing in the record; its type is the
// noun with _not_found.
func notFound(noun, name, remedy string) error {
	return trimtab.NewError(trimtab.NotFound, noun+"_not_found", remedy, "there is no %s %q", noun, name)
}

// diverged is the error of a write that contradicts an earlier one, where the
// same computation must have given the same bytes.
func diverged(format string, args ...any) error {
	return trimtab.NewError(trimtab.Verification, "replay_diverged",
		"the same code, config, data and seed must give the same bytes: compare the builds and machines in `trimtab "+
			"history`, then rerun the stage from scratch",
		format, args...)
}

// invalid is the error of an input that the record cannot take.
func invalid(typ, format string, args ...any) error {
	return trimtab.NewError(trimtab.Invalid, typ, "", format, args...)
}
