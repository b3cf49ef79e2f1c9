package devstack

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/log"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"
)

func testTemporal(t testing.TB, dir string, p *Postgres) *Temporal {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Minute) // it may have to be built
	defer cancel()
	s, err := StartTemporal(ctx, TemporalOptions{Dir: dir, PostgresURL: p.URL, DieWithParent: true, Log: t.Output()})
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

// count goes through n steps of an activity, each after the other.
func count(ctx workflow.Context, n int) (int, error) {
	ctx = workflow.WithActivityOptions(ctx, workflow.ActivityOptions{StartToCloseTimeout: 2 * time.Second})
	sum := 0
	for i := range n {
		var step int
		if err := workflow.ExecuteActivity(ctx, "step", i).Get(ctx, &step); err != nil {
			return 0, err
		}
		sum += step
	}
	return sum, nil
}

// counter is a worker for count, which reports how many steps it has seen.
func counter(t testing.TB, s *Temporal) (client.Client, *atomic.Int64) {
	t.Helper()
	o := options(t, Endpoints{Temporal: s.Address, TemporalTLS: s.TLS, Namespace: Namespace})
	c, err := client.Dial(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	var steps atomic.Int64
	w := worker.New(c, "count", worker.Options{})
	w.RegisterWorkflow(count)
	w.RegisterActivityWithOptions(func(_ context.Context, i int) (int, error) {
		steps.Add(1)
		return i, nil
	}, activity.RegisterOptions{Name: "step"})
	if err := w.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.Stop)
	return c, &steps
}

func TestTemporal(t *testing.T) {
	t.Parallel()
	dir := openDir(t)
	p := testPostgres(t, filepath.Join(dir, "postgres"), false)
	begin := time.Now()
	s := testTemporal(t, filepath.Join(dir, "temporal"), p)
	t.Logf("new Temporal in %v", time.Since(begin))
	begin = time.Now()
	again := testTemporal(t, filepath.Join(dir, "temporal"), p)
	t.Logf("adopted in %v", time.Since(begin))
	if s.Adopted || !again.Adopted || again.Pid != s.Pid || again.Address != s.Address {
		t.Errorf("first %+v, second %+v: want the second to adopt the first", s, again)
	}
	checkNoPassword(t, s.Pid)
	checkRefuses(t, s)

	c, steps := counter(t, s)
	run, err := c.ExecuteWorkflow(t.Context(), client.StartWorkflowOptions{TaskQueue: "count",
		TypedSearchAttributes: temporal.NewSearchAttributes(
			temporal.NewSearchAttributeKeyKeyword("RunID").ValueSet("r1"),
			temporal.NewSearchAttributeKeyKeyword("RunStatus").ValueSet("running"),
			temporal.NewSearchAttributeKeyKeyword("Stage").ValueSet("sft"))}, count, 100)
	if err != nil {
		t.Fatal(err)
	}
	kill(t, steps, 10, s.Pid)
	begin = time.Now()
	next := testTemporal(t, filepath.Join(dir, "temporal"), p)
	t.Logf("Temporal back in %v", time.Since(begin))
	if next.Adopted || next.Address != s.Address {
		t.Errorf("after the kill: %+v, want a new server on %s", next, s.Address)
	}
	kill(t, steps, 40, p.Pid)
	begin = time.Now()
	testPostgres(t, filepath.Join(dir, "postgres"), false)
	t.Cleanup(func() { _ = next.Stop() }) // before Postgres
	t.Logf("Postgres back in %v", time.Since(begin))

	var sum int
	if err := run.Get(t.Context(), &sum); err != nil || sum != 100*99/2 {
		t.Errorf("the workflow gave %d, %v; want %d", sum, err, 100*99/2)
	}
	t.Logf("done %v after the last kill, in %d steps", time.Since(begin), steps.Load())

	// as if its starter had been killed at once
	if err := os.Remove(filepath.Join(dir, "temporal", "temporal.json")); err != nil {
		t.Fatal(err)
	}
	last := testTemporal(t, filepath.Join(dir, "temporal"), p)
	if runtime.GOOS == "linux" && (last.Adopted || isAlive(next.Pid)) {
		t.Errorf("server %d that nobody knew of was left beside %+v", next.Pid, last)
	}
	guarded := testCertified(t, dir, p, last)
	if err := guarded.Stop(); err != nil { // before Postgres
		t.Error(err)
	}
}

// testCertified comes to a server that an older trimtab has started, in plain
// text, and then to a folder whose certificates were lost.
func testCertified(t *testing.T, dir string, p *Postgres, s *Temporal) *Temporal {
	t.Helper()
	file := filepath.Join(dir, "temporal", "temporal.json")
	for _, change := range []func() error{
		func() error {
			var state temporalState
			err := readJSON(file, &state)
			state.Authority = ""
			return errors.Join(err, writeJSON(file, state))
		},
		func() error { return os.RemoveAll(filepath.Join(dir, "temporal", "tls")) },
	} {
		if err := change(); err != nil {
			t.Fatal(err)
		}
		next := testTemporal(t, filepath.Join(dir, "temporal"), p)
		if next.Adopted || next.Pid == s.Pid || isAlive(s.Pid) {
			t.Errorf("%+v was adopted or lives on beside %+v: it asks for other certificates, or for none", s, next)
		}
		counter(t, next)
		s = next
	}
	return s
}

// kill ends a process by SIGKILL once so many steps have been done.
func kill(t testing.TB, steps *atomic.Int64, after int64, pid int) {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); steps.Load() < after; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%d steps after 30 s, want %d", steps.Load(), after)
		}
	}
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
}

// fetchOptions are those of a client of e.
func options(t testing.TB, e Endpoints) client.Options {
	t.Helper()
	o, err := e.TemporalOptions()
	if err != nil {
		t.Fatal(err)
	}
	o.Logger = log.NewStructuredLogger(slog.New(slog.DiscardHandler))
	return o
}

// checkRefuses comes without a certificate, and to a server that the authority
// does not vouch for; who is refused does not wait.
func checkRefuses(t testing.TB, s *Temporal) {
	t.Helper()
	other, _, err := certificates(filepath.Join(t.TempDir(), "tls"), time.Now())
	if err != nil {
		t.Fatal(err)
	}
	for what, files := range map[string]TLS{
		"certificate required":                    {CA: s.TLS.CA},
		"certificate signed by unknown authority": {CA: other.CA, Cert: s.TLS.Cert, Key: s.TLS.Key},
	} {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		err := RegisterNamespace(ctx, options(t, Endpoints{Temporal: s.Address, TemporalTLS: files,
			Namespace: Namespace}))
		if err == nil || ctx.Err() != nil || !strings.Contains(err.Error(), what) {
			t.Errorf("%v, want at once %q", err, what)
		}
		cancel()
	}
}

// What somebody sets for Temporal's role, its databases or all roles changes nothing for Temporal.
func TestTemporalWithOddSettings(t *testing.T) {
	t.Parallel()
	dir := openDir(t)
	p := testPostgres(t, filepath.Join(dir, "postgres"), true)
	conn, err := pgx.Connect(t.Context(), p.URL)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	odd := func(whom string) {
		t.Helper()
		for _, setting := range []string{"statement_timeout = '1ms'", "lock_timeout = '1ms'",
			"default_transaction_read_only = on", "search_path = nowhere",
			"bytea_output = escape", "standard_conforming_strings = off", "TimeZone = 'Asia/Tokyo'"} {
			if _, err := conn.Exec(t.Context(), "alter "+whom+" set "+setting); err != nil {
				t.Fatal(err)
			}
		}
	}
	if _, err := conn.Exec(t.Context(), "create role "+temporalRole); err != nil {
		t.Fatal(err)
	}
	odd("role " + temporalRole)
	s := testTemporal(t, filepath.Join(dir, "temporal"), p)
	for _, database := range []string{"temporal", "temporal_visibility"} {
		odd("role " + temporalRole + " in database " + database)
		odd("database " + database)
	}
	if err := s.Stop(); err != nil {
		t.Fatal(err)
	}
	s = testTemporal(t, filepath.Join(dir, "temporal"), p)
	c, _ := counter(t, s)
	run, err := c.ExecuteWorkflow(t.Context(), client.StartWorkflowOptions{TaskQueue: "count"}, count, 3)
	var sum int
	if err == nil {
		err = run.Get(t.Context(), &sum)
	}
	if err != nil {
		t.Error(err)
	}
	if left := query[int](t, p.URL, "select count(*) from pg_db_role_setting where setrole = $1::regrole",
		temporalRole); left > 0 {
		t.Errorf("the role has %d lists of settings", left)
	}
}

func checkNoPassword(t testing.TB, pid int) {
	t.Helper()
	if args, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid)); err == nil &&
		strings.Contains(string(args), "postgres://") {
		t.Errorf("every user of the machine can read the password: %q", args)
	}
}
