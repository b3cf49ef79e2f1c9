package checkpoint

import (
	"bufio"
	"bytes"
	"cmp"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"math/bits"
	"slices"
	"strconv"
	"strings"

	"github.com/trimtab/trimtab/tensor"
)

// A safetensors file (huggingface/safetensors, README, section "Format") is the
// length of the header (8 bytes, little-endian), the header (JSON, padded with
// spaces to a multiple of 8 bytes), and the arrays end to end, in row-major
// order, little-endian:
//
//	{"__metadata__":{"format":"pt"},"a":{"dtype":"F32","shape":[2,3],"data_offsets":[0,24]},…}
//
// What is written here is canonical: the metadata in order of key, no space in
// the header but the padding. The digests of states and models depend on that.
const (
	metadataKey = "__metadata__"
	maxHeader   = 100_000_000 // the reference implementation's limit, bytes
	maxRank     = 8
)

// dtypeSize is the size of one element, bytes, by the name of its type. Only F32,
// F16 and BF16 can be converted to float32; the others are parsed, so that a
// refusal can name the array.
var dtypeSize = map[string]uint64{
	"F32": 4, "F16": 2, "BF16": 2,
	"F64": 8, "I64": 8, "U64": 8, "I32": 4, "U32": 4, "I16": 2, "U16": 2, "I8": 1, "U8": 1, "BOOL": 1,
}

// EncodeSafetensors encodes arrays as F32, in the order given. The same arrays
// and metadata give the same bytes. It panics if a shape does not match its data
// or a name comes twice: both are errors of the program.
func EncodeSafetensors(arrays []tensor.NamedArray, metadata map[string]string) []byte {
	var b bytes.Buffer
	if err := writeSafetensors(&b, arrays, metadata); err != nil {
		panic("checkpoint: " + err.Error()) // unreachable: a buffer accepts every write
	}
	return b.Bytes()
}

// writeSafetensors writes the encoding of arrays as F32 to w. Errors are those of w.
func writeSafetensors(w io.Writer, arrays []tensor.NamedArray, metadata map[string]string) error {
	return writeArrays(w, arrays, metadata, "F32")
}

// writeArrays writes the encoding of arrays as F32 or BF16 to w. Errors are those of w.
func writeArrays(w io.Writer, arrays []tensor.NamedArray, metadata map[string]string, dtype string) error {
	// Streamed, so that a large state is not in memory a second time.
	out := bufio.NewWriterSize(w, 1<<16)
	header := header(arrays, metadata, dtype)
	// a bufio.Writer keeps its first error for Flush
	out.Write(headerLength(header))
	out.Write(header)
	for _, a := range arrays {
		if dtype == "BF16" {
			writeBF16(out, a.Data)
		} else {
			writeFloats(out, a.Data)
		}
	}
	return out.Flush()
}

// writeBF16 writes floats as BF16 in little-endian order. A bufio.Writer keeps its first error, which Flush returns.
func writeBF16(w *bufio.Writer, data []float32) {
	var chunk [4096]byte
	for len(data) > 0 {
		n := min(len(data), len(chunk)/2)
		for i, v := range data[:n] {
			binary.LittleEndian.PutUint16(chunk[2*i:], toBF16(v))
		}
		w.Write(chunk[:2*n])
		data = data[n:]
	}
}

// toBF16 rounds a finite number to BF16, to nearest, ties to even, as PyTorch does.
func toBF16(v float32) uint16 {
	bits := math.Float32bits(v)
	return uint16((bits + 0x7fff + bits>>16&1) >> 16)
}

// writeFloats writes floats in little-endian order. A bufio.Writer keeps its
// first error, which Flush returns.
func writeFloats(w *bufio.Writer, data []float32) {
	var chunk [4096]byte
	for len(data) > 0 { // in chunks that stay in the first-level cache
		n := min(len(data), len(chunk)/4)
		for i, v := range data[:n] {
			binary.LittleEndian.PutUint32(chunk[4*i:], math.Float32bits(v))
		}
		w.Write(chunk[:4*n])
		data = data[n:]
	}
}

// header encodes the padded JSON header: the metadata in order of key, then the
// arrays in their order.
func header(arrays []tensor.NamedArray, metadata map[string]string, dtype string) []byte {
	raw := make([]rawArray, len(arrays))
	seen := map[string]bool{metadataKey: true}
	offset := uint64(0)
	for i, a := range arrays {
		if n := elements(a.Shape); n != len(a.Data) || seen[a.Name] {
			panic(fmt.Sprintf(
				"checkpoint: array %q of shape %v with %d elements does not match, or comes twice", a.Name,
				a.Shape, len(a.Data)))
		}
		seen[a.Name] = true
		end := offset + dtypeSize[dtype]*uint64(len(a.Data))
		raw[i] = rawArray{name: a.Name, dtype: dtype, shape: a.Shape, from: offset, to: end}
		offset = end
	}
	return rawHeader(raw, metadata)
}

// rawHeader encodes the padded JSON header of arrays that lie end to end; of their offsets only the size is read.
func rawHeader(arrays []rawArray, metadata map[string]string) []byte {
	var fields []string
	if len(metadata) > 0 {
		var entries []string
		for _, k := range slices.Sorted(maps.Keys(metadata)) {
			entries = append(entries, quoteJSON(k)+":"+quoteJSON(metadata[k]))
		}
		fields = append(fields, quoteJSON(metadataKey)+":{"+strings.Join(entries, ",")+"}")
	}
	offset := uint64(0)
	for _, a := range arrays {
		end := offset + a.to - a.from
		fields = append(fields, fmt.Sprintf(`%s:{"dtype":"%s","shape":[%s],"data_offsets":[%d,%d]}`, quoteJSON(a.name),
			a.dtype, joinInts(a.shape), offset, end))
		offset = end
	}
	// −n & 7 is what n lacks to a multiple of 8, so that the arrays are aligned.
	text := "{" + strings.Join(fields, ",") + "}"
	return []byte(text + strings.Repeat(" ", -len(text)&7))
}

// headerLength encodes the length of a header, which stands before it.
func headerLength(header []byte) []byte {
	return binary.LittleEndian.AppendUint64(nil, uint64(len(header)))
}

// elements is the product of a shape; 1 for a scalar.
func elements(shape []int) int {
	n := 1
	for _, d := range shape {
		n *= d
	}
	return n
}

// joinInts writes a shape as a JSON list does, without the brackets.
func joinInts(shape []int) string {
	parts := make([]string, len(shape))
	for i, d := range shape {
		parts[i] = strconv.Itoa(d)
	}
	return strings.Join(parts, ",")
}

// quoteJSON encodes a string as JSON without escaping HTML characters.
func quoteJSON(s string) string {
	var b strings.Builder
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(s); err != nil {
		panic("checkpoint: " + err.Error()) // unreachable: every string encodes
	}
	return strings.TrimSuffix(b.String(), "\n")
}

// DecodeSafetensors decodes arrays of F32, in the order of their data, and the
// metadata. It accepts exactly the files that the format allows: it refuses
// headers over 100 MB, names that come twice, shapes that overflow or do not
// match their data, and data with gaps, overlaps, or more than the header says.
func DecodeSafetensors(data []byte) ([]tensor.NamedArray, map[string]string, error) {
	entries, metadata, err := parseSafetensors(data)
	if err != nil {
		return nil, nil, err
	}
	arrays := make([]tensor.NamedArray, len(entries))
	for i, e := range entries {
		if e.dtype != "F32" {
			return nil, nil, fmt.Errorf("array %q is %s, not F32", e.name, e.dtype)
		}
		arrays[i] = tensor.NamedArray{Name: e.name, Shape: e.shape, Data: make([]float32, len(e.raw)/4)}
		if err := e.floats(arrays[i].Data); err != nil {
			return nil, nil, err
		}
	}
	return arrays, metadata, nil
}

// rawArray is one array of a file, not decoded yet.
type rawArray struct {
	name, dtype string
	shape       []int
	from, to    uint64 // offsets in the data after the header, bytes
	raw         []byte // the bytes between them
}

// parseSafetensors parses and checks the header. The arrays are in the order of
// their data, and their raw bytes are views into data.
func parseSafetensors(data []byte) ([]rawArray, map[string]string, error) {
	if len(data) < 8 {
		return nil, nil, fmt.Errorf("a safetensors file of %d bytes is too short", len(data))
	}
	n := binary.LittleEndian.Uint64(data)
	// In this order: the subtraction cannot wrap around, and the slices below are in range.
	if n > maxHeader || n > uint64(len(data)-8) {
		return nil, nil, fmt.Errorf("the safetensors header claims %d bytes of a file of %d", n, len(data))
	}
	arrays, metadata, err := parseHeader(data[8 : 8+n])
	if err != nil {
		return nil, nil, fmt.Errorf("safetensors header: %w", err)
	}
	if err := assignData(arrays, data[8+n:]); err != nil {
		return nil, nil, err
	}
	return arrays, metadata, nil
}

// assignData sorts arrays by offset and gives each its bytes. The arrays have to
// cover the data without gaps and overlaps.
func assignData(arrays []rawArray, data []byte) error {
	slices.SortStableFunc(arrays, func(a, b rawArray) int {
		// by the end as well: an empty array comes before the one that begins where it lies
		return cmp.Or(cmp.Compare(a.from, b.from), cmp.Compare(a.to, b.to))
	})
	at := uint64(0) // where the next array has to begin
	for i := range arrays {
		a := &arrays[i]
		if a.from != at || a.to < a.from || a.to > uint64(len(data)) {
			return fmt.Errorf("array %q has the offsets %d to %d, where %d to at most %d are free", a.name, a.from,
				a.to, at, len(data))
		}
		a.raw, at = data[a.from:a.to], a.to
	}
	if at != uint64(len(data)) {
		return fmt.Errorf("%d bytes of data after the last array", uint64(len(data))-at)
	}
	return nil
}

// parseHeader parses the JSON header. It reads token by token, because
// encoding/json accepts what the format does not: keys that come twice.
func parseHeader(raw []byte) ([]rawArray, map[string]string, error) {
	var arrays []rawArray
	var metadata map[string]string
	if len(raw) == 0 || raw[0] != '{' {
		return nil, nil, errors.New("does not begin with {")
	}
	dec := json.NewDecoder(bytes.NewReader(raw))
	err := decodeObject(dec, func(key string) error {
		if key == metadataKey {
			metadata = make(map[string]string)
			return decodeObject(dec, func(k string) error {
				var v string
				err := dec.Decode(&v)
				metadata[k] = v
				return err
			})
		}
		a, err := parseArray(dec, key)
		arrays = append(arrays, a)
		return err
	})
	if err != nil {
		return nil, nil, err
	}
	// The header may be padded with spaces, and with nothing else.
	if rest := raw[dec.InputOffset():]; len(bytes.Trim(rest, " ")) > 0 {
		return nil, nil, fmt.Errorf("%d bytes after its end", len(rest))
	}
	return arrays, metadata, nil
}

// decodeObject parses a JSON object; value parses what follows each key. A key
// that comes twice is an error.
func decodeObject(dec *json.Decoder, value func(key string) error) error {
	if t, err := dec.Token(); err != nil || t != json.Delim('{') {
		return fmt.Errorf("an object was expected: %v", errors.Join(err, nil))
	}
	seen := make(map[string]bool)
	for dec.More() {
		t, err := dec.Token()
		if err != nil {
			return err
		}
		key := t.(string) // the decoder accepts nothing else as a key
		if seen[key] {
			return fmt.Errorf("key %.80q comes twice", key)
		}
		seen[key] = true
		if err := value(key); err != nil {
			return fmt.Errorf("%.80q: %w", key, err)
		}
	}
	_, err := dec.Token()
	return err
}

// parseArray parses the header's entry for one array.
func parseArray(dec *json.Decoder, name string) (rawArray, error) {
	a := rawArray{name: name}
	var offsets []uint64
	var shape []uint64
	err := decodeObject(dec, func(key string) error {
		switch key { // a key that is absent leaves its zero value, which is refused below
		case "dtype":
			return dec.Decode(&a.dtype)
		case "shape":
			return dec.Decode(&shape)
		case "data_offsets":
			return dec.Decode(&offsets)
		}
		return errors.New("unknown key")
	})
	if err != nil {
		return a, err
	}
	if len(offsets) != 2 {
		return a, errors.New("data_offsets are not two numbers")
	}
	a.from, a.to = offsets[0], offsets[1]
	return a, a.setShape(shape)
}

// setShape sets the shape, after checking that shape and dtype fill the array's
// offsets exactly. Sizes are multiplied with an overflow check.
func (a *rawArray) setShape(shape []uint64) error {
	size, ok := dtypeSize[a.dtype]
	if !ok {
		return fmt.Errorf("dtype %.20q is unknown", a.dtype)
	}
	if shape == nil || len(shape) > maxRank {
		return fmt.Errorf("a shape with %d dimensions", len(shape))
	}
	a.shape = make([]int, len(shape))
	for i, d := range shape {
		if d > math.MaxInt {
			return errors.New("the shape overflows")
		}
		// A shape whose product wraps around could match its offsets by accident.
		over, low := bits.Mul64(size, d)
		if over != 0 {
			return errors.New("the shape overflows")
		}
		size, a.shape[i] = low, int(d)
	}
	if a.to < a.from || a.to-a.from != size {
		return fmt.Errorf("%s of shape %v needs %d bytes, its offsets are %d to %d", a.dtype, a.shape, size, a.from,
			a.to)
	}
	return nil
}

// floats decodes F32, F16 or BF16 into dst, which has the array's size.
func (a *rawArray) floats(dst []float32) error {
	for i := range dst {
		switch a.dtype {
		case "F32":
			dst[i] = math.Float32frombits(binary.LittleEndian.Uint32(a.raw[4*i:]))
		case "BF16":
			dst[i] = math.Float32frombits(uint32(binary.LittleEndian.Uint16(a.raw[2*i:])) << 16)
		case "F16":
			dst[i] = float16ToFloat32(binary.LittleEndian.Uint16(a.raw[2*i:]))
		default:
			return fmt.Errorf("array %q is %s: only F32, F16 and BF16 can be read", a.name, a.dtype)
		}
	}
	return nil
}

// float16ToFloat32 widens an IEEE 754 binary16. Every value is exact.
func float16ToFloat32(h uint16) float32 {
	sign := uint32(h&0x8000) << 16
	exponent, fraction := uint32(h>>10&0x1f), uint32(h&0x3ff)
	switch exponent {
	case 0: // zero or subnormal: fraction · 2⁻²⁴
		v := float32(fraction) * (1.0 / (1 << 24))
		return math.Float32frombits(math.Float32bits(v) | sign)
	case 0x1f: // infinity or NaN, whose payload is kept
		return math.Float32frombits(sign | 0xff<<23 | fraction<<13)
	}
	// The exponent's bias is 15 in binary16 and 127 in binary32.
	return math.Float32frombits(sign | (exponent+112)<<23 | fraction<<13)
}
