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

// Rollouts is a shard of the rollouts of one PPO iteration, handed from the
// worker that sampled it to the one that learns from it.
type Rollouts struct {
	Step   int            // the iteration, from 0
	First  int            // index of the shard's first episode within the iteration
	State  trimtab.Digest // checkpoint that was sampled from; empty is the beginning of the stage
	Arrays []tensor.NamedArray
}

// Metadata keys of rollouts, beside stepKey.
const (
	firstKey = "first"
	stateKey = "state"
)

// SaveRollouts stores rollouts of an attempt, whose name is as in SaveState. The
// same rollouts give the same digest, so making a shard twice stores it once.
// Errors: not_a_number for NaN or infinity, disk_full, file_size_limit.
func (s *Store) SaveRollouts(attempt string, r Rollouts) (trimtab.Digest, error) {
	folder, err := rolloutFolder(attempt)
	if err != nil {
		return "", err
	}
	if err := checkFinite(r.Arrays); err != nil {
		return "", annotate(err, "rollouts of %s in step %d", attempt, r.Step)
	}
	// The metadata are part of the digest: equal arrays of two shards are two files.
	d, _, err := s.write(folder, func(w io.Writer) error { return writeSafetensors(w, r.Arrays, r.metadata()) })
	if err == nil {
		err = s.syncParents(folder)
	}
	if err != nil {
		return "", annotate(err, "store rollouts of %s in step %d", attempt, r.Step)
	}
	return d, nil
}

// metadata is the safetensors metadata of rollouts.
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

// decodeRollouts decodes the bytes of a rollouts file, whose digest has been verified.
func decodeRollouts(raw []byte) (r Rollouts, err error) {
	arrays, metadata, err := DecodeSafetensors(raw)
	if err != nil {
		return r, corruptError(err)
	}
	r.Arrays, r.State = arrays, trimtab.Digest(metadata[stateKey])
	// The digest is right, so a number that does not parse was written by another program.
	var errs [2]error
	r.Step, errs[0] = strconv.Atoi(metadata[stepKey])
	r.First, errs[1] = strconv.Atoi(metadata[firstKey])
	if err := errors.Join(errs[:]...); err != nil || r.Step < 0 || r.First < 0 {
		return r, corruptError(fmt.Errorf("step %.20q and first episode %.20q are none", metadata[stepKey],
			metadata[firstKey]))
	}
	return r, checkFinite(arrays)
}

// RemoveRollouts removes rollouts of an attempt. It is no error if they do not
// exist. A stage calls it when the checkpoint after their iteration is recorded.
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

// rolloutFolder is the folder of an attempt's rollouts, relative to the store.
func rolloutFolder(attempt string) (string, error) {
	if !attemptName.MatchString(attempt) {
		return "", fmt.Errorf("%.80q cannot be the name of an attempt in a store", attempt)
	}
	return path.Join(rollouts, attempt), nil
}

// syncParents syncs a folder of the store and those above it, up to the store
// itself. A file in a new folder is durable only when all of them are.
func (s *Store) syncParents(folder string) error {
	for dir := folder; dir != "."; dir = path.Dir(dir) {
		if err := syncFolder(filepath.Join(s.dir, dir)); err != nil {
			return err
		}
	}
	return nil
}
