package activities_test

import (
	"bufio"
	"encoding/json"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/trimtab/trimtab"
)

// slices compares the two sides in short turns: one of them is frozen while
// the other runs, so that what the machine's neighbours do falls on both. A
// side's time is the sum of its turns. What the product does by the clock, its
// heartbeats, shown progress and checkpoints, comes about twice as often in
// such a run as in one that is never frozen, so the figure is an upper bound.
func (p *product) slices(t *testing.T) {
	t.Helper()
	var costs []float64
	for round := range *costRounds {
		warm := p.launch(t, "--size", "smallest") // starts the servers
		w := p.watch(t)
		first := w.read(t, w.await(t, warm.ID))
		first.warm = first.stages
		if round == 0 {
			first.stages = w.read(t, w.await(t, p.detach(t))).stages
			p.last = first
		}
		durable, bare := w.turns(t)
		costs = append(costs, percent(durable, bare))
		t.Logf("round %d: bare %.2f s, durable %.2f s, %+.1f %%", round+1, bare, durable, costs[round])
		w.close()
		p.command(t, "dev", "stop")
	}
	all := middle(len(costs), func(i int) float64 { return costs[i] })
	t.Logf("median of %d rounds: %+.1f %%", len(costs), all)
	if *costMost > 0 && all > *costMost {
		t.Errorf("durability costs %.1f %%, more than %g %%", all, *costMost)
	}
}

// turns takes a run and the bare loop over the stages of the last run to their
// ends, and returns the seconds in which each was not frozen.
func (w watcher) turns(t *testing.T) (durable, bare float64) {
	t.Helper()
	loop := w.loop(t, w.url, w.last)
	out, err := loop.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := loop.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewReader(out)
	if _, err := lines.ReadString('\n'); err != nil { // it is warm
		t.Fatal(err)
	}
	freeze := func(sig syscall.Signal) { _ = loop.Process.Signal(sig) }
	freeze(syscall.SIGSTOP)
	ended := make(chan []byte, 1)
	go func() {
		line, _ := lines.ReadBytes('\n')
		ended <- line
	}()

	id := w.detach(t)
	launched := time.Now()
	var made bareRun
	loopEnded, runEnded := false, false
	for n := 0; !loopEnded || !runEnded; n++ {
		if n%2 == 0 && !runEnded {
			turn := time.Now()
			if n == 0 {
				turn = launched
			}
			time.Sleep(*costSlice)
			r, err := w.store.Run(t.Context(), id)
			if err != nil || !r.Status.Open() && r.Status != trimtab.RunCompleted {
				t.Fatalf("the run is %s: %v", r.Status, err)
			}
			if runEnded = r.Status == trimtab.RunCompleted; runEnded {
				durable += r.EndedAt.Sub(turn).Seconds()
				continue
			}
			w.signal(syscall.SIGSTOP)
			durable += time.Since(turn).Seconds()
			continue
		}
		if n%2 == 1 && !loopEnded {
			turn := time.Now()
			freeze(syscall.SIGCONT)
			select {
			case line := <-ended:
				loopEnded = true
				if err := json.Unmarshal(line, &made); err != nil {
					t.Fatalf("the bare loop: %v\n%s", err, line)
				}
			case <-time.After(*costSlice):
				freeze(syscall.SIGSTOP)
			}
			bare += time.Since(turn).Seconds()
		}
		w.signal(syscall.SIGCONT)
	}
	if err := loop.Wait(); err != nil {
		t.Fatal(err)
	}
	w.last.same(t, made)
	return durable, bare
}

// signal sends a signal to every process of the product but Postgres, which the bare loop reads too.
func (p *product) signal(sig syscall.Signal) {
	for _, proc := range p.processes() {
		if cwd, _ := os.Readlink(filepath.Join(proc, "cwd")); strings.HasPrefix(cwd, p.data) {
			continue
		}
		if pid, err := strconv.Atoi(filepath.Base(proc)); err == nil {
			_ = syscall.Kill(pid, sig)
		}
	}
}
