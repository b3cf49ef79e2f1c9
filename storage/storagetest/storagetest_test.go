package storagetest

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/trimtab/trimtab/storage"
)

func TestMain(m *testing.M) {
	code := m.Run()
	dir := server.dir
	if err := Stop(); err != nil {
		panic(err)
	}
	if _, err := os.Stat(dir); dir != "" && !os.IsNotExist(err) {
		panic("the folder of the server is still there")
	}
	os.Exit(code)
}

func TestEachTestHasADatabaseOfItsOwn(t *testing.T) {
	t.Parallel()
	a, b := New(t), New(t)
	ctx := t.Context()
	if err := a.CreateRun(ctx, storage.Run{ID: "run-one", Name: "one"}); err != nil {
		t.Fatal(err)
	}
	for s, want := range map[*storage.Store]int{a: 1, b: 0} {
		runs, err := s.Runs(ctx, 0)
		if err != nil || len(runs) != want {
			t.Errorf("got %d runs (%v), want %d", len(runs), err, want)
		}
	}
}

func TestOnAnotherServer(t *testing.T) {
	t.Parallel()
	owner, err := serverURL()
	if err != nil {
		t.Fatal(err)
	}
	a := On(t, owner)
	for _, url := range []string{a.Owner, a.App, a.Auditor} {
		if err := Open(t, url).Ping(t.Context()); err != nil {
			t.Error(err)
		}
	}
}

func TestDatabaseIsDroppedWithTheTest(t *testing.T) {
	t.Parallel()
	var url string
	t.Run("inner", func(t *testing.T) { url = URLs(t).Owner })
	if err := execute(t.Context(), url, "select 1"); err == nil {
		t.Error("the database of a finished test still answers")
	}
}

// What a killed test process leaves is removed by the next one; what a living one uses stays.
func TestSweep(t *testing.T) {
	t.Parallel()
	gone := exec.Command("true")
	if err := gone.Run(); err != nil {
		t.Skip(err)
	}
	socket, err := os.MkdirTemp("", "trimtab-")
	if err != nil {
		t.Fatal(err)
	}
	dead := filepath.Join(os.TempDir(), fmt.Sprintf("%s%d-dead", prefix, gone.Process.Pid))
	alive := filepath.Join(os.TempDir(), fmt.Sprintf("%s%d-alive", prefix, os.Getpid()))
	for _, dir := range []string{dead, alive} {
		if err := os.MkdirAll(filepath.Join(dir, "postgres"), 0o711); err != nil {
			t.Fatal(err)
		}
		defer os.RemoveAll(dir)
	}
	state := fmt.Sprintf(`{"port": 1, "socket": %q}`, socket)
	if err := os.WriteFile(filepath.Join(dead, "postgres", "postgres.json"), []byte(state), 0o600); err != nil {
		t.Fatal(err)
	}
	sweep()
	for dir, want := range map[string]bool{dead: false, socket: false, alive: true} {
		if _, err := os.Stat(dir); (err == nil) != want {
			t.Errorf("%s after the sweep: %v", dir, err)
		}
	}
}
