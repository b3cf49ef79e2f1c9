package devstack

import (
	"context"
	"flag"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/trimtab/trimtab"
)

func listen(t testing.TB, port int) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// helper is the command line that makes this test program play a part.
func helper(part string, args ...string) []string {
	return append([]string{"-test.run=^TestHelper$", "-test.timeout=10m", "--", part}, args...)
}

// TestHelper is no test: other tests run it as a process of its own, to kill it.
func TestHelper(t *testing.T) {
	ctx := context.Background()
	switch args := flag.Args(); {
	case len(args) == 0:
		t.Skip("run by other tests")
	case args[0] == "postgres": // DIR
		s, err := StartPostgres(ctx, PostgresOptions{Dir: args[1], Fast: true})
		if err != nil {
			t.Fatal(err)
		}
		fmt.Printf("ready %d\n", s.Pid)
		select {}
	case args[0] == "dev": // DIR IDLE
		if err := RunDev(ctx, helperDev(t, args[1], args[2])); err != nil {
			t.Fatal(err)
		}
	case args[0] == "claim": // DIR
		if m, err := ClaimFolder(args[1]); err != nil {
			fmt.Println(trimtab.AsError(err).Type, err)
		} else {
			fmt.Println("claimed", m.ID)
		}
	case args[0] == "worker": // FILE to write what it does
		term := make(chan os.Signal, 1)
		signal.Notify(term, syscall.SIGTERM)
		if err := os.WriteFile(args[1], []byte("listening"), 0o600); err != nil {
			t.Fatal(err)
		}
		<-term
		if err := os.WriteFile(args[1], []byte("ended by SIGTERM"), 0o600); err != nil {
			t.Fatal(err)
		}
	default:
		t.Fatalf("no part %q", args)
	}
}

// helperDev is a dev process with a worker that does nothing, a schema of one
// table, and an open run while there is a file open-run.
func helperDev(t testing.TB, dir, idle string) DevOptions {
	wait, err := time.ParseDuration(idle)
	if err != nil {
		t.Fatal(err)
	}
	return DevOptions{Dir: dir, Idle: wait, Log: os.Stderr,
		Migrate: func(_ context.Context, e Endpoints) error {
			exec1(t, e.PostgresURL, `create table if not exists migrated (n int)`)
			return nil
		},
		Worker: func(Endpoints) *exec.Cmd {
			return exec.Command(os.Args[0], helper("worker", filepath.Join(dir, "worker-said"))...)
		},
		OpenRuns: func(context.Context, Endpoints) (int, error) {
			if _, err := os.Stat(filepath.Join(dir, "open-run")); err == nil {
				return 1, nil
			}
			return 0, nil
		}}
}
