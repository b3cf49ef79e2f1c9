package plainfile_test

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"syscall"
	"testing"
	"time"

	"github.com/trimtab/trimtab/plainfile"
)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// soon fails the test if do has not returned within five seconds.
func soon(t *testing.T, what string, do func() error) error {
	t.Helper()
	ended := make(chan error, 1)
	go func() { ended <- do() }()
	select {
	case err := <-ended:
		return err
	case <-time.After(5 * time.Second):
		t.Fatalf("%s waits", what)
		return nil
	}
}

// odd makes what may be in the place of a file; each is named as an error has to name it.
func odd(t *testing.T) map[string]string {
	dir := t.TempDir()
	paths := map[string]string{"a FIFO": filepath.Join(dir, "fifo"), "a folder": filepath.Join(dir, "folder"),
		"a socket": filepath.Join(dir, "socket"), "a device": "/dev/null"}
	must(t, syscall.Mkfifo(paths["a FIFO"], 0o600))
	must(t, os.Mkdir(paths["a folder"], 0o700))
	l, err := net.Listen("unix", paths["a socket"])
	must(t, err)
	t.Cleanup(func() { l.Close() })
	return paths
}

func TestNotPlain(t *testing.T) {
	for name, path := range odd(t) {
		link := filepath.Join(t.TempDir(), "link")
		must(t, os.Symlink(path, link))
		for _, at := range []string{path, link} {
			for what, do := range map[string]func() error{
				"Open": func() error { _, err := plainfile.Open(at); return err },
				"Read": func() error { _, err := plainfile.Read(at); return err },
				"OpenFile": func() error {
					_, err := plainfile.OpenFile(at, os.O_RDWR|os.O_CREATE,
						0o600)
					return err
				},
				"AppendLine": func() error { return plainfile.AppendLine(at, 0o600, []byte("{}")) },
			} {
				err := soon(t, what+" of "+name, do)
				if !errors.Is(err, plainfile.ErrNotPlain) || !bytes.Contains([]byte(err.Error()), []byte(name)) {
					t.Errorf("%s of %s: %v", what, name, err)
				}
			}
		}
		if err := plainfile.Replace(path, 0o600, []byte("x")); !errors.Is(err, plainfile.ErrNotPlain) {
			t.Errorf("Replace of %s: %v", name, err)
		}
		if err := plainfile.WriteNew(path, 0o600, nil); !errors.Is(err, fs.ErrExist) {
			t.Errorf("New in the place of %s: %v", name, err)
		}
	}
}

func TestRead(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f")
	for _, n := range []int{0, 1, 511, 512, 100_000} {
		want := bytes.Repeat([]byte("ab"), n)[:n]
		must(t, os.WriteFile(path, want, 0o600))
		got, err := plainfile.Read(path)
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("%d bytes: read %d, %v", n, len(got), err)
		}
	}
	if runtime.GOOS == "linux" { // the size of what is under /proc is said to be 0
		if raw, err := plainfile.Read("/proc/self/stat"); err != nil || len(raw) == 0 {
			t.Errorf("a file of /proc: %d bytes, %v", len(raw), err)
		}
	}
	if _, err := plainfile.Read(filepath.Join(filepath.Dir(path), "none")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no file: %v", err)
	}
}

func TestAppendLine(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "f")
	for range 2 {
		must(t, plainfile.AppendLine(path, 0o640, []byte("{}")))
	}
	f, err := plainfile.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0)
	must(t, err)
	_, err = f.WriteString(`{"torn": `)
	must(t, errors.Join(err, f.Close(), plainfile.AppendLine(path, 0o640, []byte("{}"))))
	if got, err := os.ReadFile(path); err != nil || string(got) != "{}\n{}\n{\"torn\": \n{}\n" {
		t.Errorf("%q, %v", got, err)
	}
	other := filepath.Join(dir, "thesis.tex")
	must(t, os.WriteFile(other, []byte("precious"), 0o600))
	if err := plainfile.AppendLine(other, 0o640, []byte("{}")); err == nil {
		t.Error("a line was added to a file of something else")
	}
	if got, err := os.ReadFile(other); err != nil || string(got) != "precious" {
		t.Errorf("%q, %v", got, err)
	}
}

func TestWriteNew(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "f")
	must(t, plainfile.WriteNew(path, 0o600, []byte("hi")))
	if err := plainfile.WriteNew(path, 0o600, []byte("other")); !errors.Is(err, fs.ErrExist) {
		t.Errorf("over a file: %v", err)
	}
	dangling := filepath.Join(dir, "dangling")
	must(t, os.Symlink(filepath.Join(dir, "outside"), dangling))
	if err := plainfile.WriteNew(dangling, 0o600, []byte("hi")); !errors.Is(err, fs.ErrExist) {
		t.Errorf("over a dangling link: %v", err)
	}
	broken := errors.New("broken")
	half := func(w io.Writer) error { _, _ = io.WriteString(w, "ha"); return broken }
	if err := plainfile.WriteNewFrom(filepath.Join(dir, "half"), 0o600, half); !errors.Is(err, broken) {
		t.Errorf("a writer that fails: %v", err)
	}
	if got, err := os.ReadFile(path); err != nil || string(got) != "hi" {
		t.Errorf("%q, %v", got, err)
	}
	left(t, dir, "dangling", "f")
}

func TestReplace(t *testing.T) {
	dir := t.TempDir()
	outside := filepath.Join(t.TempDir(), "outside")
	must(t, os.WriteFile(outside, []byte("precious"), 0o644))
	path := filepath.Join(dir, "f")
	must(t, os.Symlink(outside, path))
	for _, text := range []string{"one", "two"} {
		must(t, plainfile.Replace(path, 0o600, []byte(text)))
		if got, err := os.ReadFile(path); err != nil || string(got) != text {
			t.Errorf("%q, %v", got, err)
		}
	}
	if got, err := os.ReadFile(outside); err != nil || string(got) != "precious" {
		t.Errorf("the end of the link: %q, %v", got, err)
	}
	left(t, dir, "f")
}

// left fails the test if a folder holds something else.
func left(t *testing.T, dir string, names ...string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	must(t, err)
	if len(entries) != len(names) {
		t.Errorf("%s holds %v, want %v", dir, entries, names)
	}
	for i, e := range entries {
		if i < len(names) && e.Name() != names[i] {
			t.Errorf("%s holds %v, want %v", dir, entries, names)
		}
	}
}
