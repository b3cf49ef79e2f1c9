package notary_test

import (
	"context"
	"net/url"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/trimtab/trimtab"
	"github.com/trimtab/trimtab/storage"
	"github.com/trimtab/trimtab/storage/storagetest"
)

// oddSettings are what somebody may set for a database or for our roles, and for what reason ever.
var oddSettings = []string{
	"search_path = odd, public", "statement_timeout = 1", "lock_timeout = 1", "idle_in_transaction_session_timeout = 1",
	"bytea_output = escape",
	"DateStyle = 'SQL, DMY'", "IntervalStyle = sql_standard", "TimeZone = 'Asia/Kolkata'", "extra_float_digits = -15",
	"standard_conforming_strings = off",
	"row_security = on", "default_transaction_read_only = on", "default_transaction_isolation = serializable",
	"default_transaction_deferrable = on",
	"client_encoding = LATIN1", "check_function_bodies = off", "backslash_quote = off", "array_nulls = off",
	"transform_null_equals = on",
	"quote_all_identifiers = on", "exit_on_error = on", "xmlbinary = hex", "synchronous_commit = off", "jit = on",
	"work_mem = '64kB'",
	"enable_indexscan = off", "enable_hashjoin = off", "client_min_messages = error",
	"default_toast_compression = pglz", "idle_session_timeout = 300",
	"transaction_timeout = 300", "restrict_nonsystem_relation_kind = 'view'", "temp_buffers = 100",
	"log_statement = 'all'", "debug_print_plan = on",
}

// With all of them set for the database, and then for the role, it is migrated, written to, and verified as ever; each
// is noted.
func TestOddSettings(t *testing.T) {
	known := storagetest.URLs(t)
	for _, of := range []string{"database trimtab_odd", "role trimtab_app in database trimtab_odd"} {
		t.Run(strings.Fields(of)[0], func(t *testing.T) {
			address := emptyDatabase(t, "trimtab_odd", "")
			conn, err := pgx.Connect(t.Context(), address)
			must(t, err)
			defer conn.Close(context.WithoutCancel(t.Context()))
			_, err = conn.Exec(t.Context(),
				"create schema odd; create table odd.run (id text); create table odd.event (x int); grant usage on "+
					"schema odd to public")
			must(t, err)
			set := 0
			for _, s := range oddSettings {
				if _, err := conn.Exec(t.Context(), "alter "+of+" set "+s); err == nil { // else of a newer version
					set++
				}
			}
			must(t, storage.Migrate(t.Context(), address, "", ""))
			r := recordOn(t, storagetest.Addresses{Owner: address,
				App: strings.Replace(known.App, path(t, known.App), path(t, address), 1)})
			r.exec("set search_path = public")
			r.fill()
			r.keep()
			rep := r.verify(true)
			if !strings.Contains(said(rep.Problems), "schema odd: it has a table run") || len(rep.Problems) != 2 ||
				len(rep.Notes) != set {
				t.Errorf("%d settings: %+v, %+v", set, rep.Problems, rep.Notes)
			}
			runs, err := r.store.Runs(t.Context(), 0)
			if err != nil || len(runs) != 2 {
				t.Errorf("%d runs, %v", len(runs), err)
			}
		})
	}
}

// path is the database in an address.
func path(t *testing.T, address string) string {
	t.Helper()
	u, err := url.Parse(address)
	must(t, err)
	return u.Path
}

// What hides rows from the program is an error that says so, and not a shorter list.
func TestHiddenRows(t *testing.T) {
	r := newRecord(t)
	r.fill()
	r.exec("alter table run enable row level security; create policy hide on run to trimtab_app using (name <> " +
		"'first')")
	_, err := r.store.Runs(t.Context(), 0)
	if e := trimtab.AsError(err); e.Type != "rows_hidden" || e.Class != trimtab.Verification ||
		!strings.Contains(e.Remedy, "audit verify") {
		t.Errorf("%+v", err)
	}
}

// A session whose triggers do nothing is refused.
func TestTriggersOff(t *testing.T) {
	r := newRecord(t)
	r.exec("do $$ begin execute format('alter role trimtab_app in database %I set session_replication_role = " +
		"replica', current_database()); end $$")
	_, err := storage.Open(t.Context(), r.urls.App)
	if e := trimtab.AsError(err); e.Type != "triggers_off" || e.Class != trimtab.Conflict {
		t.Errorf("%+v", err)
	}
}
