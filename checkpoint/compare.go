package checkpoint

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"slices"
	"strconv"

	"github.com/trimtab/trimtab"
	"github.com/trimtab/trimtab/tensor"
)

// Mismatch is the first place in which arrays or files that should be equal
// are not, bit for bit.
type Mismatch struct {
	Name      string // of the array, or of the file where it is no matter of arrays
	Index     int    // of the element, or of the byte of a file; -1 is all of it
	Want, Got string // the two values
}

// compare finds the first difference of arrays from those of a file, in the file's order.
func compare(was []rawArray, is []tensor.NamedArray) (d Mismatch, differ bool) {
	for i := range max(len(was), len(is)) {
		switch {
		case i >= len(was):
			return Mismatch{is[i].Name, -1, "absent", "there"}, true
		case i >= len(is):
			return Mismatch{was[i].name, -1, "there", "absent"}, true
		case was[i].name != is[i].Name:
			return Mismatch{was[i].name, -1, was[i].name, is[i].Name}, true
		case was[i].dtype != "F32" || !slices.Equal(was[i].shape, is[i].Shape):
			return Mismatch{was[i].name, -1, fmt.Sprint(was[i].dtype, " of shape ", was[i].shape),
				fmt.Sprint("F32 of shape ", is[i].Shape)}, true
		}
		for k, v := range is[i].Data {
			if bits := binary.LittleEndian.Uint32(was[i].raw[4*k:]); bits != math.Float32bits(v) {
				return Mismatch{was[i].name, k, FormatFloat(math.Float32frombits(bits)), FormatFloat(v)}, true
			}
		}
	}
	return d, false
}

// FormatFloat prints v with as many digits as tell it from every other float32.
func FormatFloat(v float32) string { return strconv.FormatFloat(float64(v), 'g', -1, 32) }

// StateDigest is the digest under which SaveState would store a state.
func StateDigest(step int, state []tensor.NamedArray) trimtab.Digest {
	hash := sha256.New()
	if err := writeSafetensors(hash, state, stateMetadata(step)); err != nil {
		panic("checkpoint: " + err.Error()) // a hash takes everything
	}
	return trimtab.DigestFromSum(hash.Sum(nil))
}

// CompareState finds the first difference between the stored state d of an
// attempt, as its file is even if it is damaged, and a state before a step.
// Error artifact_missing where there is no file.
func (s *Store) CompareState(attempt string, d trimtab.Digest, step int,
	state []tensor.NamedArray) (diff Mismatch, differ bool, err error) {
	folder, err := stateFolder(attempt)
	if err != nil {
		return diff, false, err
	}
	raw, err := s.readUnverified(folder, d)
	if err != nil {
		return diff, false, annotate(err, "state %s of %s", d.Short(), attempt)
	}
	if arrays, _, err := parseSafetensors(raw); err == nil {
		if diff, differ := compare(arrays, state); differ {
			return diff, true, nil
		}
	}
	diff, differ = compareBytes("the file", raw, func(w io.Writer) error {
		return writeSafetensors(w, state,
			stateMetadata(step))
	})
	return diff, differ, nil
}

// CompareModel finds the first difference between the model d of the store, as
// its files are even if they are damaged, and the files of another one. Errors:
// artifact_missing, artifact_corrupt where the manifest is.
func (s *Store) CompareModel(d trimtab.Digest, files []File) (diff Mismatch, differ bool, err error) {
	entries, err := s.manifest(d)
	if err != nil {
		return diff, false, err
	}
	weightsFirst := func(a, b manifestEntry) int { return weightsRank(a.name) - weightsRank(b.name) }
	slices.SortStableFunc(entries, weightsFirst)
	for _, e := range entries {
		raw, err := s.readUnverified(objects, e.digest)
		if err != nil {
			return diff, false, annotate(err, "artifact %s, file %s", d.Short(), e.name)
		}
		is := fileData(files, e.name)
		if is == nil {
			return Mismatch{e.name, -1, "there", "absent"}, true, nil
		}
		if diff, differ := compareFiles(e.name, raw, is); differ {
			return diff, true, nil
		}
	}
	if len(files) > len(entries) {
		return Mismatch{"the files", -1, strconv.Itoa(len(entries)), strconv.Itoa(len(files))}, true, nil
	}
	return diff, false, nil
}

// weightsRank is 0 for the weights, which tell most, and 1 for other files.
func weightsRank(name string) int {
	if name == weightsName {
		return 0
	}
	return 1
}

// readUnverified reads a file without looking whether it is sound.
func (s *Store) readUnverified(folder string, d trimtab.Digest) ([]byte, error) {
	data, err := s.readRaw(folder, d)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, missingError(err)
	}
	return data, diskError(err)
}

// compareFiles compares two files by their arrays, then by their bytes, which
// tell of headers and of files without arrays.
func compareFiles(name string, was, is []byte) (Mismatch, bool) {
	a, _, errA := parseSafetensors(was)
	b, _, errB := DecodeSafetensors(is)
	if errA == nil && errB == nil {
		if d, differ := compare(a, b); differ {
			return d, true
		}
	}
	return compareBytes(name, was, func(w io.Writer) error { _, err := w.Write(is); return err })
}

// compareBytes finds the first difference of what is written from a file.
func compareBytes(name string, was []byte, write func(io.Writer) error) (d Mismatch, differ bool) {
	m := comparingWriter{want: was, mismatch: -1}
	if err := write(&m); err != nil {
		panic("checkpoint: " + err.Error()) // a matcher takes everything
	}
	switch {
	case m.mismatch >= 0:
		return Mismatch{name, m.mismatch, fmt.Sprintf("byte %#02x", was[m.mismatch]), fmt.Sprintf("byte %#02x", m.got)},
			true
	case m.offset != len(was):
		return Mismatch{name, -1, fmt.Sprintf("of %d bytes", len(was)), fmt.Sprintf("of %d bytes", m.offset)}, true
	}
	return d, false
}

// comparingWriter is a writer that compares what it is given, so that a large state
// need not be in memory once more.
type comparingWriter struct {
	want     []byte
	offset   int  // bytes so far
	mismatch int  // the first one that differs, or -1
	got      byte // it
}

// Write compares the next bytes; it never fails.
func (m *comparingWriter) Write(p []byte) (int, error) {
	for i := 0; i < len(p) && m.mismatch < 0 && m.offset+i < len(m.want); i++ {
		if p[i] != m.want[m.offset+i] {
			m.mismatch, m.got = m.offset+i, p[i]
		}
	}
	m.offset += len(p)
	return len(p), nil
}
