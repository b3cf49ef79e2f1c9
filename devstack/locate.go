package devstack

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/trimtab/trimtab"
)

const temporalProgram = "trimtab-temporal"

// FindTemporal says which trimtab-temporal would be used, without building it:
// the one that TRIMTAB_TEMPORAL_PROGRAM names, the one beside this program, in
// PATH, or in the user's cache. It is empty if there is none.
func FindTemporal() (string, error) {
	if named := os.Getenv("TRIMTAB_TEMPORAL_PROGRAM"); named != "" {
		return named, runnable(named)
	}
	if self, err := os.Executable(); err == nil {
		if beside := filepath.Join(filepath.Dir(self), temporalProgram); runnable(beside) == nil {
			return beside, nil
		}
	}
	if p, err := exec.LookPath(temporalProgram); err == nil {
		return filepath.Abs(p)
	}
	if source := temporalSource(); source != "" {
		cached, err := cachedTemporal(source)
		if err == nil && runnable(cached) == nil {
			return cached, nil
		}
		return "", err
	}
	return "", nil
}

// findTemporal finds the program, or builds it from a checkout.
func findTemporal(ctx context.Context, program string, log io.Writer) (string, error) {
	if program != "" {
		return program, runnable(program)
	}
	found, err := FindTemporal()
	if found != "" || err != nil {
		return found, err
	}
	source := temporalSource()
	_, noGo := exec.LookPath("go")
	if source == "" || noGo != nil {
		return "", errNoTemporal()
	}
	target, err := cachedTemporal(source)
	if err != nil {
		return "", err
	}
	return target, buildTemporal(ctx, source, target, log)
}

func errNoTemporal() error {
	return trimtab.NewError(trimtab.Unavailable, "temporal_missing",
		"put trimtab-temporal of the same release beside trimtab or in PATH, or work in a checkout of the sources with Go installed, or docker compose up, or give the address of a server (--temporal-address)",
		"start the embedded Temporal server: no program %s found", temporalProgram)
}

func runnable(path string) error {
	st, err := os.Stat(path)
	if err == nil && (st.IsDir() || st.Mode()&0o111 == 0) {
		err = errors.New("it is not a program")
	}
	if err != nil {
		return trimtab.NewError(trimtab.Usage, "temporal_program", "name the file of the program trimtab-temporal", "use %s as the Temporal server: %w", path, err)
	}
	return nil
}

// temporalSource is the folder of the server's module in a checkout: that of the
// working directory, or the one this program was built from; else empty.
func temporalSource() string {
	var roots []string
	if dir, err := os.Getwd(); err == nil {
		for ; dir != filepath.Dir(dir); dir = filepath.Dir(dir) {
			roots = append(roots, dir)
		}
	}
	if _, file, _, ok := runtime.Caller(0); ok { // a module path, not a file, when built with -trimpath
		roots = append(roots, filepath.Dir(filepath.Dir(file)))
	}
	i := slices.IndexFunc(roots, func(root string) bool {
		mod, err := os.ReadFile(filepath.Join(root, "go.mod"))
		return err == nil && strings.HasPrefix(string(mod), "module github.com/trimtab/trimtab\n")
	})
	if i < 0 {
		return ""
	}
	source := filepath.Join(roots[i], "devstack", "temporald")
	if _, err := os.Stat(filepath.Join(source, "go.mod")); err != nil {
		return ""
	}
	return source
}

// cachedTemporal is where the program built from source is kept: under a hash of
// all that decides its bytes, so that it never has to be thrown away.
func cachedTemporal(source string) (string, error) {
	files, err := filepath.Glob(filepath.Join(source, "*"))
	if err != nil {
		return "", err
	}
	h := sha256.New()
	fmt.Fprintln(h, runtime.Version(), runtime.GOOS, runtime.GOARCH)
	for _, file := range files { // in order of name
		name := filepath.Base(file)
		if strings.HasSuffix(name, "_test.go") || !strings.HasSuffix(name, ".go") && name != "go.mod" && name != "go.sum" {
			continue
		}
		b, err := os.ReadFile(file)
		if err != nil {
			return "", err
		}
		fmt.Fprintln(h, name, len(b))
		h.Write(b)
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("keep the built Temporal server: %w", err)
	}
	return filepath.Join(cache, "trimtab", temporalProgram, hex.EncodeToString(h.Sum(nil)[:8]), temporalProgram), nil
}

// buildTemporal builds the program once, whoever asks: under a file lock, and
// renamed into place whole. Every half minute it says that it is still at it.
func buildTemporal(ctx context.Context, source, target string, log io.Writer) error {
	dir := filepath.Dir(target)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	go clock(ctx, log, "building the embedded Temporal server, once, about five minutes")
	unlock, err := lock(ctx, filepath.Join(dir, "build.lock"))
	if err != nil {
		return err
	}
	defer unlock()
	if runnable(target) == nil { // who held the lock has built it
		return nil
	}
	draft := fmt.Sprintf("%s.%d", target, os.Getpid())
	defer os.Remove(draft)
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-buildvcs=false", "-ldflags", "-s -w", "-o", draft, ".")
	cmd.Dir = source
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOWORK=off", "GOFLAGS=", "GOOS=", "GOARCH=", "PWD="+source)
	if out, err := cmd.CombinedOutput(); err != nil {
		return trimtab.NewError(trimtab.Unavailable, "temporal_build", "see that Go can reach its module proxy and that there are 3 GB of disk; or docker compose up, or give the address of a server (--temporal-address)",
			"build the embedded Temporal server in %s: %w\n%s\n", source, err, lastLines(string(out), 20))
	}
	return os.Rename(draft, target)
}

// clock says what is being done, and how long it has taken.
func clock(ctx context.Context, log io.Writer, doing string) {
	say(log, "%s", doing)
	tick := time.NewTicker(30 * time.Second)
	defer tick.Stop()
	for begin := time.Now(); ; {
		select {
		case <-ctx.Done():
			return
		case now := <-tick.C:
			took := now.Sub(begin).Round(time.Second)
			say(log, "%s (%d:%02d)", doing, int(took.Minutes()), int(took.Seconds())%60)
		}
	}
}

func lastLines(s string, n int) string {
	lines := strings.Split(strings.TrimSpace(s), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}
