package devstack

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/trimtab/trimtab"
)

// openDir is a temporary folder that the user postgres may enter, as the tests may run as root.
func openDir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "trimtab-test-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o711); err != nil {
		t.Fatal(err)
	}
	return dir
}

func testPostgres(t testing.TB, dir string, fast bool) *Postgres {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	s, err := StartPostgres(ctx, PostgresOptions{Dir: dir, Fast: fast, DieWithParent: true, Log: t.Output(),
		Downloads: &Downloads{}}) // as the first test of a bare machine, it may have to fetch
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Stop(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func query[T any](t testing.TB, url, sql string, args ...any) T {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(ctx)
	var v T
	if err := conn.QueryRow(ctx, sql, args...).Scan(&v); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return v
}

func TestPostgres(t *testing.T) {
	t.Parallel()
	dir := openDir(t)
	begin := time.Now()
	s := testPostgres(t, dir, false)
	t.Logf("new cluster in %v", time.Since(begin))
	if s.Adopted {
		t.Error("a new server was called adopted")
	}
	for setting, want := range map[string]string{"fsync": "on", "full_page_writes": "on", "synchronous_commit": "on",
		"server_encoding": "UTF8", "listen_addresses": "127.0.0.1", "is_superuser": "on",
		"max_wal_size": "256MB", "min_wal_size": "64MB"} {
		if got := query[string](t, s.URL, `select current_setting($1)`, setting); got != want {
			t.Errorf("%s is %s, want %s", setting, got, want)
		}
	}
	// no setting since version 16
	if got := query[string](t, s.URL,
		`select datcollate from pg_database where datname = current_database()`); got != "C" {
		t.Errorf("the collation is %s", got)
	}
	if got := query[string](t, s.URL, `select current_setting('wal_compression')`); got == "off" {
		t.Error("the log is not compressed")
	}
	if n := query[int](t, s.URL, `select current_setting('max_connections')::int`); n < 100 {
		t.Errorf("max_connections is %d: Temporal alone holds 50", n)
	}
	if got := query[string](t, s.URL, `select current_database()`); got != Database {
		t.Errorf("database %s, want %s", got, Database)
	}
	query[int](t, s.URL, `with x as (select set_config('a.b', 'c', false)) select 1 from x`)
	exec1(t, s.URL, `create table kept (n int)`, `insert into kept values (42)`)

	begin = time.Now()
	again := testPostgres(t, dir, false)
	t.Logf("adopted in %v", time.Since(begin))
	if !again.Adopted || again.Pid != s.Pid || again.URL != s.URL {
		t.Errorf("second start: adopted %v pid %d url %s; want the first server, pid %d url %s", again.Adopted,
			again.Pid, again.URL, s.Pid, s.URL)
	}
	if err := again.Stop(); err != nil { // through the adopted handle
		t.Fatal(err)
	}
	if err := s.Wait(); err != nil {
		t.Errorf("after a fast shutdown: %v", err)
	}
	begin = time.Now()
	third := testPostgres(t, dir, false)
	t.Logf("started again in %v", time.Since(begin))
	if third.Adopted || third.URL != s.URL {
		t.Errorf("third start: adopted %v, url %s, want a new server at %s", third.Adopted, third.URL, s.URL)
	}
	if n := query[int](t, third.URL, `select n from kept`); n != 42 {
		t.Errorf("kept %d, want 42", n)
	}
}

func exec1(t testing.TB, url string, statements ...string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(ctx)
	for _, s := range statements {
		if _, err := conn.Exec(ctx, s); err != nil {
			t.Fatalf("%s: %v", s, err)
		}
	}
}

func TestPostgresWrongPassword(t *testing.T) {
	t.Parallel()
	s := testPostgres(t, openDir(t), true)
	conn, err := pgx.Connect(t.Context(), withUser(s.URL, owner, "guess"))
	if err == nil {
		conn.Close(t.Context())
		t.Fatal("connected with a wrong password")
	}
}

func TestPostgresPasswordLost(t *testing.T) {
	t.Parallel()
	dir := openDir(t)
	s := testPostgres(t, filepath.Join(dir, "a"), true)
	exec1(t, s.URL, `create table kept as select 7 n`)
	if err := s.Stop(); err != nil {
		t.Fatal(err)
	}
	moved := filepath.Join(dir, "b") // and the folder has moved
	if err := errors.Join(os.Remove(filepath.Join(dir, "a", "postgres.password")),
		os.Rename(filepath.Join(dir, "a"), moved)); err != nil {
		t.Fatal(err)
	}
	next := testPostgres(t, moved, true)
	if n := query[int](t, next.URL, `select n from kept`); n != 7 || next.URL == s.URL {
		t.Errorf("kept %d, want 7; at %s, with the password %s", n, next.URL, s.URL)
	}
}

func TestPostgresKilled(t *testing.T) {
	t.Parallel()
	dir := openDir(t)
	s := testPostgres(t, dir, false)
	exec1(t, s.URL, `create table kept as select generate_series(1, 1000) n`)
	for range 2 {
		if err := syscall.Kill(s.Pid, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		begin := time.Now()
		next := testPostgres(t, dir, false)
		t.Logf("recovered in %v", time.Since(begin))
		if next.Adopted || next.URL != s.URL {
			t.Errorf("adopted %v, url %s, want a new server at %s", next.Adopted, next.URL, s.URL)
		}
		if n := query[int](t, next.URL, `select count(*) from kept`); n != 1000 {
			t.Errorf("%d rows after the kill, want 1000", n)
		}
		s = next
	}
}

func TestPostgresStrangersLock(t *testing.T) {
	t.Parallel()
	dir := openDir(t)
	s := testPostgres(t, dir, true)
	lockFile := filepath.Join(dir, "data", "postmaster.pid")
	b, err := os.ReadFile(lockFile)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Stop(); err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(b), "\n")
	if err := os.WriteFile(lockFile, fmt.Appendf(nil, "%d\n%s", os.Getpid(), rest), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(lockFile, statOf(t, filepath.Join(dir, "data")), -1); err != nil {
		t.Fatal(err)
	}
	if next := testPostgres(t, dir, true); next.Adopted {
		t.Error("adopted this very process as a server")
	}
}

func statOf(t testing.TB, path string) (uid int) {
	t.Helper()
	st, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	return int(st.Sys().(*syscall.Stat_t).Uid)
}

func TestPostgresWrongMajor(t *testing.T) {
	t.Parallel()
	dir := openDir(t)
	s := testPostgres(t, dir, true)
	exec1(t, s.URL, `create table kept as select 7 n`)
	if err := s.Stop(); err != nil {
		t.Fatal(err)
	}
	version := filepath.Join(dir, "data", "PG_VERSION")
	real, err := os.ReadFile(version)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(version, []byte("9\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	before := listing(t, filepath.Join(dir, "data"))
	_, err = StartPostgres(t.Context(), PostgresOptions{Dir: dir})
	e, ok := errors.AsType[*trimtab.Error](err)
	if !ok || e.Type != "postgres_version" || !strings.Contains(e.Remedy, "postgresql") ||
		!strings.Contains(e.Message, "Postgres 9") {
		t.Fatalf("opened with another major version: %v", err)
	}
	if after := listing(t, filepath.Join(dir, "data")); after != before {
		t.Errorf("the refused data folder changed:\n%s\nwas\n%s", after, before)
	}
	if err := os.WriteFile(version, real, 0o600); err != nil {
		t.Fatal(err)
	}
	if n := query[int](t, testPostgres(t, dir, true).URL, `select n from kept`); n != 7 {
		t.Errorf("kept %d, want 7", n)
	}
}

// listing names every file with its size and time.
func listing(t testing.TB, dir string) string {
	t.Helper()
	var b strings.Builder
	err := filepath.Walk(dir, func(path string, st os.FileInfo, err error) error {
		if err == nil {
			fmt.Fprintln(&b, path, st.Size(), st.ModTime())
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestPostgresAsRoot(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("not root")
	}
	dir := filepath.Join(openDir(t), "closed", "data")
	if err := os.MkdirAll(filepath.Dir(dir), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(filepath.Dir(dir), 0o700); err != nil {
		t.Fatal(err)
	}
	var places []string
	for range 2 {
		var said bytes.Buffer
		s, err := StartPostgres(t.Context(), PostgresOptions{Dir: dir, Fast: true, DieWithParent: true, Log: &said})
		if err != nil {
			t.Fatal(err)
		}
		place := query[string](t, s.URL, `select current_setting('data_directory')`)
		t.Cleanup(func() {
			os.RemoveAll(filepath.Dir(place))
			os.Remove("/var/lib/trimtab") // if nothing else is in it
		})
		if err := s.Stop(); err != nil {
			t.Fatal(err)
		}
		if !strings.HasPrefix(place, "/var/lib/trimtab/") || !strings.Contains(said.String(), filepath.Dir(place)) {
			t.Errorf("data in %s, having said %q", place, said.String())
		}
		if uid := statOf(t, place); uid == 0 {
			t.Error("the data belongs to root")
		}
		places = append(places, place)
		if err := os.RemoveAll(dir); err != nil { // and begin anew
			t.Fatal(err)
		}
	}
	if places[0] == places[1] {
		t.Error("a new data folder was given the database of one that was removed")
	}
}

func TestPostgresDropsRoot(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("not root")
	}
	s := testPostgres(t, openDir(t), true)
	if uid := statOf(t, fmt.Sprintf("/proc/%d", s.Pid)); uid == 0 {
		t.Error("the postmaster runs as root")
	}
}

func TestPostgresPortTaken(t *testing.T) {
	t.Parallel()
	dir := openDir(t)
	s := testPostgres(t, dir, true)
	var c clusterState
	if err := readJSON(filepath.Join(dir, "postgres.json"), &c); err != nil {
		t.Fatal(err)
	}
	if err := s.Stop(); err != nil {
		t.Fatal(err)
	}
	thief := listen(t, c.Port)
	defer thief.Close()
	var said bytes.Buffer
	next, err := StartPostgres(t.Context(), PostgresOptions{Dir: dir, Fast: true, DieWithParent: true, Log: &said})
	if err != nil {
		t.Fatal(err)
	}
	defer next.Stop()
	if next.URL == s.URL || !strings.Contains(said.String(), fmt.Sprint(c.Port)) {
		t.Errorf("with port %d taken: %s, having said %q", c.Port, next.URL, said.String())
	}
}

// TestPostgresOutlivesParent kills a process that owns a server: the next adopts it.
func TestPostgresOutlivesParent(t *testing.T) {
	t.Parallel()
	dir := openDir(t)
	cmd := exec.Command(os.Args[0], helper("postgres", dir)...)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var pid int
	if _, err := fmt.Fscanf(out, "ready %d\n", &pid); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
	if s := testPostgres(t, dir, true); !s.Adopted || s.Pid != pid {
		t.Errorf("adopted %v, pid %d, want %d", s.Adopted, s.Pid, pid)
	}
}

// TestPostgresTogether starts one cluster from several places at once: one starts it, the others adopt it.
func TestPostgresTogether(t *testing.T) {
	t.Parallel()
	dir := openDir(t)
	found := make(chan *Postgres, 4)
	for range cap(found) {
		go func() {
			s, err := StartPostgres(t.Context(), PostgresOptions{Dir: dir, Fast: true, DieWithParent: true})
			if err != nil {
				t.Error(err)
			}
			found <- s
		}()
	}
	pids, started := map[int]bool{}, 0
	for range cap(found) {
		s := <-found
		if s == nil {
			continue
		}
		t.Cleanup(func() { _ = s.Stop() })
		pids[s.Pid] = true
		if !s.Adopted {
			started++
		}
	}
	if len(pids) != 1 || started != 1 {
		t.Errorf("%d servers, started %d times; want one", len(pids), started)
	}
}
