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
	// strike lets it happen to a run in the middle of a stage, and mends what does
	// not mend itself; false if the run had no place for it any more.
	strike func(f *folder, r *rand.Rand, run string) bool
	// costs is how many seconds it may cost: the fault's own length, and what the run needs to go on.
	costs float64
	// keeps says that no step may be lost.
	keeps bool
	// disk says that the data folder must be a disk of its own.
	disk bool
}

// Limits of what a fault costs. A worker's silence is noticed after 10 s, and it
// has a checkpoint at least every 10 s.
const (
	noticed    = 10 + 15.
	restarts   = 60.
	takesOver  = 60. // two workers, one of them frozen with what it was given
	halfMinute = 30.
)

// all are the kinds of fault.
var all = []fault{
	{name: "SIGKILL of the worker", strike: kill("worker"), costs: noticed},
	{name: "SIGKILL of Postgres", strike: kill("postgres"), costs: restarts},
	{name: "SIGKILL of Temporal", strike: kill("trimtab-temporal"), costs: restarts},
	{name: "SIGKILL of dev", strike: kill("dev"), costs: restarts},
	{name: "SIGKILL of the whole program", strike: kill(processNames...), costs: restarts},
	{name: "SIGKILL of several at once", strike: killSome, costs: restarts},
	{name: "SIGTERM of the worker", strike: terminate, costs: halfMinute, keeps: true},
	{name: "worker frozen for some seconds", strike: freeze(1, 4), costs: halfMinute, keeps: true},
	{name: "worker frozen for longer than it may be silent", strike: freeze(12, 14), costs: 14 + noticed},
	{name: "worker frozen, another takes over", strike: replace, costs: takesOver},
	{name: "worker frozen within a transaction, another takes over", strike: freezeWriting, costs: takesOver},
	{name: "newest checkpoint damaged, worker killed", strike: damage, costs: noticed},
	{name: "disk full for some seconds", strike: fill, costs: restarts},
	{name: "inodes used up for some seconds", strike: useInodes, costs: restarts, disk: true},
	{name: "SIGKILL after a file is written", strike: killAt("file_written", 8), costs: noticed},
	{name: "SIGKILL after a file is synced", strike: killAt("file_synced", 8), costs: noticed},
	{name: "SIGKILL after a file is renamed", strike: killAt("file_renamed", 8), costs: noticed},
	{name: "SIGKILL before a commit", strike: killAt("before_commit", 8), costs: noticed},
	{name: "SIGKILL after a commit", strike: killAt("after_commit", 8), costs: noticed},
	{name: "SIGKILL before a segment is told done", strike: killAt("segment_done", 1), costs: noticed},
	{name: "SIGKILL before a stage is told complete", strike: killAt("stage_completed", 1), costs: noticed},
}

// chosen are the kinds whose names hold one of the words.
func chosen(words string) (kinds []fault) {
	for _, k := range all {
		if slices.ContainsFunc(strings.Split(words, ","), func(w string) bool { return strings.Contains(k.name, w) }) {
			kinds = append(kinds, k)
		}
	}
	return kinds
}

// kill sends SIGKILL to processes. Where dev is among them the next command starts it again.
func kill(victims ...string) func(*folder, *rand.Rand, string) bool {
	return func(f *folder, _ *rand.Rand, run string) bool {
		f.t.Helper()
		before := f.pids()
		f.begins()
		f.signal(syscall.SIGKILL, before.of(victims)...)
		if slices.Contains(victims, "dev") {
			f.show(run)
		}
		f.struck(run)                     // as soon as the database answers
		for name, pid := range f.pids() { // each is there again, and nothing else was touched
			if killed := slices.Contains(victims, name); killed == (pid == before[name]) && (killed || name != "worker") {
				f.t.Errorf("%s was process %d before the kill of %v and is %d after it", name, before[name], victims, pid)
			}
		}
		return true
	}
}

func killSome(f *folder, r *rand.Rand, run string) bool {
	var victims []string
	for _, i := range r.Perm(len(processNames))[:2+r.IntN(2)] {
		victims = append(victims, processNames[i])
	}
	return kill(victims...)(f, r, run)
}

// terminate is what an operator does to a worker before an update.
func terminate(f *folder, _ *rand.Rand, run string) bool {
	f.t.Helper()
	pid := f.pid("worker")
	f.begins()
	f.signal(syscall.SIGTERM, pid)
	for end := time.Now().Add(patience); alive(pid); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			f.t.Fatalf("the worker does not end after SIGTERM")
		}
	}
	f.struck(run)
	return true
}

// freeze stops the worker for a time, seconds.
func freeze(least, most float64) func(*folder, *rand.Rand, string) bool {
	return func(f *folder, r *rand.Rand, run string) bool {
		pid := f.pid("worker")
		f.stop(pid, run)
		time.Sleep(time.Duration((least + r.Float64()*(most-least)) * float64(time.Second)))
		f.signal(syscall.SIGCONT, pid)
		return true
	}
}

// stop sends SIGSTOP.
func (f *folder) stop(pid int, run string) {
	f.begins()
	f.signal(syscall.SIGSTOP, pid)
	f.struck(run)
}

// replace freezes the worker until another has made a step in its place. What
// the first goes on to write when it thaws must be refused.
func replace(f *folder, _ *rand.Rand, run string) bool {
	f.t.Helper()
	pid := f.pid("worker")
	f.stop(pid, run)
	return f.takenOver(run, pid)
}

// freezeWriting lets the worker stop itself between the last statement of a transaction and its end.
func freezeWriting(f *folder, r *rand.Rand, run string) bool {
	f.t.Helper()
	pid := f.pid("worker")
	if !f.order("before_commit", fmt.Sprint(1+r.IntN(8), " stop"), run) {
		time.Sleep(200 * time.Millisecond)
		f.signal(syscall.SIGCONT, pid) // it may have followed the order with the run's last commit
		return false
	}
	return f.takenOver(run, pid)
}

// takenOver lets a second worker take the place of a frozen one, then thaws that.
func (f *folder) takenOver(run string, frozen int) bool {
	f.t.Helper()
	end := f.second()
	f.await(run, "a step of the second worker", func(d runs.Document) bool { return placeOf(d).after(f.at) || d.Status == trimtab.RunCompleted })
	written := len(f.workerLog())
	f.signal(syscall.SIGCONT, frozen)
	f.refused(written)
	end()
	return true
}

// damage breaks the file of the newest checkpoint while no worker has it.
func damage(f *folder, r *rand.Rand, run string) bool {
	f.t.Helper()
	pid := f.pid("worker")
	f.begins()
	f.signal(syscall.SIGKILL, pid)
	f.struck(run)
	d, err := f.look(run)
	if err != nil {
		f.t.Fatal(err)
	}
	st := d.Stages[placeOf(d).stage]
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

// fill lets every write of a file fail for want of space, until the run has said so.
func fill(f *folder, r *rand.Rand, run string) bool {
	f.t.Helper()
	f.begins()
	f.write("file_written", "1 full")
	defer func() {
		if err := os.Remove(f.failpoint("file_written")); err != nil {
			f.t.Error(err)
		}
	}()
	return f.waitsForSpace(r, run)
}

// useInodes makes empty files in the data folder, whose disk has space but a
// limited number of inodes, until nobody can make another, and removes them
// when the run has said so. Postgres, Temporal and the worker all meet it.
func useInodes(f *folder, r *rand.Rand, run string) bool {
	f.t.Helper()
	f.begins()
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
	return f.waitsForSpace(r, run)
}

// waitsForSpace waits until a run says that it waits for space on its disk, and
// up to 4 s more; false if the run came to its end before.
func (f *folder) waitsForSpace(r *rand.Rand, run string) bool {
	f.t.Helper()
	d := f.await(run, "the disk being full", func(d runs.Document) bool { return d.Status == trimtab.RunWaiting || !d.Status.Open() })
	if d.Status != trimtab.RunWaiting {
		return false
	}
	f.struck(run)
	if d.Error == nil || d.Error.Type != "disk_full" || !strings.Contains(d.Next, "goes on by itself") {
		f.t.Errorf("with a full disk the run shows %v, next %q", d.Error, d.Next)
	}
	time.Sleep(time.Duration(r.IntN(4000)) * time.Millisecond)
	return true
}

// killAt lets a process kill itself when it comes by a point for the nth time.
func killAt(point string, most int) func(*folder, *rand.Rand, string) bool {
	return func(f *folder, r *rand.Rand, run string) bool {
		return f.order(point, fmt.Sprint(1+r.IntN(most), " kill"), run)
	}
}

// write puts an order where a failpoint finds it, whole.
func (f *folder) write(point, order string) {
	f.t.Helper()
	fresh := f.failpoint("." + point)
	if err := os.WriteFile(fresh, []byte(order), 0o600); err != nil {
		f.t.Fatal(err)
	}
	if err := os.Rename(fresh, f.failpoint(point)); err != nil {
		f.t.Fatal(err)
	}
}

// order gives an order and waits until it was followed; false if the run ended before.
func (f *folder) order(point, order, run string) bool {
	f.t.Helper()
	f.write(point, order)
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(2 * time.Millisecond) {
		if _, err := os.Stat(f.failpoint(point)); err != nil {
			f.begins()
			f.struck(run)
			return true
		}
		if d, err := f.look(run); err == nil && !d.Status.Open() {
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

// refused waits until a thawed worker has been told that its attempt is
// another's: by the database when it writes, or by Temporal at its next
// heartbeat or answer, which may say that the whole stage is done. Its log had so many bytes when it was frozen.
func (f *folder) refused(written int) {
	f.t.Helper()
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		log := f.workerLog()
		if log = log[min(written, len(log)):]; strings.Contains(log, "belongs to token") || strings.Contains(log, "already timed out") || strings.Contains(log, "workflow execution already completed") ||
			strings.Contains(log, "idle-in-transaction") {
			return
		}
	}
	log := f.workerLog()
	f.t.Errorf("the thawed worker was not refused; it says:\n%s", log[min(written, len(log)):])
}
