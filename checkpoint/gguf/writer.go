package gguf

import (
	"bufio"
	"encoding/binary"
	"io"
	"reflect"
	"slices"
)

const (
	writtenVersion = 3
	maxTensorName  = 63 // llama.cpp's limit, bytes (GGML_MAX_NAME less the final zero)
)

// TensorInfo announces a tensor to a Writer.
type TensorInfo struct {
	Name  string
	Type  Type  // F32, F16, BF16 or Q8_0
	Shape []int // row-major; for Q8_0 the last dimension is a multiple of 32
}

// Writer writes a GGUF file of version 3, tensor by tensor. The same metadata,
// tensors and values give the same bytes.
type Writer struct {
	out       *bufio.Writer
	tensors   []TensorInfo
	alignment int64
	next      int   // the tensor that is being written
	written   int   // its elements that have been written
	at        int64 // bytes of data that have been written
	err       error // the first
}

// NewWriter writes the metadata, in the order given, and the names and shapes of
// the tensors. The values follow with WriteFloats, in the same order, and then
// Close. The tensors are aligned to 32 bytes, or to the uint32 general.alignment
// if the metadata has that key. Errors: gguf_unwritable, gguf_key, those of w.
//
// What keys llama.cpp expects depends on general.architecture. It computes with
// tensors of one dimension (norms, biases) only if they are F32.
func NewWriter(w io.Writer, metadata []KeyValue, tensors []TensorInfo) (*Writer, error) {
	m, err := indexMetadata(metadata)
	if err != nil {
		return nil, err
	}
	alignment, err := m.alignment()
	if err != nil {
		return nil, err
	}
	b := binary.LittleEndian.AppendUint32([]byte(magic), writtenVersion)
	b = binary.LittleEndian.AppendUint64(b, uint64(len(tensors)))
	b = binary.LittleEndian.AppendUint64(b, uint64(len(metadata)))
	for _, e := range metadata {
		b = appendValue(appendString(b, e.Key), e.Value)
	}
	if b, err = appendTensors(b, tensors, alignment); err != nil {
		return nil, err
	}
	b = append(b, make([]byte, padding(int64(len(b)), alignment))...)
	out := bufio.NewWriterSize(w, 1<<16)
	if _, err := out.Write(b); err != nil {
		return nil, err
	}
	return &Writer{out: out, tensors: slices.Clone(tensors), alignment: alignment}, nil
}

// indexMetadata checks keys and the types of values.
func indexMetadata(entries []KeyValue) (*Metadata, error) {
	m := &Metadata{entries: entries, index: make(map[string]int)}
	for i, e := range entries {
		if len(e.Key) == 0 || len(e.Key) > maxKey {
			return nil, writeError("shorten or name it", "a metadata key of %d bytes, not 1 to %d: %.80q", len(e.Key),
				maxKey, e.Key)
		}
		if m.Has(e.Key) {
			return nil, writeError("give it once", "the metadata key %.80q is given twice", e.Key)
		}
		if typ, ok := elementType(e.Value); !ok {
			return nil, writeError("give a bool, a string, a sized number, or a slice of one of them",
				"the metadata key %.80q has a value of type %v", e.Key, typ)
		}
		m.index[e.Key] = i
	}
	return m, nil
}

// valueTypes has the type in the file for each type of a value.
var valueTypes = map[reflect.Type]valueType{
	reflect.TypeFor[uint8]():   typeUint8,
	reflect.TypeFor[int8]():    typeInt8,
	reflect.TypeFor[uint16]():  typeUint16,
	reflect.TypeFor[int16]():   typeInt16,
	reflect.TypeFor[uint32]():  typeUint32,
	reflect.TypeFor[int32]():   typeInt32,
	reflect.TypeFor[uint64]():  typeUint64,
	reflect.TypeFor[int64]():   typeInt64,
	reflect.TypeFor[float32](): typeFloat32,
	reflect.TypeFor[float64](): typeFloat64,
	reflect.TypeFor[bool]():    typeBool,
	reflect.TypeFor[string]():  typeString,
}

// elementType is the type of a value, or of the elements of a slice, and whether
// a file can hold it.
func elementType(v any) (reflect.Type, bool) {
	typ := reflect.TypeOf(v)
	if typ != nil && typ.Kind() == reflect.Slice {
		typ = typ.Elem()
	}
	_, ok := valueTypes[typ]
	return typ, ok
}

func appendString(b []byte, s string) []byte {
	return append(binary.LittleEndian.AppendUint64(b, uint64(len(s))), s...)
}

// appendValue appends a value, which indexMetadata has checked, with its type.
func appendValue(b []byte, v any) []byte {
	typ, _ := elementType(v)
	value := reflect.ValueOf(v)
	if value.Kind() == reflect.Slice {
		b = binary.LittleEndian.AppendUint32(b, uint32(typeArray))
		b = binary.LittleEndian.AppendUint32(b, uint32(valueTypes[typ]))
		b = binary.LittleEndian.AppendUint64(b, uint64(value.Len()))
	} else {
		b = binary.LittleEndian.AppendUint32(b, uint32(valueTypes[typ]))
	}
	switch v := v.(type) {
	case string:
		return appendString(b, v)
	case []string:
		for _, s := range v {
			b = appendString(b, s)
		}
		return b
	}
	b, err := binary.Append(b, binary.LittleEndian, v)
	if err != nil {
		panic("gguf: " + err.Error()) // unreachable: all other types have a fixed size
	}
	return b
}

// appendTensors checks and appends the descriptions of the tensors.
func appendTensors(b []byte, tensors []TensorInfo, alignment int64) ([]byte, error) {
	seen := make(map[string]bool)
	offset := int64(0)
	for i, t := range tensors {
		if t.Name == "" || len(t.Name) > maxTensorName || seen[t.Name] {
			return nil, writeError("give each tensor a name of its own, of 1 to 63 bytes",
				"the name of tensor %d, %.80q, cannot be written", i, t.Name)
		}
		seen[t.Name] = true
		if encoders[t.Type] == nil {
			return nil, writeError("choose one of "+joinTypes(writable), "tensor %q is %s, which cannot be written",
				t.Name, t.Type)
		}
		_, size, err := tensorSize(t.Type, t.Shape)
		if err != nil {
			return nil, writeError("change its shape, or choose F32, F16 or BF16", "tensor %q %w", t.Name, err)
		}
		b = binary.LittleEndian.AppendUint32(appendString(b, t.Name), uint32(len(t.Shape)))
		for _, d := range slices.Backward(t.Shape) {
			b = binary.LittleEndian.AppendUint64(b, uint64(d))
		}
		b = binary.LittleEndian.AppendUint32(b, uint32(t.Type))
		b = binary.LittleEndian.AppendUint64(b, uint64(offset))
		offset += size + padding(size, alignment)
	}
	return b, nil
}

// WriteFloats converts and writes the next elements of the named tensor, in
// row-major order: all of them, or a part that consists of whole blocks (any
// number of elements, for Q8_0 a multiple of 32). Tensors come in the order in
// which they were announced. Errors: gguf_unwritable if the type cannot hold a
// value, those of the writer; after an error the file is unusable.
func (w *Writer) WriteFloats(name string, data []float32) error {
	if w.err == nil {
		w.err = w.writeFloats(name, data)
	}
	return w.err
}

func (w *Writer) writeFloats(name string, data []float32) error {
	if w.next == len(w.tensors) || w.tensors[w.next].Name != name {
		return internalError("tensor %q is written out of order", name)
	}
	t := w.tensors[w.next]
	info, elements := types[t.Type], product(t.Shape)
	if len(data) > elements-w.written || len(data)%info.elements != 0 {
		return internalError(
			"%d elements for tensor %q, of which %d of %d were written, in blocks of %d", len(data), name,
			w.written, elements, info.elements)
	}
	var chunk [64 * 1024]byte
	const step = len(chunk) / 4 // elements: a multiple of all block lengths
	for from := 0; from < len(data); from += step {
		part := data[from:min(from+step, len(data))]
		encoded := chunk[:len(part)/info.elements*info.size]
		if i := encoders[t.Type](encoded, part); i != fits {
			return writeError("write the tensor as F32, or repair the model", "tensor %q is %s, which cannot hold %v, "+
				"its element %d", name, t.Type, part[i], w.written+from+i)
		}
		if _, err := w.out.Write(encoded); err != nil {
			return err
		}
		w.at += int64(len(encoded))
	}
	if w.written += len(data); w.written == elements {
		return w.endTensor()
	}
	return nil
}

// endTensor pads the data, as ggml does after the last tensor, too.
func (w *Writer) endTensor() error {
	w.next, w.written = w.next+1, 0
	n := padding(w.at, w.alignment)
	w.at += n
	_, err := w.out.Write(make([]byte, n))
	return err
}

// product is the number of elements of a shape; 1 for a scalar.
func product(shape []int) int {
	n := 1
	for _, d := range shape {
		n *= d
	}
	return n
}

// Close writes what is buffered, and checks that all tensors were written. It does
// not close the underlying writer.
func (w *Writer) Close() error {
	if w.err == nil && w.next < len(w.tensors) {
		t := w.tensors[w.next]
		w.err = internalError("the file is closed after %d of %d elements of tensor %q", w.written, product(t.Shape),
			t.Name)
	}
	if w.err == nil {
		w.err = w.out.Flush()
	}
	return w.err
}
