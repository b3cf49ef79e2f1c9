package fetch

import (
	"archive/tar"
	"archive/zip"
	"bufio"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"sync"

	"github.com/ulikunitz/xz"
)

// Limits bound what Unpack writes, so that a malicious archive cannot fill the
// disk; an archive beyond them is an error with the cause Archive.
type Limits struct {
	// Bytes is the size of all files together.
	Bytes int64
	// Entries is the number of files, folders and links.
	Entries int
}

// Unpack extracts the one .txz file in a zip archive, a tar compressed with xz,
// into the empty folder dir, and syncs it to the disk. Modes are normalised:
// every user may read files, and run those that any bit of the tar's mode marks
// as executable. Only regular files, folders and symbolic links that stay within
// dir are accepted; anything else is an error with the cause Archive. Errors are
// of type *Error.
func Unpack(archive, dir string, limits Limits) error {
	z, err := zip.OpenReader(archive)
	if err != nil {
		return archiveError(err)
	}
	defer z.Close()
	var inner *zip.File
	for _, f := range z.File {
		if strings.HasSuffix(f.Name, ".txz") {
			if inner != nil {
				return &Error{Cause: Archive, Err: errors.New("the zip file holds more than one .txz")}
			}
			inner = f
		}
	}
	if inner == nil {
		return &Error{Cause: Archive, Err: errors.New("the zip file holds no .txz")}
	}
	r, err := inner.Open()
	if err != nil {
		return archiveError(err)
	}
	defer r.Close()
	plain, err := xz.NewReader(bufio.NewReaderSize(r, 64<<10)) // buffered: xz reads single bytes
	if err != nil {
		return archiveError(err)
	}
	if err := untar(plain, dir, limits); err != nil {
		return err
	}
	return syncTree(dir)
}

// untar extracts a tar stream into dir. It reads the stream to its end, behind
// the tar's own end mark, because only there do xz and zip verify their
// checksums.
func untar(plain io.Reader, dir string, limits Limits) error {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return DiskError(err)
	}
	defer root.Close()
	u := &extractor{root: root, remaining: limits}
	for t := tar.NewReader(plain); ; {
		h, err := t.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return archiveError(err)
		}
		if err := u.entry(h, t); err != nil {
			return err
		}
	}
	if _, err := io.Copy(io.Discard, io.LimitReader(plain, limits.Bytes)); err != nil {
		return archiveError(err)
	}
	return nil
}

// extractor writes the entries of an archive below a folder. All paths go through
// os.Root, which refuses to leave that folder even through links that the archive
// itself created.
type extractor struct {
	root *os.Root
	// remaining is what is left of the limits.
	remaining Limits
}

// entry checks one entry of the tar and writes it.
func (u *extractor) entry(h *tar.Header, body io.Reader) error {
	name := path.Clean(h.Name)
	if !filepath.IsLocal(name) || name == "." && h.Typeflag != tar.TypeDir {
		return &Error{Cause: Archive, Err: fmt.Errorf("entry %q lies outside the archive's folder", h.Name)}
	}
	u.remaining.Entries--
	u.remaining.Bytes -= h.Size
	if u.remaining.Entries < 0 || u.remaining.Bytes < 0 || h.Size < 0 {
		return &Error{Cause: Archive, Err: fmt.Errorf("the archive is larger than it should be, at entry %q", h.Name)}
	}
	if err := u.folder(path.Dir(name)); err != nil {
		return err
	}
	switch h.Typeflag {
	case tar.TypeDir:
		return u.folder(name)
	case tar.TypeReg:
		return u.file(name, h, body)
	case tar.TypeSymlink:
		to := path.Clean(h.Linkname) // .. behind another name might climb from where a link leads
		if to != h.Linkname || path.IsAbs(to) || !filepath.IsLocal(path.Join(path.Dir(name), to)) {
			return &Error{Cause: Archive, Err: fmt.Errorf("link %q leads out of the archive's folder, to %q", h.Name,
				h.Linkname)}
		}
		return classifyExtract(u.root.Symlink(h.Linkname, name))
	}
	return &Error{Cause: Archive, Err: fmt.Errorf("entry %q is neither a file nor a folder nor a symbolic link",
		h.Name)}
}

// folder makes a folder and its parents with mode 0755, regardless of the umask.
func (u *extractor) folder(name string) error {
	if st, err := u.root.Lstat(name); err == nil && st.IsDir() {
		return nil
	}
	if name != "." {
		if err := u.folder(path.Dir(name)); err != nil {
			return err
		}
	}
	return classifyExtract(errors.Join(u.root.Mkdir(name, 0o755), u.root.Chmod(name, 0o755)))
}

// file writes one regular file. It must not exist: an archive that holds a name
// twice is refused.
func (u *extractor) file(name string, h *tar.Header, body io.Reader) error {
	mode := fs.FileMode(0o644)
	if h.Mode&0o111 != 0 {
		mode = 0o755
	}
	f, err := u.root.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, mode)
	if err != nil {
		return classifyExtract(err)
	}
	defer f.Close()
	from := &errorReader{r: body}
	if _, err := io.Copy(f, from); err != nil {
		if from.err != nil {
			return archiveError(from.err)
		}
		return DiskError(err)
	}
	if err := errors.Join(f.Chmod(mode), f.Close()); err != nil {
		return DiskError(err)
	}
	return nil
}

// errorReader remembers the error of reading, so that io.Copy's error can be
// attributed to the archive or to the disk.
type errorReader struct {
	r   io.Reader
	err error
}

// Read reads from the archive and keeps an error other than io.EOF.
func (s *errorReader) Read(p []byte) (int, error) {
	n, err := s.r.Read(p)
	if err != nil && err != io.EOF {
		s.err = err
	}
	return n, err
}

// archiveError is an *Error with the cause Archive.
func archiveError(err error) *Error {
	return &Error{Cause: Archive, Err: fmt.Errorf("unpack: %w", err)}
}

// classifyExtract attributes an error of os.Root: an entry that exists already,
// or a path that leads out through a link, is the archive's fault; everything
// else is the disk's.
func classifyExtract(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, fs.ErrExist), strings.Contains(err.Error(), "path escapes from parent"):
		return archiveError(err)
	}
	return DiskError(err)
}

// syncTree syncs every file and folder below dir, 16 at a time: a file system
// merges the syncs that wait together.
func syncTree(dir string) error {
	paths := make(chan string)
	errs := make(chan error, 16)
	var workers sync.WaitGroup
	for range cap(errs) {
		workers.Go(func() {
			var failed error
			for p := range paths {
				failed = errors.Join(failed, Sync(p))
			}
			errs <- failed
		})
	}
	err := filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if err == nil && (d.IsDir() || d.Type().IsRegular()) {
			paths <- p
		}
		return err
	})
	close(paths)
	workers.Wait()
	close(errs)
	for e := range errs {
		err = errors.Join(err, e)
	}
	if err != nil {
		return DiskError(err)
	}
	return nil
}

// Sync syncs one file or folder to the disk. Syncing a folder makes renames in it
// durable.
func Sync(p string) error {
	f, err := os.Open(p)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// TreeDigest is the SHA-256, in hexadecimal digits, over everything below a
// folder in the order of names: the path and kind of each entry, whether a file
// is executable, and the SHA-256 of its content or the target of a link. Owners,
// times and other mode bits do not count.
func TreeDigest(dir string) (string, error) {
	h := sha256.New()
	err := filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error { // in order of name
		if err != nil || p == dir {
			return err
		}
		name, err := filepath.Rel(dir, p)
		if err != nil {
			return err
		}
		kind, content, err := entryDigest(p, d)
		if err != nil {
			return err
		}
		fmt.Fprintf(h, "%s %q %s\n", kind, filepath.ToSlash(name), content)
		return nil
	})
	if err != nil {
		return "", DiskError(err)
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// entryDigest describes one entry for TreeDigest: its kind, and the digest of a
// file or the quoted target of a link.
func entryDigest(p string, d fs.DirEntry) (kind, content string, err error) {
	switch {
	case d.IsDir():
		return "folder", "", nil
	case d.Type()&fs.ModeSymlink != 0:
		to, err := os.Readlink(p)
		return "link", fmt.Sprintf("%q", to), err
	case !d.Type().IsRegular():
		return "other", d.Type().String(), nil
	}
	f, err := os.Open(p)
	if err != nil {
		return "", "", err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return "", "", err
	}
	if kind = "file"; st.Mode()&0o111 != 0 {
		kind = "program"
	}
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return "", "", err
	}
	return kind, hex.EncodeToString(h.Sum(nil)), nil
}
