package devstack

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/mod/modfile"

	"github.com/trimtab/trimtab"
)

// writeModule writes a module of one program, with a package beside it, and
// gives its folder.
func writeModule(t *testing.T, main string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range map[string]string{
		"go.mod":       "module example.org/tiny\n\ngo 1.26\n",
		"main.go":      main,
		"word/word.go": "package word\n\nconst Word = \"built\"\n",
	} {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

const tinyProgram = "package main\n\nimport \"example.org/tiny/word\"\n\nfunc main() { println(word.Word) }\n"

func TestBuildTemporal(t *testing.T) {
	var log bytes.Buffer
	target := filepath.Join(t.TempDir(), "cache", temporalProgram)
	if err := buildTemporal(t.Context(), writeModule(t, tinyProgram), target, &log); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command(target).CombinedOutput()
	if err != nil || string(out) != "built\n" {
		t.Errorf("the program that was built says %q, %v", out, err)
	}
	if !strings.HasPrefix(log.String(), buildingTemporal) {
		t.Errorf("the log says %q", log.String())
	}
	left, err := os.ReadDir(filepath.Dir(target))
	if err != nil || len(left) != 3 { // the program, its digest and the lock
		t.Errorf("beside the program: %v, %v", left, err)
	}
}

func TestBuildTemporalFails(t *testing.T) {
	target := filepath.Join(t.TempDir(), temporalProgram)
	err := buildTemporal(t.Context(), writeModule(t, "package main\n\nfunc main() { missing() }\n"), target, nil)
	if e := trimtab.AsError(err); e.Type != "temporal_build" || !strings.Contains(e.Message, "undefined: missing") {
		t.Errorf("error %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := buildTemporal(ctx, writeModule(t, tinyProgram), target, nil); err == nil {
		t.Error("a build that was cancelled has succeeded")
	}
	if _, err := os.Stat(target); err == nil {
		t.Error("there is a program")
	}
}

// What was built is not built again, whatever the sources are by then; the
// folder of the cache is another for other sources, wherever they lie.
func TestCachedTemporal(t *testing.T) {
	t.Setenv("XDG_CACHE_HOME", t.TempDir())
	source := writeModule(t, tinyProgram)
	before, err := temporalCachePath(source)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(source, "word/word.go"), []byte("package word\n\nconst Word = \"other\"\n"),
		0o644); err != nil {
		t.Fatal(err)
	}
	if after, err := temporalCachePath(source); err != nil || after == before {
		t.Errorf("a change in a folder below leaves %s, %v", after, err)
	}
}

func TestBuildProgress(t *testing.T) {
	begin := time.Unix(0, 0)
	b := &goBuild{}
	check := func(after time.Duration, want string) {
		t.Helper()
		if got := b.progress(begin, begin.Add(after)); got != want {
			t.Errorf("after %v: %q, want %q", after, got, want)
		}
	}
	check(10*time.Second, "another process is building it, or Go is listing the packages (0:10)")
	b.noteDownload("go: downloading example.org/a v1.0.0")
	check(20*time.Second, "modules downloaded: 1 (0:20)")
	b.sizes, b.totalBytes, b.compileStart = map[string]int64{"a": 100, "b": 300,
		"c": 600}, 1000, begin.Add(30*time.Second)
	check(40*time.Second, "0 of 3 packages, 0 % (0:40)")
	b.noteCompiling("a")
	b.noteCompiling("b")
	if b.noteCompiling("# a") || b.noteCompiling("b.go:3: no") {
		t.Error("what the compiler says is taken for a package")
	}
	check(70*time.Second, "2 of 3 packages, 38 % (1:10, about 1:06 left)")
	b.noteCompiling("c")
	check(100*time.Second, "all 3 packages compiled, linking (1:40)")
}

func TestCompilerMemory(t *testing.T) {
	for _, c := range []struct {
		free      int64
		compilers int
		want      string
	}{
		{0, 2, ""}, {3 << 30, 2, ""}, {4 << 30, 2, "GOGC=off GOMEMLIMIT=1073741824"},
		{64 << 30, 64, ""}, {256 << 30, 64, "GOGC=off GOMEMLIMIT=2147483648"},
	} {
		if got := strings.Join(compilerMemory(c.free, c.compilers), " "); got != c.want {
			t.Errorf("%d GiB free, %d compilers: %q, want %q", c.free>>30, c.compilers, got, c.want)
		}
	}
}

// The two programs link each module that they share in one version: else the
// first start compiles it twice.
func TestModulesAgree(t *testing.T) {
	versions := func(file string) map[string]string {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		mod, err := modfile.Parse(file, text, nil)
		if err != nil {
			t.Fatal(err)
		}
		versions := map[string]string{}
		for _, r := range mod.Require {
			versions[r.Mod.Path] = r.Mod.Version
		}
		return versions
	}
	ours, shared := versions("../go.mod"), 0
	for module, version := range versions("temporald/go.mod") {
		if own, ok := ours[module]; ok {
			shared++
			if own != version {
				t.Errorf("module %s: trimtab has %s, trimtab-temporal %s", module, own, version)
			}
		}
	}
	if shared < 10 {
		t.Errorf("%d shared modules were found", shared)
	}
}
