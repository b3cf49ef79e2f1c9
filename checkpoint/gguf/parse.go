package gguf

import (
	"bufio"
	"cmp"
	"encoding/binary"
	"fmt"
	"io"
	"math"
	"slices"
)

const (
	magic = "GGUF"

	// The least that a key and a tensor take in the file, bytes: what bounds their
	// numbers.
	minKeySize    = 8 + 1 + 4 + 1
	minTensorSize = 8 + 1 + 4 + 4 + 8

	maxKey = 1<<16 - 1 // the longest key, bytes (ggml, docs/gguf.md)
)

// parser reads a header. It keeps its first error and gives zeros from then on.
type parser struct {
	r    *bufio.Reader
	size int64 // of the file, bytes
	at   int64 // what has been read of it
	what string
	err  error
}

// parse reads and checks all of a file but the tensors' data.
func parse(r io.ReaderAt, size int64) (*Metadata, []*Tensor, error) {
	p := &parser{r: bufio.NewReaderSize(io.NewSectionReader(r, 0, size), 1<<16), size: size, what: "the header"}
	nTensors, nKeys := p.header()
	metadata := p.metadata(nKeys)
	tensors := p.tensors(nTensors)
	if p.err != nil {
		return nil, nil, p.err
	}
	alignment, err := metadata.alignment()
	if err != nil {
		return nil, nil, err
	}
	// A file without tensors may end with its metadata.
	return metadata, tensors, placeTensors(tensors, p.at+padding(p.at, alignment), alignment, size)
}

// fail keeps the first error.
func (p *parser) fail(format string, args ...any) {
	if p.err == nil {
		p.err = corruptError(format, args...)
	}
}

// remaining is the number of bytes that have not been read.
func (p *parser) remaining() uint64 { return uint64(p.size - p.at) }

// read fills b.
func (p *parser) read(b []byte) {
	if p.err != nil {
		return
	}
	if uint64(len(b)) > p.remaining() {
		p.fail("the file ends after %d bytes, within %s", p.size, p.what)
		return
	}
	if _, err := io.ReadFull(p.r, b); err != nil {
		p.err = fmt.Errorf("reading %s: %w", p.what, err)
		return
	}
	p.at += int64(len(b))
}

func (p *parser) uint32() uint32 {
	var b [4]byte
	p.read(b[:])
	return binary.LittleEndian.Uint32(b[:])
}

func (p *parser) uint64() uint64 {
	var b [8]byte
	p.read(b[:])
	return binary.LittleEndian.Uint64(b[:])
}

// bytes reads n bytes, after a check that there are so many.
func (p *parser) bytes(n uint64) []byte {
	if p.err == nil && n > p.remaining() {
		p.fail("the file ends after %d bytes, within %s, which claims %d bytes from %d on", p.size, p.what, n, p.at)
	}
	if p.err != nil {
		return nil
	}
	b := make([]byte, n)
	p.read(b)
	return b
}

func (p *parser) string() string { return string(p.bytes(p.uint64())) }

// header reads what comes before the metadata.
func (p *parser) header() (nTensors, nKeys uint64) {
	var start [4]byte
	p.read(start[:])
	if p.err == nil && string(start[:]) != magic {
		p.fail("the file begins with %q, not with %q: it is no GGUF file", start[:], magic)
	}
	version := p.uint32()
	if p.err == nil {
		p.err = checkVersion(version)
	}
	nTensors, nKeys = p.uint64(), p.uint64()
	if nKeys > p.remaining()/minKeySize {
		p.fail("the header claims %d metadata keys, more than a file of %d bytes can hold", nKeys, p.size)
	}
	if nTensors > p.remaining()/minTensorSize {
		p.fail("the header claims %d tensors, more than a file of %d bytes can hold", nTensors, p.size)
	}
	return nTensors, nKeys
}

// checkVersion refuses versions that are laid out in another way.
func checkVersion(version uint32) error {
	switch {
	case version == 2 || version == 3:
		return nil
	case version&0xffff == 0 && version != 0: // 2 or 3 with its bytes reversed
		return unsupportedError("convert the model again for little-endian machines, as is the default",
			"the file is big-endian, for machines such as s390x")
	case version == 1:
		return unsupportedError("convert the model again with a current converter", "the file is GGUF version 1")
	}
	return unsupportedError("convert the model again for version 3", "the file is GGUF version %d, not 2 or 3", version)
}

// metadata reads n keys and their values.
func (p *parser) metadata(n uint64) *Metadata {
	m := &Metadata{index: make(map[string]int)}
	for i := uint64(0); i < n && p.err == nil; i++ {
		p.what = fmt.Sprintf("the name of metadata key %d of %d", i+1, n)
		length := p.uint64()
		if length == 0 || length > maxKey {
			p.fail("%s has %d bytes, not 1 to %d", p.what, length, maxKey)
		}
		key := string(p.bytes(length))
		if m.Has(key) {
			p.fail("the metadata key %.80q comes twice", key)
		}
		p.what = fmt.Sprintf("the metadata key %.80q", key)
		value := p.value()
		if p.err == nil {
			m.index[key] = len(m.entries)
			m.entries = append(m.entries, KeyValue{key, value})
		}
	}
	return m
}

// valueType is the type of a value of the metadata (enum gguf_type).
type valueType uint32

const (
	typeUint8 valueType = iota
	typeInt8
	typeUint16
	typeInt16
	typeUint32
	typeInt32
	typeFloat32
	typeBool
	typeString
	typeArray
	typeUint64
	typeInt64
	typeFloat64
)

// value reads the type of a value, and the value.
func (p *parser) value() any {
	typ := valueType(p.uint32())
	if typ != typeArray {
		return p.elements(typ, 1, false)
	}
	typ = valueType(p.uint32())
	if typ == typeArray {
		p.fail("%s is an array of arrays, which ggml does not read either", p.what)
	}
	return p.elements(typ, p.uint64(), true)
}

// elements reads n values of a type: a slice for an array, or the one value.
func (p *parser) elements(typ valueType, n uint64, array bool) any {
	switch typ {
	case typeUint8:
		return numbers[uint8](p, n, array)
	case typeInt8:
		return numbers[int8](p, n, array)
	case typeUint16:
		return numbers[uint16](p, n, array)
	case typeInt16:
		return numbers[int16](p, n, array)
	case typeUint32:
		return numbers[uint32](p, n, array)
	case typeInt32:
		return numbers[int32](p, n, array)
	case typeUint64:
		return numbers[uint64](p, n, array)
	case typeInt64:
		return numbers[int64](p, n, array)
	case typeFloat32:
		return numbers[float32](p, n, array)
	case typeFloat64:
		return numbers[float64](p, n, array)
	case typeBool:
		return p.bools(n, array)
	case typeString:
		return p.strings(n, array)
	}
	p.fail("%s has values of type %d, which is unknown", p.what, typ)
	return nil
}

// claims checks that the file can hold n values of at least size bytes, before
// memory is allocated for them.
func (p *parser) claims(n uint64, size int) bool {
	if p.err == nil && n > p.remaining()/uint64(size) {
		p.fail("%s claims %d values, more than the rest of a file of %d bytes can hold", p.what, n, p.size)
	}
	return p.err == nil
}

// numbers reads n numbers.
func numbers[T any](p *parser, n uint64, array bool) any {
	size := binary.Size(*new(T))
	if !p.claims(n, size) {
		return nil
	}
	v := make([]T, n)
	// An error is impossible: the lengths match, and after a failed read nothing is used.
	if _, err := binary.Decode(p.bytes(n*uint64(size)), binary.LittleEndian, v); err != nil && p.err == nil {
		p.err = err
	}
	return oneOrAll(v, array)
}

// bools reads n truth values: bytes that are 0 or 1.
func (p *parser) bools(n uint64, array bool) any {
	if !p.claims(n, 1) {
		return nil
	}
	v := make([]bool, n)
	for i, b := range p.bytes(n) {
		if b > 1 {
			p.fail("%s has the byte %d where a bool was expected, 0 or 1", p.what, b)
		}
		v[i] = b == 1
	}
	return oneOrAll(v, array)
}

// strings reads n strings. Each takes at least the 8 bytes of its length.
func (p *parser) strings(n uint64, array bool) any {
	if !p.claims(n, 8) {
		return nil
	}
	v := make([]string, n)
	for i := range v {
		if v[i] = p.string(); p.err != nil {
			return nil
		}
	}
	return oneOrAll(v, array)
}

// oneOrAll returns an array, or the value that is not one.
func oneOrAll[T any](v []T, array bool) any {
	if array {
		return v
	}
	return v[0]
}

// tensors reads the names, shapes, types and offsets of n tensors.
func (p *parser) tensors(n uint64) []*Tensor {
	var tensors []*Tensor
	seen := make(map[string]bool)
	for i := uint64(0); i < n && p.err == nil; i++ {
		p.what = fmt.Sprintf("the name of tensor %d of %d", i+1, n)
		t := &Tensor{Name: p.string()}
		if t.Name == "" || seen[t.Name] {
			p.fail("the name of tensor %d of %d, %.80q, is empty or comes twice", i+1, n, t.Name)
		}
		seen[t.Name] = true
		p.what = fmt.Sprintf("the description of tensor %.80q", t.Name)
		p.shape(t)
		t.Type = Type(p.uint32())
		offset := p.uint64()
		if offset > math.MaxInt64/2 {
			p.fail("tensor %.80q has the offset %d, far outside of the file", t.Name, offset)
		}
		t.Offset = int64(offset)
		var err error
		if t.elements, t.Size, err = tensorSize(t.Type, t.Shape); err != nil {
			p.fail("tensor %.80q %w", t.Name, err)
		}
		tensors = append(tensors, t)
	}
	return tensors
}

// shape reads the dimensions, which a file has in ggml's order: the last of a
// row-major shape comes first.
func (p *parser) shape(t *Tensor) {
	n := p.uint32()
	if n > maxDimensions {
		p.fail("tensor %.80q has %d dimensions, where at most %d are possible", t.Name, n, maxDimensions)
		return
	}
	t.Shape = make([]int, n)
	for i := range t.Shape {
		d := p.uint64()
		if d > math.MaxInt {
			p.fail("tensor %.80q has a dimension of %d, which overflows", t.Name, d)
		}
		t.Shape[int(n)-1-i] = int(d)
	}
}

// placeTensors checks where the tensors lie, and counts their offsets from the
// beginning of the file instead of that of the data. Gaps are allowed, for there
// is nothing in them.
func placeTensors(tensors []*Tensor, data, alignment, size int64) error {
	for _, t := range tensors {
		if padding(t.Offset, alignment) != 0 {
			return corruptError("tensor %.80q has the offset %d, which is not a multiple of the alignment, %d", t.Name,
				t.Offset, alignment)
		}
		if t.Offset += data; t.Offset > size || t.Size > size-t.Offset {
			return corruptError("tensor %.80q has %d bytes from byte %d on, where the file ends after %d: "+
				"it has been cut short", t.Name, t.Size, t.Offset, size)
		}
	}
	sorted := slices.Clone(tensors)
	slices.SortStableFunc(sorted, func(a, b *Tensor) int { return cmp.Compare(a.Offset, b.Offset) })
	for i := 1; i < len(sorted); i++ {
		a, b := sorted[i-1], sorted[i]
		if b.Offset < a.Offset+a.Size {
			return corruptError("tensors %.80q and %.80q overlap, at byte %d", a.Name, b.Name, b.Offset)
		}
	}
	return nil
}
