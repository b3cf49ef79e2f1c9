package devstack

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"github.com/trimtab/trimtab"
	"github.com/trimtab/trimtab/plainfile"
)

// minMajor is the oldest major version that is supported: since 13, the owner of
// a database may create the extension btree_gin, which Temporal's schema needs.
const minMajor = 13

// programs are the server programs of one Postgres installation: a folder that
// holds initdb and postgres.
type programs struct {
	// dir is the folder.
	dir string
	// version is the version as the programs print it, such as 15.18.
	version string
	// major is the major version.
	major int
	// fetched: they come from the cache, with shared libraries of their own.
	fetched bool
	// noContrib: the installation lacks neededExtension, as distribution packages
	// without their contrib part do.
	noContrib bool
}

// String is the version and the folder, for messages.
func (p programs) String() string {
	if p.noContrib {
		return p.version + " in " + p.dir + ", without " + neededExtension
	}
	return p.version + " in " + p.dir
}

// neededExtension is the extension that Temporal's schema creates.
const neededExtension = "btree_gin"

// command is a command that runs one of the programs, with English messages and
// without this process's PG* variables. For fetched programs the variables that
// would make them load other shared libraries are removed too.
func (p programs) command(name string, args ...string) *exec.Cmd {
	cmd := exec.Command(filepath.Join(p.dir, name), args...)
	for _, kv := range os.Environ() {
		switch {
		case strings.HasPrefix(kv, "PG"), strings.HasPrefix(kv, "LC_"), strings.HasPrefix(kv, "LANG"):
		case p.fetched && (strings.HasPrefix(kv, "LD_") || strings.HasPrefix(kv, "DYLD_")):
		default:
			cmd.Env = append(cmd.Env, kv)
		}
	}
	cmd.Env = append(cmd.Env, "LC_ALL=C") // we read its messages
	return cmd
}

// installFolders are the folders in which distributions install the programs of
// Postgres.
var installFolders = []string{
	"/usr/lib/postgresql/*/bin", "/usr/pgsql-*/bin", "/usr/libexec/postgresql*", "/usr/lib/postgresql*/bin",
	"/opt/homebrew/opt/postgresql@*/bin", "/usr/local/opt/postgresql@*/bin",
	"/Applications/Postgres.app/Contents/Versions/*/bin", "/usr/local/pgsql/bin",
}

// findPrograms returns the installed programs to use for the cluster in data. An
// existing cluster can be opened only by the major version that created it. For a
// new one the folder bin comes first, then TRIMTAB_POSTGRES_BIN, then the newest
// installation. Errors: postgres_bin, postgres_missing, postgres_version.
func findPrograms(data, bin string) (programs, error) {
	want, err := dataMajor(data)
	if err != nil {
		return programs{}, err
	}
	var named []programs
	for _, dir := range []string{bin, os.Getenv("TRIMTAB_POSTGRES_BIN")} {
		if dir == "" {
			continue
		}
		p, err := programs{dir: dir}.probe()
		if err != nil {
			return programs{}, trimtab.NewError(trimtab.Usage, "postgres_bin",
				"name a folder that holds initdb and postgres in TRIMTAB_POSTGRES_BIN, or unset it",
				"look for the programs of Postgres: %w", err)
		}
		named = append(named, p)
	}
	if want == 0 && len(named) > 0 {
		if named[0].noContrib {
			return programs{}, trimtab.NewError(trimtab.Usage, "postgres_bin",
				"install the package's contrib part, or name another folder in TRIMTAB_POSTGRES_BIN, or unset it",
				"use the Postgres in %s: it lacks the extension %s, which Temporal needs",
				named[0].dir, neededExtension)
		}
		return named[0], nil
	}
	found, refused := installed()
	p, err := selectPrograms(append(named, found...), want, data)
	if e, ok := errors.AsType[*trimtab.Error](err); ok && len(refused) > 0 {
		err = trimtab.NewError(e.Class, e.Type, e.Remedy,
			"%s; unsafe, so not run: %w", e.Message, errors.Join(refused...))
	}
	return p, err
}

// selectPrograms returns the first complete installation of the wanted major
// version, or with want 0 the first that is new enough.
func selectPrograms(found []programs, want int, data string) (programs, error) {
	i := slices.IndexFunc(found, func(p programs) bool {
		return !p.noContrib && (p.major == want || want == 0 && p.major >= minMajor)
	})
	switch {
	case i >= 0:
		return found[i], nil
	case want != 0:
		return programs{}, trimtab.NewError(trimtab.Unavailable, "postgres_version", installHint(want),
			"open the database in %s: Postgres %d created it and no other major version can open it (found: %v); "+
				"nothing was changed", data, want, found)
	}
	return programs{}, trimtab.NewError(trimtab.Unavailable, "postgres_missing", installHint(0),
		"start a private Postgres: found no complete installation of Postgres %d or newer (found: %v)", minMajor, found)
}

// dataMajor is the major version that created the cluster in data, from its file
// PG_VERSION; 0 if there is no cluster.
func dataMajor(data string) (int, error) {
	b, err := plainfile.Read(filepath.Join(data, "PG_VERSION"))
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("read the version of the database in %s: %w", data, err)
	}
	major, err := strconv.Atoi(strings.TrimSpace(string(b)))
	if err != nil || major < 1 {
		return 0, fmt.Errorf("the version of the database in %s is %q, which is not a major version", data,
			strings.TrimSpace(string(b)))
	}
	return major, nil
}

// installed lists the installations in the usual folders and in PATH, newest
// first. Programs that another user could have put there are not run: they are
// returned as errors in refused.
func installed() (found []programs, refused []error) {
	var dirs []string
	for _, pattern := range installFolders {
		match, _ := filepath.Glob(pattern)
		dirs = append(dirs, match...)
	}
	if p, err := exec.LookPath("postgres"); err == nil {
		if p, err = filepath.EvalSymlinks(p); err == nil {
			dirs = append(dirs, filepath.Dir(p))
		}
	}
	slices.Sort(dirs)
	for _, dir := range slices.Compact(dirs) {
		if err := checkTrust(filepath.Join(dir, "postgres"), anyOwner); err != nil {
			refused = append(refused, err)
			continue
		}
		if p, err := (programs{dir: dir}).probe(); err == nil {
			found = append(found, p)
		}
	}
	slices.SortStableFunc(found, func(a, b programs) int { return b.major - a.major })
	return found, refused
}

// probe fills in version and contents by running the programs: a file may be
// there and lack its libraries.
func (p programs) probe() (programs, error) {
	if st, err := os.Stat(filepath.Join(p.dir, "initdb")); err != nil || st.IsDir() {
		return programs{}, fmt.Errorf("%s holds no initdb", p.dir)
	}
	cmd := p.command("postgres", "--version")
	out, err := cmd.Output()
	if err != nil {
		if e, ok := errors.AsType[*exec.ExitError](err); ok {
			err = fmt.Errorf("%w: %s", err, lastLines(string(e.Stderr), 3))
		}
		return programs{}, fmt.Errorf("run %s --version: %w", cmd.Path, err)
	}
	if p.version, p.major, err = parseVersion(string(out)); err != nil {
		return p, err
	}
	if share := p.shareDir(); share != "" {
		_, err := os.Stat(filepath.Join(share, "extension", neededExtension+".control"))
		p.noContrib = errors.Is(err, fs.ErrNotExist)
	}
	return p, nil
}

// shareDir is the folder of extensions and sample files, as initdb prints it;
// empty if it does not.
func (p programs) shareDir() string {
	cmd := p.command("initdb", "--show", "-D", "/nonexistent") // --show only prints: the folder is not created
	cmd.Dir = "/"
	if cred, err := credential(); err == nil && cred != nil { // initdb refuses to run as root
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: cred}
	}
	out, err := cmd.CombinedOutput()
	if err != nil {
		return ""
	}
	for line := range strings.Lines(string(out)) {
		if share, ok := strings.CutPrefix(strings.TrimSpace(line), "share_path="); ok {
			return share
		}
	}
	return ""
}

// parseVersion parses the output of postgres --version, such as "postgres
// (PostgreSQL) 15.18 (Debian …)" or "… 18beta1".
func parseVersion(line string) (version string, major int, err error) {
	_, rest, _ := strings.Cut(line, "(PostgreSQL) ")
	if f := strings.Fields(rest); len(f) > 0 {
		version = f[0]
	}
	digits := 0
	for digits < len(version) && '0' <= version[digits] && version[digits] <= '9' {
		digits++
	}
	major, err = strconv.Atoi(version[:digits])
	if err != nil {
		return "", 0, fmt.Errorf("%q names no version of Postgres", strings.TrimSpace(line))
	}
	return version, major, nil
}

// installHint says how to get Postgres without a download by trimtab: of one
// major version, or with 0 of any.
func installHint(major int) string {
	name, brew := "postgresql", "postgresql@17"
	if major != 0 {
		name, brew = fmt.Sprintf("postgresql-%d", major), fmt.Sprintf("postgresql@%d", major)
	}
	get := fmt.Sprintf("apt-get install -y %s (or your distribution's package, with contrib)", name)
	if runtime.GOOS == "darwin" {
		get = "brew install " + brew
	}
	return get +
		", or name a folder of programs in TRIMTAB_POSTGRES_BIN, or use a server that runs (--postgres-url), or " +
		"docker compose up"
}

// lastLines is the last n lines of a text.
func lastLines(s string, n int) string {
	lines := strings.Split(strings.TrimSpace(s), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}
