package main

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/rogpeppe/go-internal/testscript"

	"github.com/trimtab/trimtab/devstack"
	"github.com/trimtab/trimtab/tensor"
)

// stack is one data folder for every script that needs Temporal. The first
// `trimtab` that needs them starts its servers, as it does for a user.
var stack embedded

type embedded struct {
	once sync.Once
	dir  string
	err  error
}

func (e *embedded) folder(t testing.TB) string {
	e.once.Do(func() {
		sweep()
		e.dir, e.err = os.MkdirTemp("", stackPrefix+strconv.Itoa(os.Getpid())+"-")
		if e.err == nil {
			e.err = os.Chmod(e.dir, 0o711) // Postgres may run as another user
		}
	})
	if e.err != nil {
		t.Fatal(e.err)
	}
	return e.dir
}

const stackPrefix = "trimtab-cmd-test-" // and the id of the test process

func (e *embedded) stop() {
	if e.dir != "" {
		end(e.dir)
	}
}

// close stops the servers of a folder and removes it.
func end(dir string) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	if err := devstack.Stop(ctx, filepath.Join(dir, "data")); err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
	_ = os.RemoveAll(dir)
}

// sweep ends what test processes that were killed have left.
func sweep() {
	dirs, _ := filepath.Glob(filepath.Join(os.TempDir(), stackPrefix+"*"))
	for _, dir := range dirs {
		owner, _, _ := strings.Cut(strings.TrimPrefix(filepath.Base(dir), stackPrefix), "-")
		if pid, err := strconv.Atoi(owner); err == nil && errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) {
			end(dir)
		}
	}
}

// until runs a command again and again until its output matches: until REGEXP COMMAND ARG…
func until(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: until REGEXP COMMAND ARG…")
	}
	want, err := regexp.Compile("(?m)" + args[0])
	ts.Check(err)
	for range 300 {
		err = ts.Exec(args[1], args[2:]...)
		if want.MatchString(ts.ReadFile("stdout")) {
			return
		}
		time.Sleep(200 * time.Millisecond)
	}
	ts.Fatalf("%q never printed %q (%v)", args[1:], args[0], err)
}

// condition is [kernels:NAME]: this processor and build have them.
func condition(cond string) (bool, error) {
	name, ok := strings.CutPrefix(cond, "kernels:")
	if !ok {
		return false, fmt.Errorf("unknown condition %q", cond)
	}
	return slices.Contains(tensor.Implementations(), name), nil
}

// Scripts of testdata/stack use the embedded servers, as `trimtab align` on a clean machine does.
func TestStackScripts(t *testing.T) {
	if testing.Short() {
		t.Skip("starts Postgres and Temporal")
	}
	dir := stack.folder(t)
	testscript.Run(t, testscript.Params{Dir: "testdata/stack", RequireExplicitExec: true, Condition: condition,
		Cmds: map[string]func(*testscript.TestScript, bool, []string){"until": until, "servers": ownServers},
		Setup: func(e *testscript.Env) error {
			e.Setenv("TRIMTAB_DATA", filepath.Join(dir, "data"))
			e.Setenv("TRIMTAB_ACTOR", "tester")
			// Where trimtab-temporal and fetched programs of Postgres are kept, and what it takes to build the first.
			for _, key := range []string{"HOME", "XDG_CACHE_HOME", "GOPATH", "GOMODCACHE", "GOCACHE", "GOFLAGS",
				"GOPROXY",
				"GOSUMDB", "GOTOOLCHAIN"} {
				if v := os.Getenv(key); v != "" {
					e.Setenv(key, v)
				}
			}
			return isolate(e)
		}})
}

// ownServers sets the addresses of the running stack as if they were of a
// team's servers, with an empty database and a namespace that is not there yet.
func ownServers(ts *testscript.TestScript, _ bool, _ []string) {
	info, ok := devstack.Running(ts.Getenv("TRIMTAB_DATA"))
	if !ok {
		ts.Fatalf("the stack does not run")
	}
	e := info.Endpoints
	ctx := context.Background()
	c, err := pgx.Connect(ctx, e.PostgresURL)
	ts.Check(err)
	defer c.Close(ctx)
	_, err = c.Exec(ctx, "create database deploy")
	ts.Check(err)
	for key, value := range map[string]string{
		"POSTGRES_OWNER_URL": database(ts, e.PostgresURL), "POSTGRES_URL": database(ts, e.AppURL),
		"APP_PASSWORD": e.AppPassword, "AUDITOR_PASSWORD": e.AuditorPassword,
		"TEMPORAL_ADDRESS": e.Temporal, "TEMPORAL_NAMESPACE": "deploy",
		"TEMPORAL_TLS_CA": e.TemporalTLS.CA, "TEMPORAL_TLS_CERT": e.TemporalTLS.Cert,
		"TEMPORAL_TLS_KEY": e.TemporalTLS.Key,
		"DATA":             ts.MkAbs("deploy"),
	} {
		ts.Setenv("TRIMTAB_"+key, value)
	}
}

func database(ts *testscript.TestScript, address string) string {
	u, err := url.Parse(address)
	ts.Check(err)
	u.Path = "/deploy"
	return u.String()
}
