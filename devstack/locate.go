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

const temporalProgram = "trimtab-temporal"

// FindTemporal says which trimtab-temporal would be used, without building it:
// the one that TRIMTAB_TEMPORAL_PROGRAM names, the one beside this program, in
// PATH, or in the user's cache. It is empty if there is none.
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

// findTemporal finds the program, or builds it from a checkout.
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

func temporalMissing() error {
	return trimtab.NewError(trimtab.Unavailable, "temporal_missing",
		"put trimtab-temporal of the same release beside trimtab or in PATH, or work in a checkout of the sources "+
			"with Go installed, or docker compose up, or give the address of a server (--temporal-address)",
		"start the embedded Temporal server: no program %s found", temporalProgram)
}

func checkExecutable(path string) error {
	st, err := os.Stat(path)
	if err == nil && (st.IsDir() || st.Mode()&0o111 == 0) {
		err = errors.New("it is not a program")
	}
	if err != nil {
		return trimtab.NewError(trimtab.Usage, "temporal_program", "name the file of the program trimtab-temporal",
			"use %s as the Temporal server: %w", path, err)
	}
	return nil
}

// temporalSource is the folder of the server's module in a checkout: that of the
// working directory, or the one this program was built from; else empty.
func temporalSource() string {
	var here, built string
	if dir, err := os.Getwd(); err == nil {
		for ; here == "" && dir != filepath.Dir(dir); dir = filepath.Dir(dir) {
			if isCheckout(dir) {
				here = dir
			}
		}
	}
	if _, file, _, ok := runtime.Caller(0); ok { // a module path, not a file, when built with -trimpath
		if dir := filepath.Dir(filepath.Dir(file)); isCheckout(dir) {
			built = dir
		}
	}
	root := cmp.Or(here, built)
	// What is built is run: sources that others could have put there are taken
	// only where this program was built from them and is run in them.
	if root == "" || here != built && checkTrust(root, selfOnly) != nil {
		return ""
	}
	source := filepath.Join(root, "devstack", "temporald")
	if _, err := os.Stat(filepath.Join(source, "go.mod")); err != nil {
		return ""
	}
	return source
}

func isCheckout(dir string) bool {
	mod, err := plainfile.Read(filepath.Join(dir, "go.mod"))
	return err == nil && strings.HasPrefix(string(mod), "module github.com/trimtab/trimtab\n")
}

// temporalCachePath is where the program built from source is kept: under a hash of
// all that decides its bytes, so that it never has to be thrown away.
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
			"set HOME or XDG_CACHE_HOME to a full path, or put trimtab-temporal of the same release beside trimtab",
			"keep the built Temporal server: %w", err)
	}
	return filepath.Join(cache, "trimtab", temporalProgram, hex.EncodeToString(h.Sum(nil)[:8]), temporalProgram), nil
}

// checkCached refuses a built program that others could have changed, or that
// is not the one that was built.
func checkCached(path string) error {
	if err := errors.Join(checkExecutable(path), checkTrust(path, selfOnly)); err != nil {
		return err
	}
	sum, err := plainfile.Read(path + ".sha256")
	if err != nil {
		return err
	}
	is, err := fileDigest(path)
	if err == nil && is != strings.TrimSpace(string(sum)) {
		err = fmt.Errorf("%s is not what was built", path)
	}
	return err
}

// checkProgram refuses a program that was found, and that others could have put there.
func checkProgram(path string) error {
	err := checkTrust(path, anyOwner)
	if err == nil {
		return nil
	}
	return trimtab.NewError(trimtab.Unavailable, "unsafe_program",
		"take that right away (chmod o-w), or name the program with TRIMTAB_TEMPORAL_PROGRAM if you trust it",
		"run %s as the Temporal server: %w", path, err)
}
