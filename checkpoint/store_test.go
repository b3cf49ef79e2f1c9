package checkpoint

import (
	"math"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/trimtab/trimtab"
	"github.com/trimtab/trimtab/tensor"
)

func open(t testing.TB) *Store {
	t.Helper()
	s, err := Open(filepath.Join(t.TempDir(), "store"))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func typeOf(err error) string {
	if err == nil {
		return ""
	}
	return trimtab.AsError(err).Type
}

var someFiles = []File{blob("b.txt", "hello\n"), blob("a/c.bin", "\x00\x01"), blob("empty", "")}

func blob(name, content string) File { return File{Name: name, Data: []byte(content)} }

func put(t testing.TB, s *Store, files []File) trimtab.Digest {
	t.Helper()
	d, err := s.Put(files)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func TestPutAndFiles(t *testing.T) {
	s := open(t)
	d := put(t, s, someFiles)
	files, err := s.Files(d)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, f := range files {
		got = append(got, f.Name+"="+string(f.Data))
	}
	if want := []string{"a/c.bin=\x00\x01", "b.txt=hello\n", "empty="}; !slices.Equal(got, want) {
		t.Errorf("got %q", got)
	}
	turned := slices.Clone(someFiles)
	slices.Reverse(turned)
	if again := put(t, s, turned); again != d {
		t.Error("the order of files changed the digest")
	}
	// of the three sorted lines, computed in Python
	const golden = "sha256:5e570df77a69b675a22615028177cf575d316f7bbc2b190c7e8c6ee307fe98c9"
	if d != golden {
		t.Errorf("digest %s", d)
	}
}

func TestStoreIsForItsOwnerOnly(t *testing.T) {
	s := open(t)
	put(t, s, someFiles)
	filepath.Walk(s.dir, func(path string, info os.FileInfo, err error) error {
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s has mode %v", path, info.Mode())
		}
		return nil
	})
	if entries, _ := os.ReadDir(filepath.Join(s.dir, partial)); len(entries) != 0 {
		t.Errorf("left under way: %v", entries)
	}
}

func TestPutRefusesNames(t *testing.T) {
	s := open(t)
	for _, name := range []string{"", ".", "..", "../x", "/x", "a/../b", "a//b", "a\\b", "C:x", "a\nb", "a\x00", "a/",
		strings.Repeat("x", 600), "\xff"} {
		if _, err := s.Put([]File{blob(name, "")}); err == nil {
			t.Errorf("%q accepted", name)
		}
	}
	if _, err := s.Put([]File{blob("a", ""), blob("a", "x")}); err == nil {
		t.Error("a name twice accepted")
	}
	if _, err := s.Put(nil); err == nil {
		t.Error("no file accepted")
	}
}

// Each way to damage the store, and the type of error that reading gives.
func TestDamageIsFound(t *testing.T) {
	object := func(s *Store, content string) string { return s.path(objects, trimtab.DigestOf([]byte(content))) }
	overwrite := func(path, content string) {
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for name, c := range map[string]struct {
		harm func(s *Store, d trimtab.Digest)
		want string
	}{
		"bit flipped": {func(s *Store, d trimtab.Digest) { overwrite(object(s, "hello\n"), "hellp\n") },
			"artifact_corrupt"},
		"cut": {func(s *Store, d trimtab.Digest) { overwrite(object(s, "hello\n"), "hel") },
			"artifact_corrupt"},
		"emptied": {func(s *Store, d trimtab.Digest) { overwrite(object(s, "hello\n"), "") },
			"artifact_corrupt"},
		"longer": {func(s *Store, d trimtab.Digest) { overwrite(object(s, "hello\n"), "hello\n\n") },
			"artifact_corrupt"},
		"deleted": {func(s *Store, d trimtab.Digest) { os.Remove(object(s, "hello\n")) }, "artifact_missing"},
		"manifest changed": {func(s *Store, d trimtab.Digest) { overwrite(s.path(artifacts, d), "x") },
			"artifact_corrupt"},
		"manifest deleted": {func(s *Store, d trimtab.Digest) { os.Remove(s.path(artifacts, d)) }, "artifact_missing"},
	} {
		s := open(t)
		d := put(t, s, someFiles)
		c.harm(s, d)
		if _, err := s.Files(d); typeOf(err) != c.want {
			t.Errorf("%s: error %v", name, err)
		}
		if again := put(t, s, someFiles); again != d {
			t.Errorf("%s: another digest", name)
		}
		if _, err := s.Files(d); err != nil {
			t.Errorf("%s: storing again does not heal: %v", name, err)
		}
	}
}

func TestFilesOfNoDigest(t *testing.T) {
	s := open(t)
	for _, d := range []trimtab.Digest{"", "sha256:", "../../etc/passwd", "sha256:../x"} {
		if _, err := s.Files(d); typeOf(err) != "invalid_digest" {
			t.Errorf("%q: error %v", d, err)
		}
	}
	if _, err := s.Files(trimtab.DigestOf(nil)); typeOf(err) != "artifact_missing" ||
		trimtab.AsError(err).Class != trimtab.NotFound {
		t.Errorf("error %v", err)
	}
}

func TestOpenRemovesOldPartialFiles(t *testing.T) {
	s := open(t)
	fresh, old := filepath.Join(s.dir, partial, "file-1"), filepath.Join(s.dir, partial, "file-2")
	for _, path := range []string{fresh, old} {
		if err := os.WriteFile(path, nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	past := time.Now().Add(-2 * maxPartialAge)
	if err := os.Chtimes(old, past, past); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(s.dir); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(old); err == nil {
		t.Error("the old one is still there")
	}
	if _, err := os.Stat(fresh); err != nil {
		t.Error("the fresh one is gone: another process may be writing it")
	}
}

func TestConcurrentPuts(t *testing.T) {
	s := open(t)
	want := put(t, s, someFiles)
	var group sync.WaitGroup
	for range 8 {
		group.Go(func() {
			if d, err := s.Put(someFiles); d != want || err != nil {
				t.Errorf("digest %s, error %v", d, err)
			}
			if _, err := s.Files(want); err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
}

func FuzzManifest(f *testing.F) {
	raw, _ := writeManifest([]manifestEntry{{trimtab.DigestOf(nil), 0, "a"},
		{trimtab.DigestOf([]byte("x")), 1, "b c/d"}})
	f.Add(raw)
	f.Add([]byte("x 1 a\n"))
	f.Add([]byte(trimtab.DigestOf(nil).Hex() + " 00 a\n"))
	f.Add([]byte(trimtab.DigestOf(nil).Hex() + " 0 ../a\n"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		entries, err := readManifest(raw)
		if err != nil {
			return
		}
		again, err := writeManifest(entries)
		if err != nil || string(again) != string(raw) {
			t.Fatalf("%q came back as %q, error %v", raw, again, err)
		}
	})
}

func someState(x float32) []tensor.NamedArray {
	return []tensor.NamedArray{
		{Name: "weights", Shape: []int{2, 2}, Data: []float32{x, 2, 3, 4}},
		{Name: "controller", Shape: nil, Data: []float32{0.2}},
	}
}

func saveState(t testing.TB, s *Store, attempt string, step int, state []tensor.NamedArray) trimtab.Digest {
	t.Helper()
	d, err := s.SaveState(attempt, step, state)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func TestStateRoundTrip(t *testing.T) {
	s := open(t)
	d := saveState(t, s, "run/sft/1", 40, someState(1))
	into := someState(0)
	step, err := s.LoadState("run/sft/1", d, into)
	if err != nil || step != 40 || !reflect.DeepEqual(into, someState(1)) {
		t.Errorf("step %d, state %v, error %v", step, into, err)
	}
	if again := saveState(t, s, "17", 40, someState(1)); again != d {
		t.Error("the attempt is part of the bytes")
	}
	if later := saveState(t, s, "run/sft/1", 41, someState(1)); later == d {
		t.Error("the step is not part of the bytes")
	}
	if _, err := s.LoadState("run/sft/2", d, into); typeOf(err) != "artifact_missing" {
		t.Errorf("of another attempt: error %v", err)
	}
}

func TestStateMismatch(t *testing.T) {
	s := open(t)
	d := saveState(t, s, "a", 1, someState(1))
	for name, into := range map[string][]tensor.NamedArray{
		"fewer": someState(0)[:1],
		"order": {someState(0)[1], someState(0)[0]},
		"name":  {{Name: "weight", Shape: []int{2, 2}, Data: make([]float32, 4)}, someState(0)[1]},
		"shape": {{Name: "weights", Shape: []int{4}, Data: make([]float32, 4)}, someState(0)[1]},
	} {
		if _, err := s.LoadState("a", d, into); typeOf(err) != "state_mismatch" {
			t.Errorf("%s: error %v", name, err)
		}
	}
}

func TestStateNotANumber(t *testing.T) {
	s := open(t)
	for _, v := range []float64{math.NaN(), math.Inf(1), math.Inf(-1)} {
		if _, err := s.SaveState("a", 1, someState(float32(v))); typeOf(err) != "not_a_number" ||
			!strings.Contains(err.Error(), "array weights, element 0") {
			t.Errorf("save %v: error %v", v, err)
		}
	}
	raw := EncodeSafetensors(someState(float32(math.NaN())), map[string]string{stepKey: "1"})
	d := trimtab.DigestOf(raw)
	saveState(t, s, "a", 1, someState(1))
	if err := os.WriteFile(s.path(states+"/a", d), raw, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := s.LoadState("a", d, someState(0)); typeOf(err) != "not_a_number" {
		t.Errorf("load: error %v", err)
	}
}

func TestStateDamage(t *testing.T) {
	s := open(t)
	d := saveState(t, s, "a", 1, someState(1))
	whole, err := os.ReadFile(s.path(states+"/a", d))
	if err != nil {
		t.Fatal(err)
	}
	for _, harmed := range [][]byte{nil, whole[:len(whole)-1], append(slices.Clone(whole), 0),
		append([]byte{whole[0] ^ 1}, whole[1:]...)} {
		if err := os.WriteFile(s.path(states+"/a", d), harmed, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := s.LoadState("a", d, someState(0)); typeOf(err) != "artifact_corrupt" {
			t.Errorf("error %v", err)
		}
	}
	for _, meta := range []map[string]string{nil, {stepKey: "-1"}, {stepKey: "x"}} {
		raw := EncodeSafetensors(someState(1), meta)
		d := trimtab.DigestOf(raw)
		if err := os.WriteFile(s.path(states+"/a", d), raw, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := s.LoadState("a", d, someState(0)); typeOf(err) != "artifact_corrupt" {
			t.Errorf("step %v: error %v", meta, err)
		}
	}
}

func TestRemoveState(t *testing.T) {
	s := open(t)
	one, two := saveState(t, s, "a/1", 1, someState(1)), saveState(t, s, "a/1", 2, someState(1))
	other := saveState(t, s, "a", 1, someState(1))
	for range 2 { // the second time it is gone
		if err := s.RemoveState("a/1", one); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := s.LoadState("a/1", one, nil); err == nil {
		t.Error("a removed state was loaded")
	}
	if _, err := s.LoadState("a/1", two, someState(0)); err != nil {
		t.Errorf("of another step: error %v", err)
	}
	if _, err := s.LoadState("a", other, someState(0)); err != nil {
		t.Errorf("of another attempt: error %v", err)
	}
	if err := s.RemoveState("../a", two); err == nil {
		t.Error("a state outside the store was removed")
	}
}

func TestAttemptNames(t *testing.T) {
	s := open(t)
	for _, name := range []string{"", "..", "../x", "/x", "a//b", "a/../b", ".a", "a b", "a/", "a\\b", "-x"} {
		if _, err := s.SaveState(name, 1, someState(1)); err == nil {
			t.Errorf("%q accepted for saving", name)
		}
		if err := s.RemoveState(name, trimtab.DigestOf(nil)); err == nil {
			t.Errorf("%q accepted for removing", name)
		}
	}
}
