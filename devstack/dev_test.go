package devstack

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/trimtab/trimtab"
)

func ensure(t testing.TB, dir, idle string, change func(*EnsureOptions)) Endpoints {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Minute) // Temporal may have to be built
	defer cancel()
	o := EnsureOptions{Dir: dir, Args: helper("dev", dir, idle), Log: t.Output()}
	if change != nil {
		change(&o)
	}
	begin := time.Now()
	e, err := Ensure(ctx, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("ensured in %v", time.Since(begin))
	return e
}

// pids are those of dev, worker, Temporal and Postgres.
func pids(t testing.TB, dir string) (p [4]int) {
	t.Helper()
	var worker workerState
	var temporal temporalState
	if err := errors.Join(readJSON(filepath.Join(dir, "worker.json"), &worker),
		readJSON(filepath.Join(dir, "temporal", "temporal.json"), &temporal)); err != nil {
		t.Fatal(err)
	}
	info, _ := Running(dir)
	p[0], p[1], p[2] = info.Pid, worker.Pid, temporal.Pid
	c, err := openCluster(PostgresOptions{Dir: filepath.Join(dir, "postgres")})
	if err != nil {
		t.Fatal(err)
	}
	p[3], _ = c.readLockFile()
	return p
}

func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(60 * time.Second); !ok(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not within a minute: %s", what)
		}
	}
}

func isAlive(pid int) bool {
	_, ok := startID(pid)
	return ok
}

func TestDev(t *testing.T) {
	t.Parallel()
	dir := openDir(t)
	t.Cleanup(func() {
		if err := Stop(context.Background(), dir); err != nil {
			t.Error(err)
		}
	})
	e := ensure(t, dir, "10m", nil)
	if e.Temporal == "" || e.Namespace != Namespace || !strings.Contains(e.AppURL, AppRole+":"+e.AppPassword) {
		t.Errorf("endpoints %+v", e)
	}
	query[int](t, e.PostgresURL, `select count(*) from migrated`)
	if st, err := os.Stat(filepath.Join(dir, "dev.json")); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("dev.json holds passwords and has mode %v, %v", st.Mode(), err)
	}
	first := pids(t, dir)
	if again := ensure(t, dir, "10m", nil); again != e || pids(t, dir) != first {
		t.Errorf("second client got %+v, processes %v; want those of the first, %v", again, pids(t, dir), first)
	}
	err := RunDev(t.Context(), DevOptions{Dir: dir})
	if te, ok := errors.AsType[*trimtab.Error](err); !ok || te.Type != "dev_running" || te.Class != trimtab.Conflict {
		t.Errorf("a second dev process: %v", err)
	}
	for _, c := range DoctorChecks(t.Context(), dir, nil) {
		if !c.OK {
			t.Errorf("doctor: %+v", c)
		}
	}
	t.Run("restarts what dies", func(t *testing.T) { devRestarts(t, dir, e) })
	t.Run("is killed", func(t *testing.T) { devKilled(t, dir, e) })
	t.Run("another build", func(t *testing.T) { devReplaced(t, dir) })
	t.Run("stop", func(t *testing.T) { devStopped(t, dir) })
}

// devRestarts kills worker, Temporal and Postgres, one after the other.
func devRestarts(t *testing.T, dir string, e Endpoints) {
	for i, name := range []string{"dev", "worker", "Temporal", "Postgres"} {
		if i == 0 {
			continue
		}
		before := pids(t, dir)
		if err := syscall.Kill(before[i], syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		begin := time.Now()
		eventually(t, name+" is back", func() bool {
			now := pids(t, dir)[i]
			return now != before[i] && isAlive(now)
		})
		t.Logf("%s back in %v", name, time.Since(begin))
	}
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	defer cancel()
	if err := retryUntil(ctx, 50*time.Millisecond,
		func() error { return RegisterNamespace(ctx, options(t, e)) }); err != nil {
		t.Error(err)
	}
	eventually(t, "Postgres answers", func() bool {
		p, err := runningPostgres(ctx, filepath.Join(dir, "postgres"))
		return err == nil && p != nil
	})
	if now := ensure(t, dir, "10m", nil); now != e {
		t.Errorf("after the restarts %+v, want the same addresses %+v", now, e)
	}
}

// devKilled kills dev alone: the next one adopts all that it left.
func devKilled(t *testing.T, dir string, e Endpoints) {
	before := pids(t, dir)
	if err := syscall.Kill(before[0], syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	eventually(t, "dev is gone", func() bool { return !isAlive(before[0]) })
	now := ensure(t, dir, "10m", nil)
	after := pids(t, dir)
	if after[0] == before[0] || [3]int(after[1:]) != [3]int(before[1:]) || now != e {
		t.Errorf("processes were %v and are %v: want a new dev that has adopted the others", before, after)
	}
}

// devReplaced comes with another executable, once with a run open and once without.
func devReplaced(t *testing.T, dir string) {
	before := pids(t, dir)
	other := filepath.Join(openDir(t), "other")
	self, err := os.ReadFile(os.Args[0])
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(other, append(self, 0), 0o755); err != nil {
		t.Fatal(err)
	}
	for open := 1; open >= 0; open-- {
		var said strings.Builder
		ensure(t, dir, "1s", func(o *EnsureOptions) {
			o.Executable, o.Log = other, io.MultiWriter(&said, o.Log)
			o.OpenRuns = func(context.Context, Endpoints) (int, error) { return open, nil }
		})
		if replaced := pids(t, dir) != before; replaced == (open == 1) ||
			!strings.Contains(said.String(), "another build") {
			t.Errorf("with %d open runs: replaced %v, having said %q", open, replaced, said.String())
		}
	}
	t.Run("idle", func(t *testing.T) { devIdle(t, dir) }) // its idle time is 1 s
}

func devIdle(t *testing.T, dir string) {
	run := filepath.Join(dir, "open-run")
	if err := os.WriteFile(run, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	dev := pids(t, dir)
	time.Sleep(3 * time.Second)
	if now := pids(t, dir); now != dev {
		t.Fatalf("ended with a run open: %v, was %v", now, dev)
	}
	if err := os.Remove(run); err != nil {
		t.Fatal(err)
	}
	eventually(t, "dev has ended for want of anything to do", func() bool { return !isAlive(dev[0]) })
	for _, pid := range dev {
		if isAlive(pid) {
			t.Errorf("processes %v: %d outlives the dev process", dev, pid)
		}
	}
}

// devStopped starts once more and asks dev to end, and then does so after dev was killed.
func devStopped(t *testing.T, dir string) {
	for _, killed := range []bool{false, true} {
		e := ensure(t, dir, "10m", nil)
		before := pids(t, dir)
		said := filepath.Join(dir, "worker-said")
		eventually(t, "the worker listens", func() bool {
			b, err := os.ReadFile(said)
			return err == nil && string(b) == "listening"
		})
		if killed { // and before it had written down whom it had started
			if runtime.GOOS == "linux" {
				os.Remove(filepath.Join(dir, "worker.json"))
			}
			if err := syscall.Kill(before[0], syscall.SIGKILL); err != nil {
				t.Fatal(err)
			}
		}
		begin := time.Now()
		if err := Stop(t.Context(), dir); err != nil {
			t.Fatal(err)
		}
		t.Logf("stopped in %v", time.Since(begin))
		for _, pid := range before {
			if isAlive(pid) {
				t.Errorf("killed %v: %d of %v is alive after stop", killed, pid, before)
			}
		}
		if b, err := os.ReadFile(said); err != nil || string(b) != "ended by SIGTERM" {
			t.Errorf("the worker was not asked to end: %v, %s", err, b)
		}
		if _, ok := Running(dir); ok {
			t.Error("running after stop")
		}
		if e.PostgresURL == "" {
			t.Error("no endpoints")
		}
	}
}

// TestEnsureTogether has two clients come at once to a folder where nothing
// runs, and then a dev process that is killed while it starts.
func TestEnsureTogether(t *testing.T) {
	t.Parallel()
	dir := openDir(t)
	t.Cleanup(func() {
		if err := Stop(context.Background(), dir); err != nil {
			t.Error(err)
		}
	})
	go func() { // killed at some instant of its start
		for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
			if _, err := os.Stat(filepath.Join(dir, "postgres", "data")); err != nil {
				continue
			}
			var info Info
			if readJSON(filepath.Join(dir, "dev.pid"), &info) == nil {
				_ = syscall.Kill(info.Pid, syscall.SIGKILL)
			}
			return
		}
	}()
	if _, err := Ensure(t.Context(), EnsureOptions{Dir: dir, Args: helper("dev", dir, "10m")}); err == nil {
		t.Error("a dev process that was killed while it started was called ready")
	}
	found := make(chan Endpoints, 2)
	for range cap(found) {
		go func() {
			e, err := Ensure(t.Context(), EnsureOptions{Dir: dir, Args: helper("dev", dir, "10m")})
			if err != nil {
				t.Error(err)
			}
			found <- e
		}()
	}
	if a, b := <-found, <-found; a != b || a.Temporal == "" {
		t.Errorf("two clients were given %+v and %+v", a, b)
	}
}

func TestEnsureFails(t *testing.T) {
	t.Parallel()
	_, err := Ensure(t.Context(), EnsureOptions{Dir: openDir(t), Args: helper("clown")})
	e, ok := errors.AsType[*trimtab.Error](err)
	if !ok || e.Type != "dev_start" || !strings.Contains(e.Message, "clown") {
		t.Errorf("a dev process that cannot start: %v, want what it said", err)
	}
}

func TestStopNothing(t *testing.T) {
	t.Parallel()
	if err := Stop(t.Context(), filepath.Join(t.TempDir(), "absent")); err != nil {
		t.Error(err)
	}
}

func TestDoctorNothing(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "absent")
	for _, c := range DoctorChecks(t.Context(), dir, nil) {
		if !c.OK || c.Detail == "" {
			t.Errorf("doctor, on a folder that is not there: %+v", c)
		}
	}
	if _, err := os.Stat(dir); err == nil {
		t.Error("doctor made the data folder")
	}
}

func TestDoctorWrongMajor(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	data := filepath.Join(dir, "postgres", "data")
	if err := os.MkdirAll(data, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(data, "PG_VERSION"), []byte("9\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := writeJSON(filepath.Join(dir, "postgres", "postgres.json"), clusterState{Port: 20000}); err != nil {
		t.Fatal(err)
	}
	if c := DoctorChecks(t.Context(), dir, nil)[0]; c.OK || !strings.Contains(c.Remedy, "postgresql") {
		t.Errorf("doctor, on data of Postgres 9: %+v", c)
	}
}
