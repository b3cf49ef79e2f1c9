package storagetest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/trimtab/trimtab/devstack"
)

// prefix of the folder of a test process; its process id follows.
const prefix = "trimtab-storagetest-"

// server is the one Postgres of this test process.
var server struct {
	sync.Mutex
	dir      string
	postgres *devstack.Postgres
}

// Main runs the tests, stops the server and removes its folder.
func Main(m *testing.M) {
	code := m.Run()
	if err := Stop(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = max(code, 1)
	}
	os.Exit(code)
}

// Stop stops the server, if one was started, and removes its folder; for a TestMain that has more to stop.
func Stop() error {
	server.Lock()
	defer server.Unlock()
	var err error
	if server.postgres != nil {
		err = server.postgres.Stop()
	}
	if server.dir != "" {
		err = errors.Join(err, os.RemoveAll(server.dir))
	}
	server.postgres, server.dir = nil, ""
	made.Lock()
	made.template = false
	made.Unlock()
	return err
}

// Restart stops the server of this process and starts it again at the same
// address, between running down, for tests of what a pool does meanwhile. The
// tests of a package that uses it must not run in parallel.
func Restart(t testing.TB, down func()) {
	t.Helper()
	server.Lock()
	defer server.Unlock()
	if server.postgres == nil {
		t.Fatal("no server to restart: call New first")
	}
	before := server.postgres.URL
	if err := server.postgres.Stop(); err != nil {
		t.Fatal(err)
	}
	down()
	if err := start(); err != nil {
		t.Fatal(err)
	}
	if server.postgres.URL != before {
		t.Fatalf("Postgres came back at another address")
	}
}

// serverURL is the address of this process's Postgres, as its owner; the first call starts it.
func serverURL() (string, error) {
	server.Lock()
	defer server.Unlock()
	if server.postgres == nil {
		if err := makeDir(); err != nil {
			return "", err
		}
		if err := start(); err != nil {
			return "", err
		}
	}
	return server.postgres.URL, nil
}

func start() (err error) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	server.postgres, err = devstack.StartPostgres(ctx, devstack.PostgresOptions{
		Dir: filepath.Join(server.dir, "postgres"), Fast: true, DieWithParent: true, Log: os.Stderr})
	return err
}

// makeDir makes a folder that Postgres, which may run as another user, can enter.
func makeDir() (err error) {
	sweep()
	server.dir, err = os.MkdirTemp("", prefix+strconv.Itoa(os.Getpid())+"-")
	if err != nil {
		return err
	}
	return os.Chmod(server.dir, 0o711)
}

// sweep removes the folders of test processes that were killed.
func sweep() {
	dirs, _ := filepath.Glob(filepath.Join(os.TempDir(), prefix+"*"))
	for _, dir := range dirs {
		owner, _, _ := strings.Cut(strings.TrimPrefix(filepath.Base(dir), prefix), "-")
		pid, err := strconv.Atoi(owner)
		if err == nil && errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) {
			removeSocket(filepath.Join(dir, "postgres", "postgres.json"))
			_ = os.RemoveAll(dir)
		}
	}
}

// removeSocket removes the folder of the socket of a server that is gone; devstack keeps it elsewhere, for its short path.
func removeSocket(stateFile string) {
	var state struct {
		Socket string `json:"socket"`
	}
	raw, err := os.ReadFile(stateFile)
	if err == nil && json.Unmarshal(raw, &state) == nil && strings.HasPrefix(filepath.Base(state.Socket), "trimtab-") {
		_ = os.Remove(state.Socket) // if it is empty
	}
}
