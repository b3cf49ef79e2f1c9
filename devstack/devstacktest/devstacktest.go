// Package devstacktest gives tests a real Postgres and a real Temporal: one of
// each for a test process, started by the first test that needs it, in a
// temporary folder that is removed at the end. A package that uses it has
//
//	func TestMain(m *testing.M) { devstacktest.Main(m) }
//
// The servers end with the test process, however it ends (Linux). Postgres runs
// without fsync here, so kill it only where losing data is expected.
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

// stack is what this test process has started. Its lock serialises the tests that
// start or restart servers.
var stack struct {
	sync.Mutex
	// dir is the temporary folder; empty before the first start.
	dir      string
	postgres *devstack.Postgres
	temporal *devstack.Temporal
}

// Main runs the tests, stops the servers, removes their folder, and exits with
// the tests' exit code, or 1 if the servers could not be stopped.
func Main(m *testing.M) {
	code := m.Run()
	if err := Stop(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = max(code, 1)
	}
	os.Exit(code)
}

// Postgres returns the endpoints of a running Postgres. Its database is shared by
// all tests of the process, so a test that writes creates one of its own
// (storagetest does). Nothing is migrated.
func Postgres(t testing.TB) devstack.Endpoints {
	t.Helper()
	return endpoints(t, false)
}

// Start returns the endpoints of a running Postgres and Temporal. The first call
// on a machine may have to build the Temporal server, which takes some minutes.
func Start(t testing.TB) devstack.Endpoints {
	t.Helper()
	return endpoints(t, true)
}

// endpoints starts what is needed and not yet running. A failure ends the test.
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

// stackPrefix begins the names of the temporary folders; the id of the test
// process follows, so that removeStaleStacks knows whose they are.
const stackPrefix = "trimtab-test-stack-"

// startPostgres starts Postgres if it is not running. The caller holds the lock.
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
		Dir:           filepath.Join(stack.dir, "postgres"),
		Downloads:     downloads(),
		Fast:          true,
		DieWithParent: true,
		Log:           os.Stderr,
	})
	return err
}

// downloads lets the tests fetch Postgres on a machine that has none, as the
// program itself would: once, into the user's cache, under the same two settings.
// A value of TRIMTAB_OFFLINE that is no boolean forbids it too.
func downloads() *devstack.Downloads {
	value := os.Getenv("TRIMTAB_OFFLINE")
	offline, err := strconv.ParseBool(value)
	return &devstack.Downloads{Offline: offline || err != nil && value != "", Mirror: os.Getenv("TRIMTAB_MAVEN_MIRROR")}
}

// Stop stops the servers and removes their folder. Main calls it; only a TestMain
// that has more to do at its end calls it itself.
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
		// Signal 0 only asks whether the process exists.
		if err == nil && errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) {
			removeSocket(filepath.Join(dir, "postgres", "postgres.json"))
			_ = os.RemoveAll(dir)
		}
	}
}

// removeSocket removes the socket folder of a server that has ended. It is
// outside the server's folder, where its path is short enough.
func removeSocket(stateFile string) {
	var state struct {
		Socket string `json:"socket"`
	}
	raw, err := os.ReadFile(stateFile)
	if err == nil && json.Unmarshal(raw, &state) == nil && strings.HasPrefix(filepath.Base(state.Socket), "trimtab-") {
		_ = os.Remove(state.Socket) // only if empty
	}
}

// RestartPostgres stops Postgres, runs down, and starts Postgres again at the
// same address: for tests of what a client does while the server is away. The
// tests of a package that uses it must not run in parallel.
func RestartPostgres(t testing.TB, down func()) {
	t.Helper()
	stack.Lock()
	defer stack.Unlock()
	if stack.postgres == nil {
		t.Fatal("no server to restart: call Postgres first")
	}
	// Clients under test keep their addresses, so a server that had to take another port fails the test.
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
