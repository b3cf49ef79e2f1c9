package main

import (
	"flag"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/trimtab/trimtab/runs"
)

var (
	kills = flag.Int("kills", 0, "kill so many more random processes at random moments")
	dice  = flag.Uint64("dice", 1, "seed of the random kills")
)

func TestMain(m *testing.M) {
	sweep()
	code := m.Run()
	removeBuild()
	os.Exit(code)
}

// Ten faults of a dozen kinds: every stage is struck, and none makes another byte.
func TestTenFaults(t *testing.T) {
	var kinds []fault
	for _, words := range []string{"of the worker", "of Postgres", "of Temporal", "of dev", "whole program",
		"for some seconds", "damaged", "file is renamed", "before a commit"} {
		kinds = append(kinds, selectFaults(words)...)
	}
	// SIGKILL and SIGTERM of the worker; frozen, the disk full, and its inodes used up, for some seconds
	if len(kinds) != 10+2 {
		t.Fatalf("%d kinds", len(kinds))
	}
	faults := 10
	if testing.Short() {
		kinds, faults = kinds[:1], 1
	}
	all := experiment(t, specs["smallest"], kinds, faults, 1, 10*time.Minute)
	all.print(t.Output(), 0)
}

// Kills of whatever is there while a stack is being made: the command, dev,
// initdb, servers and their children. The same command, given again, gets
// through.
func TestKillsOfAFirstStart(t *testing.T) {
	if *kills == 0 {
		t.Skip("give -kills N")
	}
	whole := baselineOutputs(t, []string{"--size", "smallest"})
	r := rand.New(rand.NewPCG(*dice, 1))
	for done := 0; done < *kills; {
		f := newFolder(t)
		for range 4 {
			first := f.command("align", "--size", "smallest", "--detach")
			if err := first.Start(); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Duration(r.IntN(3500)) * time.Millisecond)
			there := processes(f.dir)
			ids := slices.Sorted(maps.Keys(there))
			children := r.IntN(4) == 0 // of the postmaster, which takes the death of one for a crash of all
			ids = slices.DeleteFunc(ids, func(pid int) bool {
				return strings.HasPrefix(there[pid],
					"postgres:") != children
			})
			r.Shuffle(len(ids), func(i, j int) { ids[i], ids[j] = ids[j], ids[i] })
			for _, pid := range ids[:min(len(ids), 1+r.IntN(3))] {
				t.Logf("kill %d: process %d, %.90s", done, pid, strings.TrimPrefix(there[pid], f.dir))
				_ = syscall.Kill(pid, syscall.SIGKILL) // it may be gone
			}
			done++
			_ = first.Wait() // killed, or not
		}
		var d runs.View
		for try := 1; ; try++ {
			out, err := f.command("align", "--size", "smallest", "-o", "json").Output()
			if err == nil {
				d = parseView(t, out)
				break
			}
			t.Logf("try %d: %v: %s", try, err, stderrOf(err))
			if try == 3 {
				t.Fatal("the stack does not come back")
			}
		}
		differences(t, f.outputs(d), whole)
		f.end()
	}
}
