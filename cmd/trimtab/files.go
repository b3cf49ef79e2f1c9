package main

import (
	"bufio"
	"errors"
	"io"
	"io/fs"
	"os"

	"github.com/trimtab/trimtab"
	"github.com/trimtab/trimtab/plainfile"
	"github.com/trimtab/trimtab/recipes"
)

// forNewFiles checks that a folder given for output is empty or does not
// exist yet. Commands call it before they compute anything, so that an hour
// of work does not end in "folder is not empty". The folder itself is not
// created.
func forNewFiles(folder string) error {
	st, err := os.Stat(folder)
	// Stat follows links and Lstat does not: a dangling link counts as a file
	// that exists.
	switch _, link := os.Lstat(folder); {
	case errors.Is(err, fs.ErrNotExist) && link != nil:
		return nil
	case errors.Is(err, fs.ErrNotExist):
		err = errors.New("it is a dangling symbolic link")
	case err == nil && !st.IsDir(): // checked before opening: opening a FIFO would block
		err = errors.New("it is not a folder")
	}
	if err != nil {
		return writeError(folder, err)
	}
	entries, err := os.ReadDir(folder)
	switch {
	case err != nil:
		return writeError(folder, err)
	case len(entries) > 0:
		return trimtab.NewError(trimtab.Conflict, "folder_not_empty", "empty it or choose another",
			"%s is not empty", folder)
	}
	return nil
}

// maxInput is the largest spec, or prompt on standard input, that is read, in
// bytes.
const maxInput = recipes.MaxSpec

// readFile reads a spec; the name - means standard input.
func readFile(a *app, name string) ([]byte, error) {
	if name == "-" {
		return readAll(a.in, "standard input")
	}
	f, err := os.Open(name)
	if err != nil {
		return nil, fileError(name, err)
	}
	defer f.Close()
	return readAll(f, name)
}

// readAll reads r to its end. Input longer than maxInput is an error, found
// after reading one byte too many; name is for messages.
func readAll(r io.Reader, name string) ([]byte, error) {
	data, err := io.ReadAll(io.LimitReader(r, maxInput+1))
	if err == nil && len(data) > maxInput {
		err = usagef("give a shorter one", "%s is longer than %d MiB", name, maxInput>>20)
	}
	return data, fileError(name, err)
}

// fileError classifies an error from opening or reading a file that the user
// named: not found is exit code 3, anything else is invalid input. Errors
// that are classified already, and nil, are returned as they are.
func fileError(name string, err error) error {
	var known *trimtab.Error
	switch {
	case err == nil, errors.As(err, &known):
		return err
	case errors.Is(err, fs.ErrNotExist):
		return trimtab.NewError(trimtab.NotFound, "file_not_found", "check the path", "%s: no such file", name)
	}
	return trimtab.NewError(trimtab.Invalid, "file_unreadable", "check that it is a file and that you may read it",
		"read %s: %w", name, err)
}

// writeTo writes to standard output when name is empty, and otherwise to a
// new file, which appears complete or not at all. An existing file, symbolic
// link or device is never overwritten.
func (a *app) writeTo(name string, write func(io.Writer) error) error {
	if name == "" {
		w := bufio.NewWriter(a.out)
		if err := write(w); err != nil {
			return err
		}
		return w.Flush()
	}
	// Nothing that exists is replaced, not even a dangling symbolic link.
	err := plainfile.WriteNewFrom(name, 0o644, func(f io.Writer) error {
		w := bufio.NewWriter(f)
		return errors.Join(write(w), w.Flush())
	})
	if errors.Is(err, fs.ErrExist) {
		return trimtab.NewError(trimtab.Conflict, "file_exists", "remove it or choose another name", "%s exists", name)
	}
	return writeError(name, err)
}

// writeError classifies an error from writing a file that the user named as
// invalid input; errors that are classified already are returned as they are.
func writeError(name string, err error) error {
	if _, ok := errors.AsType[*trimtab.Error](err); err == nil || ok {
		return err
	}
	return trimtab.NewError(trimtab.Invalid, "file_unwritable", "choose another location, or make this one writable",
		"write %s: %w", name, err)
}
