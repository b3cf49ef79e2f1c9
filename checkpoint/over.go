package checkpoint

import (
	"errors"
	"io/fs"

	"github.com/trimtab/trimtab"
	"github.com/trimtab/trimtab/plainfile"
)

// Over is a store in the same folder that reads from below what is not in it.
// It writes to its own folder alone.
func (s *Store) Over(below *Store) *Store { return &Store{dir: s.dir, below: below} }

// bytes reads a file as it is, from below where it is not in the store itself.
func (s *Store) bytes(folder string, d trimtab.Digest) ([]byte, error) {
	data, err := plainfile.Read(s.path(folder, d))
	if errors.Is(err, fs.ErrNotExist) && s.below != nil {
		return s.below.bytes(folder, d)
	}
	return data, err
}
