package checkpoint

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"

	"github.com/trimtab/trimtab/plainfile"
)

// databases is the folder of the databases whose record names files of the store.
const databases = "databases"

// RegisterDatabase takes note that the record in a database is going to name files of this
// store. id tells the database from every other; it is a file name.
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

// Databases lists the databases that Tie was told of, in order. A store that was
// made before there were ties has none.
func (s *Store) Databases() ([]string, error) {
	entries, err := listFolder(filepath.Join(s.dir, databases))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	var ids []string
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), ".") { // one under way
			ids = append(ids, e.Name())
		}
	}
	return ids, err
}
