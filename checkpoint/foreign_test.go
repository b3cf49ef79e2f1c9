package checkpoint

import (
	"errors"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/trimtab/trimtab"
	"github.com/trimtab/trimtab/tensor"
)

// odd puts something that is no file in the place of one.
var odd = map[string]func(path string) error{
	"a FIFO":   func(path string) error { return syscall.Mkfifo(path, 0o600) },
	"a folder": func(path string) error { return os.Mkdir(path, 0o700) },
	"a device": func(path string) error { return os.Symlink("/dev/zero", path) },
	"a socket": func(path string) error {
		short, err := os.MkdirTemp("", "s") // the path of a socket is short
		if err != nil {
			return err
		}
		defer os.RemoveAll(short)
		l, err := net.ListenUnix("unix", &net.UnixAddr{Name: filepath.Join(short, "s"), Net: "unix"})
		if err != nil {
			return err
		}
		l.SetUnlinkOnClose(false)
		return errors.Join(os.Rename(filepath.Join(short, "s"), path), l.Close())
	},
}

// Whatever reads the store names what is in the place of a file, and does not wait.
func TestOddFiles(t *testing.T) {
	s := open(t)
	artifact := artifactOf(t, s, "a")
	numbers := []tensor.NamedArray{{Name: "w", Shape: []int{2}, Data: []float32{1, 2}}}
	state, err := s.SaveState("attempt-1", 3, numbers)
	if err != nil {
		t.Fatal(err)
	}
	rolled, err := s.SaveRollouts("attempt-1", Rollouts{Arrays: numbers})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		path string
		read func() error
	}{
		{objectOf("a"), func() error { _, err := s.Files(artifact); return err }},
		{"artifacts/" + artifact.Hex(), func() error { _, err := s.Files(artifact); return err }},
		{"states/attempt-1/" + state.Hex(), func() error {
			_,
				err := s.LoadState("attempt-1", state, numbers)
			return err
		}},
		{"rollouts/attempt-1/" + rolled.Hex(), func() error {
			_,
				err := s.LoadRollouts("attempt-1", rolled)
			return err
		}},
	} {
		path := filepath.Join(s.dir, c.path)
		sound, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for name, put := range odd {
			if err := errors.Join(os.Remove(path), put(path)); err != nil {
				t.Fatal(err)
			}
			ended := make(chan error, 1)
			go func() { ended <- c.read() }()
			select {
			case err := <-ended:
				if e := trimtab.AsError(err); e.Type != "artifact_corrupt" || !strings.Contains(e.Message, name) {
					t.Errorf("%s in the place of %s: %v", name, c.path, err)
				}
			case <-time.After(10 * time.Second):
				t.Fatalf("%s in the place of %s: still waiting", name, c.path)
			}
		}
		if err := errors.Join(os.Remove(path), os.WriteFile(path, sound, 0o600)); err != nil {
			t.Fatal(err)
		}
		if err := c.read(); err != nil {
			t.Error(err)
		}
	}
}

// Nothing behind a symbolic link in a store is removed, and nothing under a
// name that the store does not give.
func TestLinksLeadNowhere(t *testing.T) {
	outside := t.TempDir()
	name := trimtab.DigestOf([]byte("precious")).Hex()
	for _, file := range []string{name, name + ".damaged", "file-1", "thesis.tex"} {
		if err := os.WriteFile(filepath.Join(outside, file), []byte("precious"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	old := time.Now().Add(-100 * 24 * time.Hour)
	for _, file := range []string{name, name + ".damaged", "file-1", "thesis.tex"} {
		if err := os.Chtimes(filepath.Join(outside, file), old, old); err != nil {
			t.Fatal(err)
		}
	}
	k := day
	k.Artifact = func(trimtab.Digest) bool { return false }
	k.State = func(int64, trimtab.Digest) string { return "is old" }
	k.Rollouts = func(int64) string { return "is over" }
	for _, folder := range []string{objects, artifacts, states, rollouts, partial} {
		s := open(t)
		if err := errors.Join(os.Remove(filepath.Join(s.dir, folder)),
			os.Symlink(outside, filepath.Join(s.dir, folder))); err != nil {
			t.Fatal(err)
		}
		if _, err := Open(s.dir); err != nil {
			t.Errorf("%s is a link: %v", folder, err)
		}
		garbage, err := s.FindUnreferenced(k)
		if e := trimtab.AsError(err); e.Type != "store_linked" || len(garbage) > 0 {
			t.Errorf("%s is a link: %v, %v", folder, garbage, err)
		}
		_, _ = s.CollectGarbage([]UnreferencedFile{{Path: folder + "/" + name, ModTime: old},
			{Path: folder + "/thesis.tex", ModTime: old}}, k)
	}
	s := open(t)
	if err := os.Symlink(outside, filepath.Join(s.dir, states, "attempt-1")); err != nil {
		t.Fatal(err)
	}
	if err := s.RemoveState("attempt-1", trimtab.Digest("sha256:"+name)); err == nil {
		t.Error("a state behind a link was removed")
	}
	if err := s.RemoveState("attempt-1", "sha256:../../../../etc/passwd"); err == nil {
		t.Error("a path was taken for a digest")
	}
	if garbage, err := s.FindUnreferenced(k); err != nil || len(garbage) > 0 {
		t.Errorf("behind the link of an attempt: %v, %v", garbage, err)
	}
	if entries, err := os.ReadDir(outside); err != nil || len(entries) != 4 {
		t.Errorf("outside there are %v, %v", entries, err)
	}
}

// What is in the folder of files under way and was not put there by the store stays, however old.
func TestPartialOfOthers(t *testing.T) {
	s := open(t)
	stays := []string{drop(t, s, "partial/notes.txt"), drop(t, s, "partial/file-x"),
		drop(t, s, "partial/folder/file-1"), drop(t, s, "objects/thesis.damaged")}
	goes := drop(t, s, "partial/file-12")
	age(t, s, 100*24*time.Hour, ".")
	if garbage, err := s.FindUnreferenced(day); err != nil || !slices.Equal(pathsOf(garbage), []string{goes}) {
		t.Errorf("garbage is %v, %v", pathsOf(garbage), err)
	}
	if _, err := Open(s.dir); err != nil {
		t.Fatal(err)
	}
	for _, name := range stays {
		if _, err := os.Stat(filepath.Join(s.dir, name)); err != nil {
			t.Error(err)
		}
	}
	if _, err := os.Stat(filepath.Join(s.dir, goes)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%s is still there", goes)
	}
}

// A store that was removed under a worker is not made again in part.
func TestRemovedStore(t *testing.T) {
	s := open(t)
	if err := os.RemoveAll(s.dir); err != nil {
		t.Fatal(err)
	}
	numbers := []tensor.NamedArray{{Name: "w", Shape: []int{1}, Data: []float32{1}}}
	_, state := s.SaveState("attempt-1", 3, numbers)
	_, put := s.Put([]File{{Name: "a", Data: []byte("a")}})
	for what, err := range map[string]error{"SaveState": state, "Put": put, "Tie": s.RegisterDatabase("00112233")} {
		if !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: %v", what, err)
		}
	}
	if _, err := os.Stat(s.dir); err == nil {
		t.Error("the folder is there again")
	}
}
