// Package plainfile opens, writes and removes plain files where something
// else may be in their place: a FIFO, whose opening waits for ever, a device, a
// folder, or a symbolic link that leads out of the folder that is meant.
//
// What is opened may be behind a symbolic link: what is at its end has to be a
// plain file. Nothing here changes the mode or the owner of what
// was there before, and New never replaces a file.
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

// ErrNotPlain is in the error for a path that is there and is no plain file.
var ErrNotPlain = errors.New("not a plain file")

// fileType names what is not a plain file, in words.
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

func notPlainError(op, path string, mode fs.FileMode) error {
	return &fs.PathError{Op: op, Path: path, Err: fmt.Errorf("it is %s, %w", fileType(mode), ErrNotPlain)}
}

// Open opens a plain file for reading and never waits. What is something else
// is left unopened and gives ErrNotPlain.
func Open(path string) (*os.File, error) { return OpenFile(path, os.O_RDONLY, 0) }

// OpenFile is os.OpenFile for plain files alone. It looks before it opens,
// since opening alone does something to some devices, and looks again at what
// it got, which it did not wait for.
func OpenFile(path string, flag int, mode fs.FileMode) (*os.File, error) {
	if st, err := os.Stat(path); err == nil && !st.Mode().IsRegular() {
		return nil, notPlainError("open", path, st.Mode())
	}
	f, err := os.OpenFile(path, flag|syscall.O_NONBLOCK, mode) // which means nothing for a plain file
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

// AppendLine adds a line of JSON to a file of such lines, durably and in one
// write, so that several processes can share the file; it is made with the mode
// if it is absent. A line that a crash tore is ended first. A file that begins
// with anything but a JSON object is not one of ours and stays as it is.
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
				Err: errors.New("it is there already and holds something else than lines of JSON")}
		}
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

// Read returns the bytes of a plain file.
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
	data := make([]byte, 0, st.Size()+1) // one more, to see the end without growing
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

// WriteNew is WriteNewFrom with bytes that are there already.
func WriteNew(path string, mode fs.FileMode, data []byte) error {
	return WriteNewFrom(path, mode, func(w io.Writer) error { _, err := w.Write(data); return err })
}

// WriteNewFrom writes a file that is not there yet, whole or not at all, and durably.
// Whatever is at the path already, a dangling symbolic link too, stays and
// gives fs.ErrExist. The mode is less what the umask of the process takes away.
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

// Replace writes a file whole, or leaves what is there as it was. A symbolic
// link at the path is replaced, not followed; what is neither a link nor a plain file is refused.
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

// writeTemp writes a file beside path, under a name that nothing has: ".NAME-" and digits.
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
