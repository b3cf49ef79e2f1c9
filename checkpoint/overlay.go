package checkpoint

import (
	"errors"
	"io/fs"

	"github.com/trimtab/trimtab"
	"github.com/trimtab/trimtab/plainfile"
)

// Overlay returns a store that writes to s, and reads from lower what s does not
// have. lower is never written to. A reproduction works on one, so that what it
// makes stays apart from the store of the runs.
func (s *Store) Overlay(below *Store) *Store { return &Store{dir: s.dir, lower: below} }

// readRaw reads a file without verifying it, from the lower store where s does
// not have it.
func (s *Store) readRaw(folder string, d trimtab.Digest) ([]byte, error) {
	data, err := plainfile.Read(s.path(folder, d))
	if errors.Is(err, fs.ErrNotExist) && s.lower != nil {
		return s.lower.readRaw(folder, d)
	}
	return data, err
}
