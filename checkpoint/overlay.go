package checkpoint

import (
	"errors"
	"io/fs"

	"github.com/trimtab/trimtab"
	"github.com/trimtab/trimtab/plainfile"
)

// Overlay is a store in the same folder that reads from below what is not in it.
// It writes to its own folder alone.
func (s *Store) Overlay(below *Store) *Store { return &Store{dir: s.dir, lower: below} }

// readRaw reads a file as it is, from below where it is not in the store itself.
func (s *Store) readRaw(folder string, d trimtab.Digest) ([]byte, error) {
	data, err := plainfile.Read(s.path(folder, d))
	if errors.Is(err, fs.ErrNotExist) && s.lower != nil {
		return s.lower.readRaw(folder, d)
	}
	return data, err
}
