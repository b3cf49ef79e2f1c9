package checkpoint

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"

	"github.com/trimtab/trimtab/plainfile"
)

// databases is the folder with one empty file for each database whose record
// references files of the store, named by the database's id. With it the garbage
// collector notices a store that it shares with another database, whose
// references it does not see.
const databases = "databases"

// RegisterDatabase records that the database with this id references files of the
// store. Registering one again changes nothing. An id has to be valid as a file
// name; the record makes one for each database.
func (s *Store) RegisterDatabase(id string) error {
	if err := checkName(id); err != nil || strings.Contains(id, "/") {
		return fmt.Errorf("%.80q cannot be the id of a database", id)
	}
	if err := s.makeFolder(databases); err != nil {
		return diskError(err)
	}
	dir := filepath.Join(s.dir, databases)
	err := plainfile.WriteNew(filepath.Join(dir, id), 0o600, nil)
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	if err != nil {
		return diskError(err)
	}
	return syncFolder(dir)
}

// Databases lists the ids of the registered databases, in order. A store of an
// earlier build has none, and then nobody knows whose files it holds.
func (s *Store) Databases() ([]string, error) {
	entries, err := listFolder(filepath.Join(s.dir, databases))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	var ids []string
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), ".") { // being written by WriteNew
			ids = append(ids, e.Name())
		}
	}
	return ids, err
}
