package devstack

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/trimtab/trimtab"
)

// tree is all that can be seen of a folder: names, modes, owners, times of change, contents.
func tree(t testing.TB, dir string) string {
	t.Helper()
	var b strings.Builder
	err := filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		st, err := os.Lstat(path)
		if err != nil {
			return err
		}
		sys := st.Sys().(*syscall.Stat_t)
		fmt.Fprintln(&b, path, st.Mode(), sys.Uid, sys.Gid, st.ModTime().UnixNano())
		if st.Mode().IsRegular() {
			raw, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			fmt.Fprintf(&b, "%x\n", sha256.Sum256(raw))
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// put makes files; a name that ends in a slash is a folder.
func put(t testing.TB, dir string, files map[string]string) string {
	t.Helper()
	for name, text := range files {
		path := filepath.Join(dir, name)
		if strings.HasSuffix(name, "/") {
			if err := os.MkdirAll(path, 0o755); err != nil {
				t.Fatal(err)
			}
			continue
		}
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

const somePorts = `{"port": 20001, "socket": "/tmp/trimtab-1"}`

// foreign are folders that hold something, none of which Trimtab made.
var foreign = map[string]map[string]string{
	"programs":         {"bin/ls": "ELF", "bin/0123456789abcdef/trimtab": "not its bytes", "lib/": ""},
	"only bin":         {"bin/": ""},
	"a log":            {"bin/tool": "", "dev.log": "npm started"},
	"names alone":      {"store/": "", "postgres/": "", "temporal/": "", "bin/": ""},
	"a store of wares": {"store/objects/": "", "store/artifacts/": ""},
	"no ports":         {"postgres/postgres.json": "{}", "temporal/temporal.json": "[]"},
	"client of theirs": {"client": "", "server": ""},
	"client and more":  {"client": "", "dev.lock": "", "notes.txt": ""},
	"a key":            {"audit.key": "ssh-rsa"},
	"a hidden file":    {".profile": ""},
	"a file":           {"thesis.tex": ""},
}

func TestForeignFolders(t *testing.T) {
	t.Parallel()
	for name, files := range foreign {
		dir := put(t, t.TempDir(), files)
		before := tree(t, dir)
		_, claimed := ClaimFolder(dir)
		_, ensured := Ensure(t.Context(), EnsureOptions{Dir: dir, Args: helper("clown")})
		for what, err := range map[string]error{"claim": claimed, "ensure": ensured,
			"dev": RunDev(t.Context(), DevOptions{Dir: dir}), "stop": Stop(t.Context(), dir)} {
			e, ok := errors.AsType[*trimtab.Error](err)
			if !ok || e.Type != "not_a_data_folder" || e.Class != trimtab.Usage || e.Remedy == "" {
				t.Errorf("%s: %s: %v, want not_a_data_folder", name, what, err)
			}
		}
		if after := tree(t, dir); after != before {
			t.Errorf("%s: was\n%s\nand is\n%s", name, before, after)
		}
	}
}

// Folders of before there were markers are known by what only Trimtab writes.
func TestOldFolders(t *testing.T) {
	t.Parallel()
	store := map[string]string{"store/objects/": "", "store/artifacts/": "", "store/states/": "", "store/rollouts/": "",
		"store/partial/": ""}
	for name, files := range map[string]map[string]string{
		"a store": store, "Postgres": {"postgres/postgres.json": somePorts, "my notes.txt": ""},
		"Temporal":        {"temporal/temporal.json": somePorts},
		"a first command": {"client": "", "start.lock": "", "program.json": "{}", "dev.log": "", "bin/": ""},
		"a first dev":     {"client": "", "dev.lock": "", "dev.pid": "", ".dev.pid-123": ""},
		"a key":           {"audit.key": "PRIVATE+KEY+trimtab+0123\ntrimtab+0123\n"},
	} {
		dir := put(t, t.TempDir(), files)
		if m, err := InspectFolder(dir); err != nil || m.ID != "" {
			t.Errorf("%s: looked at: %+v, %v", name, m, err)
		}
		m, err := ClaimFolder(dir)
		if err != nil || !folderID.MatchString(m.ID) || m.Format != folderFormat {
			t.Errorf("%s: claimed: %+v, %v", name, m, err)
		}
		if again, err := ClaimFolder(dir); err != nil || again != m {
			t.Errorf("%s: claimed again: %+v, %v, want %+v", name, again, err, m)
		}
		if _, err := os.Stat(filepath.Join(dir, "my notes.txt")); name == "Postgres" && err != nil {
			t.Error(err)
		}
	}
}

func TestNewFolders(t *testing.T) {
	t.Parallel()
	top := t.TempDir()
	mount := put(t, t.TempDir(), map[string]string{"lost+found/": ""})
	for _, dir := range []string{filepath.Join(top, "a", "b", "c"), t.TempDir(), mount,
		filepath.Join(top, "ünï cödé, with 'quotes\" and spaces")} {
		if m, err := InspectFolder(dir); err != nil || m.ID != "" {
			t.Errorf("%s: looked at: %+v, %v", dir, m, err)
		}
		if m, err := ClaimFolder(dir); err != nil || m.ID == "" {
			t.Errorf("%s: %+v, %v", dir, m, err)
		}
	}
	for _, dir := range []string{top, filepath.Join(top, "a"), filepath.Join(top, "a", "b", "c")} {
		want := fs.FileMode(0o711)
		if dir == top {
			want = 0o755 // as it was
		}
		if st, err := os.Stat(dir); err != nil || st.Mode().Perm()&want != want {
			t.Errorf("%s has mode %v, %v", dir, st.Mode(), err)
		}
	}
}

func TestClaimTogether(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "new")
	var all sync.WaitGroup
	ids := make(chan string, 20)
	for range cap(ids) {
		all.Go(func() {
			m, err := ClaimFolder(dir)
			if err != nil {
				t.Error(err)
			}
			ids <- m.ID
		})
	}
	all.Wait()
	for range cap(ids) - 1 {
		if a, b := <-ids, <-ids; a != b {
			t.Errorf("ids %s and %s", a, b)
		}
		ids <- ids0(t, dir)
	}
}

// A command that claims a folder again finds the one that it claimed before, or none.
func TestKeepFolder(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "data")
	m, err := ReclaimFolder(dir, FolderMarker{})
	if err != nil || m.ID == "" {
		t.Fatalf("%+v, %v", m, err)
	}
	if same, err := ReclaimFolder(dir, m); err != nil || same != m {
		t.Errorf("%+v, %v", same, err)
	}
	for _, again := range []func() error{func() error { return nil }, func() error { return os.Mkdir(dir, 0o700) },
		func() error { _, err := ClaimFolder(dir); return err }} {
		if err := errors.Join(os.RemoveAll(dir), again()); err != nil {
			t.Fatal(err)
		}
		before, there := os.ReadDir(dir)
		_, kept := ReclaimFolder(dir, m)
		_, ensured := Ensure(t.Context(), EnsureOptions{Dir: dir, Marker: m, Args: helper("clown")})
		for _, err := range []error{kept, ensured} {
			if trimtab.AsError(err).Type != FolderGone {
				t.Errorf("%v", err)
			}
		}
		if after, err := os.ReadDir(dir); len(after) != len(before) || (err == nil) != (there == nil) {
			t.Errorf("there is %v, was %v", after, before)
		}
	}
}

func ids0(t *testing.T, dir string) string {
	m, err := InspectFolder(dir)
	if err != nil {
		t.Error(err)
	}
	return m.ID
}

// What is not a folder keeps its mode and everything else, under any user.
func TestNotAFolder(t *testing.T) {
	t.Parallel()
	top := t.TempDir()
	file, fifo, dangling := filepath.Join(top, "file"), filepath.Join(top, "fifo"), filepath.Join(top, "dangling")
	put(t, top, map[string]string{"file": "precious"})
	if err := errors.Join(os.Chmod(file, 0o640), syscall.Mkfifo(fifo, 0o600),
		os.Symlink(filepath.Join(top, "nowhere"), dangling)); err != nil {
		t.Fatal(err)
	}
	before := tree(t, top)
	for _, dir := range []string{file, filepath.Join(file, "below"), fifo, "/dev/null", dangling, "", "a\nb", "a\x00b",
		"caf\xe9", "/proc/none"} {
		_, ensured := Ensure(t.Context(), EnsureOptions{Dir: dir, Args: helper("clown")})
		for what, err := range map[string]error{"ensure": ensured, "dev": RunDev(t.Context(), DevOptions{Dir: dir})} {
			if e, ok := errors.AsType[*trimtab.Error](err); !ok || e.Type != "data_folder" || e.Remedy == "" {
				t.Errorf("%s on %q: %v, want data_folder", what, dir, err)
			}
		}
	}
	if after := tree(t, top); after != before {
		t.Errorf("was\n%s\nand is\n%s", before, after)
	}
}

func TestMarker(t *testing.T) {
	t.Parallel()
	for _, raw := range []string{"", "{", "[]", "null", `{"format": 0, "id": "00112233445566778899aabbccddeeff"}`,
		`{"format": 1}`, `{"format": 1, "id": "../../etc"}`, `{"format": 99, "id": "00112233445566778899aabbccddeeff"}`,
		strings.Repeat(" ", maxMarker+1)} {
		dir := put(t, t.TempDir(), map[string]string{markerFile: raw})
		before := tree(t, dir)
		_, err := ClaimFolder(dir)
		if e, ok := errors.AsType[*trimtab.Error](err); !ok || e.Type != "data_folder" ||
			!strings.Contains(e.Message, markerFile) {
			t.Errorf("marker %.80q: %v", raw, err)
		}
		if tree(t, dir) != before {
			t.Errorf("marker %.80q: the folder was changed", raw)
		}
	}
	dir := t.TempDir()
	if err := syscall.Mkfifo(filepath.Join(dir, markerFile), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := ClaimFolder(dir); err == nil || !strings.Contains(err.Error(), "FIFO") {
		t.Errorf("a FIFO in the place of the marker: %v", err)
	}
}

func FuzzMarker(f *testing.F) {
	f.Add([]byte(`{"format": 1, "id": "00112233445566778899aabbccddeeff"}`))
	f.Add([]byte(`{"format": 2, "id": 3}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		if m, err := parseMarker(raw); err == nil && (m.Format != folderFormat || !folderID.MatchString(m.ID)) {
			t.Errorf("%q is %+v", raw, m)
		}
	})
}

// copyProgram removes copies that it made, and nothing that it cannot prove to have made.
func TestRemoveCopies(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "bin"), 0o711); err != nil {
		t.Fatal(err)
	}
	o := EnsureOptions{Dir: dir}
	keep := func(text string) string {
		o.Executable = filepath.Join(put(t, t.TempDir(), map[string]string{"p": text}), "p")
		build, err := buildID(o.Executable)
		if err != nil {
			t.Fatal(err)
		}
		path, err := o.copyProgram(build)
		if err != nil {
			t.Fatal(err)
		}
		return path
	}
	outside := put(t, t.TempDir(), map[string]string{"trimtab": "one"})
	old := keep("one")
	put(t, dir, map[string]string{
		"bin/ls":                       "ELF",
		"bin/0123456789abcdef/trimtab": "other bytes",
		"bin/0123456789abcdee/":        "",
		"bin/notes/trimtab":            "one",
	})
	linked := filepath.Join(dir, "bin", strings.Repeat("a", 16))
	build := filepath.Base(filepath.Dir(old))
	if err := errors.Join(os.Symlink(outside, linked),
		os.Symlink(filepath.Join(outside, "trimtab"),
			filepath.Join(dir, "bin", "0123456789abcdee", "trimtab"))); err != nil {
		t.Fatal(err)
	}
	next := keep("two")
	if _, err := os.Lstat(filepath.Dir(old)); err == nil {
		t.Error("the copy of an older build is still there")
	}
	for _, stays := range []string{next, filepath.Join(dir, "bin", "ls"),
		filepath.Join(dir, "bin/0123456789abcdef/trimtab"), filepath.Join(dir, "bin/0123456789abcdee/trimtab"),
		filepath.Join(dir, "bin/notes/trimtab"), linked, filepath.Join(outside, "trimtab")} {
		if _, err := os.Lstat(stays); err != nil {
			t.Errorf("was removed: %v", err)
		}
	}
	// Beside a copy there may be something else: that stays, with its folder.
	put(t, dir, map[string]string{filepath.Join("bin", filepath.Base(filepath.Dir(next)), "notes.txt"): ""})
	third := keep("one")
	if filepath.Base(filepath.Dir(third)) != build {
		t.Errorf("the same program has copies %s and %s", old, third)
	}
	if _, err := os.Stat(filepath.Join(filepath.Dir(next), "notes.txt")); err != nil {
		t.Error(err)
	}
	// A copy that was changed is neither run nor replaced.
	if err := os.WriteFile(third, []byte("malice"), 0o755); err != nil {
		t.Fatal(err)
	}
	if _, err := o.copyProgram(build); err == nil || !strings.Contains(err.Error(), "has changed since it was copied") {
		t.Errorf("a changed copy: %v", err)
	}
}
