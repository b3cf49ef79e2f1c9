// Package devstacktest gives tests a real Postgres and a real Temporal: one of
// each for a test process, started by the first test that asks, in a folder
// that is removed at the end. A package that uses it has
//
//	func TestMain(m *testing.M) { devstacktest.Main(m) }
//
// The servers end with the test process, however it ends (Linux). Postgres
// forgoes durability here, so kill it only where losing data is expected.
package devstacktest

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

// stack is what this test process has started.
var stack struct {
	sync.Mutex
	dir      string
	postgres *devstack.Postgres
	temporal *devstack.Temporal
}

// Main runs the tests, ends the servers and removes their folder.
func Main(m *testing.M) {
	code := m.Run()
	if err := Stop(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = max(code, 1)
	}
	os.Exit(code)
}

// Postgres gives the endpoints of a Postgres. Its database is shared by all
// tests of the process: make your own on it. Nothing is migrated.
func Postgres(t testing.TB) devstack.Endpoints {
	t.Helper()
	return endpoints(t, false)
}

// Start gives the endpoints of a Postgres and a Temporal. The first call on a
// machine may have to build the Temporal server, which takes some minutes.
func Start(t testing.TB) devstack.Endpoints {
	t.Helper()
	return endpoints(t, true)
}

func endpoints(t testing.TB, temporal bool) devstack.Endpoints {
	t.Helper()
	stack.Lock()
	defer stack.Unlock()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Minute)
	defer cancel()
	err := startPostgres(ctx)
	if err == nil && temporal {
		err = startTemporal(ctx)
	}
	if err != nil {
		t.Fatalf("start servers for tests: %v", err)
	}
	e, err := devstack.EndpointsOf(stack.dir, stack.postgres, stack.temporal)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

const stackPrefix = "trimtab-test-stack-"

func startPostgres(ctx context.Context) (err error) {
	if stack.postgres != nil {
		return nil
	}
	if stack.dir == "" {
		removeStaleStacks()
		stack.dir, err = os.MkdirTemp("", stackPrefix+strconv.Itoa(os.Getpid())+"-")
		if err := errors.Join(err, os.Chmod(stack.dir, 0o711)); err != nil { // Postgres may run as another user
			return err
		}
	}
	stack.postgres, err = devstack.StartPostgres(ctx, devstack.PostgresOptions{
		Dir: filepath.Join(stack.dir, "postgres"), Fast: true, DieWithParent: true, Log: os.Stderr})
	return err
}

// Stop ends the servers and removes their folder; Main does it, unless a TestMain has more to end.
func Stop() error {
	stack.Lock()
	defer stack.Unlock()
	var errs []error
	if stack.temporal != nil {
		errs = append(errs, stack.temporal.Stop())
	}
	if stack.postgres != nil {
		errs = append(errs, stack.postgres.Stop())
	}
	if stack.dir != "" {
		errs = append(errs, os.RemoveAll(stack.dir))
	}
	stack.dir, stack.postgres, stack.temporal = "", nil, nil
	return errors.Join(errs...)
}

// removeStaleStacks removes the folders of test processes that were killed.
func removeStaleStacks() {
	dirs, _ := filepath.Glob(filepath.Join(os.TempDir(), stackPrefix+"*"))
	for _, dir := range dirs {
		owner, _, _ := strings.Cut(strings.TrimPrefix(filepath.Base(dir), stackPrefix), "-")
		pid, err := strconv.Atoi(owner)
		if err == nil && errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) {
			removeSocket(filepath.Join(dir, "postgres", "postgres.json"))
			_ = os.RemoveAll(dir)
		}
	}
}

// removeSocket removes the folder of the socket of a server that is gone; it is kept elsewhere, for its short path.
func removeSocket(stateFile string) {
	var state struct {
		Socket string `json:"socket"`
	}
	raw, err := os.ReadFile(stateFile)
	if err == nil && json.Unmarshal(raw, &state) == nil && strings.HasPrefix(filepath.Base(state.Socket), "trimtab-") {
		_ = os.Remove(state.Socket) // if it is empty
	}
}

// RestartPostgres stops Postgres and starts it again at the same address,
// running down in between, for tests of what a client does meanwhile. The
// tests of a package that uses it must not run in parallel.
func RestartPostgres(t testing.TB, down func()) {
	t.Helper()
	stack.Lock()
	defer stack.Unlock()
	if stack.postgres == nil {
		t.Fatal("no server to restart: call Postgres first")
	}
	before := stack.postgres.URL
	if err := stack.postgres.Stop(); err != nil {
		t.Fatal(err)
	}
	down()
	stack.postgres = nil
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	if err := startPostgres(ctx); err != nil {
		t.Fatal(err)
	}
	if stack.postgres.URL != before {
		t.Fatalf("Postgres came back at another address")
	}
}
