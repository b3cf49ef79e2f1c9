package checkpoint

import (
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/trimtab/trimtab/tensor"
)

func named(name string, data ...float32) tensor.NamedArray {
	return tensor.NamedArray{Name: name, Shape: []int{len(data)}, Data: data}
}

// stored are arrays as they are read from a file.
func stored(t *testing.T, arrays []tensor.NamedArray) []rawArray {
	t.Helper()
	parsed, _, err := parseSafetensors(EncodeSafetensors(arrays, nil))
	if err != nil {
		t.Fatal(err)
	}
	return parsed
}

func TestCompare(t *testing.T) {
	negative := float32(math.Copysign(0, -1))
	was := []tensor.NamedArray{named("a", 1, 2), named("b", 0, 0.1)}
	for what, c := range map[string]struct {
		is   []tensor.NamedArray
		want Mismatch
	}{
		"a sign of zero": {[]tensor.NamedArray{named("a", 1, 2), named("b", negative, 0.1)},
			Mismatch{"b", 0, "0", "-0"}},
		"the lowest bit": {[]tensor.NamedArray{named("a", 1, 2), named("b", 0, 0.10000001)},
			Mismatch{"b", 1, "0.1", "0.10000001"}},
		"a shape": {[]tensor.NamedArray{named("a", 1, 2, 3), was[1]},
			Mismatch{"a", -1, "F32 of shape [2]", "F32 of shape [3]"}},
		"a name":          {[]tensor.NamedArray{was[0], named("c", 0, 0.1)}, Mismatch{"b", -1, "b", "c"}},
		"an array less":   {was[:1], Mismatch{"b", -1, "there", "absent"}},
		"another as well": {[]tensor.NamedArray{was[0], was[1], named("c")}, Mismatch{"c", -1, "absent", "there"}},
	} {
		if d, differ := compare(stored(t, was), c.is); !differ || d != c.want {
			t.Errorf("%s: %+v, want %+v", what, d, c.want)
		}
	}
	if d, differ := compare(stored(t, was), []tensor.NamedArray{named("a", 1, 2), named("b", 0, 0.1)}); differ {
		t.Errorf("equal arrays differ in %+v", d)
	}
}

func TestCompareState(t *testing.T) {
	s := open(t)
	state := []tensor.NamedArray{named("a", 1, 2), named("b", 3)}
	d, err := s.SaveState("run", 7, state)
	if err != nil {
		t.Fatal(err)
	}
	if got := StateDigest(7, state); got != d {
		t.Errorf("the digest is %s, that of the file %s", got, d)
	}
	compare := func(step int, state ...tensor.NamedArray) (Mismatch, bool) {
		t.Helper()
		diff, differ, err := s.CompareState("run", d, step, state)
		if err != nil {
			t.Fatal(err)
		}
		return diff, differ
	}
	if diff, differ := compare(7, state...); differ {
		t.Errorf("the same state differs in %+v", diff)
	}
	if diff, _ := compare(7, state[0], named("b", 4)); diff != (Mismatch{"b", 0, "3", "4"}) {
		t.Errorf("another state differs in %+v", diff)
	}
	if diff, differ := compare(8, state...); !differ || diff.Name != "the file" {
		t.Errorf("the state of another step differs in %+v", diff)
	}
	path := s.path("states/run", d)
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, raw[:len(raw)-1], 0o600); err != nil {
		t.Fatal(err)
	}
	if diff, differ := compare(7, state...); !differ || diff.Name != "the file" || diff.Index != -1 {
		t.Errorf("a file that lacks its end differs in %+v", diff)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if _, _, err := s.CompareState("run", d, 7, state); typeOf(err) != "artifact_missing" {
		t.Errorf("a file that is gone: %v", err)
	}
}

func TestCompareModel(t *testing.T) {
	s := open(t)
	m, words := someModel(t, false)
	d := save(t, s, m, words)
	files, err := s.Files(d)
	if err != nil {
		t.Fatal(err)
	}
	if diff, differ, err := s.CompareModel(d, files); differ || err != nil {
		t.Errorf("the same model differs in %+v, %v", diff, err)
	}
	other, _ := someModel(t, false)
	other.NamedParameters()[1].Data[5] = math.Nextafter32(other.NamedParameters()[1].Data[5], 9)
	theirs, err := s.Files(save(t, s, other, words))
	if err != nil {
		t.Fatal(err)
	}
	if diff, _, _ := s.CompareModel(d, theirs); diff.Name != m.NamedParameters()[1].Name || diff.Index != 5 ||
		diff.Want != FormatFloat(m.NamedParameters()[1].Data[5]) {
		t.Errorf("another model differs in %+v", diff)
	}
	var changed []File // config.json comes before the weights, and says less
	for _, f := range files {
		if f.Name == configName {
			f.Data = []byte(strings.Replace(string(f.Data), "{", "[", 1))
		}
		changed = append(changed, f)
	}
	if diff, _, _ := s.CompareModel(d, changed); diff != (Mismatch{configName, 0, "byte 0x7b", "byte 0x5b"}) {
		t.Errorf("another config differs in %+v", diff)
	}
	if diff, _, _ := s.CompareModel(d, append(changed[:0:0], files[1:]...)); diff.Name != files[0].Name ||
		diff.Got != "absent" {
		t.Errorf("a model that lacks %s differs in %+v", files[0].Name, diff)
	}
	if diff, differ, _ := s.CompareModel(d, append(files[:len(files):len(files)], blob("more", ""))); !differ ||
		diff.Name != "the files" {
		t.Errorf("a model with a file more differs in %+v", diff)
	}
}

// A store over another reads what it lacks from there, and leaves it as it is.
func TestOverlay(t *testing.T) {
	below, s := open(t), open(t)
	d := put(t, below, someFiles)
	over := s.Overlay(below)
	if _, err := s.Files(d); typeOf(err) != "artifact_missing" {
		t.Fatalf("the store itself: %v", err)
	}
	if files, err := over.Files(d); err != nil || len(files) != len(someFiles) {
		t.Fatalf("over the other: %v, %v", files, err)
	}
	before := listing(t, below)
	if again := put(t, over, someFiles); again != d {
		t.Fatalf("stored as %s, not as %s", again, d)
	}
	put(t, over, []File{blob("new", "new")})
	if after := listing(t, below); after != before {
		t.Errorf("below was\n%s\nand is\n%s", before, after)
	}
	if files, err := s.Files(d); err != nil || len(files) != len(someFiles) {
		t.Errorf("what was stored over the other is not whole: %v, %v", files, err)
	}
	if err := os.WriteFile(below.path(artifacts, d), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Overlay(open(t).Overlay(below)).Files(d); err != nil {
		t.Errorf("its own files do not come first: %v", err)
	}
}

// listing is every file of a store with its time.
func listing(t *testing.T, s *Store) string {
	t.Helper()
	var all strings.Builder
	for _, folder := range []string{objects, artifacts, partial} {
		entries, err := os.ReadDir(filepath.Join(s.dir, folder))
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			info, err := e.Info()
			if err != nil {
				t.Fatal(err)
			}
			all.WriteString(folder + "/" + e.Name() + " " + info.ModTime().String() + "\n")
		}
	}
	return all.String()
}
