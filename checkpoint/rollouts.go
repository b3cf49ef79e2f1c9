package checkpoint

import (
	"errors"
	"fmt"
	"io"
	"path"
	"path/filepath"
	"strconv"

	"github.com/trimtab/trimtab"
	"github.com/trimtab/trimtab/tensor"
)

// Rollouts is what one worker made of one iteration for another to go on with.
type Rollouts struct {
	Step   int            // the iteration
	First  int            // of its episodes
	State  trimtab.Digest // that they were sampled from; empty at the beginning
	Arrays []tensor.NamedArray
}

// Where the metadata of rollouts say which they are, beside stepKey.
const (
	firstKey = "first"
	stateKey = "state"
)

// SaveRollouts stores rollouts of an attempt, whose name is as in SaveState.
// The same ones give the same digest. Error not_a_number for NaN or infinity.
func (s *Store) SaveRollouts(attempt string, r Rollouts) (trimtab.Digest, error) {
	folder, err := rolloutFolder(attempt)
	if err != nil {
		return "", err
	}
	if err := checkFinite(r.Arrays); err != nil {
		return "", annotate(err, "rollouts of %s in step %d", attempt, r.Step)
	}
	d, _, err := s.write(folder, func(w io.Writer) error { return writeSafetensors(w, r.Arrays, r.metadata()) })
	if err == nil {
		err = s.syncParents(folder)
	}
	if err != nil {
		return "", annotate(err, "store rollouts of %s in step %d", attempt, r.Step)
	}
	return d, nil
}

func (r Rollouts) metadata() map[string]string {
	return map[string]string{stepKey: strconv.Itoa(r.Step), firstKey: strconv.Itoa(r.First), stateKey: string(r.State)}
}

// LoadRollouts reads what SaveRollouts stored. Errors: artifact_missing,
// artifact_corrupt, not_a_number.
func (s *Store) LoadRollouts(attempt string, d trimtab.Digest) (Rollouts, error) {
	folder, err := rolloutFolder(attempt)
	if err != nil {
		return Rollouts{}, err
	}
	raw, err := s.read(folder, d, -1)
	if err != nil {
		return Rollouts{}, annotate(err, "rollouts %s of %s", d.Short(), attempt)
	}
	r, err := decodeRollouts(raw)
	if err != nil {
		return Rollouts{}, annotate(err, "rollouts %s of %s", d.Short(), attempt)
	}
	return r, nil
}

func decodeRollouts(raw []byte) (r Rollouts, err error) {
	arrays, metadata, err := DecodeSafetensors(raw)
	if err != nil {
		return r, corruptError(err)
	}
	r.Arrays, r.State = arrays, trimtab.Digest(metadata[stateKey])
	var errs [2]error
	r.Step, errs[0] = strconv.Atoi(metadata[stepKey])
	r.First, errs[1] = strconv.Atoi(metadata[firstKey])
	if err := errors.Join(errs[:]...); err != nil || r.Step < 0 || r.First < 0 {
		return r, corruptError(fmt.Errorf("step %.20q and first episode %.20q are none", metadata[stepKey],
			metadata[firstKey]))
	}
	return r, checkFinite(arrays)
}

// RemoveRollouts removes rollouts of an attempt; ones that are gone are no error.
func (s *Store) RemoveRollouts(attempt string, d trimtab.Digest) error {
	folder, err := rolloutFolder(attempt)
	if err != nil {
		return err
	}
	if err := s.remove(folder, d); err != nil {
		return fmt.Errorf("remove rollouts of %s: %w", attempt, err)
	}
	return nil
}

func rolloutFolder(attempt string) (string, error) {
	if !attemptName.MatchString(attempt) {
		return "", fmt.Errorf("%.80q cannot be the name of an attempt in a store", attempt)
	}
	return path.Join(rollouts, attempt), nil
}

// syncParents makes a folder of the store durable, with those above it: they may be new.
func (s *Store) syncParents(folder string) error {
	for dir := folder; dir != "."; dir = path.Dir(dir) {
		if err := syncFolder(filepath.Join(s.dir, dir)); err != nil {
			return err
		}
	}
	return nil
}
