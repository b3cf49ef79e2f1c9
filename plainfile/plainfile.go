// Package plainfile opens and writes regular files where something else may be
// in their place: a FIFO, whose opening blocks, a device, a folder, or a
// symbolic link that leads out of the intended folder.
//
// A path may be a symbolic link to a regular file when it is opened. Nothing
// here changes the mode or the owner of what was there before, and WriteNew
// never replaces a file. WriteNew and Replace leave a whole file or none if the
// process or the machine dies: they write a temporary file, sync it, and link
// or rename it to its name.
package plainfile

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"syscall"
)

// ErrNotPlain is wrapped by the error for a path that exists and is not a
// regular file.
var ErrNotPlain = errors.New("not a plain file")

// fileType names the type of what is not a regular file, in words.
func fileType(mode fs.FileMode) string {
	switch {
	case mode.IsDir():
		return "a folder"
	case mode&fs.ModeNamedPipe != 0:
		return "a FIFO"
	case mode&fs.ModeSocket != 0:
		return "a socket"
	case mode&fs.ModeDevice != 0:
		return "a device"
	case mode&fs.ModeSymlink != 0:
		return "a symbolic link"
	}
	return "a special file"
}

// notPlainError returns the error of an operation on what is not a regular
// file.
func notPlainError(op, path string, mode fs.FileMode) error {
	return &fs.PathError{Op: op, Path: path, Err: fmt.Errorf("it is %s, %w", fileType(mode), ErrNotPlain)}
}

// Open opens a regular file for reading and never blocks. Anything else is left
// unopened and gives ErrNotPlain.
func Open(path string) (*os.File, error) { return OpenFile(path, os.O_RDONLY, 0) }

// OpenFile is os.OpenFile for regular files alone. It checks the path before it
// opens it, since merely opening some devices has an effect, and checks again
// what it has opened, since the path may have changed in between. O_NONBLOCK
// keeps the second case from blocking; it has no effect on a regular file.
func OpenFile(path string, flag int, mode fs.FileMode) (*os.File, error) {
	if st, err := os.Stat(path); err == nil && !st.Mode().IsRegular() {
		return nil, notPlainError("open", path, st.Mode())
	}
	f, err := os.OpenFile(path, flag|syscall.O_NONBLOCK, mode)
	if err != nil {
		return nil, err
	}
	st, err := f.Stat()
	if err == nil && !st.Mode().IsRegular() {
		err = notPlainError("open", path, st.Mode())
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// AppendLine appends a line of JSON to a file of such lines, durably and in one
// write, so that several processes can share the file. An absent file is
// created with the mode. If a crash left the last line incomplete, that line is
// ended first. A file that begins with anything but a JSON object is somebody
// else's and stays as it is: the error says so.
func AppendLine(path string, mode fs.FileMode, line []byte) error {
	f, err := OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_APPEND, mode)
	if err != nil {
		return err
	}
	defer f.Close()
	line = append(bytes.Clone(line), '\n')
	end, err := f.Seek(0, io.SeekEnd)
	if err == nil && end > 0 {
		var first, last [1]byte
		_, err = f.ReadAt(first[:], 0)
		if err == nil {
			_, err = f.ReadAt(last[:], end-1)
		}
		if err == nil && first[0] != '{' {
			err = &fs.PathError{Op: "append to", Path: path,
				Err: errors.New("it exists and holds something other than lines of JSON")}
		}
		// One write for both, so that another process cannot come in between.
		if last[0] != '\n' {
			line = append([]byte{'\n'}, line...)
		}
	}
	if err != nil {
		return err
	}
	if _, err := f.Write(line); err != nil {
		return err
	}
	return f.Sync()
}

// Read returns the bytes of a regular file.
func Read(path string) ([]byte, error) {
	f, err := Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return nil, err
	}
	data := make([]byte, 0, st.Size()+1) // one byte more, to reach the end without growing
	for {
		n, err := f.Read(data[len(data):cap(data)])
		data = data[:len(data)+n]
		switch {
		case err == io.EOF:
			return data, nil
		case err != nil:
			return data, err
		case len(data) == cap(data):
			data = append(data, 0)[:len(data)]
		}
	}
}

// WriteNew is WriteNewFrom with bytes that are in memory.
func WriteNew(path string, mode fs.FileMode, data []byte) error {
	return WriteNewFrom(path, mode, func(w io.Writer) error { _, err := w.Write(data); return err })
}

// WriteNewFrom writes a file that does not exist yet, whole or not at all, and
// durably. Anything at the path, including a dangling symbolic link, stays and
// gives fs.ErrExist. The mode is subject to the process's umask.
func WriteNewFrom(path string, mode fs.FileMode, write func(io.Writer) error) error {
	if _, err := os.Lstat(path); err == nil {
		return &fs.PathError{Op: "create", Path: path, Err: fs.ErrExist}
	}
	draft, err := writeTemp(path, mode, write)
	if err != nil {
		return err
	}
	defer os.Remove(draft)
	err = os.Link(draft, path) // fails if the file has appeared meanwhile
	if err == nil || errors.Is(err, fs.ErrExist) {
		return err
	}
	return copyExclusive(draft, path, mode) // a file system without links
}

// Replace writes a file whole, or leaves what is there unchanged. A symbolic
// link at the path is replaced, not followed; anything that is neither a link
// nor a regular file is refused.
func Replace(path string, mode fs.FileMode, data []byte) error {
	if st, err := os.Lstat(path); err == nil && !st.Mode().IsRegular() && st.Mode()&fs.ModeSymlink == 0 {
		return notPlainError("replace", path, st.Mode())
	}
	draft, err := writeTemp(path, mode, func(w io.Writer) error { _, err := w.Write(data); return err })
	if err != nil {
		return err
	}
	defer os.Remove(draft) // gone already, if it was renamed
	return os.Rename(draft, path)
}

// writeTemp writes and syncs a file in the folder of path, so that a rename
// stays within one file system, under a name that nothing has: ".NAME-" and
// digits. The leading dot keeps it out of listings if a crash leaves it behind.
func writeTemp(path string, mode fs.FileMode, write func(io.Writer) error) (draft string, err error) {
	draft = filepath.Join(filepath.Dir(path), fmt.Sprintf(".%s-%d", filepath.Base(path), rand.Uint64()))
	f, err := os.OpenFile(draft, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return "", err
	}
	err = write(f)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		os.Remove(draft) // ours, and not whole
		return "", err
	}
	return draft, nil
}

// copyExclusive copies a finished temporary file to path where the file system
// has no hard links. Here a crash can leave a part of the file.
func copyExclusive(draft, path string, mode fs.FileMode) error {
	src, err := os.Open(draft)
	if err != nil {
		return err
	}
	defer src.Close()
	dst, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return err
	}
	_, err = io.Copy(dst, src)
	if err = errors.Join(err, dst.Sync(), dst.Close()); err != nil {
		os.Remove(path) // ours, and not whole
	}
	return err
}
