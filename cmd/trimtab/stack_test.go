package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/trimtab/trimtab/devstack"
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
		e.dir, e.err = os.MkdirTemp("", "trimtab-cmd-test-")
		if e.err == nil {
			e.err = os.Chmod(e.dir, 0o711) // Postgres may run as another user
		}
	})
	if e.err != nil {
		t.Fatal(e.err)
	}
	return e.dir
}

func (e *embedded) stop() {
	if e.dir == "" {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	if err := devstack.Stop(ctx, filepath.Join(e.dir, "data")); err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
	_ = os.RemoveAll(e.dir)
}

// Scripts of testdata/stack use the embedded servers, as `trimtab align` on a clean machine does.
func TestStackScripts(t *testing.T) {
	if testing.Short() {
		t.Skip("starts Postgres and Temporal")
	}
	dir := stack.folder(t)
	cache, err := os.UserCacheDir() // where trimtab-temporal is kept when it has been built
	if err != nil {
		t.Fatal(err)
	}
	testscript.Run(t, testscript.Params{Dir: "testdata/stack", RequireExplicitExec: true, Setup: func(e *testscript.Env) error {
		e.Setenv("TRIMTAB_DATA", filepath.Join(dir, "data"))
		e.Setenv("TRIMTAB_ACTOR", "tester")
		e.Setenv("XDG_CACHE_HOME", cache)
		for _, key := range []string{"GOPATH", "GOMODCACHE", "GOCACHE", "GOFLAGS", "GOPROXY"} { // should it have to be built
			if v := os.Getenv(key); v != "" {
				e.Setenv(key, v)
			}
		}
		return isolate(e)
	}})
}
