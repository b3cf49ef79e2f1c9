package devstack

import (
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/trimtab/trimtab"
)

// way makes folders below each other, and a program in the last, with these modes.
func way(t testing.TB, modes ...fs.FileMode) string {
	t.Helper()
	dir := t.TempDir()
	for i, mode := range modes {
		dir = filepath.Join(dir, strconv.Itoa(i))
		if err := errors.Join(os.Mkdir(dir, 0o700), os.Chmod(dir, mode)); err != nil {
			t.Fatal(err)
		}
	}
	program := filepath.Join(dir, "program")
	if err := errors.Join(os.WriteFile(program, nil, 0o700), os.Chmod(program, 0o755)); err != nil {
		t.Fatal(err)
	}
	return program
}

func TestTrust(t *testing.T) {
	t.Parallel()
	open := way(t, 0o755, 0o777, 0o755)
	writable := way(t, 0o755)
	if err := os.Chmod(writable, 0o757); err != nil {
		t.Fatal(err)
	}
	links := t.TempDir()
	for name, target := range map[string]string{"to-open": open, "to-folder": filepath.Dir(filepath.Dir(open)),
		"loop": "loop", "dangling": "nowhere",
		"relative": "../" + filepath.Base(links) + "/good", "good": way(t, 0o700)} {
		if err := os.Symlink(target, filepath.Join(links, name)); err != nil {
			t.Fatal(err)
		}
	}
	for path, want := range map[string]string{
		way(t):               "",
		way(t, 0o711, 0o700): "",
		way(t, 0o755, fs.ModeSticky|0o777, 0o755):          "", // sticky, and what is in it is ours
		filepath.Join(links, "good"):                       "",
		filepath.Join(links, "absent"):                     "",
		filepath.Join(filepath.Dir(way(t)), "a", "b", "c"): "",
		filepath.Join(links, "relative"):                   "",
		filepath.Join(links, "dangling"):                   "",
		open:                                               "every user can write " + filepath.Dir(filepath.Dir(open)),
		writable:                                           "every user can write " + writable,
		filepath.Join(filepath.Dir(open), "absent"):        "every user can write",
		filepath.Join(links, "to-open"):                    "every user can write",
		filepath.Join(links, "to-folder", "2", "program"):  "every user can write",
		filepath.Join(links, "loop"):                       "too many levels of symbolic links",
	} {
		for _, allowed := range []trustPolicy{selfOnly, anyOwner} {
			err := checkTrust(path, allowed)
			if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
				t.Errorf("%s, %d: %v, want %q", path, allowed, err, want)
			}
		}
	}
}

// someone is an ordinary user; the test is skipped unless it runs as root.
func someone(t *testing.T) (uid, gid int) {
	t.Helper()
	u, err := user.Lookup("nobody")
	if os.Geteuid() != 0 || err != nil {
		t.Skip("files of two users can be made by root alone, with a user nobody")
	}
	uid, err1 := strconv.Atoi(u.Uid)
	gid, err2 := strconv.Atoi(u.Gid)
	if err := errors.Join(err1, err2); err != nil {
		t.Fatal(err)
	}
	return uid, gid
}

func TestTrustOfOthers(t *testing.T) {
	t.Parallel()
	uid, gid := someone(t)
	theirs := way(t, 0o755)
	planted := way(t, fs.ModeSticky|0o777, 0o755)
	shared := way(t, 0o775)
	link := filepath.Join(filepath.Dir(filepath.Dir(planted)), "link")
	if err := errors.Join(os.Chown(theirs, uid, gid), os.Chown(filepath.Dir(planted), uid, gid),
		os.Chown(filepath.Dir(shared), 0, gid),
		os.Symlink(shared, link), os.Lchown(link, uid, gid)); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{theirs: "belongs to user nobody", planted: "belongs to user nobody",
		link: "in a folder that others can write, belongs to user nobody"} {
		for _, allowed := range []trustPolicy{selfOnly, anyOwner} {
			if err := checkTrust(path, allowed); err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%s: %v, want %q", path, err, want)
			}
		}
	}
	if err := checkTrust(shared, selfOnly); err == nil || !strings.Contains(err.Error(), "group nogroup can write") &&
		!strings.Contains(err.Error(), "group nobody can write") {
		t.Errorf("a folder that a group can write: %v", err)
	}
	if err := checkTrust(shared, anyOwner); err != nil {
		t.Error(err)
	}
}

// A trimtab-temporal that everybody could have put into a folder of PATH is not run.
func TestUnsafeTemporal(t *testing.T) {
	dir := filepath.Dir(way(t, 0o777))
	program := filepath.Join(dir, temporalProgram)
	if err := os.WriteFile(program, []byte("#!/bin/sh\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	t.Setenv("TRIMTAB_TEMPORAL_PROGRAM", "")
	_, err := FindTemporal()
	if e, ok := errors.AsType[*trimtab.Error](err); !ok || e.Type != "unsafe_program" ||
		!strings.Contains(e.Message, dir) {
		t.Errorf("found in PATH: %v", err)
	}
	t.Setenv("TRIMTAB_TEMPORAL_PROGRAM", program) // the user's own word
	if found, err := FindTemporal(); err != nil || found != program {
		t.Errorf("named: %s, %v", found, err)
	}
}

// Programs of Postgres likewise: what is in PATH is not even asked for its version.
func TestUnsafePostgres(t *testing.T) {
	dir := filepath.Dir(way(t, 0o777))
	ran := filepath.Join(t.TempDir(), "ran")
	for _, name := range []string{"postgres", "initdb"} {
		if err := os.WriteFile(filepath.Join(dir, name),
			[]byte("#!/bin/sh\ntouch "+ran+"\necho 'postgres (PostgreSQL) 99.1'\n"), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	_, refused := installed()
	if len(refused) != 1 || !strings.Contains(refused[0].Error(), dir) {
		t.Errorf("refused %v", refused)
	}
	if _, err := findPrograms(put(t, t.TempDir(), map[string]string{"PG_VERSION": "99\n"}), ""); err == nil ||
		!strings.Contains(err.Error(), "not run: every user can write "+dir) {
		t.Errorf("%v", err)
	}
	if _, err := os.Stat(ran); err == nil {
		t.Error("it was run")
	}
}

// A built trimtab-temporal is used if it is what was built, and in folders that nobody else can write.
func TestCheckCached(t *testing.T) {
	t.Parallel()
	program := way(t, 0o755)
	sum, err := fileDigest(program)
	if err != nil {
		t.Fatal(err)
	}
	if checkCached(program) == nil {
		t.Error("a program of which nobody knows the digest")
	}
	if err := writeFile(program+".sha256", []byte(sum+"\n")); err != nil {
		t.Fatal(err)
	}
	if err := checkCached(program); err != nil {
		t.Error(err)
	}
	if err := os.Chmod(filepath.Dir(program), 0o777); err != nil {
		t.Fatal(err)
	}
	if checkCached(program) == nil {
		t.Error("a program in a folder that all can write")
	}
	if err := errors.Join(os.Chmod(filepath.Dir(program), 0o755),
		os.WriteFile(program, []byte("malice"), 0o755)); err != nil {
		t.Fatal(err)
	}
	if checkCached(program) == nil {
		t.Error("a program that was changed")
	}
}

func TestUnsafeFolder(t *testing.T) {
	t.Parallel()
	open := filepath.Join(filepath.Dir(way(t, 0o777)), "data")
	_, ensured := Ensure(t.Context(), EnsureOptions{Dir: open, Args: helper("clown")})
	for what, err := range map[string]error{"ensure": ensured, "dev": RunDev(t.Context(), DevOptions{Dir: open})} {
		if e, ok := errors.AsType[*trimtab.Error](err); !ok || e.Type != "unsafe_folder" ||
			!strings.Contains(e.Message, "every user can write") {
			t.Errorf("%s: %v", what, err)
		}
	}
	if _, err := os.Stat(open); err == nil {
		t.Error("the folder was made")
	}
	if _, err := ClaimFolder(open); err != nil { // a store alone may be there
		t.Error(err)
	}
}

// claimAs runs the claim of a data folder as another user, and gives what it said.
func claimAs(t *testing.T, uid, gid int, dir string) string {
	t.Helper()
	program := filepath.Join(openDir(t), "test")
	raw, err := os.ReadFile(os.Args[0])
	if err := errors.Join(err, os.WriteFile(program, raw, 0o755)); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(program, helper("claim", dir)...)
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}}
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return string(out)
}

// Neither root nor anybody else uses the data folder of another user.
func TestFolderOfAnother(t *testing.T) {
	t.Parallel()
	uid, gid := someone(t)
	theirs, mine, volume, filled := openDir(t), openDir(t), openDir(t), openDir(t)
	put(t, theirs, foreign["names alone"])
	put(t, filled, map[string]string{"postgres/postgres.json": somePorts})
	if err := errors.Join(os.Chown(theirs, uid, gid), os.Chmod(volume, 0o777),
		os.Chown(filepath.Join(filled, "postgres"), uid, gid)); err != nil {
		t.Fatal(err)
	}
	if _, err := ClaimFolder(mine); err != nil {
		t.Fatal(err)
	}
	before := tree(t, theirs) + tree(t, filled)
	for _, dir := range []string{theirs, filled} {
		_, claimed := ClaimFolder(dir)
		_, ensured := Ensure(t.Context(), EnsureOptions{Dir: dir, Args: helper("clown")})
		for what, err := range map[string]error{"claim": claimed, "ensure": ensured,
			"dev": RunDev(t.Context(), DevOptions{Dir: dir}), "stop": Stop(t.Context(), dir)} {
			if e, ok := errors.AsType[*trimtab.Error](err); !ok || e.Type != "data_folder_owner" ||
				!strings.Contains(e.Remedy, "sudo -u nobody") {
				t.Errorf("root: %s: %v", what, err)
			}
		}
	}
	if tree(t, theirs)+tree(t, filled) != before {
		t.Error("root changed the folder of another")
	}
	if said := claimAs(t, uid, gid, mine); !strings.Contains(said, "data_folder_owner") ||
		!strings.Contains(said, "sudo -u root") {
		t.Errorf("nobody, on root's: %s", said)
	}
	for range 2 { // as the volume of a container is
		if said := claimAs(t, uid, gid, volume); !strings.Contains(said, "claimed") {
			t.Errorf("nobody, on a folder that root has made for all: %s", said)
		}
	}
	if _, err := ClaimFolder(volume); err == nil {
		t.Error("root accepted a folder with a marker of the user nobody")
	}
}
