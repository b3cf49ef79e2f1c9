package main

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/trimtab/trimtab"
	"github.com/trimtab/trimtab/runs"
)

// fault is a kind of thing that goes wrong.
type fault struct {
	name string
	// injectFault lets it happen to a run in the middle of a stage, and mends what does
	// not mend itself; false if the run had no place for it any more.
	inject func(f *folder, r *rand.Rand, run string) bool
	// maxSeconds is how many seconds it may cost: the fault's own length, and what the run needs to go on.
	maxSeconds float64
	// noLostSteps says that no step may be lost.
	noLostSteps bool
	// needsDisk says that the data folder must be a disk of its own.
	needsDisk bool
}

// Limits of what a fault costs. A worker's silence is noticed after 10 s, and it
// has a checkpoint at least every 10 s.
const (
	detectionLimit = 10 + 15.
	restartLimit   = 60.
	takeoverLimit  = 60. // two workers, one of them frozen with what it was given
	pauseLimit     = 30.
)

// allFaults are the kinds of fault.
var allFaults = []fault{
	{name: "SIGKILL of the worker", inject: killProcesses("worker"), maxSeconds: detectionLimit},
	{name: "SIGKILL of Postgres", inject: killProcesses("postgres"), maxSeconds: restartLimit},
	{name: "SIGKILL of Temporal", inject: killProcesses("trimtab-temporal"), maxSeconds: restartLimit},
	{name: "SIGKILL of dev", inject: killProcesses("dev"), maxSeconds: restartLimit},
	{name: "SIGKILL of the whole program", inject: killProcesses(processNames...), maxSeconds: restartLimit},
	{name: "SIGKILL of several at once", inject: killSeveral, maxSeconds: restartLimit},
	{name: "SIGTERM of the worker", inject: terminateWorker, maxSeconds: pauseLimit, noLostSteps: true},
	{name: "worker frozen for some seconds", inject: freezeWorker(1, 4), maxSeconds: pauseLimit, noLostSteps: true},
	{name: "worker frozen for longer than it may be silent", inject: freezeWorker(12, 14),
		maxSeconds: 14 + detectionLimit},
	{name: "worker frozen, another takes over", inject: freezeAndReplace, maxSeconds: takeoverLimit},
	{name: "worker frozen within a transaction, another takes over", inject: freezeInTransaction,
		maxSeconds: takeoverLimit},
	{name: "newest checkpoint damaged, worker killed", inject: damageCheckpoint, maxSeconds: detectionLimit},
	{name: "disk full for some seconds", inject: fillDisk, maxSeconds: restartLimit},
	{name: "inodes used up for some seconds", inject: exhaustInodes, maxSeconds: restartLimit, needsDisk: true},
	{name: "SIGKILL after a file is written", inject: killAtFailpoint("file_written", 8), maxSeconds: detectionLimit},
	{name: "SIGKILL after a file is synced", inject: killAtFailpoint("file_synced", 8), maxSeconds: detectionLimit},
	{name: "SIGKILL after a file is renamed", inject: killAtFailpoint("file_renamed", 8), maxSeconds: detectionLimit},
	{name: "SIGKILL before a commit", inject: killAtFailpoint("before_commit", 8), maxSeconds: detectionLimit},
	{name: "SIGKILL after a commit", inject: killAtFailpoint("after_commit", 8), maxSeconds: detectionLimit},
	{name: "SIGKILL before a segment is told done", inject: killAtFailpoint("segment_done", 1),
		maxSeconds: detectionLimit},
	{name: "SIGKILL before a stage is told complete", inject: killAtFailpoint("stage_completed", 1),
		maxSeconds: detectionLimit},
}

// selectFaults are the kinds whose names hold one of the words.
func selectFaults(words string) (kinds []fault) {
	for _, k := range allFaults {
		if slices.ContainsFunc(strings.Split(words, ","), func(w string) bool { return strings.Contains(k.name, w) }) {
			kinds = append(kinds, k)
		}
	}
	return kinds
}

// killProcesses sends SIGKILL to processes. Where dev is among them the next command starts it again.
func killProcesses(victims ...string) func(*folder, *rand.Rand, string) bool {
	return func(f *folder, _ *rand.Rand, run string) bool {
		f.t.Helper()
		before := f.pids()
		f.markFault()
		f.signal(syscall.SIGKILL, before.of(victims)...)
		if slices.Contains(victims, "dev") {
			f.show(run)
		}
		f.checkAfterFault(run)            // as soon as the database answers
		for name, pid := range f.pids() { // each is there again, and nothing else was touched
			if killed := slices.Contains(victims, name); killed == (pid == before[name]) &&
				(killed || name != "worker") {
				f.t.Errorf("%s was process %d before the kill of %v and is %d after it", name, before[name], victims,
					pid)
			}
		}
		return true
	}
}

func killSeveral(f *folder, r *rand.Rand, run string) bool {
	var victims []string
	for _, i := range r.Perm(len(processNames))[:2+r.IntN(2)] {
		victims = append(victims, processNames[i])
	}
	return killProcesses(victims...)(f, r, run)
}

// terminateWorker is what an operator does to a worker before an update.
func terminateWorker(f *folder, _ *rand.Rand, run string) bool {
	f.t.Helper()
	pid := f.pid("worker")
	f.markFault()
	f.signal(syscall.SIGTERM, pid)
	for end := time.Now().Add(waitLimit); alive(pid); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			f.t.Fatalf("the worker does not end after SIGTERM")
		}
	}
	f.checkAfterFault(run)
	return true
}

// freezeWorker stops the worker for a time, seconds.
func freezeWorker(least, most float64) func(*folder, *rand.Rand, string) bool {
	return func(f *folder, r *rand.Rand, run string) bool {
		pid := f.pid("worker")
		f.suspend(pid, run)
		time.Sleep(time.Duration((least + r.Float64()*(most-least)) * float64(time.Second)))
		f.signal(syscall.SIGCONT, pid)
		return true
	}
}

// suspend sends SIGSTOP.
func (f *folder) suspend(pid int, run string) {
	f.markFault()
	f.signal(syscall.SIGSTOP, pid)
	f.checkAfterFault(run)
}

// freezeAndReplace freezes the worker until another has made a step in its place. What
// the first goes on to write when it thaws must be refused.
func freezeAndReplace(f *folder, _ *rand.Rand, run string) bool {
	f.t.Helper()
	pid := f.pid("worker")
	f.suspend(pid, run)
	return f.awaitTakeover(run, pid)
}

// freezeInTransaction lets the worker stop itself between the last statement of a transaction and its end.
func freezeInTransaction(f *folder, r *rand.Rand, run string) bool {
	f.t.Helper()
	pid := f.pid("worker")
	if !f.armFailpoint("before_commit", fmt.Sprint(1+r.IntN(8), " stop"), run) {
		time.Sleep(200 * time.Millisecond)
		f.signal(syscall.SIGCONT, pid) // it may have followed the order with the run's last commit
		return false
	}
	return f.awaitTakeover(run, pid)
}

// awaitTakeover lets a second worker take the place of a frozen one, then thaws that.
func (f *folder) awaitTakeover(run string, frozen int) bool {
	f.t.Helper()
	end := f.startSecondWorker()
	f.await(run, "a step of the second worker", func(d runs.View) bool {
		return positionOf(d).after(f.faultPosition) || d.Status == trimtab.RunCompleted
	})
	written := len(f.workerLog())
	f.signal(syscall.SIGCONT, frozen)
	f.awaitFenced(written)
	end()
	return true
}

// damageCheckpoint breaks the file of the newest checkpoint while no worker has it.
func damageCheckpoint(f *folder, r *rand.Rand, run string) bool {
	f.t.Helper()
	pid := f.pid("worker")
	f.markFault()
	f.signal(syscall.SIGKILL, pid)
	f.checkAfterFault(run)
	d, err := f.loadRun(run)
	if err != nil {
		f.t.Fatal(err)
	}
	st := d.Stages[positionOf(d).stage]
	if st.Step >= st.Steps {
		return false // its last step was done before the kill: nothing may read the checkpoint again
	}
	c := st.Checkpoint
	files, err := filepath.Glob(filepath.Join(f.data, "store", "states", "*", c.Hex()))
	if err != nil || c == "" || len(files) == 0 {
		return false
	}
	file := files[len(files)-1]
	raw, err := os.ReadFile(file)
	if err != nil {
		f.t.Fatal(err)
	}
	switch r.IntN(3) {
	case 0:
		err = os.Remove(file)
	case 1:
		err = os.Truncate(file, r.Int64N(int64(len(raw))))
	case 2:
		raw[r.IntN(len(raw))] ^= 1 << r.IntN(8)
		err = os.WriteFile(file, raw, 0o600)
	}
	if err != nil {
		f.t.Fatal(err)
	}
	return true
}

// fillDisk lets every write of a file fail for want of space, until the run has said so.
func fillDisk(f *folder, r *rand.Rand, run string) bool {
	f.t.Helper()
	f.markFault()
	f.writeOrder("file_written", "1 full")
	defer func() {
		if err := os.Remove(f.failpoint("file_written")); err != nil {
			f.t.Error(err)
		}
	}()
	return f.awaitDiskFull(r, run)
}

// exhaustInodes makes empty files in the data folder, whose disk has space but a
// limited number of inodes, until nobody can make another, and removes them
// when the run has said so. Postgres, Temporal and the worker all meet it.
func exhaustInodes(f *folder, r *rand.Rand, run string) bool {
	f.t.Helper()
	f.markFault()
	dir := filepath.Join(f.data, "filler")
	if err := os.Mkdir(dir, 0o700); err != nil {
		f.t.Fatal(err)
	}
	done, filled := make(chan struct{}), make(chan error)
	go func() { // what the others remove is used as well
		for i := 0; ; {
			err := os.WriteFile(filepath.Join(dir, fmt.Sprint(i)), nil, 0o600)
			switch {
			case err == nil:
				i++
				continue
			case !errors.Is(err, syscall.ENOSPC):
				filled <- err
				return
			}
			select {
			case <-done:
				filled <- nil
				return
			case <-time.After(time.Millisecond):
			}
		}
	}()
	defer func() {
		close(done)
		if err := errors.Join(<-filled, os.RemoveAll(dir)); err != nil {
			f.t.Error(err)
		}
	}()
	return f.awaitDiskFull(r, run)
}

// awaitDiskFull waits until a run says that it waits for space on its disk, and
// up to 4 s more; false if the run came to its end before.
func (f *folder) awaitDiskFull(r *rand.Rand, run string) bool {
	f.t.Helper()
	d := f.await(run, "the disk being full", func(d runs.View) bool {
		return d.Status == trimtab.RunWaiting ||
			!d.Status.Open()
	})
	if d.Status != trimtab.RunWaiting {
		return false
	}
	f.checkAfterFault(run)
	if d.Error == nil || d.Error.Type != "disk_full" || !strings.Contains(d.Next, "goes on by itself") {
		f.t.Errorf("with a full disk the run shows %v, next %q", d.Error, d.Next)
	}
	time.Sleep(time.Duration(r.IntN(4000)) * time.Millisecond)
	return true
}

// killAtFailpoint lets a process kill itself when it comes by a point for the nth time.
func killAtFailpoint(point string, most int) func(*folder, *rand.Rand, string) bool {
	return func(f *folder, r *rand.Rand, run string) bool {
		return f.armFailpoint(point, fmt.Sprint(1+r.IntN(most), " kill"), run)
	}
}

// writeOrder puts an order where a failpoint finds it, whole.
func (f *folder) writeOrder(point, order string) {
	f.t.Helper()
	fresh := f.failpoint("." + point)
	if err := os.WriteFile(fresh, []byte(order), 0o600); err != nil {
		f.t.Fatal(err)
	}
	if err := os.Rename(fresh, f.failpoint(point)); err != nil {
		f.t.Fatal(err)
	}
}

// armFailpoint gives an order and waits until it was followed; false if the run ended before.
func (f *folder) armFailpoint(point, order, run string) bool {
	f.t.Helper()
	f.writeOrder(point, order)
	for end := time.Now().Add(waitLimit); time.Now().Before(end); time.Sleep(2 * time.Millisecond) {
		if _, err := os.Stat(f.failpoint(point)); err != nil {
			f.markFault()
			f.checkAfterFault(run)
			return true
		}
		if d, err := f.loadRun(run); err == nil && !d.Status.Open() {
			_ = os.Remove(f.failpoint(point)) // gone, if somebody came by after all
			return false
		}
	}
	f.t.Fatalf("nobody came by %s", point)
	return false
}

// workerLog is the log of the workers that dev starts.
func (f *folder) workerLog() string {
	b, _ := os.ReadFile(filepath.Join(f.data, "worker.log"))
	return string(b)
}

// awaitFenced waits until a thawed worker has been told that its attempt is
// another's: by the database when it writes, or by Temporal at its next
// heartbeat or answer, which may say that the whole stage is done. Its log had so many bytes when it was frozen.
func (f *folder) awaitFenced(written int) {
	f.t.Helper()
	for end := time.Now().Add(waitLimit); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		log := f.workerLog()
		if log = log[min(written, len(log)):]; strings.Contains(log, "belongs to token") ||
			strings.Contains(log, "already timed out") ||
			strings.Contains(log, "workflow execution already completed") ||
			strings.Contains(log, "idle-in-transaction") {
			return
		}
	}
	log := f.workerLog()
	f.t.Errorf("the thawed worker was not refused; it says:\n%s", log[min(written, len(log)):])
}
