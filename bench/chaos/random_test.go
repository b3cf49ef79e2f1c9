package chaos_test

import (
	"errors"
	"flag"
	"maps"
	"math/rand/v2"
	"os/exec"
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

// Kills that nobody has thought of: any victims at any moment of a run.
func TestRandomKills(t *testing.T) {
	if *kills == 0 {
		t.Skip("give -kills N")
	}
	whole := undisturbed(t, spec)
	r := rand.New(rand.NewPCG(*dice, 0))
	f := newFolder(t)
	for done := 0; done < *kills; {
		run := f.align(spec, "--detach", "--new").ID
		for d := f.show(run); d.Status.Open() && done < *kills; done++ {
			time.Sleep(time.Duration(r.IntN(8000)) * time.Millisecond)
			var victims []string
			for _, v := range r.Perm(len(all))[:1+r.IntN(2)*r.IntN(len(all))] {
				victims = append(victims, all[v])
			}
			f.signal(syscall.SIGKILL, f.pids().of(victims)...)
			d = f.show(run)
			t.Logf("kill %d of %v: %s at %+v", done, victims, d.Status, placeOf(d))
		}
		same(t, f.made(f.watch(run)), whole)
	}
}

// show is what the command shows; it may be told for a while that the database is away.
func (f *folder) show(run string) runs.Document {
	f.t.Helper()
	for end := time.Now().Add(patience); ; time.Sleep(100 * time.Millisecond) {
		cmd := f.command("show", run, "-o", "json")
		out, err := cmd.Output()
		if err == nil {
			return document(f.t, out)
		}
		if exit, ok := errors.AsType[*exec.ExitError](err); !ok || exit.ExitCode() != serviceAway || time.Now().After(end) {
			f.t.Fatalf("trimtab show: %v\n%s", err, said(err))
		}
	}
}

// serviceAway is the exit code of a command that could not reach a server.
const serviceAway = 6

func said(err error) string {
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		return string(exit.Stderr)
	}
	return ""
}

// Kills of whatever is there while a stack is being made: the command, dev,
// initdb, servers and their children. The same command, given again, gets
// through.
func TestRandomKillsOfAFirstStart(t *testing.T) {
	if *kills == 0 {
		t.Skip("give -kills N")
	}
	var sets []string // the smallest run as it is
	whole := undisturbed(t, sets)
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
			ids = slices.DeleteFunc(ids, func(pid int) bool { return strings.HasPrefix(there[pid], "postgres:") != children })
			r.Shuffle(len(ids), func(i, j int) { ids[i], ids[j] = ids[j], ids[i] })
			for _, pid := range ids[:min(len(ids), 1+r.IntN(3))] {
				t.Logf("kill %d: process %d, %.90s", done, pid, strings.TrimPrefix(there[pid], f.dir))
				_ = syscall.Kill(pid, syscall.SIGKILL) // it may be gone
			}
			done++
			_ = first.Wait() // killed, or not
		}
		var d runs.Document
		for try := 1; ; try++ {
			out, err := f.command("align", "--size", "smallest", "-o", "json").Output()
			if err == nil {
				d = document(t, out)
				break
			}
			t.Logf("try %d: %v: %s", try, err, said(err))
			if try == 3 {
				t.Fatal("the stack does not come back")
			}
		}
		same(t, f.made(d), whole)
		f.end()
	}
}
