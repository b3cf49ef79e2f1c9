package storage

import (
	"context"
	"errors"
	"fmt"
	"io"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/trimtab/trimtab"
)

func TestFaults(t *testing.T) {
	t.Parallel()
	pg := func(code string) error {
		return fmt.Errorf("exec: %w", &pgconn.PgError{Code: code, TableName: "attempt", ConstraintName: "attempt_run"})
	}
	says := func(code, message string) error {
		return fmt.Errorf("connect: %w", &pgconn.PgError{Code: code, Message: message})
	}
	cases := []struct {
		err   error
		class trimtab.Class
		typ   string
	}{
		{pg("57P01"), trimtab.Unavailable, "postgres_unavailable"},
		{pg("57P03"), trimtab.Unavailable, "postgres_unavailable"},
		{pg("53300"), trimtab.Unavailable, "postgres_unavailable"}, // too many connections
		{pg("53200"), trimtab.Unavailable, "postgres_unavailable"}, // out of memory
		{pg("58030"), trimtab.Unavailable, "postgres_unavailable"}, // input or output
		{pg("53100"), trimtab.Unavailable, "disk_full"},
		{says("53100", "konnte Datei nicht erweitern"), trimtab.Unavailable, "disk_full"},
		{says("58030", `could not write to file "base/1/2": No space left on device`), trimtab.Unavailable,
			"disk_full"},
		{says("58030", `could not extend file "base/1/2": Disk quota exceeded`), trimtab.Unavailable, "disk_full"},
		{says("XX000", `could not extend file "base/1/2": Disk quota exceeded`), trimtab.Unavailable, "disk_full"},
		// to a session that begins on a full disk
		{says("XX000", "could not write init file"), trimtab.Unavailable, "disk_full"},
		{&pgconn.PgError{Code: "XX000", SeverityUnlocalized: "FATAL", Message: "could not open relation"},
			trimtab.Unavailable, "postgres_unavailable"},
		{&pgconn.PgError{Code: "XX000", SeverityUnlocalized: "ERROR", Message: "could not open relation"},
			trimtab.Internal, "internal"},
		{says("22023", `"No space left on device" is no step`), trimtab.Invalid, "invalid_record"},
		{pg("40P01"), trimtab.Unavailable, "postgres_unavailable"},
		{pg("25P03"), trimtab.Unavailable, "postgres_unavailable"}, // frozen in a transaction
		{pg("25006"), trimtab.Unavailable, "postgres_unavailable"}, // read only
		{io.ErrUnexpectedEOF, trimtab.Unavailable, "postgres_unavailable"},
		{context.DeadlineExceeded, trimtab.Unavailable, "postgres_unavailable"}, // of the connection, not of the call
		{errors.New("conn closed"), trimtab.Unavailable, "postgres_unavailable"},
		{pg("23503"), trimtab.NotFound, "run_not_found"},
		{pg("23514"), trimtab.Invalid, "invalid_record"},
		{pg("22P05"), trimtab.Invalid, "invalid_record"},
		{pg("22021"), trimtab.Usage, "bad_text"},
		{pg("42P01"), trimtab.Conflict, "schema_outdated"},
		{pg("42501"), trimtab.Usage, "postgres_refused"},
		{pg("28P01"), trimtab.Usage, "postgres_refused"},
		{pg("XX000"), trimtab.Internal, "internal"},
		{pg(""), trimtab.Internal, "internal"},
		{notFound("run", "x", ""), trimtab.NotFound, "run_not_found"},
	}
	for _, c := range cases {
		if e := trimtab.AsError(wrapError(t.Context(), "doing it", c.err)); e.Class != c.class || e.Type != c.typ {
			t.Errorf("%v: class %d type %s, want %d %s", c.err, e.Class, e.Type, c.class, c.typ)
		}
		if IsUnavailable(c.err) != (c.class == trimtab.Unavailable) {
			t.Errorf("%v: away is %v", c.err, IsUnavailable(c.err))
		}
	}
	if err := wrapError(t.Context(), "doing it", nil); err != nil {
		t.Errorf("nothing is %v", err)
	}
	why := errors.New("stopping")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(why)
	if err := wrapError(ctx, "doing it", pg("57014")); !errors.Is(err, context.Canceled) || !errors.Is(err, why) {
		t.Errorf("a cancelled call says %v", err)
	}
}

func TestClean(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{"": "", "plain é": "plain é", "a\x00b": "a�b", "\xff\xfe": "�",
		"é\xc3": "é�"} {
		if got := storableText(in); got != want {
			t.Errorf("clean(%q) = %q, want %q", in, got, want)
		}
	}
}

func TestQuoteLiteral(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{`a`: `'a'`, `it's`: `'it''s'`, `a\b'`: ` E'a\\b'''`} {
		if got := quoteLiteral(in); got != want {
			t.Errorf("quoteLiteral(%q) = %s, want %s", in, got, want)
		}
	}
}

func TestIdleTransactionsEnd(t *testing.T) {
	for url, want := range map[string]string{"postgres://h/d": idleTimeout, "postgres://h/d?" + idleParam +
		"=3s": "3s"} {
		config, err := poolConfig(url)
		if err != nil || config.ConnConfig.RuntimeParams[idleParam] != want {
			t.Errorf("%s: %v, %v", url, config.ConnConfig.RuntimeParams, err)
		}
	}
}
