package runs_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/trimtab/trimtab"
	"github.com/trimtab/trimtab/activities"
	"github.com/trimtab/trimtab/checkpoint"
	"github.com/trimtab/trimtab/devstack/devstacktest"
	"github.com/trimtab/trimtab/runs"
	"github.com/trimtab/trimtab/storage"
	"github.com/trimtab/trimtab/storage/storagetest"
	"github.com/trimtab/trimtab/tensor"
	"github.com/trimtab/trimtab/workflows"
)

// undisturbed is what the long run makes when nothing happens to it. It is
// asked for before a test makes a bench of its own.
var undisturbed struct {
	sync.Once
	made map[string]trimtab.Digest
}

func whole(t *testing.T) map[string]trimtab.Digest {
	t.Helper()
	undisturbed.Do(func() {
		b := newBench(t, 0)
		undisturbed.made = digests(b.await(b.launch(long...), trimtab.RunCompleted))
		b.stop()
	})
	if len(undisturbed.made) < 6 {
		t.Fatalf("the undisturbed run made %v", undisturbed.made)
	}
	return undisturbed.made
}

func same(t *testing.T, d runs.View, want map[string]trimtab.Digest) {
	t.Helper()
	if got := digests(d); !maps.Equal(got, want) {
		t.Errorf("the run made\n%v\nundisturbed\n%v", got, want)
	}
}

// anew replaces the worker by one that remembers nothing.
func (b *bench) anew(options ...activities.Option) {
	b.t.Helper()
	b.stop()
	files, err := checkpoint.Open(b.dir)
	if err != nil {
		b.t.Fatal(err)
	}
	pool := tensor.NewPool(0)
	b.t.Cleanup(pool.Close)
	b.acts = activities.New(slog.New(slog.DiscardHandler), b.Store(), files, pool, "test", options...)
	b.start()
}

// paused stops the long run in the middle of pretraining and returns the files of its states.
func (b *bench) paused() (id string, newest, older string) {
	b.t.Helper()
	id = b.launch(long...)
	b.awaitStep(id, "pretrain", 100)
	if err := b.Pause(b.ctx, id, "", "tester"); err != nil {
		b.t.Fatal(err)
	}
	d := b.await(id, trimtab.RunPaused)
	for at := -1; at != d.Stages[0].Step; { // until its stage has stopped
		at = d.Stages[0].Step
		time.Sleep(400 * time.Millisecond)
		d = b.await(id, trimtab.RunPaused)
	}
	files, err := filepath.Glob(filepath.Join(b.dir, "states", "*", "*"))
	if err != nil || len(files) != 2 {
		b.t.Fatalf("states %v, %v", files, err)
	}
	newest, older = files[0], files[1]
	if filepath.Base(newest) != d.Stages[0].Checkpoint.Hex() {
		newest, older = older, newest
	}
	return id, newest, older
}

func (b *bench) events(id string, typ trimtab.EventType) (bodies []map[string]any) {
	b.t.Helper()
	events, err := b.History(b.ctx, id, "")
	if err != nil {
		b.t.Fatal(err)
	}
	for _, e := range events {
		if e.Type != typ {
			continue
		}
		var body map[string]any
		if err := json.Unmarshal(e.Body, &body); err != nil {
			b.t.Fatal(err)
		}
		bodies = append(bodies, body)
	}
	return bodies
}

// A damaged newest checkpoint is reported, kept for inspection, and the one before
// it is used; with both damaged the attempt begins again. Nothing of what was
// made is another.
func TestDamagedCheckpoint(t *testing.T) {
	flip := func(file string) error {
		raw, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		raw[len(raw)/2] ^= 1
		return os.WriteFile(file, raw, 0o600)
	}
	cut := func(file string) error { return os.Truncate(file, 1000) }
	want := whole(t)
	for name, c := range map[string]struct {
		newest, older func(string) error
		kept          int // damaged files
		reported      int // damaged checkpoints
	}{
		"a flipped bit": {flip, nil, 1, 1},
		"truncated":     {cut, nil, 1, 1},
		"gone":          {os.Remove, nil, 0, 1},
		"both":          {flip, cut, 2, 2},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t, 0)
			id, newest, older := b.paused()
			if err := c.newest(newest); err != nil {
				t.Fatal(err)
			}
			if c.older != nil {
				if err := c.older(older); err != nil {
					t.Fatal(err)
				}
			}
			b.anew()
			if err := b.Resume(b.ctx, id, "", "tester"); err != nil {
				t.Fatal(err)
			}
			same(t, b.await(id, trimtab.RunCompleted), want)
			kept, err := filepath.Glob(filepath.Join(b.dir, "states", "*", "*.damaged"))
			reported := b.events(id, trimtab.EventCheckpointDamaged)
			if err != nil || len(kept) != c.kept || len(reported) != c.reported {
				t.Errorf("%d damaged files are kept, %v; reported %v", len(kept), err, reported)
			}
			lines, _, err := b.Logs(b.ctx, id, 0, 0)
			if err != nil || !strings.Contains(messages(lines), "is damaged") {
				t.Errorf("the log says nothing of it: %v, %v", lines, err)
			}
		})
	}
}

func messages[L any](lines []L) string {
	raw, _ := json.Marshal(lines) // strings and times always encode
	return string(raw)
}

// leaping is a clock that leaps ahead once, as if somebody had set the one that nobody sets.
type leaping struct {
	start time.Time
	ahead atomic.Int64
}

func (c *leaping) Elapsed() time.Duration { return time.Since(c.start) + time.Duration(c.ahead.Load()) }

// A clock that leaps may make the watchdog take a stage for stalled, which then resumes from its last checkpoint.
func TestClockLeaps(t *testing.T) {
	want := whole(t)
	clock := &leaping{start: time.Now()}
	b := newBench(t, 0, activities.WithClock(clock))
	id := b.launch(append(long, "pretrain.segment_steps=8192")...)
	b.awaitStep(id, "pretrain", 100)
	clock.ahead.Store(int64(30 * 24 * time.Hour))
	same(t, b.await(id, trimtab.RunCompleted), want)
}

// The time of day decides nothing: where work is done or written down, only the
// database reads it, for people.
func TestNobodyReadsTheTimeOfDay(t *testing.T) {
	allowed := map[string]int{
		"../activities/activities.go": 1, // where the monotonic clock begins
		"../train/loop.go":            1, // how long a step took
	}
	for _, dir := range []string{"activities", "workflows", "storage", "train", "pretrain", "sft", "reward", "ppo",
		"eval", "model", "optim", "tensor", "dataset", "draw", "label", "starter"} {
		files, err := filepath.Glob(filepath.Join("..", dir, "*.go"))
		if err != nil || len(files) == 0 {
			t.Fatalf("%s: %d files, %v", dir, len(files), err)
		}
		for _, file := range files {
			raw, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if n := strings.Count(string(raw), "time.Now()"); n != allowed[file] &&
				!strings.HasSuffix(file, "_test.go") {
				t.Errorf("%s reads the time of day %d times, want %d", file, n, allowed[file])
			}
		}
	}
}

// A stage of which nothing was heard for long shows it.
func TestSilenceIsShown(t *testing.T) {
	b := newBench(t, 0)
	b.stop()
	id := b.launch(long...)
	ctx, s := b.ctx, b.Store()
	run, err := s.Run(ctx, id)
	if err != nil {
		t.Fatal(err)
	}
	st := run.Plan.Stages[0] // all its inputs are datasets
	row := storage.Attempt{Run: id, Stage: st.Name, Kind: st.Kind, Number: 1, Config: st.Config}
	for _, in := range st.Inputs {
		row.Inputs = append(row.Inputs, trimtab.Named{Name: in.Name, Digest: in.Dataset})
	}
	a, err := s.CreateAttempt(ctx, row)
	if err != nil {
		t.Fatal(err)
	}
	show := func(ago time.Duration) string {
		t.Helper()
		err := errors.Join(s.Lease(a.ID, 1).SetProgress(ctx, storage.Progress{Step: 1, Steps: 9, At: time.Now().Add(-ago)}),
			s.SetRunStatus(ctx, id, trimtab.RunRunning, "", nil, "tester"))
		d, showErr := b.Show(ctx, id)
		if err := errors.Join(err, showErr); err != nil {
			t.Fatal(err)
		}
		return d.Next
	}
	if err := errors.Join(s.Lease(a.ID, 1).Acquire(ctx), s.Lease(a.ID, 1).Start(ctx, 9, "build", "avx2")); err != nil {
		t.Fatal(err)
	}
	if next := show(time.Second); next != "" {
		t.Errorf("after a second it says %q", next)
	}
	if next := show(time.Minute); !strings.Contains(next, "no worker has reported on pretrain for 60 s") {
		t.Errorf("after a minute it says %q", next)
	}
	if err := s.Lease(a.ID, 1).TouchProgress(ctx); err != nil {
		t.Fatal(err)
	}
	if d, err := b.Show(ctx, id); err != nil || d.Next != "" {
		t.Errorf("when it is at work again it says %q, %v", d.Next, err)
	}
	if err := s.Lease(a.ID, 2).TouchProgress(ctx); trimtab.AsError(err).Type != "fenced" {
		t.Errorf("another may report it too: %v", err)
	}
	if err := b.temporal.TerminateWorkflow(ctx, workflows.RunID(id), "", "done"); err != nil {
		t.Fatal(err)
	}
}

// waits asserts that a run waits, says why in what is shown, and has lost nothing when it is let go on.
func (b *bench) waits(id, typ string) {
	b.t.Helper()
	d := b.await(id, trimtab.RunWaiting)
	if d.Error == nil || d.Error.Type != typ || d.Error.Remedy == "" || !strings.Contains(d.Next, "resumes by itself") {
		b.t.Errorf("it waits with %v, next %q; want %s", d.Error, d.Next, typ)
	}
}

// A stage for which there is no memory waits for it, and is not begun.
func TestMemoryShort(t *testing.T) {
	want := whole(t)
	var free atomic.Int64
	free.Store(1 << 10)
	b := newBench(t, 0, activities.WithMemory(func() (int64, bool) { return free.Load(), true }))
	id := b.launch(long...)
	b.waits(id, "memory_short")
	free.Store(1 << 40)
	same(t, b.await(id, trimtab.RunCompleted), want)
}

// smallDisk is a folder that is a file system of its own.
func smallDisk(t *testing.T, options string) string {
	t.Helper()
	dir := t.TempDir()
	if err := syscall.Mount("none", dir, "tmpfs", 0, options); err != nil {
		if errors.Is(err, syscall.EPERM) {
			t.Skip("a file system cannot be mounted here: ", err)
		}
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, 0); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// A disk that is full, or takes no writes, is waited for.
func TestDiskFullAndReadOnly(t *testing.T) {
	dir := smallDisk(t, "size=64m")
	want := whole(t)
	b := newBenchIn(t, dir, 0)
	id := b.launch(long...)
	b.awaitStep(id, "pretrain", 40)
	filler := filepath.Join(dir, "filler")
	f, err := os.Create(filler)
	if err != nil {
		t.Fatal(err)
	}
	for err == nil {
		_, err = f.Write(make([]byte, 1<<16))
	}
	f.Close()
	if !errors.Is(err, syscall.ENOSPC) {
		t.Fatal(err)
	}
	b.waits(id, "disk_full")
	if err := os.Remove(filler); err != nil {
		t.Fatal(err)
	}
	b.await(id, trimtab.RunRunning)
	b.awaitStep(id, "pretrain", 120)
	remount := func(flags uintptr) {
		t.Helper()
		var err error
		// busy while a file is being written
		for end := time.Now().Add(10 * time.Second); time.Now().Before(end); time.Sleep(time.Millisecond) {
			if err = syscall.Mount("none", dir, "tmpfs", syscall.MS_REMOUNT|flags, "size=64m"); err == nil {
				return
			}
		}
		t.Fatal("the file system cannot be made read-only: ", err)
	}
	remount(syscall.MS_RDONLY)
	b.waits(id, "files_unavailable")
	remount(0)
	same(t, b.await(id, trimtab.RunCompleted), want)
	b.stop()
}

// A disk on which no file can be made any more, although there is space, is
// waited for as a full one is, and nothing that was made is another.
func TestInodesUsedUp(t *testing.T) {
	dir := smallDisk(t, "size=64m,nr_inodes=200")
	want := whole(t)
	b := newBenchIn(t, dir, 0)
	id := b.launch(long...)
	b.awaitStep(id, "pretrain", 40)
	var made []string
	var err error
	for i := 0; err == nil; i++ {
		name := filepath.Join(dir, fmt.Sprint("filler-", i))
		if err = os.WriteFile(name, nil, 0o600); err == nil {
			made = append(made, name)
		}
	}
	if !errors.Is(err, syscall.ENOSPC) {
		t.Fatal(err)
	}
	var fs syscall.Statfs_t
	if err := syscall.Statfs(dir, &fs); err != nil || fs.Bavail == 0 {
		t.Fatalf("%d blocks are free, %v: it is space that is used up", fs.Bavail, err)
	}
	b.waits(id, "disk_full")
	b.anew() // nor does a worker give up that comes now
	b.waits(id, "disk_full")
	for _, name := range made {
		if err := os.Remove(name); err != nil {
			t.Fatal(err)
		}
	}
	same(t, b.await(id, trimtab.RunCompleted), want)
	b.stop()
}

// A disk of Postgres that is full is waited for as one of the files is. While it
// is full there may be no room to say so: then it is said when there is.
func TestDiskOfPostgresFull(t *testing.T) {
	disk := storagetest.SmallDisk(t, 48)
	want := whole(t)
	b := newBench(t, 0)
	disk.MoveTables(t, b.urls)
	id := b.launch(long...)
	b.awaitStep(id, "pretrain", 40)
	free := disk.Fill(t)
	waits := func(limit time.Duration) bool {
		for end := time.Now().Add(limit); time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
			if d, err := b.Show(b.ctx, id); err == nil && d.Status == trimtab.RunWaiting {
				return d.Error != nil && d.Error.Type == "disk_full" && strings.Contains(d.Next, "resumes by itself")
			}
		}
		return false
	}
	t.Logf("the run says so while the disk is full: %v", waits(15*time.Second))
	free()
	same(t, b.await(id, trimtab.RunCompleted), want)
	said := 0
	for _, e := range b.events(id, trimtab.EventRunStatus) {
		why, _ := e["error"].(map[string]any)
		if e["status"] == string(trimtab.RunWaiting) && why["type"] == "disk_full" &&
			strings.Contains(fmt.Sprint(why["message"]), "the disk of Postgres is full") {
			said++
		}
	}
	if said == 0 {
		t.Error("the full disk was not reported")
	}
}

// A database that is away for some seconds costs no step: what was computed waits for it.
func TestDatabaseAway(t *testing.T) {
	want := whole(t)
	b := newBench(t, 0)
	id := b.launch(append(long, "pretrain.segment_steps=8192")...)
	b.awaitStep(id, "pretrain", 100)
	devstacktest.RestartPostgres(t, func() { time.Sleep(3 * time.Second) })
	d := b.await(id, trimtab.RunCompleted)
	same(t, d, want)
	started := 0
	for _, e := range b.events(id, trimtab.EventAttemptStarted) {
		if e["from"] != "queued" {
			started++
		}
	}
	if started > 0 {
		t.Errorf("segments were begun again %d times", started)
	}
}
