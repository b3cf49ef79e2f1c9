package devstack

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/trimtab/trimtab"
	"github.com/trimtab/trimtab/plainfile"
)

// temporalProgram is the name of the Temporal server's executable.
const temporalProgram = "trimtab-temporal"

// FindTemporal returns the trimtab-temporal that would be used, without building
// it: the one named by TRIMTAB_TEMPORAL_PROGRAM, the one beside this program, the
// one in PATH, or the one built earlier into the user's cache. It is empty if
// there is none. Errors: temporal_program, unsafe_program.
func FindTemporal() (string, error) {
	if named := os.Getenv("TRIMTAB_TEMPORAL_PROGRAM"); named != "" {
		return named, checkExecutable(named)
	}
	if self, err := os.Executable(); err == nil {
		if beside := filepath.Join(filepath.Dir(self), temporalProgram); checkExecutable(beside) == nil {
			return beside, checkProgram(beside)
		}
	}
	if p, err := exec.LookPath(temporalProgram); err == nil {
		if p, err = filepath.Abs(p); err == nil {
			err = checkProgram(p)
		}
		return p, err
	}
	if source := temporalSource(); source != "" {
		cached, err := temporalCachePath(source)
		if err == nil && checkCached(cached) == nil {
			return cached, nil
		}
		return "", err
	}
	return "", nil
}

// findTemporal returns the program to run: the one given, the one that
// FindTemporal finds, or one built from a checkout of the sources.
func findTemporal(ctx context.Context, program string, log io.Writer) (string, error) {
	if program != "" {
		return program, checkExecutable(program)
	}
	found, err := FindTemporal()
	if found != "" || err != nil {
		return found, err
	}
	source := temporalSource()
	_, noGo := exec.LookPath("go")
	if source == "" || noGo != nil {
		return "", temporalMissing()
	}
	target, err := temporalCachePath(source)
	if err != nil {
		return "", err
	}
	return target, buildTemporal(ctx, source, target, log)
}

// temporalMissing is the error for a machine without the program and without the
// means to build it.
func temporalMissing() error {
	return trimtab.NewError(trimtab.Unavailable, "temporal_missing",
		"put trimtab-temporal of the same release next to trimtab or into PATH, or run from a checkout of the sources "+
			"with Go installed, or run docker compose up, or give the address of a server (--temporal-address)",
		"start the embedded Temporal server: program %s not found", temporalProgram)
}

// checkExecutable checks that path is an executable file. Error:
// temporal_program.
func checkExecutable(path string) error {
	st, err := os.Stat(path)
	if err == nil && (st.IsDir() || st.Mode()&0o111 == 0) {
		err = errors.New("it is not an executable file")
	}
	if err != nil {
		return trimtab.NewError(trimtab.Usage, "temporal_program", "give the path of the program trimtab-temporal",
			"use %s as the Temporal server: %w", path, err)
	}
	return nil
}

// temporalSource is the folder of the server's module in a checkout of the
// sources: the checkout around the working directory, else the one that this
// program was built from; empty if there is neither.
func temporalSource() string {
	var here, built string
	if dir, err := os.Getwd(); err == nil {
		for ; here == "" && dir != filepath.Dir(dir); dir = filepath.Dir(dir) {
			if isCheckout(dir) {
				here = dir
			}
		}
	}
	if _, file, _, ok := runtime.Caller(0); ok { // with -trimpath it is a module path, which is no checkout
		if dir := filepath.Dir(filepath.Dir(file)); isCheckout(dir) {
			built = dir
		}
	}
	root := cmp.Or(here, built)
	// What is built is also run. Sources that other users could have put there are accepted only if this program was
	// itself built from them and is run inside them.
	if root == "" || here != built && checkTrust(root, selfOnly) != nil {
		return ""
	}
	source := filepath.Join(root, "devstack", "temporald")
	if _, err := os.Stat(filepath.Join(source, "go.mod")); err != nil {
		return ""
	}
	return source
}

// isCheckout reports whether a folder is the root of trimtab's module.
func isCheckout(dir string) bool {
	mod, err := plainfile.Read(filepath.Join(dir, "go.mod"))
	return err == nil && strings.HasPrefix(string(mod), "module github.com/trimtab/trimtab\n")
}

// temporalCachePath is where the program built from source is cached: under a
// hash of everything that determines it, so that a cached program never becomes
// stale. Test files do not count.
func temporalCachePath(source string) (string, error) {
	h := sha256.New()
	fmt.Fprintln(h, runtime.Version(), runtime.GOOS, runtime.GOARCH)
	err := fs.WalkDir(os.DirFS(source), ".", func(file string, d fs.DirEntry, err error) error { // in order of name
		name := d.Name()
		if err != nil || d.IsDir() || strings.HasSuffix(name, "_test.go") || !strings.HasSuffix(name, ".go") &&
			name != "go.mod" && name != "go.sum" {
			return err
		}
		b, err := os.ReadFile(filepath.Join(source, file))
		fmt.Fprintln(h, file, len(b))
		h.Write(b)
		return err
	})
	if err != nil {
		return "", err
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", trimtab.NewError(trimtab.Unavailable, "no_cache_folder",
			"set HOME or XDG_CACHE_HOME to an absolute path, or put trimtab-temporal of the same release next to "+
				"trimtab",
			"choose a cache folder for the Temporal server: %w", err)
	}
	return filepath.Join(cache, "trimtab", temporalProgram, hex.EncodeToString(h.Sum(nil)[:8]), temporalProgram), nil
}

// checkCached refuses a cached program that other users could have changed, or
// whose bytes are not those that were built.
func checkCached(path string) error {
	if err := errors.Join(checkExecutable(path), checkTrust(path, selfOnly)); err != nil {
		return err
	}
	sum, err := plainfile.Read(path + ".sha256")
	if err != nil {
		return err
	}
	got, err := fileDigest(path)
	if err == nil && got != strings.TrimSpace(string(sum)) {
		err = fmt.Errorf("%s has changed since it was built", path)
	}
	return err
}

// checkProgram refuses a program found in a place where other users could have
// put it. Error: unsafe_program.
func checkProgram(path string) error {
	err := checkTrust(path, anyOwner)
	if err == nil {
		return nil
	}
	return trimtab.NewError(trimtab.Unavailable, "unsafe_program",
		"remove that write permission (chmod o-w), or set TRIMTAB_TEMPORAL_PROGRAM to the program if you trust it",
		"run %s as the Temporal server: %w", path, err)
}
