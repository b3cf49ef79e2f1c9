package checkpoint

import (
	"encoding/binary"
	"fmt"
	"math"
	"os"
	"runtime"
	"slices"
	"unsafe"

	"github.com/trimtab/trimtab"
	"github.com/trimtab/trimtab/model"
	"github.com/trimtab/trimtab/tokenizer"
)

// LoadFrozen reads a model that SaveModel stored, verifying every file, for computing without training: it must not be
// written to. Its weights stay in the file, mapped, as they are kept there: a model that is stored as BF16 takes two
// bytes a parameter, which the operating system shares among processes and takes back when memory is short. Where a
// file cannot be mapped, or holds another form than the parameters in order, the result is that of LoadModel. Errors:
// those of LoadModel.
func LoadFrozen(s *Store, d trimtab.Digest) (*model.Model, *tokenizer.Tokenizer, error) {
	entries, err := s.manifest(d)
	if err != nil {
		return nil, nil, err
	}
	var files []File
	var mapped []byte
	for _, e := range entries {
		data, err := []byte(nil), error(nil)
		if e.name == weightsName {
			mapped = s.mapObject(e)
			data = mapped
		}
		if data == nil {
			data, err = s.read(objects, e.digest, e.size)
		}
		if err != nil {
			unmap(mapped)
			return nil, nil, annotate(err, "artifact %s, file %s", d.Short(), e.name)
		}
		files = append(files, File{Name: e.name, Data: data})
	}
	m, t, inPlace, err := readFrozen(files)
	if err != nil {
		unmap(mapped)
		return nil, nil, annotate(err, "artifact %s", d.Short())
	}
	if !inPlace {
		unmap(mapped)
	} else if mapped != nil {
		runtime.AddCleanup(m, unmap, mapped)
	}
	return m, t, nil
}

// mapObject maps a file of the store and verifies it. It returns nil where that is not possible: reading the file then
// says why.
func (s *Store) mapObject(e manifestEntry) []byte {
	for at := s; at != nil; at = at.lower {
		f, err := os.Open(at.path(objects, e.digest))
		if err != nil {
			continue
		}
		data := mapFile(f, e.size)
		f.Close() // a mapping outlives the file it was made from
		if data != nil && trimtab.DigestOf(data) == "sha256:"+trimtab.Digest(e.digest.Hex()) {
			return data
		}
		unmap(data)
		return nil
	}
	return nil
}

// readFrozen decodes the files of a stored model. inPlace says that the model's parameters are bytes of the weights'
// file.
func readFrozen(files []File) (m *model.Model, t *tokenizer.Tokenizer, inPlace bool, err error) {
	c, err := readConfigFile(files)
	if err != nil {
		return nil, nil, false, err
	}
	raw := fileData(files, weightsName)
	arrays, _, err := parseSafetensors(raw)
	if err != nil || !inSlabOrder(arrays, c.Config.StoredArrays(c.Scalar)) {
		f, err := readModel(files) // which says what is wrong
		if err != nil {
			return nil, nil, false, err
		}
		return f.Model, f.Tokenizer, false, nil
	}
	if t, err = readTokenizer(files, c.claim); err != nil {
		return nil, nil, false, err
	}
	data := raw[8+binary.LittleEndian.Uint64(raw):]
	if arrays[0].dtype == "F32" {
		m = model.FromSlab(c.Config, c.Scalar, unsafe.Slice((*float32)(unsafe.Pointer(&data[0])), len(data)/4))
		return m, t, true, checkRead(m)
	}
	half := unsafe.Slice((*uint16)(unsafe.Pointer(&data[0])), len(data)/2)
	if err := checkHalf(arrays, half); err != nil {
		return nil, nil, false, err
	}
	return model.FromBFloat16(c.Config, c.Scalar, half), t, true, nil
}

// inSlabOrder reports whether arrays, in the order of their data, are the parameters of a model, all F32 or all BF16,
// as a little-endian machine has them in memory.
func inSlabOrder(arrays []rawArray, want []model.StoredArray) bool {
	if len(arrays) == 0 || len(arrays) != len(want) || binary.NativeEndian.Uint16([]byte{1, 0}) != 1 {
		return false
	}
	for i, a := range arrays {
		if a.name != want[i].Name || want[i].Spare > 0 || !slices.Equal(a.shape, want[i].Shape) ||
			a.dtype != arrays[0].dtype || a.dtype != "F32" && a.dtype != "BF16" {
			return false
		}
	}
	return uintptr(unsafe.Pointer(unsafe.SliceData(arrays[0].raw)))%4 == 0
}

// checkHalf refuses bfloat16 weights that hold NaN or an infinity. Error: not_a_number.
func checkHalf(arrays []rawArray, half []uint16) error {
	const exponent = 0x7f80
	i := slices.IndexFunc(half, func(x uint16) bool { return x&exponent == exponent })
	if i < 0 {
		return nil
	}
	at := slices.IndexFunc(arrays, func(a rawArray) bool { return uint64(2*i) < a.to })
	value := math.Float32frombits(uint32(half[i]) << 16)
	return trimtab.NewError(trimtab.Invalid, "not_a_number", "get the model again, or save it before it diverged",
		"%s", fmt.Sprintf("array %s holds %v", arrays[at].name, value))
}
