package checkpoint

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
)

// databases is the folder of the databases whose record names files of the store.
const databases = "databases"

// Tie takes note that the record in a database is going to name files of this
// store. id tells the database from every other; it is a file name.
func (s *Store) Tie(id string) error {
	dir := filepath.Join(s.dir, databases)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return diskError(err)
	}
	if _, err := os.Stat(filepath.Join(dir, id)); err == nil {
		return nil
	}
	if err := os.WriteFile(filepath.Join(dir, id), nil, 0o600); err != nil {
		return diskError(err)
	}
	return syncFolder(dir)
}

// Ties lists the databases that Tie was told of, in order. A store that was
// made before there were ties has none.
func (s *Store) Ties() ([]string, error) {
	entries, err := os.ReadDir(filepath.Join(s.dir, databases))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	var ids []string
	for _, e := range entries {
		ids = append(ids, e.Name())
	}
	return ids, err
}
