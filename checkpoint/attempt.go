package checkpoint

import (
	"strconv"
	"strings"

	"github.com/trimtab/trimtab"
)

// attemptPrefix begins the name that an attempt of the record has in a store.
const attemptPrefix = "attempt-"

// AttemptName is the name of an attempt by its id in the record.
func AttemptName(id int64) string { return attemptPrefix + strconv.FormatInt(id, 10) }

// attemptID is the id behind a name that AttemptName made; 0 for any other.
func attemptID(name string) int64 {
	id, err := strconv.ParseInt(strings.TrimPrefix(name, attemptPrefix), 10, 64)
	if err != nil || AttemptName(id) != name {
		return 0
	}
	return id
}

// CheckState reads a state of an attempt and says what is wrong with it: artifact_missing or artifact_corrupt.
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
