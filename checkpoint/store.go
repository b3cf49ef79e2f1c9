// Package checkpoint keeps models and training states in a folder, by
// content. Everything that is read is checked against its digest first.
//
//	objects/<sha256>              one file of an artifact
//	artifacts/<sha256>            the manifest of an artifact: the lines "sha256 size path", sorted
//	states/<attempt>/<sha256>     a training state: one safetensors file, its step in the metadata
//	rollouts/<attempt>/<sha256>   rollouts under way from one worker to another: a safetensors file each
//	partial/                      files under way; one that a crash left is removed after a day
//	databases/<id>                whose record names what is here (see Tie)
//	lock                          by which writers and Collect keep apart
//
// The name of a file is the SHA-256 of its bytes, and the digest of an
// artifact is that of its manifest, so it follows from names and contents of
// its files alone. A file is written under partial, synced, renamed, and its
// folder synced; a manifest comes after its files. After a crash at any
// instruction an artifact or a state is there whole, or not at all.
//
// A model is a Hugging Face GPT-2 folder: config.json, model.safetensors and
// the tokenizer's files (see SaveModel). No file holds a time, an id or a
// name of a run, a host, or a path.
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

// File is one file of an artifact. Name may have folders, divided by slashes.
type File = tokenizer.File

// Store is a folder of artifacts and states. It is safe for concurrent use,
// also by several processes.
type Store struct {
	dir   string
	lower *Store // see Over; may be nil
}

const (
	objects   = "objects"
	artifacts = "artifacts"
	states    = "states"
	rollouts  = "rollouts"
	partial   = "partial"
)

// maxPartialAge is how old a file under way is when nobody writes it any more.
const maxPartialAge = 24 * time.Hour

// maxManifest bounds the bytes of a manifest.
const maxManifest = 1 << 20

// Open makes the folder ready, for its owner only, and removes what crashes left.
func Open(dir string) (*Store, error) {
	s := &Store{dir: dir}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, diskError(fmt.Errorf("open the store: %w", err))
	}
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

// partialName is the name of a file under way, as write makes it.
var partialName = regexp.MustCompile(`^file-[0-9]+$`)

// removeStalePartials removes the files under way that crashes left. Nothing else is
// removed, and nothing behind a symbolic link.
func (s *Store) removeStalePartials() error {
	if st, err := os.Lstat(filepath.Join(s.dir, partial)); err != nil || !st.IsDir() {
		return err
	}
	entries, err := listFolder(filepath.Join(s.dir, partial))
	for _, e := range entries {
		info, err := e.Info()
		if err == nil && info.Mode().IsRegular() && partialName.MatchString(e.Name()) &&
			time.Since(info.ModTime()) > maxPartialAge {
			os.Remove(filepath.Join(s.dir, partial, e.Name())) // else the next Open does
		}
	}
	return err
}

// makeFolder makes a folder of the store, and those above it. The store itself has
// to be there: one that was removed is not made again.
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
			Err: errors.New("something that is no folder is in its place")}
	}
	return err
}

// listFolder lists a folder in order of name; it does not wait for a FIFO in its place.
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

func openFolder(dir string) (*os.File, error) { return os.OpenFile(dir, syscall.O_DIRECTORY, 0) }

// Put stores files as one artifact and returns its digest. The same files
// give the same digest, in whatever order. A stored file that has rotted is
// replaced.
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

// putObject stores the bytes that write makes.
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

func (s *Store) putManifest(entries []manifestEntry) (trimtab.Digest, error) {
	manifest, err := writeManifest(entries)
	if err != nil {
		return "", err
	}
	if err := syncFolder(filepath.Join(s.dir, objects)); err != nil {
		return "", fmt.Errorf("store the files: %w", err)
	}
	digest, _, err := s.write(artifacts, func(w io.Writer) error { _, err := w.Write(manifest); return err })
	if err != nil {
		return "", fmt.Errorf("store the manifest: %w", err)
	}
	return digest, syncFolder(filepath.Join(s.dir, artifacts))
}

// Files returns the files of an artifact in order of name. Errors:
// artifact_missing if it, or one of its files, is not there;
// artifact_corrupt if bytes are not what their digest says.
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

// manifestEntry is one line "sha256 size path".
type manifestEntry struct {
	digest trimtab.Digest
	size   int64
	name   string
}

func (e manifestEntry) line() string {
	return e.digest.Hex() + " " + strconv.FormatInt(e.size, 10) + " " + e.name + "\n"
}

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

// readManifest reads what writeManifest writes, and nothing else. The
// entries come in order of name.
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
	again, err := writeManifest(entries)
	if err != nil {
		return nil, err
	}
	if string(again) != string(raw) {
		return nil, errors.New("the manifest is not in its one form")
	}
	slices.SortFunc(entries, func(a, b manifestEntry) int { return strings.Compare(a.name, b.name) })
	return entries, nil
}

func readLine(line string) (e manifestEntry, err error) {
	parts := strings.SplitN(strings.TrimSuffix(line, "\n"), " ", 3)
	if len(parts) != 3 {
		return e, fmt.Errorf("manifest line %.80q is not sha256, size and path", line)
	}
	if e.digest, err = trimtab.ParseDigest(parts[0]); err != nil {
		return e, err
	}
	if e.size, err = strconv.ParseInt(parts[1], 10, 64); err != nil || e.size < 0 {
		return e, fmt.Errorf("manifest line %.80q: the size is no size", line)
	}
	e.name = parts[2]
	return e, checkName(e.name)
}

// checkName accepts relative paths that stay where they are put, on any system.
func checkName(name string) error {
	odd := func(r rune) bool { return r == '\\' || r == ':' || !unicode.IsPrint(r) }
	if !fs.ValidPath(name) || name == "." || strings.ContainsFunc(name, odd) || len(name) > 512 {
		return fmt.Errorf("%.80q cannot be the name of a file in a store", name)
	}
	return nil
}

// write stores what fill writes in folder under its digest; the caller syncs
// the folder. A file that is there already, and sound, stays.
func (s *Store) write(folder string, fill func(io.Writer) error) (d trimtab.Digest, size int64, err error) {
	f, err := os.CreateTemp(filepath.Join(s.dir, partial), "file-*")
	if err != nil {
		return "", 0, diskError(err)
	}
	defer os.Remove(f.Name()) // gone already, if it was renamed
	defer f.Close()
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

// publish puts a written file where it belongs. One that is there already, and
// sound, stays, and is as new as if it had been written now: see Keep.Grace.
func (s *Store) publish(f *os.File, folder string, d trimtab.Digest, size int64) error {
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
	if err := s.makeFolder(folder); err != nil {
		return diskError(err)
	}
	if err := os.Rename(f.Name(), s.path(folder, d)); err != nil {
		return diskError(err)
	}
	return failpoint.At("file_renamed")
}

// read returns the bytes of a file after checking them. A size of -1 is unknown.
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
		return nil, corruptError(fmt.Errorf("%d bytes in place of %d", len(data), size))
	}
	if got := trimtab.DigestOf(data); got != "sha256:"+trimtab.Digest(d.Hex()) {
		return nil, corruptError(fmt.Errorf("the bytes have the digest %s", got.Short()))
	}
	return data, nil
}

func (s *Store) path(folder string, d trimtab.Digest) string {
	return filepath.Join(s.dir, folder, d.Hex())
}

func syncFolder(dir string) error {
	f, err := openFolder(dir)
	if err != nil {
		return err
	}
	defer f.Close()
	return diskError(f.Sync())
}

// diskError gives a full disk its type; other errors stay as they are.
func diskError(err error) error {
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		return trimtab.NewError(trimtab.Unavailable, "disk_full", "free some space: the run goes on by itself", "%w",
			err)
	}
	if errors.Is(err, syscall.EFBIG) {
		return trimtab.NewError(trimtab.Unavailable, "file_size_limit",
			"raise the limit (ulimit -f unlimited) and start the worker again: the run goes on by itself", "%w", err)
	}
	return err
}

func missingError(err error) *trimtab.Error {
	return trimtab.NewError(trimtab.NotFound, "artifact_missing",
		"check that this is the folder the run wrote to, or run the stage again", "not in the store (%w)", err)
}

func corruptError(err error) *trimtab.Error {
	return trimtab.NewError(trimtab.Verification, "artifact_corrupt",
		"restore the file from a backup, or run the stage again", "damaged: %w", err)
}

// annotate puts what was being read before the message of an error of the store.
func annotate(err error, format string, args ...any) error {
	what := fmt.Sprintf(format, args...)
	if e, ok := errors.AsType[*trimtab.Error](err); ok {
		return trimtab.NewError(e.Class, e.Type, e.Remedy, "%s: %s", what, e.Message)
	}
	return fmt.Errorf("%s: %w", what, err)
}
