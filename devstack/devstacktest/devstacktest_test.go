package devstacktest

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/trimtab/trimtab/devstack"
)

func TestMain(m *testing.M) { Main(m) }

func TestStart(t *testing.T) {
	alone := Postgres(t)
	if alone.PostgresURL == "" || alone.Temporal != "" {
		t.Errorf("Postgres alone: %+v", alone)
	}
	e := Start(t)
	if e.PostgresURL != alone.PostgresURL || e.AppPassword != alone.AppPassword || e.Temporal == "" {
		t.Errorf("with Temporal %+v, before %+v", e, alone)
	}
	if again := Start(t); again != e {
		t.Errorf("second call %+v, want %+v", again, e)
	}
	o, err := e.TemporalOptions()
	if err == nil {
		err = devstack.RegisterNamespace(context.Background(), o)
	}
	if err != nil {
		t.Error(err)
	}
	dir := stack.dir
	if err := Stop(); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(dir); err == nil {
		t.Error("left its folder")
	}
}

func TestSweep(t *testing.T) {
	cmd := exec.Command("true")
	if err := cmd.Run(); err != nil {
		t.Fatal(err)
	}
	t.Setenv("TMPDIR", t.TempDir())
	dead := filepath.Join(os.TempDir(), stackPrefix+strconv.Itoa(cmd.Process.Pid)+"-1")
	live := filepath.Join(os.TempDir(), stackPrefix+strconv.Itoa(os.Getpid())+"-1")
	for _, dir := range []string{dead, live} {
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	removeStaleStacks()
	if _, err := os.Stat(dead); err == nil {
		t.Error("the folder of a dead process is still there")
	}
	if _, err := os.Stat(live); err != nil {
		t.Error("the folder of a living process is gone")
	}
}
