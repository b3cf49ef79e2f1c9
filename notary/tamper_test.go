package notary_test

import (
	"context"
	"fmt"
	"net/url"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/trimtab/trimtab"
	"github.com/trimtab/trimtab/notary"
	"github.com/trimtab/trimtab/storage"
	"github.com/trimtab/trimtab/storage/storagetest"
)

// column is a column of an audited table.
type column struct{ Table, Name, Type, Base string }

// columns of all audited tables: those that have a function row_bytes, and those of the record itself.
func (r *recorded) columns() []column {
	r.t.Helper()
	rows, err := r.owner.Query(r.t.Context(), `
		select c.relname, a.attname, format_type(a.atttypid, a.atttypmod), y.typname
		from pg_class c join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
			join pg_type t on t.oid = a.atttypid join pg_type y on y.oid = coalesce(nullif(t.typbasetype, 0), t.oid)
		where c.relnamespace = 'public'::regnamespace and c.relkind = 'r'
			and c.relname not in ('schema_version', 'fence', 'progress', 'log')
		order by 1, a.attnum`)
	must(r.t, err)
	all, err := pgx.CollectRows(rows, pgx.RowToStructByPos[column])
	must(r.t, err)
	return all
}

// change is SQL for a value that differs from that of the column by about one byte.
func (c column) change() string {
	q := pgx.Identifier{c.Name}.Sanitize()
	switch c.Base {
	case "text":
		return fmt.Sprintf("coalesce(overlay(%[1]s placing (case when right(%[1]s, 1) = '1' then '2' else '1' end) "+
			"from greatest(length(%[1]s), 1)), '1')", q)
	case "bytea":
		return fmt.Sprintf("case when length(%[1]s) > 0 then set_byte(%[1]s, length(%[1]s) - 1, get_byte(%[1]s, "+
			"length(%[1]s) - 1) # 1) else '\\x01' end", q)
	case "int2", "int4", "int8", "numeric", "float4", "float8":
		return fmt.Sprintf("coalesce(%s, 0) + 1", q)
	case "bool":
		return "not " + q
	case "json":
		return fmt.Sprintf("(coalesce(%s::text, '1') || ' ')::json", q)
	case "timestamptz":
		return fmt.Sprintf("coalesce(%s, 'epoch') + interval '1 microsecond'", q)
	case "_int4", "_float4":
		return fmt.Sprintf("coalesce(%s, '{}') || '{1}'", q)
	}
	return ""
}

// Whoever may do anything in the database changes one byte of each column of
// each audited table in turn; each is found, and the table, event or stream is named.
func TestEveryChangedColumnIsFound(t *testing.T) {
	r := newRecord(t)
	r.fill()
	r.keep()
	r.unlock()
	if rep := r.verify(true); len(rep.Problems) > 0 || rep.Events < 30 || rep.Leaves != rep.Events || rep.Heads != 2 {
		t.Fatalf("before anything was changed: %+v", rep)
	}
	tables, found := map[string]bool{}, 0
	columns := r.columns()
	for _, c := range columns {
		tables[c.Table] = true
		problems := r.changed(c)
		if !named(c.Table, problems) {
			t.Errorf("a change of %s.%s (%s) is not found: %+v", c.Table, c.Name, c.Type, problems)
			continue
		}
		found++
	}
	for _, name := range []string{"event", "rollout", "erasure", "tree_head", "ranking_response", "attempt_state"} {
		if !tables[name] {
			t.Errorf("table %s was not tried", name)
		}
	}
	if rep := r.verify(true); len(rep.Problems) > 0 {
		t.Fatalf("after all was put back: %+v", rep.Problems)
	}
	t.Logf("%d of %d columns of %d tables found", found, len(columns), len(tables))
}

// unlock lets the owner do what he likes.
func (r *recorded) unlock() {
	r.unlocked = true
	r.exec(`do $$ declare c record; begin
		for c in select conrelid::regclass as relation, conname from pg_constraint
			where contype in ('c', 'f', 'u', 'p') and connamespace = 'public'::regnamespace and conrelid <> 0
			order by contype = 'p', contype = 'u' loop
			execute format('alter table %s drop constraint %I', c.relation, c.conname);
		end loop;
		for c in select relname from pg_class where relnamespace = 'public'::regnamespace and relkind = 'r' loop
			execute format('alter table %I disable trigger user', c.relname);
		end loop;
		drop index artifact_once;
		for c in select attrelid::regclass as relation, attname from pg_attribute where attidentity <> '' loop
			execute format('alter table %s alter column %I drop identity', c.relation, c.attname);
		end loop;
	end $$`)
}

// changed changes a column of one row, verifies, and puts it back.
func (r *recorded) changed(c column) []notary.Problem {
	r.t.Helper()
	ctx, q := r.t.Context(), pgx.Identifier{c.Name}.Sanitize()
	if c.change() == "" {
		r.t.Fatalf("no change for type %s of %s.%s", c.Type, c.Table, c.Name)
	}
	var old *string
	var place string
	which := ""
	if c.Table == "dataset_summary" {
		which = "where held_out = 1 and pairs = 0" // of items of which none was erased
	}
	must(r.t, r.owner.QueryRow(ctx, fmt.Sprintf("select %s::text, ctid::text from %s %s order by ctid desc limit 1", q,
		c.Table, which)).Scan(&old, &place))
	must(r.t, r.owner.QueryRow(ctx, fmt.Sprintf("update %s set %s = %s where ctid = '%s' returning ctid::text", c.Table,
		q, c.change(), place)).Scan(&place))
	problems := r.verify(true).Problems
	_, err := r.owner.Exec(ctx, fmt.Sprintf("update %s set %s = $1::text::%s where ctid = '%s'", c.Table, q, c.Type,
		place), old)
	must(r.t, err)
	return problems
}

// named reports whether a problem names the table, or for the tables of the record an event, leaf, hash, stream or
// head.
func named(table string, problems []notary.Problem) bool {
	words := map[string][]string{"event": {"event "}, "event_stream": {"stream "}, "log_leaf": {"leaf ", "in the tree"},
		"log_hash": {"log_hash"}, "tree_head": {"tree_head"}}[table]
	for _, p := range problems {
		text := p.Where + ": " + p.What
		for _, w := range append(words, " "+table+" ", "table "+table, "row "+table) {
			if strings.Contains(" "+text, w) {
				return true
			}
		}
	}
	return false
}

// A row taken out, put in, or all of them taken out of each table; two rows exchanged.
func TestRowsTakenOutAndPutInAreFound(t *testing.T) {
	r := newRecord(t)
	r.fill()
	r.keep()
	must(t, r.store.RecordEvent(t.Context(), "audit", "ann", trimtab.EventAuditVerified, map[string]any{"problems": 0}))
	r.keep()
	r.unlock()
	var tables []string
	keys := map[string][]column{}
	for _, c := range r.columns() {
		if len(tables) == 0 || tables[len(tables)-1] != c.Table {
			tables = append(tables, c.Table)
		}
		keys[c.Table] = append(keys[c.Table], c)
	}
	found := 0
	try := func(what, table, do, undo string) {
		t.Helper()
		r.exec(do)
		problems := r.verify(true).Problems
		r.exec(undo)
		if !named(table, problems) {
			t.Errorf("%s %s is not found: %+v", what, table, problems)
			return
		}
		found++
	}
	for _, table := range tables {
		back := fmt.Sprintf("truncate %[1]s; insert into %[1]s select * from saved_%[1]s", table)
		r.exec(fmt.Sprintf("create table pg_temp.saved_%[1]s as select * from %[1]s", table))
		var rows int
		must(t, r.owner.QueryRow(t.Context(), "select count(*) from "+table).Scan(&rows))
		if rows == 0 {
			t.Errorf("table %s is empty", table)
		}
		last := fmt.Sprintf("(select ctid from %s order by ctid desc limit 1)", table)
		try("a row taken out of", table, fmt.Sprintf("delete from %s where ctid = %s", table, last), back)
		try("a truncated", table, "truncate "+table, back)
		c := keys[table][0] // a copy of a row whose key differs in its first part
		r.exec(fmt.Sprintf("create table pg_temp.copy as select * from %s where ctid = %s", table, last))
		r.exec(fmt.Sprintf("update pg_temp.copy set %s = %s", pgx.Identifier{c.Name}.Sanitize(), c.change()))
		try("a row put into", table, fmt.Sprintf("insert into %s select * from pg_temp.copy", table), back+
			"; drop table pg_temp.copy")
	}
	exchange := func(table, columns, where string) {
		t.Helper()
		back := fmt.Sprintf("truncate %[1]s; insert into %[1]s select * from saved_%[1]s", table)
		var sets, picks []string
		for _, c := range strings.Fields(columns) {
			sets, picks = append(sets, fmt.Sprintf("%[1]s = o.%[1]s", c)), append(picks, c)
		}
		try("two rows exchanged in", table, fmt.Sprintf(`
			create table pg_temp.two as select ctid as place, %[3]s, row_number() over (order by ctid) as n from %[1]s
				where %[4]s order by ctid limit 2;
			update %[1]s t set %[2]s from pg_temp.two a join pg_temp.two o on o.n <> a.n
				where t.ctid = a.place; drop table pg_temp.two`,
			table, strings.Join(sets, ", "), strings.Join(picks, ", "), where), back)
	}
	exchange("event", "at actor type stage attempt body facts", "stream = 'run-one' and sequence in (3, 5)")
	exchange("event", "at actor type stage attempt body facts hash", "stream = 'run-one' and sequence in (3, 5)")
	exchange("log_leaf", "stream sequence", "index in (3, 4)")
	exchange("log_hash", "hash", "index in (0, 1)")
	exchange("attempt_input", "name digest", "attempt = 1")
	exchange("ranking_response", "rank", "ranking = (select min(ranking::text) from ranking_response)")
	exchange("metric", "value", "attempt = 1 and name = 'loss'")
	exchange("rollout", "logprobs", "true")
	if rep := r.verify(true); len(rep.Problems) > 0 {
		t.Fatalf("after all was put back: %+v", rep.Problems)
	}
	t.Logf("%d rows taken out, put in, exchanged, and tables truncated, in %d tables: all found", found, len(tables))
}

// An older copy of the whole database is sound in itself, but not against a head that was saved later.
func TestOlderCopyIsFound(t *testing.T) {
	r := newRecord(t)
	r.fill()
	r.keep()
	r.store.Close()
	r.owner.Close(t.Context())
	older := copyOf(t, r.urls)
	owner, err := pgx.Connect(t.Context(), r.urls.Owner)
	must(t, err)
	r.owner = owner
	r.store = open(t, r.urls.App)
	r.notary = notary.New(quiet, r.store, "ann", r.key, notary.HeadsIn(r.folder))
	must(t, r.store.SetRunStatus(t.Context(), "run-two", "running", "later", nil, "trimtab"))
	r.keep()
	if rep := r.verify(true); len(rep.Problems) > 0 {
		t.Fatalf("the newer one: %+v", rep.Problems)
	}
	r.store.Close()
	r.store = open(t, older)
	if rep := r.verify(false); len(rep.Problems) > 0 {
		t.Errorf("the older one by itself: %+v", rep.Problems)
	}
	if rep := r.verify(true); len(rep.Problems) != 2 || !strings.Contains(rep.Problems[1].What, "older copy") {
		t.Errorf("the older one against the saved head: %+v", rep.Problems)
	}
}

// A superuser rewrites an event, the chain after it, the tree and the rows, all
// consistently, and removes the signed heads from the database: only a head that was saved elsewhere shows it.
func TestConsistentRewriteIsFound(t *testing.T) {
	r := newRecord(t)
	r.fill()
	r.keep()
	r.unlock()
	r.exec(`update event set actor = 'eve' where stream = 'run-one' and sequence = 2`)
	r.exec(`do $$ declare e record; previous bytea; begin
		for e in select * from event where stream = 'run-one' order by sequence loop
			previous := event_hash(coalesce(previous, decode(repeat('00', 32), 'hex')), e.stream, e.sequence, e.at,
				e.actor, e.type, e.stage, e.attempt, e.body, e.facts);
			update event t set hash = previous where t.stream = e.stream and t.sequence = e.sequence;
		end loop;
		update event_stream set hash = previous where stream = 'run-one';
	end $$; truncate log_leaf, log_hash; update event_stream set logged = 0; `)
	_, err := r.store.Seal(t.Context())
	must(t, err)
	if rep := r.verify(false); !named("tree_head", rep.Problems) {
		t.Errorf("against the head in the database: %+v", rep.Problems)
	}
	r.exec("truncate tree_head")
	if rep := r.verify(false); len(rep.Problems) > 0 {
		t.Errorf("by itself the forgery is consistent, but: %+v", rep.Problems)
	}
	rep := r.verify(true)
	if len(rep.Problems) != 2 || rep.Problems[1].Where != "saved head 0" {
		t.Errorf("against the saved head: %+v", rep.Problems)
	}
}

// Eve signs a head of her own: it does not open with the key.
func TestForeignHeads(t *testing.T) {
	r := newRecord(t)
	r.fill()
	r.keep()
	eve := newRecord(t)
	h, err := r.store.Head(t.Context())
	must(t, err)
	note, err := eve.signer.Sign(h)
	must(t, err)
	must(t, r.store.PutTreeHead(t.Context(), h.Size, note))
	if rep := r.verify(true); !named("tree_head", rep.Problems) {
		t.Errorf("%+v", rep.Problems)
	}
}

// copyOf copies a database to which nobody is connected and returns the app's address of the copy.
func copyOf(t testing.TB, of storagetest.Addresses) string {
	t.Helper()
	address := func(raw, database string) string {
		u, err := url.Parse(raw)
		must(t, err)
		u.Path = "/" + database
		return u.String()
	}
	u, err := url.Parse(of.Owner)
	must(t, err)
	name := strings.TrimPrefix(u.Path, "/")
	admin, err := pgx.Connect(t.Context(), address(of.Owner, "postgres"))
	must(t, err)
	defer admin.Close(context.WithoutCancel(t.Context()))
	_, err = admin.Exec(t.Context(), fmt.Sprintf("create database %s_older template %[1]s", name))
	must(t, err)
	return address(of.App, name+"_older")
}

func open(t testing.TB, url string) *storage.Store {
	t.Helper()
	s, err := storage.Open(t.Context(), url)
	must(t, err)
	t.Cleanup(s.Close)
	return s
}
