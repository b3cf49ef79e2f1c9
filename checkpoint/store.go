package checkpoint

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
	"unicode"

	"github.com/trimtab/trimtab"
	"github.com/trimtab/trimtab/failpoint"
	"github.com/trimtab/trimtab/plainfile"
	"github.com/trimtab/trimtab/tokenizer"
)

// File is one file of an artifact. Its name is a relative path, with slashes.
type File = tokenizer.File

// Store is a folder of artifacts, states and rollouts. It is safe for concurrent
// use, also by several processes on one machine.
type Store struct {
	dir   string
	lower *Store // read where dir does not have a file (see Overlay); nil in most stores
}

const (
	// Folders of the store.
	objects   = "objects"
	artifacts = "artifacts"
	states    = "states"
	rollouts  = "rollouts"
	partial   = "partial"
)

// maxPartialAge is the age at which an unfinished file counts as left by a crash.
// No write takes nearly that long.
const maxPartialAge = 24 * time.Hour

// maxManifest bounds the size of a manifest, bytes, against a damaged or hostile file.
const maxManifest = 1 << 20

// Open creates the folders of a store, readable by their owner only, and removes
// unfinished files that crashes left. A store that exists is opened as it is.
// Errors: disk_full, and those of the file system.
func Open(dir string) (*Store, error) {
	s := &Store{dir: dir}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, diskError(fmt.Errorf("open the store: %w", err))
	}
	// databases is made by the first RegisterDatabase, lock by the first write.
	for _, name := range []string{objects, artifacts, states, rollouts, partial} {
		if err := s.makeFolder(name); err != nil {
			return nil, diskError(fmt.Errorf("open the store: %w", err))
		}
	}
	if err := errors.Join(s.removeStalePartials(), syncFolder(dir)); err != nil {
		return nil, fmt.Errorf("open the store: %w", err)
	}
	return s, nil
}

// partialName matches the names that write gives to unfinished files.
var partialName = regexp.MustCompile(`^file-[0-9]+$`)

// removeStalePartials removes unfinished files that crashes left. Nothing else
// is removed, and nothing behind a symbolic link.
func (s *Store) removeStalePartials() error {
	if st, err := os.Lstat(filepath.Join(s.dir, partial)); err != nil || !st.IsDir() {
		return err
	}
	entries, err := listFolder(filepath.Join(s.dir, partial))
	for _, e := range entries {
		info, err := e.Info()
		if err == nil && info.Mode().IsRegular() && partialName.MatchString(e.Name()) &&
			time.Since(info.ModTime()) > maxPartialAge {
			os.Remove(filepath.Join(s.dir, partial, e.Name())) // if it fails, the next Open tries again
		}
	}
	return err
}

// makeFolder makes a folder of the store and those above it, but not the store
// itself: a store that was removed while it is in use must not reappear empty.
func (s *Store) makeFolder(name string) error {
	if dir := path.Dir(name); dir != "." {
		if err := s.makeFolder(dir); err != nil {
			return err
		}
	}
	full := filepath.Join(s.dir, filepath.FromSlash(name))
	err := os.Mkdir(full, 0o700)
	if errors.Is(err, fs.ErrExist) {
		if st, err := os.Stat(full); err == nil && st.IsDir() {
			return nil
		}
		err = &fs.PathError{Op: "make folder", Path: full,
			Err: errors.New("a file is in its place")}
	}
	return err
}

// listFolder lists a folder in order of name. It fails at once, and does not
// wait for a writer, if a FIFO is in the folder's place.
func listFolder(dir string) ([]fs.DirEntry, error) {
	f, err := openFolder(dir)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	entries, err := f.ReadDir(-1)
	slices.SortFunc(entries, func(a, b fs.DirEntry) int { return strings.Compare(a.Name(), b.Name()) })
	return entries, err
}

// openFolder opens a folder for listing or syncing. O_DIRECTORY refuses anything
// else, a FIFO included, on which an open would block.
func openFolder(dir string) (*os.File, error) { return os.OpenFile(dir, syscall.O_DIRECTORY, 0) }

// Put stores files as one artifact and returns its digest, which depends on
// names and contents alone and not on the order. Files that are stored already
// are not written again, unless they are damaged: then they are replaced.
func (s *Store) Put(files []File) (trimtab.Digest, error) {
	var entries []manifestEntry
	for _, f := range files {
		e, err := s.putObject(f.Name, func(w io.Writer) error { _, err := w.Write(f.Data); return err })
		if err != nil {
			return "", err
		}
		entries = append(entries, e)
	}
	return s.putManifest(entries)
}

// putObject stores what write writes as an object. name is its path in the artifact.
func (s *Store) putObject(name string, write func(io.Writer) error) (manifestEntry, error) {
	if err := checkName(name); err != nil {
		return manifestEntry{}, err
	}
	digest, size, err := s.write(objects, write)
	if err != nil {
		return manifestEntry{}, fmt.Errorf("store %s: %w", name, err)
	}
	return manifestEntry{digest, size, name}, nil
}

// putManifest stores the manifest of an artifact whose objects are written, and
// makes both durable: first the names of the objects, then the manifest.
func (s *Store) putManifest(entries []manifestEntry) (trimtab.Digest, error) {
	manifest, err := writeManifest(entries)
	if err != nil {
		return "", err
	}
	// Objects are durable before the manifest that names them exists.
	if err := syncFolder(filepath.Join(s.dir, objects)); err != nil {
		return "", fmt.Errorf("store the files: %w", err)
	}
	digest, _, err := s.write(artifacts, func(w io.Writer) error { _, err := w.Write(manifest); return err })
	if err != nil {
		return "", fmt.Errorf("store the manifest: %w", err)
	}
	return digest, syncFolder(filepath.Join(s.dir, artifacts))
}

// Files reads the files of an artifact, in order of name. Errors:
// artifact_missing if the artifact or one of its files does not exist,
// artifact_corrupt if any bytes differ from their digest.
func (s *Store) Files(d trimtab.Digest) ([]File, error) {
	entries, err := s.manifest(d)
	if err != nil {
		return nil, err
	}
	files := make([]File, len(entries))
	for i, e := range entries {
		data, err := s.read(objects, e.digest, e.size)
		if err != nil {
			return nil, annotate(err, "artifact %s, file %s", d.Short(), e.name)
		}
		files[i] = File{Name: e.name, Data: data}
	}
	return files, nil
}

// manifest reads the manifest of an artifact; its entries are in order of name.
func (s *Store) manifest(d trimtab.Digest) ([]manifestEntry, error) {
	raw, err := s.read(artifacts, d, -1)
	if err != nil {
		return nil, annotate(err, "artifact %s", d.Short())
	}
	entries, err := readManifest(raw)
	if err != nil {
		return nil, annotate(corruptError(err), "artifact %s", d.Short())
	}
	return entries, nil
}

// manifestEntry is one line of a manifest: "sha256 size path".
type manifestEntry struct {
	digest trimtab.Digest // of the object
	size   int64          // bytes
	name   string         // path within the artifact, with slashes; may contain spaces
}

// line is the entry as it stands in a manifest, with the newline.
func (e manifestEntry) line() string {
	return e.digest.Hex() + " " + strconv.FormatInt(e.size, 10) + " " + e.name + "\n"
}

// writeManifest encodes a manifest: the lines of its entries, sorted as text.
// That makes it canonical: one set of files has one manifest, and one digest.
func writeManifest(entries []manifestEntry) ([]byte, error) {
	if len(entries) == 0 {
		return nil, errors.New("an artifact has at least one file")
	}
	lines := make([]string, len(entries))
	seen := make(map[string]bool)
	for i, e := range entries {
		if seen[e.name] {
			return nil, fmt.Errorf("the artifact has two files named %s", e.name)
		}
		seen[e.name] = true
		lines[i] = e.line()
	}
	slices.Sort(lines)
	return []byte(strings.Join(lines, "")), nil
}

// readManifest decodes a manifest, and refuses any that writeManifest would not
// write. The entries are in order of name.
func readManifest(raw []byte) ([]manifestEntry, error) {
	if len(raw) > maxManifest {
		return nil, fmt.Errorf("a manifest of %d bytes", len(raw))
	}
	var entries []manifestEntry
	for line := range strings.Lines(string(raw)) {
		e, err := readLine(line)
		if err != nil {
			return nil, err
		}
		entries = append(entries, e)
	}
	// Encoding the entries again checks everything that readLine does not: the order
	// of lines, leading zeros, names that come twice, the newline at the end.
	again, err := writeManifest(entries)
	if err != nil {
		return nil, err
	}
	if string(again) != string(raw) {
		return nil, errors.New("the manifest is not in canonical form")
	}
	slices.SortFunc(entries, func(a, b manifestEntry) int { return strings.Compare(a.name, b.name) })
	return entries, nil
}

// readLine decodes one line of a manifest.
func readLine(line string) (e manifestEntry, err error) {
	parts := strings.SplitN(strings.TrimSuffix(line, "\n"), " ", 3)
	if len(parts) != 3 {
		return e, fmt.Errorf("manifest line %.80q is not sha256, size and path", line)
	}
	if e.digest, err = trimtab.ParseDigest(parts[0]); err != nil {
		return e, err
	}
	if e.size, err = strconv.ParseInt(parts[1], 10, 64); err != nil || e.size < 0 {
		return e, fmt.Errorf("manifest line %.80q: the size is not a number", line)
	}
	e.name = parts[2]
	return e, checkName(e.name)
}

// checkName accepts relative paths that stay within their folder on any system:
// no backslash, no colon (a drive or a stream on Windows), nothing unprintable.
func checkName(name string) error {
	// fs.ValidPath excludes "..", empty elements and absolute paths.
	odd := func(r rune) bool { return r == '\\' || r == ':' || !unicode.IsPrint(r) }
	if !fs.ValidPath(name) || name == "." || strings.ContainsFunc(name, odd) || len(name) > 512 {
		return fmt.Errorf("%.80q cannot be the name of a file in a store", name)
	}
	return nil
}

// write stores what fill writes under its digest in a folder. The caller syncs
// the folder. A file that exists and is undamaged stays.
func (s *Store) write(folder string, fill func(io.Writer) error) (d trimtab.Digest, size int64, err error) {
	f, err := os.CreateTemp(filepath.Join(s.dir, partial), "file-*")
	if err != nil {
		return "", 0, diskError(err)
	}
	defer os.Remove(f.Name()) // fails if it was renamed
	defer f.Close()
	// Hashed while it is written: a large file need not be in memory as a whole.
	hash := sha256.New()
	if err := fill(io.MultiWriter(f, hash)); err != nil {
		return "", 0, diskError(err)
	}
	if size, err = f.Seek(0, io.SeekCurrent); err != nil {
		return "", 0, err
	}
	if err := failpoint.At("file_written"); err != nil {
		return "", 0, diskError(err)
	}
	d = trimtab.DigestFromSum(hash.Sum(nil))
	return d, size, s.withSharedLock(func() error { return s.publish(f, folder, d, size) })
}

// publish syncs a written file and renames it to its place. If an undamaged file
// is there already, that one stays and gets the present time, as if it had been
// written now: its grace period (GCPolicy.Grace) starts anew.
func (s *Store) publish(f *os.File, folder string, d trimtab.Digest, size int64) error {
	// Without the lower store of an overlay: the file has to be in this one.
	if _, err := (&Store{dir: s.dir}).read(folder, d, size); err == nil {
		now := time.Now()
		if os.Chtimes(s.path(folder, d), now, now) == nil {
			return nil
		}
	}
	if err := f.Sync(); err != nil {
		return diskError(err)
	}
	if err := failpoint.At("file_synced"); err != nil {
		return diskError(err)
	}
	// The folder of an attempt may be new, or just removed by the garbage collector.
	if err := s.makeFolder(folder); err != nil {
		return diskError(err)
	}
	if err := os.Rename(f.Name(), s.path(folder, d)); err != nil {
		return diskError(err)
	}
	return failpoint.At("file_renamed")
}

// read reads a file of a folder and verifies its size and its digest. A size of
// -1 is unknown. Errors: invalid_digest, artifact_missing, artifact_corrupt.
func (s *Store) read(folder string, d trimtab.Digest, size int64) ([]byte, error) {
	if _, err := trimtab.ParseDigest(string(d)); err != nil {
		return nil, trimtab.NewError(trimtab.Usage, "invalid_digest", "give the digest that the run shows", "%w", err)
	}
	data, err := s.readRaw(folder, d)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, missingError(err)
	case errors.Is(err, plainfile.ErrNotPlain):
		return nil, corruptError(err)
	case err != nil:
		return nil, diskError(err)
	case size >= 0 && int64(len(data)) != size:
		return nil, corruptError(fmt.Errorf("%d bytes instead of %d", len(data), size))
	}
	// The name of a file is its digest, so this verifies every byte.
	if got := trimtab.DigestOf(data); got != "sha256:"+trimtab.Digest(d.Hex()) {
		return nil, corruptError(fmt.Errorf("the bytes have the digest %s", got.Short()))
	}
	return data, nil
}

// path is where the file of a digest lies.
func (s *Store) path(folder string, d trimtab.Digest) string {
	return filepath.Join(s.dir, folder, d.Hex())
}

// syncFolder makes the names in a folder durable: fsync of a file covers its
// content and not the entry by which it is found.
func syncFolder(dir string) error {
	f, err := openFolder(dir)
	if err != nil {
		return err
	}
	defer f.Close()
	return diskError(f.Sync())
}

// diskError gives errors that a person has to fix on the machine their type: a
// full disk or quota, a file size limit. Others, nil included, stay as they are.
func diskError(err error) error {
	if trimtab.IsDiskFull(err) {
		return trimtab.NewError(trimtab.Unavailable, "disk_full", "free some space: the run resumes by itself", "%w",
			err)
	}
	if errors.Is(err, syscall.EFBIG) {
		return trimtab.NewError(trimtab.Unavailable, "file_size_limit",
			"raise the limit (ulimit -f unlimited) and start the worker again: the run resumes by itself", "%w", err)
	}
	return err
}

// missingError says that a file of the store does not exist.
func missingError(err error) *trimtab.Error {
	return trimtab.NewError(trimtab.NotFound, "artifact_missing",
		"check that this is the folder the run wrote to, or run the stage again", "not in the store (%w)", err)
}

// corruptError says that the bytes of a file are not those of its digest, or not
// of its format.
func corruptError(err error) *trimtab.Error {
	return trimtab.NewError(trimtab.Verification, "artifact_corrupt",
		"restore the file from a backup, or run the stage again", "damaged: %w", err)
}

// annotate puts what was being done in front of an error's message. The class,
// type and remedy of a trimtab.Error stay.
func annotate(err error, format string, args ...any) error {
	what := fmt.Sprintf(format, args...)
	if e, ok := errors.AsType[*trimtab.Error](err); ok {
		return trimtab.NewError(e.Class, e.Type, e.Remedy, "%s: %s", what, e.Message)
	}
	return fmt.Errorf("%s: %w", what, err)
}
