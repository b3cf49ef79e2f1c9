package devstack

import (
	"context"
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/trimtab/trimtab"
)

func TestParseStat(t *testing.T) {
	t.Parallel()
	const rest = " 1 1 1 0 -1 4194304 1 2 3 4 5 6 7 8 20 0 1 0 12345 9 9"
	for stat, want := range map[string]string{
		"7 (a) S" + rest: "12345", "7 (a b) c) R" + rest: "12345",
		"7 (a) Z" + rest: "", "7 (a) X" + rest: "", "7 (a) S 1": "", "": "", ")": "",
	} {
		got, ok := parseStat(stat)
		if want == "" && ok || want != "" && got != bootID()+"/"+want {
			t.Errorf("parseStat(%q) = %q, %v; want %q", stat, got, ok, want)
		}
	}
}

func FuzzParseStat(f *testing.F) {
	f.Add("7 (a) S 1 1 1 0 -1 4194304 1 2 3 4 5 6 7 8 20 0 1 0 12345 9 9")
	f.Add("(")
	f.Fuzz(func(t *testing.T, stat string) {
		if b, ok := parseStat(stat); ok && b == "" {
			t.Error("alive without a birth")
		}
	})
}

func TestParseVersion(t *testing.T) {
	t.Parallel()
	for line, want := range map[string]int{
		"postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)\n": 15, "postgres (PostgreSQL) 18beta1": 18,
		"postgres (PostgreSQL) 9.6.24": 9,
		"postgres (PostgreSQL) ":       0, "postgres": 0, "": 0, "postgres (PostgreSQL) devel": 0,
	} {
		_, major, err := parseVersion(line)
		if major != want || (err == nil) != (want != 0) {
			t.Errorf("parseVersion(%q) = %d, %v; want %d", line, major, err, want)
		}
	}
}

func FuzzParseVersion(f *testing.F) {
	f.Add("postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)")
	f.Add("postgres (PostgreSQL) 99999999999999999999")
	f.Fuzz(func(t *testing.T, line string) {
		if v, major, err := parseVersion(line); err == nil && (v == "" || major < 0) {
			t.Errorf("version %q, major %d", v, major)
		}
	})
}

func TestChoose(t *testing.T) {
	t.Parallel()
	found := []programs{{dir: "/18", version: "18.1", major: 18}, {dir: "/15", version: "15.2", major: 15},
		{dir: "/12", version: "12.1", major: 12}}
	for _, c := range []struct {
		found     []programs
		want      int
		dir, kind string
	}{
		{found, 0, "/18", ""},
		{found, 15, "/15", ""},
		{found, 12, "/12", ""}, // old, but it made the data
		{found, 17, "", "postgres_version"},
		{found[2:], 0, "", "postgres_missing"},
		{nil, 0, "", "postgres_missing"},
		{nil, 16, "", "postgres_version"},
		{[]programs{{dir: "/18", major: 18, noContrib: true}, found[1]}, 0, "/15", ""}, // without contrib
		{[]programs{{dir: "/18", major: 18, noContrib: true}}, 0, "", "postgres_missing"},
		{[]programs{{dir: "/18", major: 18, noContrib: true}}, 18, "", "postgres_version"},
	} {
		p, err := selectPrograms(c.found, c.want, "/data")
		e, _ := errors.AsType[*trimtab.Error](err)
		switch {
		case c.kind == "" && (err != nil || p.dir != c.dir):
			t.Errorf("major %d of %v: %v, %v; want %s", c.want, c.found, p, err, c.dir)
		case c.kind != "" && (e == nil || e.Type != c.kind || e.Remedy == "" || e.Class != trimtab.Unavailable):
			t.Errorf("major %d of %v: %v, %v; want error %s", c.want, c.found, p, err, c.kind)
		}
	}
}

func TestFindProgramsNamed(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if _, err := findPrograms(filepath.Join(dir, "data"), dir); err == nil || !strings.Contains(err.Error(), "initdb") {
		t.Errorf("a folder without programs was taken: %v", err)
	}
	script := []byte("#!/bin/sh\necho 'postgres (PostgreSQL) 21.3'\n")
	for _, name := range []string{"initdb", "postgres"} {
		if err := os.WriteFile(filepath.Join(dir, name), script, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if p, err := findPrograms(filepath.Join(dir, "data"), dir); err != nil || p.major != 21 || p.dir != dir {
		t.Errorf("named folder: %v, %v", p, err)
	}
	if err := os.Mkdir(filepath.Join(dir, "data"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "data", "PG_VERSION"), []byte("twelve\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := findPrograms(filepath.Join(dir, "data"), dir); err == nil || !strings.Contains(err.Error(), "twelve") {
		t.Errorf("a data folder of no version was opened: %v", err)
	}
}

// TestFindProgramsBare has a package without its contrib part, which Temporal needs.
func TestFindProgramsBare(t *testing.T) {
	t.Parallel()
	dir := openDir(t)
	extensions := filepath.Join(dir, "share", "extension")
	if err := errors.Join(os.MkdirAll(extensions, 0o755),
		os.WriteFile(filepath.Join(dir, "postgres"), []byte("#!/bin/sh\necho 'postgres (PostgreSQL) 21.3'\n"), 0o755),
		os.WriteFile(filepath.Join(dir, "initdb"),
			[]byte("#!/bin/sh\ntest \"$1\" = --show && echo share_path="+filepath.Dir(extensions)+" >&2\n"), 0o755),
		os.Chmod(filepath.Join(dir, "initdb"), 0o755)); err != nil {
		t.Fatal(err)
	}
	_, err := findPrograms(filepath.Join(dir, "data"), dir)
	if e := trimtab.AsError(err); err == nil || e.Type != "postgres_bin" || !strings.Contains(e.Message, "btree_gin") ||
		!strings.Contains(e.Remedy, "contrib") {
		t.Errorf("programs without contrib were taken: %v", err)
	}
	if err := os.WriteFile(filepath.Join(extensions, "btree_gin.control"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if p, err := findPrograms(filepath.Join(dir, "data"), dir); err != nil || p.noContrib {
		t.Errorf("with contrib: %v, %v", p, err)
	}
}

func TestProcess(t *testing.T) {
	t.Parallel()
	p, err := startProcess(exec.Command("sleep", "60"), true)
	if err != nil {
		t.Fatal(err)
	}
	if q := adopt(p.pid, "another birth"); q != nil {
		t.Error("adopted a process by its id alone")
	}
	q := adopt(p.pid, p.startID)
	if q == nil || !q.adopted {
		t.Fatal("did not adopt a process that runs")
	}
	if err := q.stop(stopStep{syscall.SIGTERM, 5 * time.Second}); err != nil {
		t.Error(err)
	}
	<-p.ended()
	if p.err == nil || !strings.Contains(p.err.Error(), "terminated") {
		t.Errorf("ended by %v", p.err)
	}
	if adopt(p.pid, p.startID) != nil {
		t.Error("adopted a process that has ended")
	}
	if err := p.stop(stopStep{syscall.SIGTERM, time.Second}); err != nil {
		t.Errorf("stopping again: %v", err)
	}
	if _, err := startProcess(exec.Command("/no/such/program"), false); err == nil {
		t.Error("started nothing")
	}
}

func TestProcessStubborn(t *testing.T) {
	t.Parallel()
	cmd := exec.Command("sh", "-c", "trap '' TERM; echo deaf; while :; do sleep 0.1; done")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	p, err := startProcess(cmd, true)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := out.Read(make([]byte, 4)); err != nil {
		t.Fatal(err)
	}
	if err := p.stop(stopStep{syscall.SIGTERM, 50 * time.Millisecond}); err == nil {
		t.Error("it ended though it ignores SIGTERM")
	}
	if err := p.stop(stopStep{syscall.SIGTERM, 50 * time.Millisecond},
		stopStep{syscall.SIGKILL, 5 * time.Second}); err != nil {
		t.Error(err)
	}
}

func TestLock(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "lock")
	unlock, err := tryLock(path)
	if err != nil || unlock == nil {
		t.Fatal("not locked", err)
	}
	if second, err := tryLock(path); second != nil || err != nil {
		t.Errorf("locked twice: %v", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := lock(ctx, path); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("waited for nothing: %v", err)
	}
	unlock()
	if unlock, err = lock(t.Context(), path); err != nil {
		t.Fatal(err)
	}
	unlock()
}

func TestFiles(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	first, err := password(filepath.Join(dir, "p"))
	if err != nil || len(first) != 32 {
		t.Fatalf("password %q, %v", first, err)
	}
	if again, err := password(filepath.Join(dir, "p")); again != first || err != nil {
		t.Errorf("password changed from %q to %q, %v", first, again, err)
	}
	if st, err := os.Stat(filepath.Join(dir, "p")); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("mode of a password: %v, %v", st.Mode(), err)
	}
	var v map[string]int
	if err := readJSON(filepath.Join(dir, "absent"), &v); err != nil || v != nil {
		t.Errorf("absent file: %v, %v", v, err)
	}
	if err := readJSON(filepath.Join(dir, "p"), &v); err == nil {
		t.Error("read a password as JSON")
	}
	if err := writeJSON(filepath.Join(dir, "j"), map[string]int{"a": 1}); err != nil {
		t.Fatal(err)
	}
	if err := readJSON(filepath.Join(dir, "j"), &v); err != nil || v["a"] != 1 {
		t.Errorf("read back %v, %v", v, err)
	}
	if left, _ := filepath.Glob(filepath.Join(dir, ".*")); left != nil {
		t.Errorf("left behind: %v", left)
	}
}

func TestKeepPorts(t *testing.T) {
	t.Parallel()
	kept, err := reservePorts(0, 6)
	if err != nil || kept.first < 20000 || kept.first+6 > 32768 {
		t.Fatalf("ports %+v, %v", kept, err)
	}
	first := kept.first
	// another program that comes before the server listens
	if other, err := reservePorts(first, 6); err != nil || other.first < first+6 && first < other.first+6 {
		t.Errorf("ports from %d are held, and others from %+v, %v", first, other, err)
	} else {
		other.release()
	}
	kept.release()
	for try := 1; ; try++ { // another program of the machine may take one of them
		same, err := reservePorts(first, 6)
		if err != nil {
			t.Fatal(err)
		}
		was := first
		first = same.first
		same.release()
		if first == was {
			break
		}
		if try == 5 {
			t.Fatalf("free ports from %d were not kept, but others from %d", was, first)
		}
	}
	l := listen(t, first+3)
	defer l.Close()
	other, err := reservePorts(first, 6)
	if err != nil || other.first == first {
		t.Errorf("kept ports from %d though one is taken, %v", other.first, err)
	}
	other.release()
}

func TestTail(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "log")
	if err := os.WriteFile(path, []byte("old\n"+strings.Repeat("a long line\n", 1000)+"the end\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := tail(path, 4); !strings.HasSuffix(got, "a long line\nthe end") || len(got) > 2000 ||
		!strings.HasPrefix(got, "a long") {
		t.Errorf("tail %q", got)
	}
	if err := os.WriteFile(path, []byte(`{"error":"bind: address already in use","stacktrace":"`+
		strings.Repeat("é", 3000)+`"}`+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := tail(path, 0); !strings.HasPrefix(got, `{"error":"bind: address already in use"`) ||
		!strings.HasSuffix(got, "é…") || len(got) > 510 {
		t.Errorf("of one long line: %q", got)
	}
	if got := tail(path, 1<<40) + tail(path+".absent", 0); got != "" {
		t.Errorf("past the end: %q", got)
	}
}

// A disk without room for Postgres to start on is reported as a full disk.
func TestExplainOfAFullDisk(t *testing.T) {
	t.Parallel()
	for said, want := range map[string]string{
		`FATAL:  could not write lock file "postmaster.pid": No space left on device`: "disk_full",
		`PANIC:  could not write to file "pg_wal/xlogtemp.9": Disk quota exceeded`:    "disk_full",
		`FATAL:  data directory has invalid permissions`:                              "postgres_start",
	} {
		c := cluster{opts: PostgresOptions{Dir: t.TempDir()}}
		if e := trimtab.AsError(c.startError(errors.New("it ended at once"), said)); e.Type != want ||
			e.Class != trimtab.Unavailable || !strings.Contains(e.Message, said) {
			t.Errorf("%s: %s: %v", said, e.Type, e)
		}
	}
}

func TestOpenLogSetsAside(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "log")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(path, logLimit+1); err != nil {
		t.Fatal(err)
	}
	f, err := openLog(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if old, err := os.Stat(path + ".old"); err != nil || fileSize(f) != 0 || old.Size() != logLimit+1 {
		t.Errorf("log of %d bytes, %v", fileSize(f), err)
	}
}

func TestClosedFolder(t *testing.T) {
	t.Parallel()
	dir := openDir(t)
	inner := filepath.Join(dir, "closed", "inner")
	if err := os.MkdirAll(inner, 0o711); err != nil {
		t.Fatal(err)
	}
	nobody := &syscall.Credential{Uid: 65534, Gid: 65534}
	if got := firstUnreachable(inner, nobody); got != "" {
		t.Errorf("%s is called closed", got)
	}
	if err := os.Chmod(filepath.Dir(inner), 0o700); err != nil {
		t.Fatal(err)
	}
	if got := firstUnreachable(inner, nobody); got != filepath.Dir(inner) {
		t.Errorf("closed: %q, want %s", got, filepath.Dir(inner))
	}
	if got := firstUnreachable(inner, &syscall.Credential{Uid: uint32(os.Geteuid())}); got != "" {
		t.Errorf("%s is closed to its owner", got)
	}
}

func TestFindTemporal(t *testing.T) { // not parallel: it changes the environment
	source := temporalSource()
	if source == "" || !strings.HasSuffix(source, "devstack/temporald") {
		t.Fatalf("source %q", source)
	}
	a, err := temporalCachePath(source)
	if err != nil {
		t.Fatal(err)
	}
	if b, err := temporalCachePath(source); a != b || err != nil {
		t.Errorf("cached as %s and as %s, %v", a, b, err)
	}
	t.Setenv("TRIMTAB_TEMPORAL_PROGRAM", filepath.Join(t.TempDir(), "absent"))
	if _, err := FindTemporal(); err == nil {
		t.Error("took a program that is not there")
	}
	named := filepath.Join(t.TempDir(), "named")
	if err := os.WriteFile(named, nil, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("TRIMTAB_TEMPORAL_PROGRAM", named)
	if got, err := FindTemporal(); got != named || err != nil {
		t.Errorf("found %s, %v; want %s", got, err, named)
	}
	t.Setenv("TRIMTAB_TEMPORAL_PROGRAM", "")
	inPath := filepath.Join(t.TempDir(), temporalProgram)
	if err := os.WriteFile(inPath, nil, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", filepath.Dir(inPath)+":"+os.Getenv("PATH"))
	if got, err := FindTemporal(); got != inPath || err != nil {
		t.Errorf("found %s, %v; want %s", got, err, inPath)
	}
}

func TestBuildFails(t *testing.T) {
	t.Parallel()
	source := t.TempDir()
	for name, text := range map[string]string{"go.mod": "module x\n\ngo 1.26.0\n",
		"main.go": "package main\n\nfunc main() { oops }\n"} {
		if err := os.WriteFile(filepath.Join(source, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	var said strings.Builder
	target := filepath.Join(t.TempDir(), "cache", temporalProgram)
	err := buildTemporal(t.Context(), source, target, &said)
	if e, ok := errors.AsType[*trimtab.Error](err); !ok || e.Type != "temporal_build" ||
		!strings.Contains(e.Message, "oops") {
		t.Errorf("built nonsense: %v", err)
	}
	if checkExecutable(target) == nil {
		t.Error("left a program behind")
	}
}

func TestURLs(t *testing.T) {
	t.Parallel()
	const u = "postgres://trimtab:secret@127.0.0.1:20001/trimtab?sslmode=disable"
	if got := withUser(withDatabase(u, "other"), "someone",
		"p w"); got != "postgres://someone:p%20w@127.0.0.1:20001/other?sslmode=disable" {
		t.Errorf("url %s", got)
	}
	if withUser("://", "a", "b")+withDatabase("://", "a") != "" {
		t.Error("made something of no URL")
	}
}

// The build of a program is remembered as long as its file stays the same.
func TestKnownBuildID(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file, note := filepath.Join(dir, "program"), filepath.Join(dir, "program.json")
	write := func(name, content string) {
		t.Helper()
		if err := os.WriteFile(name, []byte(content), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	know := func() string {
		t.Helper()
		id, err := cachedBuildID(dir, file)
		if err != nil {
			t.Fatal(err)
		}
		return id
	}
	write(file, "one")
	first := know()
	if want, err := buildID(file); err != nil || first != want {
		t.Fatalf("got %s, want %s (%v)", first, want, err)
	}
	if err := writeJSON(note, programState{looksOf(t, file), "remembered"}); err != nil {
		t.Fatal(err)
	}
	if got := know(); got != "remembered" {
		t.Errorf("it was hashed again: %s", got)
	}
	write(file, "other") // another size
	if got := know(); got == first || got == "remembered" {
		t.Errorf("a changed program is still %s", got)
	}
	other := know()
	write(file+".new", "three") // as long as the last
	if err := os.Rename(file+".new", file); err != nil {
		t.Fatal(err)
	}
	if got := know(); got == other {
		t.Errorf("a replaced program is still %s", got)
	}
	write(note, "{") // torn
	if got, want := know(), looksOf(t, file); got == "" || want == "" {
		t.Errorf("a torn note gives %q", got)
	}
}

func looksOf(t *testing.T, file string) string {
	t.Helper()
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	return fileFingerprint(f)
}

// A stack of another build is replaced when no run is open; otherwise a server without authentication is named.
func TestReplace(t *testing.T) {
	t.Parallel()
	guarded := Info{BuildID: "other", Endpoints: Endpoints{TemporalTLS: TLS{CA: "ca.pem"}}}
	for _, c := range []struct {
		info    Info
		open    int
		err     error
		replace bool
		warn    bool
	}{
		{guarded, 0, nil, true, false},
		{guarded, 1, nil, false, false},
		{guarded, 0, errors.New("away"), false, false},
		{Info{BuildID: "older"}, 0, nil, true, false},
		{Info{BuildID: "older"}, 1, nil, false, true},
	} {
		var said strings.Builder
		o := EnsureOptions{Log: &said, OpenRuns: func(context.Context, Endpoints) (int, error) { return c.open, c.err }}
		if got := o.shouldReplace(t.Context(), c.info); got != c.replace ||
			strings.Contains(said.String(), "any user of this machine") != c.warn {
			t.Errorf("%+v: replaced %v, having said %q", c, got, said.String())
		}
	}
}

// A refusal because of certificates is distinguished from a connection that ended.
func TestRefused(t *testing.T) {
	const handshake = `failed reaching server: connection error: desc = "transport: authentication handshake failed: `
	for said, want := range map[string]bool{
		handshake + `read tcp 127.0.0.1:38608->127.0.0.1:20783: read: connection reset by peer"`: false,
		handshake + `EOF"`: false,
		handshake + `tls: failed to verify certificate: x509: certificate signed by unknown authority"`: true,
		handshake + `remote error: tls: certificate required"`:                                          true,
		"read tcp 127.0.0.1:1->127.0.0.1:2: remote error: tls: bad certificate":                         true,
		"dial tcp 127.0.0.1:2: connect: connection refused":                                             false,
	} {
		if got := isRefusal(errors.New(said)); got != want {
			t.Errorf("%s: refused is %v", said, got)
		}
	}
}

// Ports that are kept for one server are not listened on by who looks for others.
func TestHeldPortsAreNotListenedOn(t *testing.T) {
	p, err := reserveFreePorts(2)
	if err != nil {
		t.Fatal(err)
	}
	defer p.release()
	for range 200 { // a client of the server would meet the other's listener now and then
		met := make(chan error, 1)
		go func() {
			c, err := net.Dial("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(p.first)))
			if err == nil {
				c.Close()
			}
			met <- err
		}()
		if q := tryReserve(p.first, 2); q != nil {
			t.Fatal("held twice")
		}
		if err := <-met; err == nil {
			t.Fatal("a listener was there")
		}
	}
}
