package main

import (
	"errors"
	"io/fs"
	"os"

	"github.com/trimtab/trimtab"
)

// forNewFiles refuses a folder that the user named for files to be written to,
// unless it is empty or absent, before anything is computed for it.
func forNewFiles(folder string) error {
	st, err := os.Stat(folder)
	switch _, link := os.Lstat(folder); {
	case errors.Is(err, fs.ErrNotExist) && link != nil:
		return nil
	case errors.Is(err, fs.ErrNotExist):
		err = errors.New("it is a symbolic link that leads nowhere")
	case err == nil && !st.IsDir(): // a FIFO must not even be opened
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
		return trimtab.NewError(trimtab.Conflict, "folder_not_empty", "empty it or choose another", "%s is not empty",
			folder)
	}
	return nil
}
