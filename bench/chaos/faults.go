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

// fault is a kind of fault that can be injected.
type fault struct {
	// name is shown in the tables, and -only selects by its words.
	name string
	// inject makes the fault happen to a run in the middle of a stage, and repairs what
	// does not repair itself. It returns false if the run had ended before. It sets
	// f.faultTime and f.faultPosition.
	inject func(f *folder, r *rand.Rand, run string) bool
	// maxSeconds is the longest time that the fault may cost: its own duration and the
	// recovery.
	maxSeconds float64
	// noLostSteps means that no step may have to be repeated.
	noLostSteps bool
	// needsDisk means that the data folder has to be a disk of its own.
	needsDisk bool
}

// Limits on the seconds that a fault may cost. They are loose, because the machine
// may be busy: a fault that exceeds one needs more than waiting.
const (
	// detectionLimit is for a dead worker. Its heartbeats are missed after 10 s, and
	// its newest checkpoint is at most 10 s old.
	detectionLimit = 10 + 15.
	// restartLimit is for servers that have to be started again.
	restartLimit = 60.
	// takeoverLimit is for two workers, of which the frozen one holds the stage.
	takeoverLimit = 60.
	// pauseLimit is for a worker that ends or pauses in an orderly way.
	pauseLimit = 30.
)

// allFaults are the kinds of fault. A fault at a failpoint strikes at a random
// pass of it, from the first to the given one.
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
	{name: "SIGKILL before a segment is reported done", inject: killAtFailpoint("segment_done", 1),
		maxSeconds: detectionLimit},
	{name: "SIGKILL before a stage is reported complete", inject: killAtFailpoint("stage_completed", 1),
		maxSeconds: detectionLimit},
}

// selectFaults returns the kinds of fault whose name contains one of the
// comma-separated words.
func selectFaults(words string) (kinds []fault) {
	for _, k := range allFaults {
		if slices.ContainsFunc(strings.Split(words, ","), func(w string) bool { return strings.Contains(k.name, w) }) {
			kinds = append(kinds, k)
		}
	}
	return kinds
}

// killProcesses sends SIGKILL to processes. Everything but dev is restarted by
// dev; dev itself is started by the next command.
func killProcesses(victims ...string) func(*folder, *rand.Rand, string) bool {
	return func(f *folder, _ *rand.Rand, run string) bool {
		f.t.Helper()
		before := f.pids()
		f.markFault()
		f.signal(syscall.SIGKILL, before.of(victims)...)
		if slices.Contains(victims, "dev") {
			f.show(run)
		}
		f.checkAfterFault(run) // which waits until the database answers
		// Each victim runs again as a new process, and no other process was restarted.
		// The worker may be, since it can end by itself when its database is killed.
		for name, pid := range f.pids() {
			if killed := slices.Contains(victims, name); killed == (pid == before[name]) &&
				(killed || name != "worker") {
				f.t.Errorf("%s was process %d before the kill of %v and is process %d after it", name, before[name],
					victims, pid)
			}
		}
		return true
	}
}

// killSeveral kills two or three of the processes at once.
func killSeveral(f *folder, r *rand.Rand, run string) bool {
	// A permutation, so that no process is drawn twice.
	var victims []string
	for _, i := range r.Perm(len(processNames))[:2+r.IntN(2)] {
		victims = append(victims, processNames[i])
	}
	return killProcesses(victims...)(f, r, run)
}

// terminateWorker sends SIGTERM to the worker, as an operator does before an
// update. The worker writes a checkpoint before it ends.
func terminateWorker(f *folder, _ *rand.Rand, run string) bool {
	f.t.Helper()
	pid := f.pid("worker")
	f.markFault()
	f.signal(syscall.SIGTERM, pid)
	for deadline := time.Now().Add(waitLimit); alive(pid); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			f.t.Fatalf("the worker did not end after SIGTERM")
		}
	}
	f.checkAfterFault(run)
	return true
}

// freezeWorker stops the worker for a random time between least and most
// seconds.
func freezeWorker(least, most float64) func(*folder, *rand.Rand, string) bool {
	return func(f *folder, r *rand.Rand, run string) bool {
		pid := f.pid("worker")
		f.suspend(pid, run)
		time.Sleep(time.Duration((least + r.Float64()*(most-least)) * float64(time.Second)))
		f.signal(syscall.SIGCONT, pid)
		return true
	}
}

// suspend stops a process with SIGSTOP, which it cannot catch.
func (f *folder) suspend(pid int, run string) {
	f.markFault()
	f.signal(syscall.SIGSTOP, pid)
	f.checkAfterFault(run)
}

// freezeAndReplace freezes the worker until another one has done a step in its
// place. When the first one thaws, whatever it still writes must be rejected.
func freezeAndReplace(f *folder, _ *rand.Rand, run string) bool {
	f.t.Helper()
	pid := f.pid("worker")
	f.suspend(pid, run)
	return f.awaitTakeover(run, pid)
}

// freezeInTransaction lets the worker stop itself after the last statement of a
// transaction and before its commit, while it holds locks.
func freezeInTransaction(f *folder, r *rand.Rand, run string) bool {
	f.t.Helper()
	pid := f.pid("worker")
	if !f.armFailpoint("before_commit", fmt.Sprint(1+r.IntN(8), " stop"), run) {
		time.Sleep(200 * time.Millisecond)
		f.signal(syscall.SIGCONT, pid) // it may have stopped at the run's last commit
		return false
	}
	return f.awaitTakeover(run, pid)
}

// awaitTakeover lets a second worker take over the run from a frozen one, then
// thaws the frozen one and waits until it was rejected.
func (f *folder) awaitTakeover(run string, frozen int) bool {
	f.t.Helper()
	stopSecond := f.startSecondWorker()
	f.await(run, "the second worker has done a step", func(d runs.View) bool {
		return positionOf(d).after(f.faultPosition) || d.Status == trimtab.RunCompleted
	})
	written := len(f.workerLog())
	f.signal(syscall.SIGCONT, frozen)
	f.awaitFenced(written)
	stopSecond()
	return true
}

// damageCheckpoint kills the worker and then removes, truncates or flips a bit
// of the newest checkpoint. The next worker has to notice and to resume from
// the one before.
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
		return false // the last step was done before the kill, so nothing may read the checkpoint again
	}
	digest := st.Checkpoint
	files, err := filepath.Glob(filepath.Join(f.data, "store", "states", "*", digest.Hex()))
	if err != nil || digest == "" || len(files) == 0 {
		return false
	}
	// The glob is sorted; a stage that resumed may have the state under two attempts.
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

// fillDisk makes every write of a file fail as if the disk were full, until the
// run has reported it.
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

// exhaustInodes creates empty files on the data folder's disk, which has space
// but a limited number of inodes, until none is left, and removes them when the
// run has reported it. Postgres, Temporal and the worker are all affected.
func exhaustInodes(f *folder, r *rand.Rand, run string) bool {
	f.t.Helper()
	f.markFault()
	dir := filepath.Join(f.data, "filler")
	if err := os.Mkdir(dir, 0o700); err != nil {
		f.t.Fatal(err)
	}
	done, filled := make(chan struct{}), make(chan error)
	go func() {
		// It continues until done, to take the inodes that other processes free.
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

// awaitDiskFull waits until a run reports that it is waiting for disk space,
// and then for up to 4 s more. It returns false if the run ended first.
func (f *folder) awaitDiskFull(r *rand.Rand, run string) bool {
	f.t.Helper()
	d := f.await(run, "it reports a full disk", func(d runs.View) bool {
		return d.Status == trimtab.RunWaiting || !d.Status.Open()
	})
	if d.Status != trimtab.RunWaiting {
		return false
	}
	f.checkAfterFault(run)
	if d.Error == nil || d.Error.Type != "disk_full" || !strings.Contains(d.Next, "resumes by itself") {
		f.t.Errorf("with a full disk the run shows %v, next %q", d.Error, d.Next)
	}
	time.Sleep(time.Duration(r.IntN(4000)) * time.Millisecond)
	return true
}

// killAtFailpoint makes a process kill itself when it passes a failpoint for
// the nth time, where n is random, from 1 to most.
func killAtFailpoint(point string, most int) func(*folder, *rand.Rand, string) bool {
	return func(f *folder, r *rand.Rand, run string) bool {
		return f.armFailpoint(point, fmt.Sprint(1+r.IntN(most), " kill"), run)
	}
}

// writeOrder orders what is to happen at a failpoint. The file is renamed into
// place, so that no process reads half an order.
func (f *folder) writeOrder(point, order string) {
	f.t.Helper()
	temporary := f.failpoint("." + point)
	if err := os.WriteFile(temporary, []byte(order), 0o600); err != nil {
		f.t.Fatal(err)
	}
	if err := os.Rename(temporary, f.failpoint(point)); err != nil {
		f.t.Fatal(err)
	}
}

// armFailpoint gives an order and waits until it was carried out, which the
// process shows by removing the file. It returns false if the run ended first.
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
			_ = os.Remove(f.failpoint(point)) // it is gone if a process passed the point after all
			return false
		}
	}
	f.t.Fatalf("no process passed the failpoint %s", point)
	return false
}

// workerLog returns the log of the workers that dev starts; it is empty while
// there is none.
func (f *folder) workerLog() string {
	b, _ := os.ReadFile(filepath.Join(f.data, "worker.log"))
	return string(b)
}

// awaitFenced waits until the log of a thawed worker shows that its attempt
// belongs to another one. The database says so when it writes, or Temporal at
// its next heartbeat or completion, which may also find the whole workflow
// completed. written is the size of the log, in bytes, before it thawed.
func (f *folder) awaitFenced(written int) {
	f.t.Helper()
	rejections := []string{
		"belongs to token",                     // the fence in the database
		"already timed out",                    // Temporal, of the activity
		"workflow execution already completed", // Temporal, of the run
		"idle-in-transaction",                  // Postgres ended the frozen transaction
	}
	for end := time.Now().Add(waitLimit); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		log := f.workerLog()
		log = log[min(written, len(log)):]
		if slices.ContainsFunc(rejections, func(text string) bool { return strings.Contains(log, text) }) {
			return
		}
	}
	log := f.workerLog()
	f.t.Errorf("the thawed worker was not rejected; it logged:\n%s", log[min(written, len(log)):])
}
