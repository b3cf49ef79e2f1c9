package devstack

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// stopped ends what runs on a folder when the test ends.
func stopped(t testing.TB, dir string) string {
	t.Helper()
	t.Cleanup(func() {
		if err := Stop(context.Background(), dir); err != nil {
			t.Error(err)
		}
	})
	return dir
}

func copyTree(t testing.TB, from, to string) {
	t.Helper()
	if out, err := exec.Command("cp", "-a", from, to).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
}

// alive fails the test unless all of these run.
func alive(t testing.TB, what string, ids [4]int) {
	t.Helper()
	for _, pid := range ids {
		if !isAlive(pid) {
			t.Errorf("%s: process %d of %v has ended", what, pid, ids)
		}
	}
}

// Three copies of one data folder are used at the same moment, three times. Each
// has servers of its own, on its own data.
func TestCopiesAtOnce(t *testing.T) {
	t.Parallel()
	top := openDir(t)
	first := stopped(t, filepath.Join(top, "0"))
	ensure(t, first, "10m", nil)
	if err := Stop(t.Context(), first); err != nil {
		t.Fatal(err)
	}
	for round := range 3 {
		dirs := []string{first}
		for n := 1; n < 3; n++ {
			dir := stopped(t, filepath.Join(top, strconv.Itoa(10*(round+1)+n)))
			copyTree(t, first, dir)
			dirs = append(dirs, dir)
		}
		ends := make([]Endpoints, len(dirs))
		var all sync.WaitGroup
		for i, dir := range dirs {
			all.Go(func() {
				e, err := Ensure(t.Context(), EnsureOptions{Dir: dir, Args: helper("dev", dir, "10m"), Log: t.Output()})
				if err != nil {
					t.Error(err)
				}
				ends[i] = e
			})
		}
		all.Wait()
		if t.Failed() {
			return
		}
		used := map[string]bool{}
		for i, e := range ends {
			if used[e.PostgresURL] || used[e.Temporal] {
				t.Errorf("round %d: %s shares a server: %+v", round, dirs[i], e)
			}
			used[e.PostgresURL], used[e.Temporal] = true, true
			if where := query[string](t, e.PostgresURL, `show data_directory`); where != filepath.Join(dirs[i],
				"postgres", "data") {
				t.Errorf("round %d: %s works on %s", round, dirs[i], where)
			}
		}
		one, other := pids(t, dirs[0]), pids(t, dirs[2])
		if err := Stop(t.Context(), dirs[1]); err != nil {
			t.Error(err)
		}
		alive(t, "after the end of a copy", one)
		alive(t, "after the end of a copy", other)
		for _, dir := range dirs {
			if err := Stop(t.Context(), dir); err != nil {
				t.Error(err)
			}
		}
	}
}

// A copy that was made while the original ran names the original's processes:
// they are neither adopted nor ended.
func TestCopyOfRunning(t *testing.T) {
	t.Parallel()
	top := openDir(t)
	dir := stopped(t, filepath.Join(top, "original"))
	e := ensure(t, dir, "10m", nil)
	before := pids(t, dir)
	for name, old := range map[string]bool{"copy": false, "old copy": true} {
		twin := stopped(t, filepath.Join(top, name))
		copyTree(t, dir, twin)
		if old {
			forgetFolders(t, twin)
		}
		if info, ok := Running(twin); ok {
			t.Errorf("%s: runs as %+v before it was started", name, info)
		}
		if err := Stop(t.Context(), twin); err != nil {
			t.Error(err)
		}
		alive(t, "after stop of the "+name, before)
		other := ensure(t, twin, "10m", nil)
		if other.PostgresURL == e.PostgresURL || other.Temporal == e.Temporal {
			t.Errorf("%s: %+v, the original has %+v", name, other, e)
		}
		if now := pids(t, twin); now[0] == before[0] || now[1] == before[1] || now[2] == before[2] ||
			now[3] == before[3] {
			t.Errorf("%s: processes %v, the original has %v", name, now, before)
		}
		if err := Stop(t.Context(), twin); err != nil {
			t.Error(err)
		}
		alive(t, "after the end of the "+name, before)
	}
	if again := ensure(t, dir, "10m", nil); again != e || pids(t, dir) != before {
		t.Errorf("the original was %v at %+v and is %v at %+v", before, e, pids(t, dir), again)
	}
}

// forgetFolders makes the state files of a folder what they were before they named it.
func forgetFolders(t testing.TB, dir string) {
	t.Helper()
	for _, name := range []string{"dev.pid", "dev.json", "worker.json", "temporal/temporal.json",
		"postgres/postgres.json"} {
		var state map[string]any
		path := filepath.Join(dir, name)
		if err := readJSON(path, &state); err != nil || state == nil {
			t.Fatalf("%s: %v, %v", name, state, err)
		}
		delete(state, "folder")
		delete(state, "data")
		if err := writeJSON(path, state); err != nil {
			t.Fatal(err)
		}
	}
}

// A folder that is moved while nothing runs there is what it was.
func TestMovedFolder(t *testing.T) {
	t.Parallel()
	top := openDir(t)
	dir, moved := filepath.Join(top, "before"), stopped(t, filepath.Join(top, "after"))
	e := ensure(t, dir, "10m", nil)
	exec1(t, e.PostgresURL, `insert into migrated values (7)`)
	if err := Stop(t.Context(), dir); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(dir, moved); err != nil {
		t.Fatal(err)
	}
	after := ensure(t, moved, "10m", nil)
	if after.TemporalTLS.Digest != e.TemporalTLS.Digest {
		t.Error("moved: the certificates were made anew")
	}
	after.TemporalTLS, e.TemporalTLS = TLS{}, TLS{} // their files were moved as well
	if n := query[int](t, after.PostgresURL, `select n from migrated`); n != 7 || after != e {
		t.Errorf("moved: %d, %+v, was %+v", n, after, e)
	}
}

// What serves a folder ends with it, within seconds, and makes nothing anew.
func TestFolderGone(t *testing.T) {
	t.Parallel()
	for name, take := range map[string]func(dir string) error{
		"removed": os.RemoveAll,
		"moved":   func(dir string) error { return os.Rename(dir, dir+"-moved") },
		"replaced": func(dir string) error {
			if err := os.Rename(dir, dir+"-moved"); err != nil {
				return err
			}
			return os.Mkdir(dir, 0o711)
		},
		"unmarked": func(dir string) error { return os.Remove(filepath.Join(dir, markerFile)) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := filepath.Join(openDir(t), "data")
			ensure(t, dir, "10m", nil)
			ids := pids(t, dir)
			var socket clusterState
			if err := readJSON(filepath.Join(dir, "postgres", "postgres.json"), &socket); err != nil {
				t.Fatal(err)
			}
			begin := time.Now()
			for err := take(dir); err != nil; err = take(dir) { // a file may be written while they are removed
				if time.Since(begin) > 30*time.Second {
					t.Fatal(err)
				}
			}
			for i, what := range []string{"dev", "the worker", "Temporal", "Postgres"} {
				eventually(t, what+" has ended", func() bool { return !isAlive(ids[i]) })
			}
			t.Logf("all ended after %v", time.Since(begin))
			time.Sleep(time.Second)
			entries, err := os.ReadDir(dir)
			if name == "removed" || name == "moved" {
				if err == nil {
					t.Errorf("there is a folder again, with %v", entries)
				}
				// the worker of these tests writes what it does
			} else if name == "replaced" && (err != nil || len(entries) > 1) {
				t.Errorf("in the new folder there are %v, %v", entries, err)
			}
			if _, err := os.Stat(socket.Socket); err == nil {
				t.Errorf("the folder of the socket is left: %s", socket.Socket)
			}
		})
	}
}

// Whoever looks for the dev process finds it though its files are gone.
func TestDevFilesGone(t *testing.T) {
	t.Parallel()
	dir := stopped(t, openDir(t))
	e := ensure(t, dir, "10m", nil)
	before := pids(t, dir)
	for _, names := range [][]string{{"dev.json"}, {"dev.pid"}, {"dev.json", "dev.pid"}} {
		for _, name := range names {
			if err := os.Remove(filepath.Join(dir, name)); err != nil {
				t.Fatal(err)
			}
		}
		if again := ensure(t, dir, "10m", nil); again != e || pids(t, dir) != before {
			t.Errorf("without %v: %+v with %v, was %+v with %v", names, again, pids(t, dir), e, before)
		}
		eventually(t, "both are there again", func() bool {
			_, json := os.Stat(filepath.Join(dir, "dev.json"))
			_, pid := os.Stat(filepath.Join(dir, "dev.pid"))
			return json == nil && pid == nil
		})
	}
	for _, name := range []string{"dev.json", "dev.pid"} {
		if err := os.Remove(filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	if err := Stop(t.Context(), dir); err != nil || isAlive(before[0]) {
		t.Errorf("stop without the files: %v; alive: %v", err, isAlive(before[0]))
	}
}

// What is in the place of a file of the folder is named at once.
func TestOddFiles(t *testing.T) {
	t.Parallel()
	dir := openDir(t)
	if _, err := ClaimFolder(dir); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"client", "start.lock", "dev.lock", "dev.pid", "dev.log", "postgres/postgres.json",
		"postgres/postgres.password", "postgres/postgres.lock", "bin"} {
		path := filepath.Join(dir, name)
		_ = os.Mkdir(filepath.Dir(path), 0o711)
		_ = os.RemoveAll(path) // an earlier round may have made the file
		if err := syscall.Mkfifo(path, 0o600); err != nil {
			t.Fatal(err)
		}
		ended := make(chan error, 2)
		go func() {
			_, err := Ensure(t.Context(), EnsureOptions{Dir: dir, Args: helper("dev", dir, "10m")})
			ended <- err
			DoctorChecks(t.Context(), dir, nil)
			_ = Stop(t.Context(), dir)
			ended <- nil
		}()
		for i := range 2 {
			select {
			case err := <-ended:
				if i == 0 && (err == nil || !strings.Contains(err.Error(), filepath.Base(name))) {
					t.Errorf("a FIFO in the place of %s: %v", name, err)
				}
			case <-time.After(time.Minute):
				t.Fatalf("a FIFO in the place of %s: still waiting", name)
			}
		}
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
	}
}
