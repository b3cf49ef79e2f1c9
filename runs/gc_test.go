package runs_test

import (
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/trimtab/trimtab"
	"github.com/trimtab/trimtab/checkpoint"
	"github.com/trimtab/trimtab/recipes"
	"github.com/trimtab/trimtab/runs"
	"github.com/trimtab/trimtab/storage"
)

// usual is what `trimtab gc` keeps by default.
var usual = runs.Retention{Grace: 24 * time.Hour, States: 7 * 24 * time.Hour, Damaged: 30 * 24 * time.Hour}

// files lists the files of the bench's store, without its lock and ties.
func (b *bench) files() (names []string) {
	b.t.Helper()
	err := fs.WalkDir(os.DirFS(b.dir), ".", func(name string, e fs.DirEntry, err error) error {
		if err == nil && !e.IsDir() && strings.Contains(name, "/") && !strings.HasPrefix(name, "databases/") {
			names = append(names, name)
		}
		return err
	})
	if err != nil {
		b.t.Fatal(err)
	}
	return names
}

// age makes everything in the store 40 days old.
func (b *bench) age() {
	b.t.Helper()
	old := time.Now().Add(-40 * 24 * time.Hour)
	for _, name := range b.files() {
		if err := os.Chtimes(filepath.Join(b.dir, name), old, old); err != nil {
			b.t.Fatal(err)
		}
	}
}

func (b *bench) drop(name string) string {
	b.t.Helper()
	file := filepath.Join(b.dir, name)
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		b.t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(name), 0o600); err != nil {
		b.t.Fatal(err)
	}
	return name
}

func (b *bench) garbage(r runs.Retention) []string {
	b.t.Helper()
	g, err := b.FindGarbage(b.ctx, r)
	if err != nil {
		b.t.Fatal(err)
	}
	var paths []string
	for _, l := range g.Files {
		paths = append(paths, l.Path)
	}
	return paths
}

// With a finished run, one that waits for a person, and one that reuses the
// first: whatever they point to stays, however old, and whatever else is there
// goes. After that the runs are whole, and the one that waits continues.
func TestGarbage(t *testing.T) {
	b := newBench(t, 0)
	first := b.await(b.launch(), trimtab.RunCompleted)
	waits := b.launch("seed=2", "reward.gates=[{metric: held_out/accuracy, min: 0.99}]", "reward.checkpoint_steps=1")
	b.await(waits, trimtab.RunBlocked)
	spec, err := recipes.Load("instructgpt", "smallest", nil)
	if err != nil {
		t.Fatal(err)
	}
	again, err := b.Launch(b.ctx, runs.LaunchRequest{Spec: spec, Actor: "tester", New: true, Reuse: true})
	if err != nil {
		t.Fatal(err)
	}
	b.await(again.Run.ID, trimtab.RunCompleted)

	whole := b.files()
	b.age()
	if got := b.garbage(usual); got != nil {
		t.Fatalf("garbage of runs that ended just now: %v", got)
	}
	files, err := checkpoint.Open(b.dir)
	if err != nil {
		t.Fatal(err)
	}
	nameless, err := files.Put([]checkpoint.File{{Name: "config.json", Data: []byte("nameless")}})
	if err != nil {
		t.Fatal(err)
	}
	hex := trimtab.DigestOf([]byte("x")).Hex()
	attempts, err := b.Store().Attempts(b.ctx, waits)
	if err != nil {
		t.Fatal(err)
	}
	// The reward stage of the run that waits can be continued: its two newest checkpoints stay.
	reward := checkpoint.AttemptName(attempts[slices.IndexFunc(attempts,
		func(a storage.Attempt) bool { return a.Stage == "reward" })].ID)
	orphans := []string{
		"artifacts/" + nameless.Hex(), "objects/" + trimtab.DigestOf([]byte("nameless")).Hex(),
		b.drop("objects/" + hex),
		b.drop("states/attempt-999/" + hex), b.drop("states/" + reward + "/" + hex),
		b.drop("states/" + reward + "/" + hex + ".damaged"),
		b.drop("rollouts/" + reward + "/" + hex), b.drop("rollouts/attempt-999/" + hex), b.drop("partial/file-1"),
	}
	b.age()
	young := []string{b.drop("objects/" + trimtab.DigestOf([]byte("y")).Hex()), b.drop("states/attempt-998/" + hex),
		b.drop("rollouts/attempt-998/" + hex)}
	slices.Sort(orphans)
	if got := b.garbage(usual); !slices.Equal(got, orphans) {
		t.Fatalf("garbage is\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(orphans, "\n"))
	}
	// Once the run is open no more, or as old as asked, a completed stage keeps one checkpoint.
	settled := usual
	settled.States = 0
	lasts := b.lastStates()
	want := slices.DeleteFunc(slices.Clone(whole),
		func(name string) bool { return !strings.HasPrefix(name, "states/") || lasts[name] })
	if got := slices.DeleteFunc(b.garbage(settled),
		func(name string) bool { return slices.Contains(orphans, name) }); !slices.Equal(got, want) || len(want) == 0 {
		t.Errorf("of completed stages go\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}

	g, err := b.FindGarbage(b.ctx, usual)
	if err != nil {
		t.Fatal(err)
	}
	name, reason := "states/"+reward+"/"+hex, "attempt 1 of reward in run "+waits
	if !slices.ContainsFunc(g.Files, func(f checkpoint.UnreferencedFile) bool {
		return f.Path == name && strings.HasSuffix(f.Reason, reason)
	}) {
		t.Errorf("no file has a reason that ends with %q: %+v", reason, g.Files)
	}
	if removed, err := b.RemoveGarbage(g); err != nil || len(removed) != len(orphans) {
		t.Errorf("removed %d files, %v", len(removed), err)
	}
	left := append(slices.Clone(whole), young...)
	slices.Sort(left)
	if got := b.files(); !slices.Equal(got, left) {
		t.Errorf("left are\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(left, "\n"))
	}
	b.sound()
	if _, err := b.Rerun(b.ctx, runs.RerunRequest{Run: waits, Stage: "reward", FromCheckpoint: "latest",
		Sets: []string{"reward.gates=[]"}, Actor: "tester"}); err != nil {
		t.Fatal(err)
	}
	b.await(waits, trimtab.RunCompleted)
	if got := digests(b.await(first.ID, trimtab.RunCompleted)); !maps.Equal(got, digests(first)) {
		t.Errorf("the first run has changed: %v", got)
	}
}

// lastStates are the files of the last checkpoints of all attempts.
func (b *bench) lastStates() map[string]bool {
	b.t.Helper()
	lasts := map[string]bool{}
	all, err := b.Store().Runs(b.ctx, 0)
	if err != nil {
		b.t.Fatal(err)
	}
	for _, r := range all {
		attempts, err := b.Store().Attempts(b.ctx, r.ID)
		if err != nil {
			b.t.Fatal(err)
		}
		for _, a := range attempts {
			c, _, err := b.Store().LatestCheckpoint(b.ctx, a.ID)
			if err != nil {
				b.t.Fatal(err)
			}
			lasts["states/"+checkpoint.AttemptName(a.ID)+"/"+c.Digest.Hex()] = true
		}
	}
	return lasts
}

// A store that is not the database's alone is left alone: one that is known to
// be another's, one that two share, and one of which the database knows nothing.
func TestGarbageOfAnotherDatabase(t *testing.T) {
	b := newBench(t, 0)
	b.await(b.launch(), trimtab.RunCompleted)
	b.stop() // others' workers take from the same queue
	b.age()
	refused := func(what string, b *bench) {
		t.Helper()
		_, err := b.FindGarbage(b.ctx, usual)
		wantRefusal(t, what, err, "store_of_another_database", 4)
	}
	stranger := newBench(t, 0)
	stranger.stop()
	stranger.Service = runs.New(nil, stranger.Store(), b.openFiles(), nil)
	refused("a store of which an empty database knows nothing", stranger)
	b.garbage(usual)

	if err := b.RegisterDatabase(b.ctx); err != nil {
		t.Fatal(err)
	}
	b.garbage(usual)
	refused("another's store", stranger)
	if err := stranger.RegisterDatabase(b.ctx); err != nil {
		t.Fatal(err)
	}
	refused("a shared store", stranger)
	refused("a shared store", b)

	// Equal runs make equal files: what a database knows of a store does not make it its own.
	twin := newBench(t, 0)
	twin.await(twin.launch(), trimtab.RunCompleted)
	if err := twin.RegisterDatabase(b.ctx); err != nil {
		t.Fatal(err)
	}
	b.Service = runs.New(nil, b.Store(), twin.openFiles(), nil)
	refused("the store of an equal run", b)
}

func (b *bench) openFiles() *checkpoint.Store {
	b.t.Helper()
	files, err := checkpoint.Open(b.dir)
	if err != nil {
		b.t.Fatal(err)
	}
	return files
}
