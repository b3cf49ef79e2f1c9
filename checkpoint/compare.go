package checkpoint

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"slices"
	"strconv"

	"github.com/trimtab/trimtab"
	"github.com/trimtab/trimtab/tensor"
)

// Difference is the first place in which arrays or files that should be equal
// are not, bit for bit.
type Difference struct {
	Name    string // of the array, or of the file where it is no matter of arrays
	Index   int    // of the element, or of the byte of a file; -1 is all of it
	Was, Is string // the two values
}

// Compare finds the first difference between arrays, in their order.
func Compare(was, is []tensor.Named) (d Difference, differ bool) {
	for i := range max(len(was), len(is)) {
		switch {
		case i >= len(was):
			return Difference{is[i].Name, -1, "absent", "there"}, true
		case i >= len(is):
			return Difference{was[i].Name, -1, "there", "absent"}, true
		case was[i].Name != is[i].Name:
			return Difference{was[i].Name, -1, was[i].Name, is[i].Name}, true
		case !slices.Equal(was[i].Shape, is[i].Shape):
			return Difference{was[i].Name, -1, fmt.Sprint("of shape ", was[i].Shape), fmt.Sprint("of shape ", is[i].Shape)}, true
		}
		if k := firstBits(was[i].Data, is[i].Data); k >= 0 {
			return Difference{was[i].Name, k, Float(was[i].Data[k]), Float(is[i].Data[k])}, true
		}
	}
	return d, false
}

// firstBits is the first index at which x and y, of one length, are not the same bits, or -1.
func firstBits(x, y []float32) int {
	for i, v := range x {
		if math.Float32bits(v) != math.Float32bits(y[i]) {
			return i
		}
	}
	return -1
}

// Float prints v with as many digits as tell it from every other float32.
func Float(v float32) string { return strconv.FormatFloat(float64(v), 'g', -1, 32) }

// StateDigest is the digest under which SaveState would store a state.
func StateDigest(step int, state []tensor.Named) trimtab.Digest {
	hash := sha256.New()
	if err := writeSafetensors(hash, state, stateMetadata(step)); err != nil {
		panic("checkpoint: " + err.Error()) // a hash takes everything
	}
	return trimtab.DigestFromSum(hash.Sum(nil))
}

// CompareState finds the first difference between the stored state d of an
// attempt, as its file is even if it is damaged, and a state before a step.
// Error artifact_missing where there is no file.
func (s *Store) CompareState(attempt string, d trimtab.Digest, step int, state []tensor.Named) (diff Difference, differ bool, err error) {
	folder, err := stateFolder(attempt)
	if err != nil {
		return diff, false, err
	}
	raw, err := s.raw(folder, d)
	if err != nil {
		return diff, false, about(err, "state %s of %s", d.Short(), attempt)
	}
	diff, differ = compareArrays("the file", raw, EncodeSafetensors(state, stateMetadata(step)))
	return diff, differ, nil
}

// CompareModel finds the first difference between the model d of the store, as
// its files are even if they are damaged, and the files of another one. Errors:
// artifact_missing, artifact_corrupt where the manifest is.
func (s *Store) CompareModel(d trimtab.Digest, files []File) (diff Difference, differ bool, err error) {
	entries, err := s.manifest(d)
	if err != nil {
		return diff, false, err
	}
	weightsFirst := func(a, b manifestEntry) int { return rank(a.name) - rank(b.name) }
	slices.SortStableFunc(entries, weightsFirst)
	for _, e := range entries {
		raw, err := s.raw(objects, e.digest)
		if err != nil {
			return diff, false, about(err, "artifact %s, file %s", d.Short(), e.name)
		}
		is := find(files, e.name)
		if is == nil {
			return Difference{e.name, -1, "there", "absent"}, true, nil
		}
		if diff, differ := compareArrays(e.name, raw, is); differ {
			return diff, true, nil
		}
	}
	if len(files) > len(entries) {
		return Difference{"the files", -1, strconv.Itoa(len(entries)), strconv.Itoa(len(files))}, true, nil
	}
	return diff, false, nil
}

// rank is 0 for the weights, which tell most, and 1 for other files.
func rank(name string) int {
	if name == weightsName {
		return 0
	}
	return 1
}

// raw reads a file without looking whether it is sound.
func (s *Store) raw(folder string, d trimtab.Digest) ([]byte, error) {
	data, err := s.bytes(folder, d)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, missing(err)
	}
	return data, diskError(err)
}

// compareArrays compares two files by their arrays, or by their bytes where
// one has none or the arrays are the same.
func compareArrays(name string, was, is []byte) (Difference, bool) {
	a, _, errA := DecodeSafetensors(was)
	b, _, errB := DecodeSafetensors(is)
	if errA == nil && errB == nil {
		if d, differ := Compare(a, b); differ {
			return d, true
		}
	}
	for i := range min(len(was), len(is)) {
		if was[i] != is[i] {
			return Difference{name, i, fmt.Sprintf("byte %#02x", was[i]), fmt.Sprintf("byte %#02x", is[i])}, true
		}
	}
	if len(was) != len(is) {
		return Difference{name, -1, fmt.Sprintf("of %d bytes", len(was)), fmt.Sprintf("of %d bytes", len(is))}, true
	}
	return Difference{}, false
}
