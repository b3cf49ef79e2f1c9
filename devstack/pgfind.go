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

	"github.com/trimtab/trimtab"
	"github.com/trimtab/trimtab/plainfile"
)

// minMajor is the oldest Postgres whose btree_gin a database owner may create, which Temporal needs.
const minMajor = 13

// programs is a folder that holds initdb and postgres.
type programs struct {
	dir, version string
	major        int
}

func (p programs) String() string { return p.version + " in " + p.dir }

func (p programs) path(name string) string { return filepath.Join(p.dir, name) }

// installFolders are where packages put the programs of Postgres.
var installFolders = []string{
	"/usr/lib/postgresql/*/bin", "/usr/pgsql-*/bin", "/usr/libexec/postgresql*", "/usr/lib/postgresql*/bin",
	"/opt/homebrew/opt/postgresql@*/bin", "/usr/local/opt/postgresql@*/bin",
	"/Applications/Postgres.app/Contents/Versions/*/bin", "/usr/local/pgsql/bin",
}

// findPrograms finds the programs to use for a data folder: those of the major
// version that made it and of no other; for a new one the folder bin, else the
// one that TRIMTAB_POSTGRES_BIN names, else the newest installed.
func findPrograms(data, bin string) (programs, error) {
	want, err := majorOf(data)
	if err != nil {
		return programs{}, err
	}
	var named []programs
	for _, dir := range []string{bin, os.Getenv("TRIMTAB_POSTGRES_BIN")} {
		if dir == "" {
			continue
		}
		p, err := inspect(dir)
		if err != nil {
			return programs{}, trimtab.NewError(trimtab.Usage, "postgres_bin", "name a folder that holds initdb and postgres, or none", "look for the programs of Postgres: %w", err)
		}
		named = append(named, p)
	}
	if want == 0 && len(named) > 0 {
		return named[0], nil
	}
	found, refused := installed()
	p, err := choose(append(named, found...), want, data)
	if e, ok := errors.AsType[*trimtab.Error](err); ok && len(refused) > 0 {
		err = trimtab.NewError(e.Class, e.Type, e.Remedy, "%s; not run: %w", e.Message, errors.Join(refused...))
	}
	return p, err
}

// choose takes the first of the wanted major version, or the first that is new enough when any will do.
func choose(found []programs, want int, data string) (programs, error) {
	i := slices.IndexFunc(found, func(p programs) bool {
		return p.major == want || want == 0 && p.major >= minMajor
	})
	switch {
	case i >= 0:
		return found[i], nil
	case want != 0:
		return programs{}, trimtab.NewError(trimtab.Unavailable, "postgres_version", installHint(want),
			"open the database in %s: Postgres %d made it and no other version may open it (found: %v); it was left as it is", data, want, found)
	}
	return programs{}, trimtab.NewError(trimtab.Unavailable, "postgres_missing", installHint(0),
		"start a private Postgres: no programs of Postgres %d or newer found (found: %v)", minMajor, found)
}

// majorOf reads the major version that made a data folder; 0 if there is none.
func majorOf(data string) (int, error) {
	b, err := plainfile.Read(filepath.Join(data, "PG_VERSION"))
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("read the version of the database in %s: %w", data, err)
	}
	major, err := strconv.Atoi(strings.TrimSpace(string(b)))
	if err != nil || major < 1 {
		return 0, fmt.Errorf("the version of the database in %s is %q, which is no major version", data, strings.TrimSpace(string(b)))
	}
	return major, nil
}

// installed lists what the usual folders and PATH hold, newest first. What
// others could have put there is not run, but refused.
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
		if err := checkTrust(filepath.Join(dir, "postgres"), owners); err != nil {
			refused = append(refused, err)
			continue
		}
		if p, err := inspect(dir); err == nil {
			found = append(found, p)
		}
	}
	slices.SortStableFunc(found, func(a, b programs) int { return b.major - a.major })
	return found, refused
}

// inspect runs what is in dir, since a file may be there and lack its libraries.
func inspect(dir string) (programs, error) {
	if st, err := os.Stat(filepath.Join(dir, "initdb")); err != nil || st.IsDir() {
		return programs{}, fmt.Errorf("%s holds no initdb", dir)
	}
	out, err := exec.Command(filepath.Join(dir, "postgres"), "--version").Output()
	if err != nil {
		return programs{}, fmt.Errorf("run %s --version: %w", filepath.Join(dir, "postgres"), err)
	}
	version, major, err := parseVersion(string(out))
	return programs{dir: dir, version: version, major: major}, err
}

// parseVersion reads "postgres (PostgreSQL) 15.18 (Debian …)" and "… 18beta1".
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

// installHint says how to get Postgres, of one major version or any.
func installHint(major int) string {
	name, brew := "postgresql", "postgresql@17"
	if major != 0 {
		name, brew = fmt.Sprintf("postgresql-%d", major), fmt.Sprintf("postgresql@%d", major)
	}
	get := fmt.Sprintf("apt-get install -y %s (or your distribution's package, with its contrib part)", name)
	if runtime.GOOS == "darwin" {
		get = "brew install " + brew
	}
	return get + ", or name a folder of programs in TRIMTAB_POSTGRES_BIN, or use a server that runs (--postgres-url), or docker compose up"
}
