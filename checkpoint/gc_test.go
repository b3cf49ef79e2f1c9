package checkpoint

import (
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/trimtab/trimtab"
)

// age makes every file under some names of a store as old as given.
func age(t *testing.T, s *Store, old time.Duration, names ...string) {
	t.Helper()
	at := time.Now().Add(-old)
	for _, name := range names {
		err := filepath.WalkDir(filepath.Join(s.dir, name), func(path string, _ fs.DirEntry, err error) error {
			if err == nil {
				err = os.Chtimes(path, at, at)
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
}

// drop puts a file where a crash may have left it.
func drop(t *testing.T, s *Store, name string) string {
	t.Helper()
	file := filepath.Join(s.dir, filepath.FromSlash(name))
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(name), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

func artifactOf(t *testing.T, s *Store, contents ...string) trimtab.Digest {
	t.Helper()
	var files []File
	for _, c := range contents {
		files = append(files, File{Name: c, Data: []byte(c)})
	}
	d, err := s.Put(files)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func pathsOf(garbage []UnreferencedFile) (paths []string) {
	for _, l := range garbage {
		paths = append(paths, l.Path)
	}
	return paths
}

func objectOf(content string) string { return "objects/" + trimtab.DigestOf([]byte(content)).Hex() }

var day = GCPolicy{Grace: 24 * time.Hour, Damaged: 30 * 24 * time.Hour}

func TestCollectGarbage(t *testing.T) {
	s := open(t)
	named, nameless := artifactOf(t, s, "shared", "a"), artifactOf(t, s, "shared", "b")
	hex := func(i int) string { return trimtab.DigestOf([]byte{byte(i)}).Hex() }
	gone := []string{
		"artifacts/" + nameless.Hex(), objectOf("b"), drop(t, s, objectOf("of nothing")),
		drop(t, s, "states/attempt-1/"+hex(1)), drop(t, s, "states/some/other/"+hex(2)),
		drop(t, s, "rollouts/attempt-1/"+hex(3)),
		drop(t, s, "states/attempt-2/"+hex(4)+".damaged"), drop(t, s, "partial/file-1"),
	}
	kept := []string{
		"artifacts/" + named.Hex(), objectOf("shared"), objectOf("a"),
		drop(t, s, "states/attempt-1/"+hex(5)), drop(t, s, "rollouts/attempt-2/"+hex(6)),
		drop(t, s, "states/attempt-1/notes.txt"), drop(t, s, "objects/notes.txt"), drop(t, s, "notes.txt"),
	}
	age(t, s, 31*24*time.Hour, ".")
	kept = append(kept, drop(t, s, objectOf("young")), drop(t, s, "states/attempt-9/"+hex(7)),
		drop(t, s, "rollouts/attempt-9/"+hex(8)), drop(t, s, "partial/file-2"))
	kept = append(kept, drop(t, s, "states/attempt-1/"+hex(9)+".damaged"))
	age(t, s, 29*24*time.Hour, kept[len(kept)-1])
	young := artifactOf(t, s, "c") // its object is older than it
	age(t, s, 31*24*time.Hour, objectOf("c"))
	kept = append(kept, "artifacts/"+young.Hex(), objectOf("c"))

	k := day
	k.Artifact = func(d trimtab.Digest) bool { return d == named }
	k.State = func(attempt int64, d trimtab.Digest) string {
		if attempt == 1 && d.Hex() == hex(5) {
			return ""
		}
		return "is old"
	}
	k.Rollouts = func(attempt int64) string {
		if attempt == 2 {
			return ""
		}
		return "is over"
	}
	garbage, err := s.FindUnreferenced(k)
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(gone)
	if got := pathsOf(garbage); !slices.Equal(got, gone) {
		t.Fatalf("garbage is\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(gone, "\n"))
	}
	for _, l := range garbage {
		if l.Size == 0 || time.Since(l.ModTime) < 30*24*time.Hour || l.Reason == "" {
			t.Errorf("%+v", l)
		}
	}
	removed, err := s.CollectGarbage(garbage, k)
	if err != nil || len(removed) != len(gone) {
		t.Fatalf("removed %v, %v", pathsOf(removed), err)
	}
	for _, name := range gone {
		if _, err := os.Stat(filepath.Join(s.dir, name)); err == nil {
			t.Errorf("%s is still there", name)
		}
	}
	for _, name := range kept {
		if _, err := os.Stat(filepath.Join(s.dir, name)); err != nil {
			t.Errorf("%s went", name)
		}
	}
	if _, err := os.Stat(filepath.Join(s.dir, "states/some/other")); err == nil {
		t.Error("the folder of an attempt without files is still there")
	}
	if garbage, err := s.FindUnreferenced(k); err != nil || len(garbage) != 0 {
		t.Errorf("left are %v, %v", pathsOf(garbage), err)
	}
}

// Without knowing the references, only quarantined and unfinished files are garbage.
func TestEmptyPolicyKeepsEverything(t *testing.T) {
	s := open(t)
	artifactOf(t, s, "a")
	drop(t, s, "states/attempt-1/"+trimtab.DigestOf(nil).Hex())
	drop(t, s, "rollouts/attempt-1/"+trimtab.DigestOf(nil).Hex())
	age(t, s, 99*24*time.Hour, ".")
	if garbage, err := s.FindUnreferenced(day); err != nil || len(garbage) != 0 {
		t.Errorf("%v, %v", pathsOf(garbage), err)
	}
}

// While a manifest that is kept cannot be read, any object may be one of its files.
func TestGarbageWithADamagedManifest(t *testing.T) {
	s := open(t)
	named := artifactOf(t, s, "a")
	if err := os.WriteFile(s.path(artifacts, named), []byte("rotten"), 0o600); err != nil {
		t.Fatal(err)
	}
	age(t, s, 99*24*time.Hour, ".")
	k := day
	k.Artifact = func(d trimtab.Digest) bool { return d == named }
	if garbage, err := s.FindUnreferenced(k); err != nil || len(garbage) != 0 {
		t.Errorf("%v, %v", pathsOf(garbage), err)
	}
}

// What is written again between the look and the removal, in whatever part, stays whole.
func TestGarbageThatIsWrittenAnew(t *testing.T) {
	s := open(t)
	d, state := artifactOf(t, s, "a", "b"), saveStep(t, s, "attempt-1", 1)
	age(t, s, 99*24*time.Hour, ".")
	k := day
	k.Artifact = func(trimtab.Digest) bool { return false }
	k.State = func(int64, trimtab.Digest) string { return "is old" }
	garbage, err := s.FindUnreferenced(k)
	if err != nil || len(garbage) != 4 {
		t.Fatalf("%v, %v", pathsOf(garbage), err)
	}
	artifactOf(t, s, "a", "b")
	saveStep(t, s, "attempt-1", 1)
	if removed, err := s.CollectGarbage(garbage, k); err != nil || len(removed) != 0 {
		t.Errorf("removed %v, %v", pathsOf(removed), err)
	}
	if _, err := s.Files(d); err != nil {
		t.Error(err)
	}
	if err := s.CheckState("attempt-1", state); err != nil {
		t.Error(err)
	}
}

func saveStep(t *testing.T, s *Store, attempt string, step int) trimtab.Digest {
	t.Helper()
	d, err := s.SaveState(attempt, step, someArrays())
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// Writers and Collect at the same time: whatever a writer has come back from is there.
func TestCollectGarbageDuringWrites(t *testing.T) {
	s := open(t)
	k := day
	k.Artifact = func(trimtab.Digest) bool { return false }
	k.State = func(int64, trimtab.Digest) string { return "is old" }
	for range 100 {
		d, state := artifactOf(t, s, "a", "b"), saveStep(t, s, "attempt-1", 1)
		age(t, s, 99*24*time.Hour, objects, artifacts, states)
		var writers sync.WaitGroup
		writers.Go(func() {
			artifactOf(t, s, "a", "b")
			saveStep(t, s, "attempt-1", 1)
		})
		garbage, err := s.FindUnreferenced(k)
		if err == nil {
			_, err = s.CollectGarbage(garbage, k)
		}
		if err != nil {
			t.Fatal(err)
		}
		writers.Wait()
		if _, err := s.Files(d); err != nil {
			t.Fatal(err)
		}
		if err := s.CheckState("attempt-1", state); err != nil {
			t.Fatal(err)
		}
	}
}

func TestAttemptIDs(t *testing.T) {
	if got := attemptID(AttemptName(12)); got != 12 {
		t.Errorf("attempt 12 comes back as %d", got)
	}
	for _, name := range []string{"", "attempt-", "attempt-x", "attempt-+1", "attempt-01", "12", "attempt-1/2"} {
		if got := attemptID(name); got != 0 {
			t.Errorf("%q is attempt %d", name, got)
		}
	}
}

func TestRegisterDatabase(t *testing.T) {
	s := open(t)
	if databases, err := s.Databases(); err != nil || databases != nil {
		t.Errorf("a new store has the databases %v, %v", databases, err)
	}
	for _, id := range []string{"b", "a", "b"} {
		if err := s.RegisterDatabase(id); err != nil {
			t.Fatal(err)
		}
	}
	if databases, err := s.Databases(); err != nil || !slices.Equal(databases, []string{"a", "b"}) {
		t.Errorf("%v, %v", databases, err)
	}
}
