package fetch

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/ulikunitz/xz"
)

// entry is one of a tar.
type entry struct {
	name string
	kind byte
	mode int64
	body string // or where a link leads
}

var sound = []entry{
	{"bin/", tar.TypeDir, 0o700, ""},
	{"bin/run", tar.TypeReg, 0o700, "#!/bin/sh\necho here\n"},
	{"lib/a.so.1.2", tar.TypeReg, 0o600, "library"},
	{"lib/a.so.1", tar.TypeSymlink, 0o777, "a.so.1.2"},
	{"share/deep/in/a.txt", tar.TypeReg, 0o640, strings.Repeat("text ", 10_000)},
	{"share/up", tar.TypeSymlink, 0o777, "../lib/a.so.1"},
	{"share/empty", tar.TypeReg, 0o644, ""},
}

func tarOf(t testing.TB, entries []entry) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, e := range entries {
		h := &tar.Header{Name: e.name, Typeflag: e.kind, Mode: e.mode, Size: int64(len(e.body))}
		if e.kind != tar.TypeReg {
			h.Size, h.Linkname = 0, e.body
		}
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if e.kind == tar.TypeReg {
			if _, err := io.WriteString(w, e.body); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func xzOf(t testing.TB, plain []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	w, err := xz.NewWriter(&b)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(plain); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// zipOf writes a zip file of files, by name.
func zipOf(t testing.TB, files map[string][]byte) string {
	t.Helper()
	var b bytes.Buffer
	w := zip.NewWriter(&b)
	for name, body := range files {
		f, err := w.Create(name)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.Write(body); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "a.jar")
	if err := os.WriteFile(path, b.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

var plenty = Limits{Bytes: 1 << 20, Entries: 100}

func TestUnpack(t *testing.T) {
	old := syscall.Umask(0o077) // not parallel: it is the process's
	defer syscall.Umask(old)
	jar := zipOf(t, map[string][]byte{"META-INF/MANIFEST.MF": []byte("x"), "postgres.txz": xzOf(t, tarOf(t, sound))})
	var digests []string
	for range 2 {
		dir := t.TempDir()
		if err := Unpack(jar, dir, plenty); err != nil {
			t.Fatal(err)
		}
		for name, want := range map[string]fs.FileMode{"bin": 0o755, "bin/run": 0o755, "lib": 0o755,
			"lib/a.so.1.2":  0o644,
			"share/deep/in": 0o755, "share/deep/in/a.txt": 0o644} {
			if st, err := os.Lstat(filepath.Join(dir, name)); err != nil || st.Mode().Perm() != want {
				t.Errorf("%s: %v, %v; want %v", name, st.Mode(), err, want)
			}
		}
		if b, err := os.ReadFile(filepath.Join(dir, "share/up")); string(b) != "library" {
			t.Errorf("through two links: %q, %v", b, err)
		}
		d, err := TreeDigest(dir)
		if err != nil {
			t.Fatal(err)
		}
		digests = append(digests, d)
	}
	if digests[0] != digests[1] || len(digests[0]) != 64 {
		t.Errorf("digests %v of the same archive", digests)
	}
}

func TestUnpackHostile(t *testing.T) {
	t.Parallel()
	file := func(name string) entry { return entry{name, tar.TypeReg, 0o644, "hostile"} }
	good := xzOf(t, tarOf(t, sound))
	broken := bytes.Clone(good)
	broken[len(broken)/2] ^= 1
	txz := func(entries ...entry) map[string][]byte {
		return map[string][]byte{"a.txz": xzOf(t, tarOf(t, entries))}
	}
	for name, c := range map[string]struct {
		files map[string][]byte
		says  string
	}{
		"above":            {txz(file("../outside")), "outside"},
		"from the root":    {txz(file("/tmp/trimtab-hostile")), "outside"},
		"above, later":     {txz(file("bin/../../outside")), "outside"},
		"link to the root": {txz(entry{"l", tar.TypeSymlink, 0o777, "/etc"}), "leads out"},
		"link above":       {txz(entry{"bin/l", tar.TypeSymlink, 0o777, "../../x"}), "leads out"},
		"through a link": {txz(entry{"a/l", tar.TypeSymlink, 0o777, ".."},
			entry{"m", tar.TypeSymlink, 0o777, "a/l/.."}), "leads out"},
		"file over a link":  {txz(file("a"), entry{"l", tar.TypeSymlink, 0o777, "a"}, file("l")), "exists"},
		"below a file":      {txz(file("a"), file("a/b")), ""},
		"twice":             {txz(file("a"), file("a")), "exists"},
		"hard link":         {txz(file("a"), entry{"b", tar.TypeLink, 0o644, "a"}), "neither"},
		"device":            {txz(entry{"d", tar.TypeChar, 0o644, ""}), "neither"},
		"FIFO":              {txz(entry{"d", tar.TypeFifo, 0o644, ""}), "neither"},
		"the folder itself": {txz(file("./.")), "outside"},
		"too large":         {txz(entry{"a", tar.TypeReg, 0o644, strings.Repeat("0", 2<<20)}), "larger"},
		"too many":          {txz(make101()...), "larger"},
		"nothing":           {map[string][]byte{"META-INF/MANIFEST.MF": nil}, "no .txz"},
		"two":               {map[string][]byte{"a.txz": good, "b.txz": good}, "more than one"},
		"not xz":            {map[string][]byte{"a.txz": []byte("not xz, but long enough")}, "xz"},
		"not tar":           {map[string][]byte{"a.txz": xzOf(t, []byte(strings.Repeat("not tar", 200)))}, "tar"},
		"cut":               {map[string][]byte{"a.txz": good[:len(good)/2]}, ""},
		"damaged":           {map[string][]byte{"a.txz": broken}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			parent := t.TempDir()
			dir := filepath.Join(parent, "into")
			if err := os.Mkdir(dir, 0o755); err != nil {
				t.Fatal(err)
			}
			err := Unpack(zipOf(t, c.files), dir, plenty)
			if err == nil {
				t.Fatal("it was unpacked")
			}
			t.Logf("it says: %v", err)
			if !strings.Contains(err.Error(), c.says) {
				t.Errorf("it says %q, want %q in it", err, c.says)
			}
			wantKind(t, err, Archive)
			wantInside(t, parent)
		})
	}
	wantKind(t, Unpack("/dev/null", t.TempDir(), plenty), Archive)
}

func make101() []entry {
	all := make([]entry, 101)
	for i := range all {
		all[i] = entry{strings.Repeat("d/", i) + "d", tar.TypeDir, 0o755, ""}
	}
	return all
}

// wantInside sees that only the folder "into" is in parent, and that no link in it leads out.
func wantInside(t *testing.T, parent string) {
	t.Helper()
	top, err := filepath.EvalSymlinks(filepath.Join(parent, "into"))
	if err != nil {
		t.Fatal(err)
	}
	err = filepath.WalkDir(parent, func(p string, d fs.DirEntry, err error) error {
		if err != nil || p == parent {
			return err
		}
		rel, _ := filepath.Rel(parent, p)
		if !strings.HasPrefix(rel, "into") {
			t.Errorf("%s was written", rel)
		}
		if d.Type()&fs.ModeSymlink != 0 {
			to, _ := os.Readlink(p)
			if target := filepath.Join(filepath.Dir(rel), to); filepath.IsAbs(to) || target != "into" &&
				!strings.HasPrefix(target, "into/") {
				t.Errorf("%s leads to %s", rel, to)
			}
			if real, err := filepath.EvalSymlinks(p); err == nil && real != top && !strings.HasPrefix(real, top+"/") {
				t.Errorf("%s leads to %s", rel, real)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestTreeDigest(t *testing.T) {
	t.Parallel()
	jar := zipOf(t, map[string][]byte{"a.txz": xzOf(t, tarOf(t, sound))})
	fresh := func(t *testing.T) string {
		dir := t.TempDir()
		if err := Unpack(jar, dir, plenty); err != nil {
			t.Fatal(err)
		}
		return dir
	}
	digest := func(t *testing.T, dir string) string {
		d, err := TreeDigest(dir)
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	want := digest(t, fresh(t))
	for name, change := range map[string]func(dir string) error{
		"a byte": func(d string) error {
			return os.WriteFile(filepath.Join(d, "lib/a.so.1.2"), []byte("librarY"),
				0o644)
		},
		"a file gone": func(d string) error { return os.Remove(filepath.Join(d, "share/empty")) },
		"a file more": func(d string) error { return os.WriteFile(filepath.Join(d, "share/more"), nil, 0o644) },
		"a name": func(d string) error {
			return os.Rename(filepath.Join(d, "share/empty"), filepath.Join(d, "share/void"))
		},
		"not runnable": func(d string) error { return os.Chmod(filepath.Join(d, "bin/run"), 0o644) },
		"runnable":     func(d string) error { return os.Chmod(filepath.Join(d, "share/empty"), 0o755) },
		"a link": func(d string) error {
			l := filepath.Join(d, "lib/a.so.1")
			return errors.Join(os.Remove(l), os.Symlink("a.so.1.3", l))
		},
		"a file for a link": func(d string) error {
			l := filepath.Join(d, "lib/a.so.1")
			return errors.Join(os.Remove(l), os.WriteFile(l, []byte("library"), 0o644))
		},
		"a folder more": func(d string) error { return os.Mkdir(filepath.Join(d, "more"), 0o755) },
		"a FIFO": func(d string) error {
			p := filepath.Join(d, "share/empty")
			return errors.Join(os.Remove(p), syscall.Mkfifo(p, 0o644))
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := fresh(t)
			if err := change(dir); err != nil {
				t.Fatal(err)
			}
			if digest(t, dir) == want {
				t.Error("the same digest")
			}
		})
	}
}

func FuzzUntar(f *testing.F) {
	f.Add(tarOf(f, sound[:4]))
	f.Add(tarOf(f, []entry{{"../x", tar.TypeReg, 0o644, "x"}, {"a/../../b", tar.TypeDir, 0o755, ""}}))
	f.Add(tarOf(f, []entry{{"a/l", tar.TypeSymlink, 0o777, ".."}, {"m", tar.TypeSymlink, 0o777, "a/l"},
		{"n", tar.TypeSymlink, 0o777, "m/../x"}}))
	f.Add(tarOf(f, []entry{{"l", tar.TypeSymlink, 0o777, "."}, {"l/l", tar.TypeSymlink, 0o777, "../.."},
		{"l/l/x", tar.TypeReg, 0o644, "x"}}))
	f.Fuzz(func(t *testing.T, b []byte) {
		parent := t.TempDir()
		dir := filepath.Join(parent, "into")
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		_ = untar(bytes.NewReader(b), dir, plenty)
		wantInside(t, parent)
	})
}
