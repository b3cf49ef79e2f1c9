package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/trimtab/trimtab/devstack/devstacktest"
	"github.com/trimtab/trimtab/storage/storagetest"
)

func TestMain(m *testing.M) {
	testscript.Main(servers{m}, map[string]func(){"trimtab": main, "stranger": stranger})
}

// servers runs the tests and stops what they have started.
type servers struct{ m *testing.M }

func (s servers) Run() int {
	code := s.m.Run()
	stack.stop()
	if err := devstacktest.Stop(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return max(code, 1)
	}
	return code
}

// The scripts of testdata need no servers; they are sessions to read.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{Dir: "testdata", Setup: isolate, RequireExplicitExec: true})
}

// Scripts of testdata/store have a database of their own, and no Temporal.
func TestStoreScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{Dir: "testdata/store", RequireExplicitExec: true,
		Setup: func(e *testscript.Env) error {
			e.Setenv("TRIMTAB_POSTGRES_URL", storagetest.URLs(e.T().(testing.TB)).App)
			e.Setenv("TRIMTAB_ACTOR", "tester")
			return errors.Join(isolate(e), smallModels(e.WorkDir))
		}})
}

// isolate keeps a script away from the settings and data of the user who runs the tests.
func isolate(e *testscript.Env) error {
	e.Setenv("XDG_DATA_HOME", filepath.Join(e.WorkDir, ".data"))
	e.Setenv("XDG_CONFIG_HOME", filepath.Join(e.WorkDir, ".config"))
	return nil
}

// command runs one command line in this process.
func command(t *testing.T, stdin string, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	code = run(args, strings.NewReader(stdin), &out, &errs)
	return code, out.String(), errs.String()
}

// Codes that no script or broken file shows: 4 and 6. (2, 3 and 5 are in badinput_test.go.)
func TestExitCodes(t *testing.T) {
	quiet(t)
	t.Setenv("TRIMTAB_POSTGRES_URL", "postgres://trimtab_app:x@127.0.0.1:1/trimtab")
	if f := fails(t, 6, "runs"); f.Type != "postgres_unavailable" {
		t.Errorf("%+v", f)
	}
	t.Setenv("TRIMTAB_POSTGRES_URL", storagetest.URLs(t).App)
	if code, out, errs := command(t, "{\"text\": \"a\"}\n", "data", "import", "x", "--kind", "text", "-"); code != 0 {
		t.Fatalf("exit %d: %s%s", code, out, errs)
	}
	if f := fails(t, 4, "data", "export", "x"); f.Type != "dataset_not_frozen" {
		t.Errorf("%+v", f)
	}
	if f := fails(t, 3, "show", "nothing"); f.Type != "run_not_found" { // looking needs no Temporal
		t.Errorf("%+v", f)
	}
	if f := fails(t, 2, "cancel", "nothing", "--reason", "none"); !strings.Contains(f.Message,
		"only one of the two addresses") {
		t.Errorf("%+v", f)
	}
}

// failure is an error document.
type failure struct{ Type, Message, Remedy string }

// fails runs a command line that must end with an error document and the exit code.
func fails(t *testing.T, code int, args ...string) failure {
	t.Helper()
	got, out, errs := command(t, "", append(args, "-o", "json")...)
	var f failure
	if err := json.Unmarshal([]byte(out), &f); err != nil {
		t.Fatalf("trimtab %q: exit %d, no error document: %v\n%s%s", args, got, err, out, errs)
	}
	if got != code {
		t.Errorf("trimtab %q: exit %d, want %d: %+v", args, got, code, f)
	}
	if f.Type == "" || f.Message == "" || f.Remedy == "" {
		t.Errorf("trimtab %q: incomplete error document %+v", args, f)
	}
	return f
}
