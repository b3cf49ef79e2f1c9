package checkpoint

import (
	"strconv"
	"strings"

	"github.com/trimtab/trimtab"
)

// attemptPrefix begins the name that an attempt of the record has in a store.
const attemptPrefix = "attempt-"

// AttemptName returns the folder name of an attempt's states and rollouts, by
// the attempt's id in the record.
func AttemptName(id int64) string { return attemptPrefix + strconv.FormatInt(id, 10) }

// attemptID is the inverse of AttemptName. It returns 0, which no attempt has,
// for any other name.
func attemptID(name string) int64 {
	id, err := strconv.ParseInt(strings.TrimPrefix(name, attemptPrefix), 10, 64)
	if err != nil || AttemptName(id) != name {
		return 0
	}
	return id
}

// CheckState reads a state of an attempt and verifies its digest, without
// decoding it or needing a trainer for it. Errors: artifact_missing,
// artifact_corrupt.
func (s *Store) CheckState(attempt string, d trimtab.Digest) error {
	folder, err := stateFolder(attempt)
	if err != nil {
		return err
	}
	if _, err := s.read(folder, d, -1); err != nil {
		return annotate(err, "state %s of %s", d.Short(), attempt)
	}
	return nil
}
