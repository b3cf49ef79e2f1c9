package checkpoint

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"

	"github.com/trimtab/trimtab"
	"github.com/trimtab/trimtab/tensor"
)

// stepKey is the metadata key of how many steps are done before a state.
const stepKey = "step"

// attemptName matches the names of attempts: path elements of letters, digits
// and "._-" that do not begin with a dot or a dash.
var attemptName = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9._-]{0,127}(/[A-Za-z0-9_][A-Za-z0-9._-]{0,127})*$`)

// SaveState stores the state of an attempt from which step is the next to do,
// durably: after it returns, a power failure does not lose the state. The digest
// is that of the file, a function of step and state alone. attempt is a name of
// letters, digits and "._-", with slashes between parts. Errors: not_a_number
// for NaN or infinity, disk_full, file_size_limit.
func (s *Store) SaveState(attempt string, step int, state []tensor.NamedArray) (trimtab.Digest, error) {
	folder, err := stateFolder(attempt)
	if err != nil {
		return "", err
	}
	if err := checkFinite(state); err != nil {
		return "", annotate(err, "state of %s before step %d", attempt, step)
	}
	d, _, err := s.write(folder, func(w io.Writer) error {
		return writeSafetensors(w, state, stateMetadata(step))
	})
	if err == nil {
		err = s.syncParents(folder)
	}
	if err != nil {
		return "", annotate(err, "store the state of %s before step %d", attempt, step)
	}
	return d, nil
}

// stateMetadata is the safetensors metadata of a state.
func stateMetadata(step int) map[string]string { return map[string]string{stepKey: strconv.Itoa(step)} }

// LoadState reads a state into the arrays of into, whose names, shapes and order
// must be those of the stored state, and returns the step to do next. After an
// error the contents of into are undefined. Errors: artifact_missing,
// artifact_corrupt, state_mismatch, not_a_number.
func (s *Store) LoadState(attempt string, d trimtab.Digest, into []tensor.NamedArray) (step int, err error) {
	folder, err := stateFolder(attempt)
	if err != nil {
		return 0, err
	}
	raw, err := s.read(folder, d, -1)
	if err == nil {
		step, err = decodeState(raw, into)
	}
	if err != nil {
		return 0, annotate(err, "state %s of %s", d.Short(), attempt)
	}
	return step, nil
}

// decodeState decodes the bytes of a state file, whose digest has been verified.
func decodeState(raw []byte, into []tensor.NamedArray) (int, error) {
	state, metadata, err := parseSafetensors(raw)
	if err != nil {
		return 0, corruptError(err)
	}
	step, err := strconv.Atoi(metadata[stepKey])
	if err != nil || step < 0 {
		return 0, corruptError(errors.New("it has no step"))
	}
	// Before anything is written to into: a mismatch leaves the trainer as it is.
	if err := sameArrays(state, into); err != nil {
		return 0, err
	}
	// Straight into the trainer's arrays: there is no second copy of a large state.
	for i := range into {
		if err := state[i].floats(into[i].Data); err != nil {
			return 0, corruptError(err)
		}
	}
	return step, checkFinite(into)
}

// RemoveState removes one state of an attempt. It is no error if the state does
// not exist. Training calls it for checkpoints that newer ones supersede; what a
// crash leaves is removed by the garbage collector.
func (s *Store) RemoveState(attempt string, d trimtab.Digest) error {
	folder, err := stateFolder(attempt)
	if err != nil {
		return err
	}
	if err := s.remove(folder, d); err != nil {
		return fmt.Errorf("remove a state of %s: %w", attempt, err)
	}
	return nil
}

// remove removes a file that is named by its digest. It is no error if the file
// does not exist.
func (s *Store) remove(folder string, d trimtab.Digest) error {
	// A digest from outside must not become a path.
	if _, err := trimtab.ParseDigest(string(d)); err != nil {
		return err
	}
	root, err := os.OpenRoot(s.dir) // nothing outside is removed, wherever links lead
	if err != nil {
		return err
	}
	defer root.Close()
	if err := root.Remove(path.Join(folder, d.Hex())); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// quarantineSuffix is appended to the name of a damaged state, which is kept for
// a person to inspect until the garbage collector removes it (GCPolicy.Damaged).
const quarantineSuffix = ".damaged"

// quarantinedName matches the file names that Quarantine makes.
var quarantinedName = regexp.MustCompile(`^[0-9a-f]{64}\.damaged$`)

// Quarantine renames a damaged state, so that it is never loaded again but can
// be inspected. It returns the new path, or "" if the file does not exist. The
// digest stays in the record; the file can be restored from a backup.
func (s *Store) Quarantine(attempt string, d trimtab.Digest) (path string, err error) {
	folder, err := stateFolder(attempt)
	if err != nil {
		return "", err
	}
	quarantined := s.path(folder, d) + quarantineSuffix
	switch err := os.Rename(s.path(folder, d), quarantined); {
	case errors.Is(err, fs.ErrNotExist):
		return "", nil
	case err != nil:
		return "", annotate(diskError(err), "quarantine a damaged state of %s", attempt)
	}
	return quarantined, diskError(syncFolder(filepath.Join(s.dir, folder)))
}

// stateFolder is the folder of an attempt's states, relative to the store.
func stateFolder(attempt string) (string, error) {
	if !attemptName.MatchString(attempt) || !fs.ValidPath(attempt) {
		return "", fmt.Errorf("%.80q cannot be the name of an attempt in a store", attempt)
	}
	return path.Join(states, attempt), nil
}

// sameArrays compares the arrays of a stored state with those of a trainer, by
// names, shapes and order. They differ when the stage's configuration does.
func sameArrays(got []rawArray, want []tensor.NamedArray) error {
	mismatch := func(format string, args ...any) error {
		return trimtab.NewError(trimtab.Invalid, "state_mismatch",
			"the checkpoint is of another configuration: start the stage again from scratch", format, args...)
	}
	if len(got) != len(want) {
		return mismatch("%d arrays instead of %d", len(got), len(want))
	}
	for i := range got {
		if got[i].name != want[i].Name || !slices.Equal(got[i].shape, want[i].Shape) {
			return mismatch("array %d is %s %v instead of %s %v", i, got[i].name, got[i].shape, want[i].Name,
				want[i].Shape)
		}
	}
	return nil
}
