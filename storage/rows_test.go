package storage_test

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/trimtab/trimtab/audit"
	"github.com/trimtab/trimtab/storage"
	"github.com/trimtab/trimtab/storage/storagetest"
)

// freed is a database in which any row may be written: without constraints, triggers and identities.
func freed(t *testing.T) (*storage.Store, *pgx.Conn) {
	t.Helper()
	urls := storagetest.URLs(t)
	owner := connect(t, urls.Owner)
	_, err := owner.Exec(t.Context(), `do $$ declare c record; begin
		for c in select conrelid::regclass as relation, conname from pg_constraint where contype in ('c', 'f', 'u', 'p')
			and connamespace = 'public'::regnamespace and conrelid <> 0 order by contype = 'p', contype = 'u' loop
			execute format('alter table %s drop constraint %I', c.relation, c.conname);
		end loop;
		for c in select attrelid::regclass as relation, attname from pg_attribute where attidentity <> '' loop
			execute format('alter table %s alter column %I drop identity', c.relation, c.attname);
		end loop;
		for c in select tgrelid::regclass as relation, tgname from pg_trigger where not tgisinternal loop
			execute format('drop trigger %I on %s', c.tgname, c.relation);
		end loop;
		drop index artifact_once;
		alter domain content_digest drop constraint digest_is_sha256;
	end $$`)
	must(t, err)
	return storagetest.Open(t, urls.App), owner
}

// literals are values of each type that might be hashed in two ways, as SQL.
var literals = map[string][]string{
	"int2":   {"0", "1", "-1", "32767", "-32768"},
	"int4":   {"0", "1", "-1", "2147483647", "-2147483648"},
	"int8":   {"0", "1", "-1", "9223372036854775807", "-9223372036854775808"},
	"float4": {"0", "'-0'", "'NaN'", "'Infinity'", "'-Infinity'", "1e-45", "0.1"},
	"float8": {"0", "'-0'", "'NaN'", "'Infinity'", "'-Infinity'", "5e-324", "0.1"},
	"bool":   {"true", "false"},
	"timestamptz": {"'epoch'", "'infinity'", "'-infinity'", "'2000-01-01'", "'4713-01-01 BC'",
		"'2026-11-28 01:02:03.000001'"},
	"text":     {"''", "'x'", "'sha256:ab'", `E'a\nb\t"''\\'`, "'Grüße 中文 😀'", "repeat('long', 1000)"},
	"bytea":    {`''`, `'\x00'`, `'\x5c78'`, `decode(repeat('ff', 300), 'hex')`},
	"json":     {`'{}'`, `'{"b": 1,  "a": "\u0000é"}'`, `' null '`, `'[1e400]'`},
	"numeric":  {"0", "18446744073709551615", "1"},
	"int4[]":   {"'{}'", "'{1,-2}'", "'{{1,2},{3,4}}'", "'[5:6]={1,null}'"},
	"float4[]": {"'{}'", "'{0,-0,NaN,Infinity}'", "'{{1},{2}}'", "'{null}'"},
}

// The digest of a row is what row_bytes, with which events were sealed, gives: for all tables, columns and types.
func TestRowsAreHashedAsPostgresDoes(t *testing.T) {
	t.Parallel()
	s, owner := freed(t)
	rows, err := owner.Query(t.Context(),
		"select proargtypes[0]::regtype::text from pg_proc where proname = 'row_bytes' order by 1")
	must(t, err)
	names, err := pgx.CollectRows(rows, pgx.RowTo[string])
	must(t, err)
	if len(names) != len(audit.Tables) {
		t.Fatalf("row_bytes is of %d tables, audit.Tables has %d", len(names), len(audit.Tables))
	}
	random := rand.New(rand.NewPCG(1, 2))
	for _, table := range audit.Tables {
		const n = 60
		for range n {
			_, err := owner.Exec(t.Context(), insertAny(random, table))
			must(t, err)
		}
		rows, err := owner.Query(t.Context(), fmt.Sprintf("select sha256(row_bytes(t)) from %s t order by ctid",
			table.Name))
		must(t, err)
		want, err := pgx.CollectRows(rows, pgx.RowTo[[]byte])
		must(t, err)
		must(t, s.Snapshot(t.Context(), func(r storage.Snapshot) error {
			have, err := r.RowDigests(t.Context(), table)
			if len(have) != n || len(want) != n {
				t.Errorf("%s: %d and %d rows", table.Name, len(have), len(want))
			}
			for i, h := range have {
				if string(h[:]) != string(want[i]) {
					t.Errorf("row %d of %s is hashed as %s, by Postgres as %x", i, table.Name, h, want[i])
				}
			}
			return err
		}))
	}
}

func insertAny(random *rand.Rand, table *audit.Table) string {
	var columns, values []string
	for _, c := range table.Columns {
		pool := literals[c.Type]
		v := pool[random.IntN(len(pool))]
		if c.Null && random.IntN(3) == 0 {
			v = "null"
		}
		columns, values = append(columns, pgx.Identifier{c.Name}.Sanitize()), append(values, v)
	}
	return fmt.Sprintf("insert into %s (%s) values (%s)", table.Name, strings.Join(columns, ", "),
		strings.Join(values, ", "))
}
