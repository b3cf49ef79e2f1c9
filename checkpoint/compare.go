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
// differ, bit for bit.
type Mismatch struct {
	Name      string // of the array, or of the file where no array differs
	Index     int    // of the element, or of the byte of a file; -1 is all of it
	Want, Got string // the stored value and the other one, formatted
}

// compare finds the first mismatch between the arrays of a file and other
// arrays, in the file's order. Floats are compared by their bits, so that −0 and
// 0, or two NaNs, can differ.
func compare(want []rawArray, got []tensor.NamedArray) (d Mismatch, differ bool) {
	for i := range max(len(want), len(got)) {
		switch {
		case i >= len(want):
			return Mismatch{got[i].Name, -1, "absent", "there"}, true
		case i >= len(got):
			return Mismatch{want[i].name, -1, "there", "absent"}, true
		case want[i].name != got[i].Name:
			return Mismatch{want[i].name, -1, want[i].name, got[i].Name}, true
		case want[i].dtype != "F32" || !slices.Equal(want[i].shape, got[i].Shape):
			return Mismatch{want[i].name, -1, fmt.Sprint(want[i].dtype, " of shape ", want[i].shape),
				fmt.Sprint("F32 of shape ", got[i].Shape)}, true
		}
		for k, v := range got[i].Data {
			if bits := binary.LittleEndian.Uint32(want[i].raw[4*k:]); bits != math.Float32bits(v) {
				return Mismatch{want[i].name, k, FormatFloat(math.Float32frombits(bits)), FormatFloat(v)}, true
			}
		}
	}
	return d, false
}

// FormatFloat formats v with as few digits as distinguish it from every other
// float32: two values have the same text only if they are equal.
func FormatFloat(v float32) string { return strconv.FormatFloat(float64(v), 'g', -1, 32) }

// StateDigest returns the digest under which SaveState would store a state,
// without storing it. A reproduction compares it with the recorded one, which
// outlives the file.
func StateDigest(step int, state []tensor.NamedArray) trimtab.Digest {
	hash := sha256.New()
	if err := writeSafetensors(hash, state, stateMetadata(step)); err != nil {
		panic("checkpoint: " + err.Error()) // unreachable: a hash accepts every write
	}
	return trimtab.DigestFromSum(hash.Sum(nil))
}

// CompareState finds the first mismatch between the stored state d of an attempt
// and a state before step. The file is compared as it is, even if it is damaged:
// by arrays if it can be decoded, else by bytes. Error artifact_missing where
// there is no file.
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
		// An array and an element say more than an offset in the file.
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

// CompareModel finds the first mismatch between the model d of the store and the
// files of another one. The stored files are compared as they are, even if they
// are damaged, the weights first. Errors: artifact_missing, and artifact_corrupt
// for a damaged manifest.
func (s *Store) CompareModel(d trimtab.Digest, files []File) (diff Mismatch, differ bool, err error) {
	entries, err := s.manifest(d)
	if err != nil {
		return diff, false, err
	}
	// Stable: the other files stay in order of name.
	weightsFirst := func(a, b manifestEntry) int { return weightsRank(a.name) - weightsRank(b.name) }
	slices.SortStableFunc(entries, weightsFirst)
	for _, e := range entries {
		raw, err := s.readUnverified(objects, e.digest)
		if err != nil {
			return diff, false, annotate(err, "artifact %s, file %s", d.Short(), e.name)
		}
		got := fileData(files, e.name)
		if got == nil {
			return Mismatch{e.name, -1, "there", "absent"}, true, nil
		}
		if diff, differ := compareFiles(e.name, raw, got); differ {
			return diff, true, nil
		}
	}
	if len(files) > len(entries) { // every entry has its file, so some files have no entry
		return Mismatch{"the files", -1, strconv.Itoa(len(entries)), strconv.Itoa(len(files))}, true, nil
	}
	return diff, false, nil
}

// weightsRank sorts the weights first: a mismatch in an array says more than one
// in any other file.
func weightsRank(name string) int {
	if name == weightsName {
		return 0
	}
	return 1
}

// readUnverified reads a file without verifying its digest: a comparison wants to
// know what is in a damaged file. Error: artifact_missing.
func (s *Store) readUnverified(folder string, d trimtab.Digest) ([]byte, error) {
	data, err := s.readRaw(folder, d)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, missingError(err)
	}
	return data, diskError(err)
}

// compareFiles compares two files by their arrays, then by their bytes, which
// also covers headers and files without arrays.
func compareFiles(name string, want, got []byte) (Mismatch, bool) {
	a, _, errA := parseSafetensors(want)
	b, _, errB := DecodeSafetensors(got)
	if errA == nil && errB == nil {
		if d, differ := compare(a, b); differ {
			return d, true
		}
	}
	return compareBytes(name, want, func(w io.Writer) error { _, err := w.Write(got); return err })
}

// compareBytes finds the first byte in which a file differs from what write writes.
func compareBytes(name string, want []byte, write func(io.Writer) error) (d Mismatch, differ bool) {
	m := comparingWriter{want: want, mismatch: -1}
	if err := write(&m); err != nil {
		panic("checkpoint: " + err.Error()) // unreachable: a comparingWriter accepts every write
	}
	switch {
	case m.mismatch >= 0:
		hex := func(b byte) string { return fmt.Sprintf("byte %#02x", b) }
		return Mismatch{name, m.mismatch, hex(want[m.mismatch]), hex(m.got)}, true
	case m.offset != len(want):
		return Mismatch{name, -1, fmt.Sprintf("of %d bytes", len(want)), fmt.Sprintf("of %d bytes", m.offset)}, true
	}
	return d, false
}

// comparingWriter is a writer that compares what it is given with want, so that
// a large state need not be encoded in memory.
type comparingWriter struct {
	want     []byte
	offset   int  // bytes written so far
	mismatch int  // offset of the first byte that differs, or -1
	got      byte // that byte, as written
}

// Write compares the next bytes, up to the first that differs, and counts the
// rest. It never fails.
func (m *comparingWriter) Write(p []byte) (int, error) {
	for i := 0; i < len(p) && m.mismatch < 0 && m.offset+i < len(m.want); i++ {
		if p[i] != m.want[m.offset+i] {
			m.mismatch, m.got = m.offset+i, p[i]
		}
	}
	m.offset += len(p)
	return len(p), nil
}
