package notary_test

import (
	"context"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/trimtab/trimtab/devstack/devstacktest"
	"github.com/trimtab/trimtab/migrations"
	"github.com/trimtab/trimtab/notary"
	"github.com/trimtab/trimtab/storage"
	"github.com/trimtab/trimtab/storage/storagetest"
)

// emptyDatabase makes a database without anything in it, dropped with the test, and returns its address for a user.
func emptyDatabase(t *testing.T, name string, more string) (owner string) {
	t.Helper()
	superuser := devstacktest.Postgres(t).PostgresURL
	admin, err := pgx.Connect(t.Context(), superuser)
	must(t, err)
	defer admin.Close(context.WithoutCancel(t.Context()))
	_, err = admin.Exec(t.Context(), "create database "+name+more)
	must(t, err)
	t.Cleanup(func() {
		admin, err := pgx.Connect(context.Background(), superuser)
		must(t, err)
		defer admin.Close(context.Background())
		_, err = admin.Exec(context.Background(), "drop database "+name+" with (force)")
		must(t, err)
	})
	u, err := url.Parse(superuser)
	must(t, err)
	u.Path = "/" + name
	return u.String()
}

// sound fails the test if anything is wrong with a record, or odd, that nobody signs.
func sound(t *testing.T, address string, odd ...string) notary.Verification {
	t.Helper()
	rep, err := notary.Verifier{Store: storagetest.Open(t, address), NoHeads: true}.Verify(t.Context())
	must(t, err)
	if len(rep.Problems) > 0 {
		t.Errorf("%s", said(rep.Problems))
	}
	for _, n := range rep.Notes {
		if len(odd) == 0 || !strings.Contains(n.Where+": "+n.What, odd[0]) {
			t.Errorf("%+v", n)
		}
	}
	return rep
}

// recordedBefore007 is what programs of before wrote into the tables of a version, as it was told then.
var recordedBefore007 = map[int]string{
	3: `insert into document (digest, body) values ('sha256:' || encode(sha256('{}'), 'hex'), '{}');
		insert into dataset (name, kind) values ('old', 'text'); select append_event('dataset/old', 'ann',
			'dataset_created', '', 0, '{"kind":"text"}');
		insert into text_item values ('sha256:' || repeat('aa', 32), 'one'), ('sha256:' || repeat('bb', 32), 'two');
		insert into dataset_item (dataset, item, actor) select 'old', digest, 'ann' from text_item;
			select append_event('dataset/old', 'ann', 'items_added', '', 0, '{"added":2}');
		insert into dataset_version values ('sha256:' || repeat('cc', 32), 'text', 2);
		insert into dataset_version_item select 'sha256:' || repeat('cc', 32), digest, 1 from text_item;
		insert into dataset_freeze (dataset, version, actor) values ('old', 'sha256:' || repeat('cc', 32), 'ann');
		select append_event('dataset/old', 'ann', 'dataset_frozen', '', 0,
			convert_to('{"version":"sha256:' || repeat('cc', 32) || '"}', 'UTF8'))`,
	4: `insert into run (id, name, seed, spec, spec_digest, reason, actor) values ('run-old', 'old', 1, '{}', '', '', 'ann');
		insert into run_state (run, status, next) values ('run-old', 'running', ''); insert into run_plan (run,
			revision, plan, actor, reason) values ('run-old', 0, '{}', 'ann', '');
		select append_event('run-old', 'ann', 'run_created', '', 0, '{}'), append_event('run-old', 'ann',
			'run_status', '', 0, '{}');
		insert into attempt (run, stage, kind, number, config, cache_key, from_checkpoint, reason,
			actor) values ('run-old', 'sft', 'sft', 1, '', '', '', '', 'ann');
		insert into attempt_state (attempt, status, steps, build) values (1, 'running', 4, 'b');
		select append_event('run-old', 'ann', 'attempt_created', 'sft', 1, '{"status":"queued"}')`,
	5: `insert into step values (1, 0, 1, 0), (1, 1, 1, 0), (1, 2, 1, 0); insert into metric select 1, step, 'loss', step from step; insert into timing select 1, step, 'step', 1 from step;
		insert into checkpoint (attempt, step, digest) values (1, 2, 'sha256:' || repeat('dd', 32));
		select append_event('run-old', 'worker', 'steps_committed', 'sft', 1,
			convert_to('{"checkpoint":{"digest":"sha256:' || repeat('dd',
			32) || '","step":2},"from":0,"steps":2,"until":2}', 'UTF8')),
			append_event('run-old', 'worker', 'steps_committed', 'sft', 1, '{"from":1,"steps":2,"until":3}')`,
	6: `insert into artifact (digest, kind, name, run, stage, attempt, parameters, actor) values ('sha256:' || repeat('ee', 32), 'model', 'old/sft', 'run-old', 'sft', 1, 9, 'worker');
		select append_event('run-old', 'worker', 'artifact_made', 'sft', 1,
			convert_to('{"digest":"sha256:' || repeat('ee', 32) || '","name":"old/sft"}', 'UTF8'))`,
}

// A database that was migrated from any older version, with what was recorded then, is sound.
func TestOlderVersionsAreSound(t *testing.T) {
	names, err := fs.Glob(migrations.Files, "*.sql")
	must(t, err)
	for version := 1; version < len(names); version++ {
		t.Run(fmt.Sprint(version), func(t *testing.T) {
			address := emptyDatabase(t, fmt.Sprintf("trimtab_from_%d", version), "")
			conn, err := pgx.Connect(t.Context(), address)
			must(t, err)
			defer conn.Close(context.WithoutCancel(t.Context()))
			run := func(sql string) {
				if _, err := conn.PgConn().Exec(t.Context(), sql).ReadAll(); err != nil {
					t.Fatalf("%.200s: %v", sql, err)
				}
			}
			run("create table public.schema_version (version int4 not null); insert into public.schema_version " +
				"values (0)")
			for i := range version {
				raw, err := fs.ReadFile(migrations.Files, names[i])
				must(t, err)
				run(string(raw))
				run(recordedBefore007[i+1])
			}
			run(fmt.Sprintf("update public.schema_version set version = %d", version))
			must(t, storage.Migrate(t.Context(), address, "", ""))
			if rep := sound(t, address); version > 3 && rep.Rows["run"] != 1 || version > 5 &&
				rep.Rows["artifact"] != 1 {
				t.Errorf("%+v", rep.Rows)
			}
		})
	}
}

// So is one that an owner without special rights migrated, as far as he may: before Postgres 15 the schema public is
// not his, and everybody may create in it.
func TestPlainOwnerIsSound(t *testing.T) {
	superuser := devstacktest.Postgres(t).PostgresURL
	storagetest.URLs(t) // makes the roles
	admin, err := pgx.Connect(t.Context(), superuser)
	must(t, err)
	defer admin.Close(context.WithoutCancel(t.Context()))
	_, err = admin.Exec(t.Context(), "create role plain login password 'plain'")
	must(t, err)
	t.Cleanup(func() {
		admin, err := pgx.Connect(context.Background(), superuser)
		must(t, err)
		defer admin.Close(context.Background())
		_, err = admin.Exec(context.Background(), "drop role plain")
		must(t, err)
	})
	address := emptyDatabase(t, "trimtab_plain", " owner plain")
	var version int
	must(t, admin.QueryRow(t.Context(), "select current_setting('server_version_num')::integer / 10000").Scan(&version))
	if version < 15 {
		conn, err := pgx.Connect(t.Context(), address)
		must(t, err)
		_, err = conn.Exec(t.Context(), "alter schema public owner to plain")
		must(t, err)
		must(t, conn.Close(t.Context()))
	}
	u, err := url.Parse(address)
	must(t, err)
	u.User = url.UserPassword("plain", "plain")
	must(t, storage.Migrate(t.Context(), u.String(), "", ""))
	sound(t, u.String())
	sound(t, address)
}

// Everybody who verifies finds the same: the app, the auditor and a superuser.
func TestWhoeverVerifies(t *testing.T) {
	r := newRecord(t)
	r.fill()
	for _, address := range []string{r.urls.App, r.urls.Auditor, r.urls.Owner} {
		if rep := sound(t, address); rep.Events < 30 || rep.Rows["rollout"] != 4 {
			t.Errorf("%s: %+v", address, rep)
		}
	}
}

// A record that was dumped and restored elsewhere is what it was, against the heads that were kept.
func TestDumpIsSound(t *testing.T) {
	r := newRecord(t)
	r.fill()
	r.keep()
	var version string
	must(t,
		r.owner.QueryRow(t.Context(),
			"select current_setting('server_version_num')::integer / 10000 || ''").Scan(&version))
	bin := filepath.Join("/usr/lib/postgresql", version, "bin")
	if _, err := os.Stat(filepath.Join(bin, "pg_dump")); err != nil {
		t.Skip("no pg_dump of the server's version")
	}
	address := emptyDatabase(t, "trimtab_restored", "")
	file := filepath.Join(t.TempDir(), "dump")
	for _, args := range [][]string{{"pg_dump", "-f", file, r.urls.Owner},
		{"psql", "-q", "-v", "ON_ERROR_STOP=1", "-f", file, address}} {
		if out, err := exec.Command(filepath.Join(bin, args[0]), args[1:]...).CombinedOutput(); err != nil {
			t.Fatalf("%s: %v: %s", args[0], err, out)
		}
	}
	must(t, storage.Migrate(t.Context(), address, "", "")) // rights on the database are in no dump
	v := notary.Verifier{Store: storagetest.Open(t, address), Keys: []string{r.signer.Verifier()},
		Saved: r.savedHeads()}
	rep, err := v.Verify(t.Context())
	must(t, err)
	if len(rep.Problems)+len(rep.Notes) > 0 || rep.Events < 30 || rep.Heads != 2 {
		t.Errorf("%+v", rep)
	}
}
