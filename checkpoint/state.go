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

// stepKey is where the metadata of a state says how many steps are done.
const stepKey = "step"

var attemptName = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9._-]{0,127}(/[A-Za-z0-9_][A-Za-z0-9._-]{0,127})*$`)

// SaveState stores the state of an attempt from which step is the next to do.
// The digest is that of the file. attempt is a name of letters, digits and
// "._-", with slashes between parts. Error not_a_number for NaN or infinity.
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

// stateMetadata says which state it is.
func stateMetadata(step int) map[string]string { return map[string]string{stepKey: strconv.Itoa(step)} }

// LoadState fills into, whose names, shapes and order must be those of the
// stored state, and returns the step to do next. After an error the contents
// of into are undefined. Errors: artifact_missing, artifact_corrupt,
// state_mismatch, not_a_number.
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

func decodeState(raw []byte, into []tensor.NamedArray) (int, error) {
	state, metadata, err := parseSafetensors(raw)
	if err != nil {
		return 0, corruptError(err)
	}
	step, err := strconv.Atoi(metadata[stepKey])
	if err != nil || step < 0 {
		return 0, corruptError(errors.New("it has no step"))
	}
	if err := sameArrays(state, into); err != nil {
		return 0, err
	}
	for i := range into {
		if err := state[i].floats(into[i].Data); err != nil {
			return 0, corruptError(err)
		}
	}
	return step, checkFinite(into)
}

// RemoveState removes one state of an attempt; one that is gone is no error.
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

// remove removes a file that is named by its digest; one that is gone is no error.
func (s *Store) remove(folder string, d trimtab.Digest) error {
	if _, err := trimtab.ParseDigest(string(d)); err != nil {
		return err
	}
	in, err := os.OpenRoot(s.dir) // nothing outside is removed, whatever the path leads to
	if err != nil {
		return err
	}
	defer in.Close()
	if err := in.Remove(path.Join(folder, d.Hex())); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// quarantineSuffix is behind the name of a state that was found damaged and is kept for a person to look at.
const quarantineSuffix = ".damaged"

var quarantinedName = regexp.MustCompile(`^[0-9a-f]{64}\.damaged$`)

// Quarantine renames a state that cannot be used, so that nothing takes it for a
// sound one and it can be looked at. It returns the new name, or "" if there is no file.
func (s *Store) Quarantine(attempt string, d trimtab.Digest) (path string, err error) {
	folder, err := stateFolder(attempt)
	if err != nil {
		return "", err
	}
	aside := s.path(folder, d) + quarantineSuffix
	switch err := os.Rename(s.path(folder, d), aside); {
	case errors.Is(err, fs.ErrNotExist):
		return "", nil
	case err != nil:
		return "", annotate(diskError(err), "set a damaged state of %s aside", attempt)
	}
	return aside, diskError(syncFolder(filepath.Join(s.dir, folder)))
}

func stateFolder(attempt string) (string, error) {
	if !attemptName.MatchString(attempt) || !fs.ValidPath(attempt) {
		return "", fmt.Errorf("%.80q cannot be the name of an attempt in a store", attempt)
	}
	return path.Join(states, attempt), nil
}

// sameArrays compares names, shapes and order.
func sameArrays(got []rawArray, want []tensor.NamedArray) error {
	mismatch := func(format string, args ...any) error {
		return trimtab.NewError(trimtab.Invalid, "state_mismatch",
			"the checkpoint is of another configuration: start the stage again from scratch", format, args...)
	}
	if len(got) != len(want) {
		return mismatch("%d arrays in place of %d", len(got), len(want))
	}
	for i := range got {
		if got[i].name != want[i].Name || !slices.Equal(got[i].shape, want[i].Shape) {
			return mismatch("array %d is %s %v in place of %s %v", i, got[i].name, got[i].shape, want[i].Name,
				want[i].Shape)
		}
	}
	return nil
}
