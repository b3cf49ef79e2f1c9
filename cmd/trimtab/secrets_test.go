package main

import (
	"context"
	"encoding/hex"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/trimtab/trimtab/devstack"
)

// canary is a secret that stands in every setting that may hold one.
const canary = "kanarie9z"

// secretSettings are values with a secret in them; most cannot be used, so that their errors are seen too.
var secretSettings = map[string][]string{
	"postgres_url": {
		"postgres://ann:" + canary + "@127.0.0.1:1/x", "postgres://127.0.0.1:1/x?password=" + canary + "&sslpassword=" +
			canary + "2",
		"host=127.0.0.1 port=1 password=" + canary, "host=127.0.0.1 port=1 password='" + canary + " and more'",
		"host=127.0.0.1 port=1 passwor=" + canary,
		"postgres://ann:" + canary + "@h:x/db", "postgres://ann:a/" + canary + "@127.0.0.1:1/x", "postgres://ann:1/" +
			canary + "@127.0.0.1/x", "postgres://ann:a " + canary + "@127.0.0.1:1/x",
		"postgres://ann:%zz" + canary + "@h/x", "host=h password='" + canary, "postgres://h/x?sslmode=odd&password=" +
			canary, "x=" + canary + " y",
		"postgres://ann:" + canary + "@nowhere.invalid/x", "mysql://ann:" + canary + "@h/x",
	},
	"temporal_address": {"http://ann:" + canary + "@127.0.0.1:1", "ann:" + canary + "@127.0.0.1:1",
		"127.0.0.1:1?token=" + canary, "https://h/?token=" + canary},
	"openlineage_url": {"http://127.0.0.1:1/?api_key=" + canary, "ftp://h/?api_key=" + canary, "http://" + canary +
		"@127.0.0.1:1", "ann:" + canary + "@h", "http://a:%zz" + canary + "@h/"},
	"audit_copies": {"http://ann:" + canary + "@127.0.0.1:1/x, http://127.0.0.1:1/?token=" + canary,
		"/nowhere,http://" + canary + "@127.0.0.1:1"},
	"app_password": {canary, "it's " + canary}, "auditor_password": {canary},
}

// unsaid asserts that a text holds no secret.
func unsaid(t *testing.T, where, text string) {
	t.Helper()
	if i := strings.Index(text, canary); i >= 0 {
		t.Errorf("%s holds the secret: …%s…", where, text[max(0, i-200):min(len(text), i+50)])
	}
}

// Whatever a command says of settings with secrets in them, the secrets are left out.
func TestSecretsAreNotSaid(t *testing.T) {
	quiet(t)
	t.Setenv("HTTPS_PROXY", "http://ann:"+canary+"@127.0.0.1:1")
	t.Setenv("PGPASSWORD", canary)
	commands := [][]string{{"doctor"}, {"runs"}, {"align", "--size", "smallest", "--detach"}, {"migrate"}, {"worker"},
		{"audit", "verify"}}
	for key, values := range secretSettings {
		for _, value := range values {
			t.Setenv("TRIMTAB_POSTGRES_URL", "postgres://ann@127.0.0.1:1/x") // so that nothing is started
			t.Setenv("TRIMTAB_TEMPORAL_ADDRESS", "127.0.0.1:1")
			t.Setenv(envName(key), value)
			for _, args := range commands {
				if key != "postgres_url" && args[0] == "migrate" && !strings.HasSuffix(key, "_password") ||
					key == "temporal_address" && args[0] == "migrate" {
					continue // it waits two minutes for Temporal
				}
				for _, form := range []string{"table", "json"} {
					code, out, errs := command(t, "", append(args, "-o", form, "--log-level", "debug")...)
					unsaid(t, fmt.Sprintf("%s=%s: %q (%s, exit %d)", key, value, args, form, code), out+errs)
				}
			}
			os.Unsetenv(envName(key))
		}
	}
}

// A secret that was typed in the wrong place is not repeated.
func TestMisplacedSecretsAreNotSaid(t *testing.T) {
	quiet(t)
	address := "postgres://ann:" + canary + "@127.0.0.1:1/x"
	for _, args := range [][]string{
		{"-postgres-url=" + address}, {"runs", address}, {address}, {"runs", "--postgres-ulr", address},
		{"runs", "--limit", address}, {"help", address},
		{"runs", "--config", address}, {"runs", "-o", address}, {"align", "--set", address},
		{"align", "--seed", address},
	} {
		code, out, errs := command(t, "", args...)
		unsaid(t, fmt.Sprintf("%q (exit %d)", args, code), out+errs)
		if code == 0 {
			t.Errorf("%q: exit 0: %s%s", args, out, errs)
		}
	}
	write(t, "s.yaml", "postgres_url: ["+address+"\n")
	code, out, errs := command(t, "", "runs", "--config", "s.yaml")
	unsaid(t, fmt.Sprintf("a broken settings file (exit %d)", code), out+errs)
}

// A whole run, with secrets in the settings of its worker: no log, no answer
// and no row of any database has them, nor the passwords of the embedded servers.
func TestSecretsAreNotKept(t *testing.T) {
	if testing.Short() {
		t.Skip("starts Postgres and Temporal")
	}
	quiet(t)
	dir, err := os.MkdirTemp("", stackPrefix+fmt.Sprint(os.Getpid())+"-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { end(dir) })
	if err := os.Chmod(dir, 0o711); err != nil { // Postgres may run as another user
		t.Fatal(err)
	}
	data := filepath.Join(dir, "data")
	t.Setenv("TRIMTAB_DATA", data)
	t.Setenv("TRIMTAB_OPENLINEAGE_URL", "http://ann:"+canary+"@127.0.0.1:1/x?api_key="+canary)
	t.Setenv("TRIMTAB_AUDIT_COPIES", "http://127.0.0.1:1/?token="+canary+",http://"+canary+"@127.0.0.1:1/")
	t.Setenv("TRIMTAB_LOG_LEVEL", "debug")
	for _, args := range [][]string{
		{"align", "--size", "smallest", "--name", "x"}, {"show", "x", "-o", "json"}, {"history", "x", "-o", "json"},
		{"history", "x", "--openlineage"}, {"logs", "x"},
		{"audit", "verify", "-o", "json"}, {"audit", "log", "x", "-o", "json"}, {"doctor"}, {"doctor", "-o", "json"},
		{"dev", "status", "-o", "json"}, {"dev", "status"},
		{"model", "provenance", "x/ppo"}, {"model", "card", "x/ppo"},
		{"rerun", "x", "ppo", "--set", "ppo.kl_coef=oops"},
	} {
		code, out, errs := command(t, "", args...)
		unsaid(t, fmt.Sprintf("%q (exit %d)", args, code), out+errs)
		nowhere(t, fmt.Sprintf("%q", args), out+errs, passwordsOf(t, data))
	}
	info, ok := devstack.Running(data)
	if !ok {
		t.Fatal("the stack does not run")
	}
	logs := 0
	err = filepath.WalkDir(data, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, ".log") {
			return err
		}
		raw, err := os.ReadFile(path)
		logs++
		unsaid(t, path, string(raw))
		nowhere(t, path, string(raw), passwordsOf(t, data))
		return err
	})
	if worker, _ := os.ReadFile(filepath.Join(data, "worker.log")); err != nil || logs < 2 ||
		!strings.Contains(string(worker), "127.0.0.1:1") {
		t.Errorf("%d logs, %v; the worker's says nothing of what it could not reach", logs, err)
	}
	inDatabases(t, info.Endpoints.PostgresURL, append(passwordsOf(t, data), canary))
}

// passwordsOf are those that the embedded servers were given.
func passwordsOf(t *testing.T, data string) (all []string) {
	t.Helper()
	for _, name := range []string{"app.password", "auditor.password", "postgres/postgres.password",
		"temporal/temporal.password"} {
		raw, err := os.ReadFile(filepath.Join(data, name))
		if err != nil || len(strings.TrimSpace(string(raw))) < 16 {
			t.Fatalf("%s: %q, %v", name, raw, err)
		}
		all = append(all, strings.TrimSpace(string(raw)))
	}
	return all
}

func nowhere(t *testing.T, where, text string, secrets []string) {
	t.Helper()
	for _, s := range secrets {
		if strings.Contains(text, s) || strings.Contains(text, hex.EncodeToString([]byte(s))) {
			t.Errorf("%s holds a secret: %.200s", where, text)
		}
	}
}

// inDatabases looks for secrets in every row of every table of every database of a server.
func inDatabases(t *testing.T, owner string, secrets []string) {
	t.Helper()
	ctx := context.Background()
	u, err := url.Parse(owner)
	if err != nil {
		t.Fatal(err)
	}
	rows := func(database, sql string) (all []string) {
		at := *u
		at.Path = "/" + database
		c, err := pgx.Connect(ctx, at.String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close(ctx)
		r, err := c.Query(ctx, sql)
		if err == nil {
			all, err = pgx.CollectRows(r, pgx.RowTo[string])
		}
		if err != nil {
			t.Fatalf("%s: %s: %v", database, sql, err)
		}
		return all
	}
	tables, seen := 0, 0
	for _, database := range rows("postgres", "select datname::text from pg_database where datallowconn") {
		for _, table := range rows(database,
			"select format('%I.%I', schemaname, tablename) from pg_tables where schemaname not in ('pg_catalog', "+
				"'information_schema') and schemaname not like 'pg_temp%'") {
			tables++
			for _, row := range rows(database, "select t::text from "+table+" t") {
				seen++
				nowhere(t, database+" "+table, row, secrets)
			}
		}
	}
	if tables < 50 || seen < 500 {
		t.Errorf("only %d rows of %d tables were looked at", seen, tables)
	}
}
