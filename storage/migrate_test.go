package storage_test

import (
	"errors"
	"fmt"
	"net/url"
	"slices"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/trimtab/trimtab"
	"github.com/trimtab/trimtab/storage"
	"github.com/trimtab/trimtab/storage/storagetest"
)

func connect(t testing.TB, url string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	must(t, err)
	t.Cleanup(func() { conn.Close(t.Context()) })
	return conn
}

// emptied makes a database like new, without any of our tables.
func emptied(t testing.TB) storagetest.Addresses {
	t.Helper()
	urls := storagetest.URLs(t)
	_, err := connect(t, urls.Owner).Exec(t.Context(),
		"drop schema public cascade; create schema public; grant usage on schema public to public")
	must(t, err)
	return urls
}

func TestMigrateFromManySides(t *testing.T) {
	t.Parallel()
	urls, ctx := emptied(t), t.Context()
	_, err := storage.Open(ctx, urls.App)
	wantError(t, err, trimtab.Conflict, "schema_outdated")
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			if err := storage.Migrate(ctx, urls.Owner, "", ""); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	must(t, storage.Migrate(ctx, urls.Owner, "", ""))
	newRun(t, storagetest.Open(t, urls.App), "run-1")
}

func TestPasswords(t *testing.T) {
	urls, ctx := storagetest.URLs(t), t.Context() // not parallel: the roles belong to the whole server
	app, err := url.Parse(urls.App)
	must(t, err)
	auditor, err := url.Parse(urls.Auditor)
	must(t, err)
	old, _ := app.User.Password()
	oldAuditor, _ := auditor.User.Password()
	strange := `it's a \ "strange" $1 ü`
	must(t, storage.Migrate(ctx, urls.Owner, strange, ""))
	_, err = storage.Open(ctx, urls.App)
	wantError(t, err, trimtab.Usage, "postgres_refused")
	app.User = url.UserPassword(storage.AppRole, strange)
	must(t, storagetest.Open(t, app.String()).Ping(ctx))
	must(t, storage.Migrate(ctx, urls.Owner, old, oldAuditor))
	must(t, storagetest.Open(t, urls.App).Ping(ctx))
	must(t, storagetest.Open(t, urls.Auditor).Ping(ctx))
}

func TestOtherSchemas(t *testing.T) {
	t.Parallel()
	urls, ctx := storagetest.URLs(t), t.Context()
	owner := connect(t, urls.Owner)
	for _, c := range []struct{ version, typ string }{{"version - 1", "schema_outdated"},
		{"version + 2", "schema_newer"}} {
		_, err := owner.Exec(ctx, "update public.schema_version set version = "+c.version)
		must(t, err)
		_, err = storage.Open(ctx, urls.App)
		wantError(t, err, trimtab.Conflict, c.typ)
	}
	wantError(t, storage.Migrate(ctx, urls.Owner, "", ""), trimtab.Conflict, "schema_newer")
}

// refused tells whether Postgres refused a statement for want of a right.
func refused(t *testing.T, conn *pgx.Conn, sql string) {
	t.Helper()
	_, err := conn.Exec(t.Context(), sql)
	if e, ok := errors.AsType[*pgconn.PgError](err); !ok || e.Code != "42501" {
		t.Errorf("%s as %s: %v, want a refusal", sql, conn.Config().User, err)
	}
}

// projections are what the app may update; all else are facts.
var projections = []string{"run_state", "attempt_state", "fence", "progress"}

func TestRights(t *testing.T) {
	t.Parallel()
	urls, ctx := storagetest.URLs(t), t.Context()
	owner, app, auditor := connect(t, urls.Owner), connect(t, urls.App), connect(t, urls.Auditor)
	rows, err := owner.Query(ctx, `
		select c.relname, (select attname from pg_attribute where attrelid = c.oid and not attisdropped and attnum > 0
			and attidentity = '' order by attnum limit 1)
		from pg_class c where relnamespace = 'public'::regnamespace and relkind in ('r', 'p') order by 1`)
	must(t, err)
	type table struct{ Name, Column string }
	tables, err := pgx.CollectRows(rows, pgx.RowToStructByPos[table])
	must(t, err)
	if len(tables) < 25 {
		t.Fatalf("only %d tables", len(tables))
	}
	for _, tb := range tables {
		update := fmt.Sprintf("update %s set %s = %s", tb.Name, tb.Column, tb.Column)
		for _, conn := range []*pgx.Conn{app, auditor} {
			refused(t, conn, "delete from "+tb.Name)
			refused(t, conn, "truncate "+tb.Name)
			if _, err := conn.Exec(ctx, "select from "+tb.Name); err != nil {
				t.Errorf("%s cannot read %s: %v", conn.Config().User, tb.Name, err)
			}
			if conn == auditor || !slices.Contains(projections, tb.Name) {
				refused(t, conn, update)
			} else if _, err := conn.Exec(ctx, update); err != nil {
				t.Errorf("%s cannot update %s: %v", conn.Config().User, tb.Name, err)
			}
		}
		refused(t, auditor, "insert into "+tb.Name+" default values")
	}
	for _, sql := range []string{"insert into event default values", "insert into event_stream default values",
		"create table mine (x int)", "create schema mine", "alter table run add column x int", "drop table run",
		"create function mine() returns int language sql as 'select 1'", "create view mine as select 1",
		"update schema_version set version = 0", "create role mine", "alter role trimtab_auditor superuser"} {
		refused(t, app, sql)
		refused(t, auditor, sql)
	}
	refused(t, auditor, "select append_event('run-1', 'me', 'lie', '', 0, '{}')")
	refused(t, auditor, "create temporary table mine (x int)")
	if _, err := app.Exec(ctx, "select append_event('run-1', 'me', 'truth', '', 0, '{}')"); err != nil {
		t.Errorf("the app cannot append an event: %v", err)
	}
}

func TestEveryTableSaysWhatItHolds(t *testing.T) {
	t.Parallel()
	rows, err := connect(t, storagetest.URLs(t).Auditor).Query(t.Context(), `
		select relname from pg_class where relnamespace = 'public'::regnamespace and relkind in ('r', 'v')
			and relname <> 'schema_version' and obj_description(oid) is null order by 1`)
	must(t, err)
	silent, err := pgx.CollectRows(rows, pgx.RowTo[string])
	must(t, err)
	if len(silent) > 0 {
		t.Errorf("without a comment: %v", silent)
	}
}
